"""The whole stage with fakes: real files in, one sealed, committed dataset version out, or nothing at all."""

import dataclasses
import json
import random
from collections import Counter
from pathlib import Path

import pytest
from tests.fakes import InMemoryBlobs, InMemoryRecords, SilentProgress, fake_ports

from tunewright.core.rows import load_split
from tunewright.curate.card import card_facts, dataset_card
from tunewright.curate.curate import curate
from tunewright.curate.memory import VaultMemory
from tunewright.errors import (
    BlobCorrupt,
    DataError,
    EmptySplit,
    RecipeError,
    SourceUnreadable,
    StorageError,
    TooManyRejections,
    WorkspaceBusy,
)
from tunewright.ports import Ports
from tunewright.recipe import DataSection, PiiRules, QualityRules, Recipe, SourceSpec
from tunewright.records import DatasetVersion, Rejection
from tunewright.values import Digest, Ref

NOUNS = "lamp chair kettle table shelf mirror carpet pillow heater basket bottle candle".split()
VERBS = "return exchange repair order cancel track gift assemble store clean paint compare".split()
PLACES = "Berlin Oslo Porto Lyon Graz Turin Ghent Bern Malmo Cork Brno Gdansk".split()


def rows(count: int, seed: int = 0) -> list[dict]:
    """Distinct shop questions with JSON answers."""
    random_ = random.Random(seed)
    made: list[dict] = []
    for number in range(count):
        noun, verb, place = random_.choice(NOUNS), random_.choice(VERBS), random_.choice(PLACES)
        code = "".join(random_.choices("bcdfghjklmnpqrstvwxz", k=9))
        prompt = f"{code} how do I {verb} the {noun} {seed}-{number} from {place}?"
        made.append({"prompt": prompt, "completion": json.dumps({"verb": verb, "item": noun})})
    return made


def write(ports: Ports, name: str, made: list[dict] | str | bytes) -> None:
    data = made if isinstance(made, str | bytes) else "".join(json.dumps(row) + "\n" for row in made)
    (ports.data_root / name).write_bytes(data if isinstance(data, bytes) else data.encode())


def recipe(*paths: str, name: str = "shop", source: dict | None = None, **data) -> Recipe:
    sources = tuple(SourceSpec(path=path, **(source or {})) for path in paths or ("a.jsonl",))
    return Recipe(name=name, data=DataSection(sources=sources, **data))


@pytest.fixture
def ports(tmp_path: Path) -> Ports:
    return fake_ports(tmp_path)


def fresh(ports: Ports, folder: Path) -> Ports:
    """Another workspace on the same data."""
    folder.mkdir()
    return dataclasses.replace(fake_ports(folder), data_root=ports.data_root)


def store(ports: Ports) -> tuple[InMemoryRecords, InMemoryBlobs]:
    assert isinstance(ports.records, InMemoryRecords)
    assert isinstance(ports.blobs, InMemoryBlobs)
    return ports.records, ports.blobs


def rejections(dataset: DatasetVersion, ports: Ports) -> list[Rejection]:
    return [Rejection.model_validate_json(line) for line in ports.blobs.get(dataset.rejections).splitlines()]


def split_ids(dataset: DatasetVersion, ports: Ports) -> dict[str, set[str]]:
    session = ports.vault.open("audit", "dataset", "tester")
    return {
        split: {row.id for row in load_split(dataset, split, ports.blobs, session)}
        for split in dataset.splits
    }


def test_rows_become_three_sides_and_every_row_is_accounted_for(ports: Ports):
    junk = [
        {"prompt": "no answer", "completion": ""},
        {"prompt": "hello there", "completion": "As an AI language model, I cannot."},
        {"prompt": "the key is AKIA" + "IOSFODNN7EXAMPLE", "completion": "ok"},
    ]
    good = rows(200)
    twin = {"prompt": good[3]["prompt"].replace("how do I", "how  do I"), "completion": good[3]["completion"]}
    write(ports, "a.jsonl", [*good, *junk, twin])
    dataset = curate(recipe(), ports)
    assert dataset.ref == Ref("shop", 1)
    assert dataset.rows_in == 204
    assert dataset.rows_in == dataset.rows_kept + sum(dataset.removed.values())
    for reason in ("empty_turn", "refusal", "secret", "exact_duplicate"):
        assert dataset.removed[reason] == 1, reason
    sizes = {split: info.rows for split, info in dataset.splits.items()}
    assert sum(sizes.values()) == dataset.rows_kept
    assert 20 <= sizes["held_out"] <= 60
    assert 8 <= sizes["validation"] <= 40
    sides = split_ids(dataset, ports)
    assert sum(map(len, sides.values())) == len(set().union(*sides.values()))


