"""Train against held-out after the split."""

import json
import os
from pathlib import Path

import pytest

from tunewright.core.text import signature, text_digest
from tunewright.curate.decontaminate import PlacedRow, clean_scores, decontaminate, nearest_scores
from tunewright.curate.memory import VaultMemory
from tunewright.curate.split import SplitRow, split_rows
from tunewright.errors import HeldOutLeak
from tunewright.recipe import SplitRules
from tunewright.values import digest_bytes

DRINKS = ["latte", "mocha", "cortado", "espresso", "americano", "matcha", "cappuccino", "macchiato"]
EXTRAS = ["oat milk", "caramel", "vanilla", "cinnamon", "whipped cream", "soy milk", "honey", "ice"]
PLACES = ["paris", "london", "berlin", "madrid", "rome", "vienna", "oslo", "lisbon"]


def a_row(text: str, cluster: str | None = None) -> PlacedRow:
    key = digest_bytes((cluster or text).encode())
    return PlacedRow(digest_bytes(f"id {text}".encode()), text, text_digest(text), signature(text), key)


def orders(first: int, last: int) -> list[PlacedRow]:
    """A narrow domain: every row shares most words with every other."""
    texts = [
        f"a {drink} with {extra} for {PLACES[(place * 3 + nth * nth) % 8]}"
        for place, drink in enumerate(DRINKS)
        for nth, extra in enumerate(EXTRAS)
    ]
    return [a_row(text) for text in texts[first:last]]


def decide(train, held_out, **settings):
    return decontaminate(train, held_out, **{"near_threshold": 0.95, "fpr": 0.05, **settings})


def test_an_exact_prompt_on_both_sides_stops_everything():
    with pytest.raises(HeldOutLeak, match=r"Jaccard 1.00.*0 more pairs"):
        decide([a_row("one latte"), *orders(0, 20)], [a_row("One latte")])


def test_a_near_duplicate_on_both_sides_stops_everything_and_names_the_rows():
    train, held = (
        a_row("can i get one large oat latte to go"),
        a_row("can i get one large oat latte to go please"),
    )
    with pytest.raises(HeldOutLeak, match=f"{held.id[:12]} is a near-duplicate.*{train.id[:12]}"):
        decide([train, *orders(0, 20)], [held], near_threshold=0.8)


def test_a_restated_held_out_row_is_quarantined_and_names_its_twin():
    held_out = orders(40, 64)
    twin = a_row(" ".join(reversed(held_out[3].text.split())))
    result = decide([*orders(0, 40), twin], held_out)
    assert 40 in {hit.row for hit in result.quarantined}
    found = next(hit for hit in result.quarantined if hit.row == 40)
    assert (found.held_out, found.score) == (held_out[3].id, 1.0)
    assert result.neighbours[held_out[3].id] < 1.0


def test_a_narrow_domain_loses_about_the_declared_share_only():
    rows = orders(0, 64)
    train, held_out = [row for row in rows if row not in rows[::4]], rows[::4]
    result = decide(train, held_out, fpr=0.05, max_quarantined_fraction=1.0)
    assert result.hit_fraction <= 0.15
    assert result.threshold > 0.5


def test_the_share_of_quarantined_rows_is_capped_and_the_rest_is_reported():
    held_out = orders(40, 64)
    twins = [a_row(" ".join(reversed(row.text.split()))) for row in held_out[:10]]
    result = decide([*orders(0, 40), *twins], held_out, max_quarantined_fraction=0.1)
    assert len(result.quarantined) == 5
    assert result.num_over_cap == result.num_hits - 5 >= 5


def test_stored_neighbours_leave_quarantined_rows_out():
    held_out = orders(40, 64)
    twin = a_row(" ".join(reversed(held_out[0].text.split())))
    result = decide([*orders(0, 40), twin], held_out)
    gone = {hit.row for hit in result.quarantined}
    stay = [row for place, row in enumerate([*orders(0, 40), twin]) if place not in gone]
    assert result.neighbours == nearest_scores(stay, held_out)
    assert max(result.neighbours.values()) <= result.threshold


def test_a_clean_score_never_compares_rows_of_one_cluster():
    rows = [a_row(f"{word} {word} {end}", cluster=word) for word in DRINKS for end in ("one", "uno")]
    assert max(clean_scores(rows, num_held_out=8)) < 0.5


def test_neither_order_of_rows_nor_of_clusters_changes_anything():
    train, held_out = orders(0, 40), orders(40, 64)
    one, other = decide(train, held_out), decide(train[::-1], held_out[::-1])
    assert (one.threshold, dict(one.neighbours)) == (other.threshold, dict(other.neighbours))
    assert {train[hit.row].id for hit in one.quarantined} == {
        train[::-1][hit.row].id for hit in other.quarantined
    }


def test_no_training_rows_leave_every_neighbour_at_zero():
    assert set(decide([], orders(0, 3)).neighbours.values()) == {0.0}


@pytest.mark.skipif(
    "TUNEWRIGHT_DATA" not in os.environ, reason="TUNEWRIGHT_DATA names no folder of public data"
)
def test_real_coffee_orders_lose_one_percent_and_no_held_out_row_keeps_a_hit():
    lines = (Path(os.environ["TUNEWRIGHT_DATA"]) / "coffee/orders.jsonl").read_text().splitlines()
    texts = sorted({json.loads(line)["messages"][0]["content"] for line in lines})
    rows = [SplitRow(digest_bytes(t.encode()), text_digest(t), None, signature(t)) for t in texts]
    split = split_rows(rows, VaultMemory(), SplitRules(), threshold=0.8)
    placed = [a_row(text, str(key)) for text, key in zip(texts, split.clusters, strict=True)]
    train = [row for row, side in zip(placed, split.sides, strict=True) if side != "held_out"]
    held_out = [row for row, side in zip(placed, split.sides, strict=True) if side == "held_out"]
    result = decide(train, held_out, near_threshold=0.8, fpr=0.01)
    assert 0.002 < result.hit_fraction < 0.02
    assert result.num_over_cap == 0
    assert max(result.neighbours.values()) <= result.threshold
