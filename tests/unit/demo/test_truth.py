"""Recall of what was planted: each kind is found only by what really answers it."""

from datetime import UTC, datetime

import pytest

from tunewright.demo.truth import Fate, Kind, Planted, naive_separation, planted_recall, read_fates
from tunewright.records import Example, Message, Rejection, Source
from tunewright.values import Digest

DIGEST = Digest("0" * 64)
KEPT = Fate(split="train")


def a_plant(kind: Kind, line: int = 2, **more: object) -> Planted:
    return Planted.model_validate({"file": "a.jsonl", "line": line, "kind": kind, "plant": 1, **more})


def recall(planted: Planted, fate: Fate, original: Fate = KEPT) -> float | None:
    fates = {("a.jsonl", 1): original, planted.place: fate}
    return planted_recall([planted], fates).get(planted.kind)


@pytest.mark.parametrize("kind", ["exact_duplicate", "near_duplicate"])
def test_a_copy_counts_as_found_when_copy_or_original_went(kind: Kind) -> None:
    copy = a_plant(kind, of=("a.jsonl", 1))
    assert recall(copy, Fate(step=kind)) == 1
    assert recall(copy, KEPT, Fate(step=kind)) == 1
    assert recall(copy, KEPT) == 0


def test_junk_counts_as_found_when_it_was_not_kept() -> None:
    assert recall(a_plant("junk"), Fate(step="quality")) == 1
    assert recall(a_plant("junk"), KEPT) == 0


def test_personal_data_is_found_by_a_tag_of_its_own_type() -> None:
    row = a_plant("pii", detail="email")
    assert recall(row, Fate(split="train", masked=frozenset({"email"}))) == 1
    assert recall(row, Fate(split="train", masked=frozenset({"phone"}))) == 0
    assert recall(row, Fate(step="pii")) == 1


def test_a_row_that_went_for_another_reason_says_nothing_about_personal_data() -> None:
    assert recall(a_plant("pii", detail="email"), Fate(step="memory")) is None


def test_a_conflict_needs_to_be_removed_as_one() -> None:
    wrong = a_plant("conflict", of=("a.jsonl", 1))
    assert recall(wrong, KEPT, Fate(step="conflict")) == 1
    assert recall(wrong, Fate(step="quality")) == 0


def test_a_secret_is_found_when_dropped_or_masked() -> None:
    assert recall(a_plant("secret"), Fate(step="pii")) == 1
    assert recall(a_plant("secret"), Fate(split="train", masked=frozenset({"secret"}))) == 1
    assert recall(a_plant("secret"), KEPT) == 0


def test_twins_count_by_set_and_validation_counts_as_trained() -> None:
    twins = [a_plant("twin", line) for line in (1, 2, 3)]
    together = {
        row.place: Fate(split=side) for row, side in zip(twins, ("train", "validation", "train"), strict=True)
    }
    assert planted_recall(twins, together) == {"twin": 1}
    assert planted_recall(twins, together | {twins[0].place: Fate(split="held_out")}) == {"twin": 0}


def test_a_set_of_twins_with_one_kept_row_does_not_count() -> None:
    twins = [a_plant("twin", line) for line in (1, 2)]
    assert planted_recall(twins, {twins[0].place: KEPT, twins[1].place: Fate(step="memory")}) == {}


def test_rows_of_files_that_were_not_read_are_left_out() -> None:
    assert planted_recall([a_plant("junk")], {("b.jsonl", 2): KEPT}) == {}


def test_fates_come_from_rejections_and_splits() -> None:
    source = Source(digest=DIGEST, path="a.jsonl", line=1)
    example = Example(
        id=DIGEST,
        messages=(
            Message(role="user", content="mail <EMAIL_1>, <CREDIT_CARD_2>"),
            Message(role="assistant", content="x"),
        ),
        time=datetime(2026, 1, 1, tzinfo=UTC),
        source=source,
    )
    rejection = Rejection(
        source=Source(digest=DIGEST, path="a.jsonl", line=2), step="read", reason="broken_json"
    )
    fates = read_fates([rejection], {"held_out": [example]})
    assert fates == {
        ("a.jsonl", 1): Fate(split="held_out", masked=frozenset({"email", "credit_card"})),
        ("a.jsonl", 2): Fate(step="read"),
    }


def test_a_random_split_tears_twins_apart() -> None:
    twins = [a_plant("twin", line, plant=line // 4) for line in range(4, 404)]
    assert 0.5 < naive_separation(twins, held_out=0.2, seed=1) < 0.7  # 1 - .8^4 - .2^4 = .589
    assert naive_separation([], held_out=0.2, seed=1) == 0