def test_one_commit_moves_the_vault_and_writes_lineage(ports: Ports):
    write(ports, "a.jsonl", rows(60))
    dataset = curate(recipe(), ports)
    records, _ = store(ports)
    assert records.commits == 1
    assert records.heads["vault"].startswith(dataset.vault_after + ":")
    assert [(edge.parent, edge.role) for edge in records.parents("dataset:shop@1")] == [
        (f"source:{dataset.sources[0].digest}", "source")
    ]
    assert [event.kind for event in records.ledger] == ["look", "curate"]
    assert records.ledger[1].detail["held_out"] == dataset.splits["held_out"].digest


def test_no_stored_byte_shows_held_out_text_and_no_rejection_shows_any(ports: Ports):
    made = rows(60)
    write(ports, "a.jsonl", made)
    dataset = curate(recipe(), ports)
    session = ports.vault.open("audit", "dataset", "tester")
    held_out = load_split(dataset, "held_out", ports.blobs, session)
    _, blobs = store(ports)
    for row in held_out:
        assert not any(row.messages[0].content.encode() in data for data in blobs.stored.values())
    assert not any(one["prompt"].encode() in blobs.get(dataset.rejections) for one in made)


def test_the_same_files_in_any_order_and_place_give_the_same_digest(ports: Ports, tmp_path: Path):
    made = rows(120)
    write(ports, "a.jsonl", made[:70])
    write(ports, "b.jsonl", made[70:])
    (ports.data_root / "deep").mkdir()
    write(ports, "deep/z.jsonl", made[:70])
    first = curate(recipe("a.jsonl", "b.jsonl"), ports)
    second = curate(recipe("b.jsonl", "deep/z.jsonl"), fresh(ports, tmp_path / "two"))
    assert second.digest == first.digest
    assert second.fingerprint == first.fingerprint
    assert {s: i.digest for s, i in second.splits.items()} == {s: i.digest for s, i in first.splits.items()}


def test_a_second_run_reuses_what_is_made_and_says_so(ports: Ports):
    write(ports, "a.jsonl", rows(60))
    first = curate(recipe(), ports)
    records, _ = store(ports)
    before = len(records.ledger)
    assert curate(recipe(), ports) == first
    assert len(records.ledger) == before
    assert isinstance(ports.progress, SilentProgress)
    assert "re-used" in ports.progress.finished[-1]


def test_other_rules_make_a_new_version_whose_rows_keep_their_sides(ports: Ports):
    write(ports, "a.jsonl", rows(150))
    first = curate(recipe(), ports)
    second = curate(recipe(split={"salt": "another"}), ports)
    assert (second.ref, second.parents) == (Ref("shop", 2), (Ref("shop", 1),))
    assert second.vault_before == first.vault_after
    one, two = split_ids(first, ports), split_ids(second, ports)
    assert not two["held_out"] & (one["train"] | one["validation"])
    assert not one["held_out"] & (two["train"] | two["validation"])
    records, _ = store(ports)
    assert ("dataset:shop@1", "dataset") in {(e.parent, e.role) for e in records.parents("dataset:shop@2")}


def test_a_renamed_recipe_cannot_train_on_what_was_held_out(ports: Ports):
    write(ports, "a.jsonl", rows(150))
    first = curate(recipe(), ports)
    second = curate(recipe(name="shop-again", split={"salt": "x"}), ports)
    leaked = split_ids(second, ports)["train"] & split_ids(first, ports)["held_out"]
    assert leaked == set()


def test_new_rows_join_the_side_of_their_near_twins(ports: Ports):
    made = rows(150)
    write(ports, "a.jsonl", made)
    first = curate(recipe(), ports)
    held_out = split_ids(first, ports)["held_out"]
    twins = [{"prompt": row["prompt"] + " please", "completion": '{"other": 1}'} for row in made]
    write(ports, "b.jsonl", twins + rows(80, seed=9))
    second = curate(recipe("b.jsonl"), ports)
    session = ports.vault.open("audit", "dataset", "tester")
    known = {row.messages[0].content for row in load_split(first, "held_out", ports.blobs, session)}
    trained = [r for s in ("train", "validation") for r in load_split(second, s, ports.blobs)]
    assert held_out
    assert not any(row.messages[0].content.removesuffix(" please") in known for row in trained)


def test_groups_stay_whole(ports: Ports):
    write(ports, "a.jsonl", [row | {"who": f"customer {i // 5}"} for i, row in enumerate(rows(200))])
    dataset = curate(recipe(source={"group": "who"}), ports)
    sides: dict[str, set[str]] = {}
    for line in ports.blobs.get(dataset.lineage).splitlines():
        row = json.loads(line)
        side = "held_out" if row["split"] == "held_out" else "train"
        sides.setdefault(row["group"], set()).add(side)
    assert Counter(map(len, sides.values())) == {1: 40}


def test_personal_data_is_masked_in_stored_rows_and_counted_by_type(ports: Ports):
    made = rows(80)
    for number, row in enumerate(made):
        row["prompt"] += f" Write to person{number}@example.com"
    write(ports, "a.jsonl", made)
    dataset = curate(recipe(), ports)
    _, blobs = store(ports)
    assert dataset.report["personal_data"] == {"masked_values": {"email": 80}, "dropped_rows": {}}
    assert not any(b"@example.com" in data for data in blobs.stored.values())
    assert all("<EMAIL_1>" in row.messages[0].content for row in load_split(dataset, "train", ports.blobs))


def test_exact_duplicates_are_listed_as_sources_of_the_kept_row(ports: Ports):
    made = rows(60)
    write(ports, "a.jsonl", [*made, made[0], made[0]])
    dataset = curate(recipe(), ports)
    lines = [json.loads(line) for line in ports.blobs.get(dataset.lineage).splitlines()]
    assert [source[2] for row in lines if len(row["sources"]) > 1 for source in row["sources"]] == [1, 61, 62]
    removed = [one for one in rejections(dataset, ports) if one.step == "exact_duplicate"]
    assert [(one.source.line, one.evidence["kept_line"]) for one in removed] == [(61, 1), (62, 1)]


def test_a_few_bad_lines_are_rejections_and_too_many_stop_the_run(ports: Ports):
    good = "".join(json.dumps(row) + "\n" for row in rows(60))
    write(ports, "a.jsonl", good + '{"broken\n[1]\n')
    dataset = curate(recipe(), ports)
    assert dataset.removed["broken_json"] == dataset.removed["not_an_object"] == 1
    write(ports, "a.jsonl", good + '{"broken\n' * 4)
    with pytest.raises(TooManyRejections) as caught:
        curate(recipe(), ports)
    assert "4 of 64 rows (6.2%)" in str(caught.value)
    assert "a.jsonl:61 broken_json (column 9); a.jsonl:62" in str(caught.value)
    assert curate(recipe(max_rejected_fraction=0.1), ports).removed["broken_json"] == 4


@pytest.mark.parametrize(
    ("data", "rules", "error", "words"),
    [
        (b"", {}, SourceUnreadable, "is empty"),
        (b'{"prompt": "caf\xe9", "completion": "x"}\n', {}, SourceUnreadable, "line 1: byte 0xe9"),
        (
            rows(40),
            {"quality": QualityRules(min_answer_chars=500)},
            EmptySplit,
            "40 quality: answer",
        ),
        (rows(2), {}, EmptySplit, "2 rows"),
        ([{"text": f"t {i} {i * i}", "label": "same"} for i in range(40)], {}, DataError, "the same 'label'"),
        ([r | {"who": "all"} for r in rows(40)], {"source": {"group": "who"}}, EmptySplit, "group 'all'"),
        (rows(40), {"source": {"group": "who"}}, RecipeError, "group names the field 'who'"),
        (rows(40), {"source": {"prompt_field": "promt"}}, RecipeError, "nearest: prompt"),
        (rows(40), {"pii": PiiRules(types=("mail",))}, RecipeError, "unknown type 'mail'"),
        (
            [{"messages": [{"role": "assistant", "content": "a"}]}] * 3,
            {},
            TooManyRejections,
            r"a.jsonl:1 roles_out_of_order \(turn 1\)",
        ),
    ],
)
def test_bad_input_is_a_clear_error_and_leaves_nothing_behind(ports: Ports, data, rules, error, words):
    write(ports, "a.jsonl", data)
    with pytest.raises(error, match=words):
        curate(recipe(**rules), ports)
    records, _ = store(ports)
    assert records.commits == 0
    assert records.head("vault") is None


def test_rows_that_all_answer_alike_are_warned_about(ports: Ports):
    write(ports, "a.jsonl", [row | {"completion": "yes"} for row in rows(60)])
    assert any("the same answer" in warning for warning in curate(recipe(), ports).warnings)


def test_when_another_process_curates_in_between_the_split_is_decided_again(ports: Ports):
    write(ports, "a.jsonl", rows(100))
    write(ports, "b.jsonl", rows(100, seed=5))
    records, _ = store(ports)

    def interfere() -> None:
        records.before_commit = lambda: None
        curate(recipe("b.jsonl", name="other"), ports)

    records.before_commit = interfere
    dataset = curate(recipe(), ports)
    other = records.latest("dataset", "other")
    assert isinstance(other, DatasetVersion)
    assert dataset.vault_before == other.vault_after
    assert records.heads["vault"].startswith(dataset.vault_after)


def test_a_vault_that_never_stands_still_is_a_busy_workspace(ports: Ports):
    write(ports, "a.jsonl", rows(60))
    records, _ = store(ports)
    session = ports.vault.open("audit", "x", "x")
    blob = ports.blobs.put(session.seal(VaultMemory().to_bytes()))
    records.heads["vault"] = f"{VaultMemory().digest}:{blob}"
    again = [ports.blobs.put(session.seal(VaultMemory().to_bytes())) for _ in range(3)]
    records.before_commit = lambda: records.heads.update(vault=f"{VaultMemory().digest}:{again.pop()}")
    with pytest.raises(WorkspaceBusy, match="Run again"):
        curate(recipe(), ports)
    assert records.commits == 0


def test_a_crash_before_the_commit_leaves_no_record_and_the_next_run_succeeds(ports: Ports):
    write(ports, "a.jsonl", rows(60))
    records, _ = store(ports)

    def crash() -> None:
        records.before_commit = lambda: None
        raise StorageError("disk full")

    records.before_commit = crash
    with pytest.raises(StorageError):
        curate(recipe(), ports)
    assert records.latest("dataset", "shop") is None
    assert curate(recipe(), ports).ref == Ref("shop", 1)


def test_a_memory_that_is_not_what_its_head_says_is_refused(ports: Ports):
    write(ports, "a.jsonl", rows(60))
    curate(recipe(), ports)
    records, _ = store(ports)
    _, _, blob = records.heads["vault"].partition(":")
    records.heads["vault"] = f"{'0' * 64}:{blob}"
    with pytest.raises(BlobCorrupt, match="its head says 000"):
        curate(recipe(max_rows=50), ports)


def test_neighbours_cover_every_held_out_row_and_are_sealed(ports: Ports):
    write(ports, "a.jsonl", rows(80))
    dataset = curate(recipe(), ports)
    session = ports.vault.open("audit", "x", "x")
    scores = json.loads(session.unseal(ports.blobs.get(dataset.neighbours)))
    assert set(scores) == split_ids(dataset, ports)["held_out"]
    assert all(0 <= score <= 1 for score in scores.values())


def test_neighbours_remember_what_ancestors_trained_on(ports: Ports):
    made = rows(150)
    write(ports, "a.jsonl", made)
    write(ports, "b.jsonl", rows(90, seed=4))
    curate(recipe("a.jsonl"), ports)
    session = ports.vault.open("audit", "x", "x")
    with_parent = curate(recipe("b.jsonl"), ports)
    alone = curate(recipe("b.jsonl", name="alone"), fresh(ports, ports.runs_dir / "other"))
    mine = json.loads(session.unseal(ports.blobs.get(with_parent.neighbours)))
    assert with_parent.digest == alone.digest
    assert len(mine) == alone.splits["held_out"].rows
    assert any(score > 0 for score in mine.values())


def test_the_card_tells_counts_and_no_text(ports: Ports):
    made = rows(60)
    write(ports, "a.jsonl", [*made, made[0]])
    dataset = curate(recipe(), ports)
    text = dataset_card(dataset)
    assert "61 rows in = " in text
    assert "1 exact_duplicate" in text
    assert "held_out (sealed)" in text
    facts = card_facts(dataset)
    assert facts["rows_kept"] == dataset.rows_kept
    assert not any(row["prompt"][:9] in text + json.dumps(facts) for row in made)


def test_csv_and_jsonl_sources_make_one_dataset_with_counts_per_source(ports: Ports):
    write(ports, "a.jsonl", rows(40))
    body = "".join(f'"{row["prompt"]}",{number % 4}\n' for number, row in enumerate(rows(40, seed=2)))
    write(ports, "b.csv", "text,label\n" + body + "only one field\n")
    dataset = curate(recipe("a.jsonl", "b.csv"), ports)
    assert {(s.path, s.rows_in) for s in dataset.sources} == {("a.jsonl", 40), ("b.csv", 41)}
    assert dataset.sources[1].removed["wrong_number_of_fields"] == 1
    assert dataset.report["forms"] == {"label": 40, "pair": 40}


def test_digests_do_not_depend_on_keys_or_clocks(ports: Ports, tmp_path: Path):
    write(ports, "a.jsonl", rows(60))
    first = curate(recipe(), ports)
    other = fresh(ports, tmp_path / "two")
    other.vault.key = b"q" * 32
    other.clock.tick(1000)
    second = curate(recipe(), other)
    assert second.digest == first.digest
    assert second.vault_after == first.vault_after
    assert second.splits["held_out"].blob != first.splits["held_out"].blob
    assert Digest(second.splits["train"].blob) == first.splits["train"].blob
