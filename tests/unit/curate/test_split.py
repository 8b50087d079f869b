"""The split: whole clusters, memory first, hash or time second."""

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunewright.core.text import jaccard, signature, text_digest
from tunewright.curate.clustering import SplitRow
from tunewright.curate.memory import VaultMemory
from tunewright.curate.split import SplitResult, split_rows
from tunewright.errors import EmptySplit, RecipeError
from tunewright.recipe import SplitRules
from tunewright.values import digest_bytes

START = datetime(2026, 1, 1, tzinfo=UTC)
NOTHING = VaultMemory()


def a_row(text: str, group: str | None = None, *, answer: str = "", day: float | None = None) -> SplitRow:
    time = None if day is None else START + timedelta(days=day)
    return SplitRow(
        digest_bytes(f"{text}|{answer}".encode()), text_digest(text), group, signature(text), time
    )


def distinct_rows(count: int, *, start: int = 0) -> list[SplitRow]:
    """Rows that are not alike: different words of digits."""
    return [
        a_row(f"{number:b} {number * 7919:x} {number * 104729:o}", day=number)
        for number in range(start, start + count)
    ]


def split(rows, memory=NOTHING, threshold=0.8, **rules) -> SplitResult:
    return split_rows(rows, memory, SplitRules(**rules), threshold=threshold)


def recorded(rows, result: SplitResult, memory=NOTHING) -> VaultMemory:
    sides = (("held_out" if side == "held_out" else "train") if side else None for side in result.sides)
    return memory.add(row.remember(side) for row, side in zip(rows, sides, strict=True) if side)


def reasons(result: SplitResult) -> dict[int, str]:
    return {rejection.row: rejection.reason for rejection in result.rejections}


def test_shares_are_about_what_was_asked_for():
    result = split(distinct_rows(1000), held_out=0.2, validation=0.1)
    assert 160 < result.report.rows_of["held_out"] < 240
    assert 70 < result.report.rows_of["validation"] < 130
    assert result.warnings == ()


def test_another_salt_gives_another_split():
    rows = distinct_rows(100)
    assert split(rows, salt="a").sides != split(rows, salt="b").sides


def test_a_group_stays_whole():
    rows = [replace(row, group=f"customer {place % 20}") for place, row in enumerate(distinct_rows(200))]
    sides: dict[str | None, set] = {}
    for row, side in zip(rows, split(rows).sides, strict=True):
        sides.setdefault(row.group, set()).add(side)
    assert all(len(found) == 1 for found in sides.values())


def test_near_duplicates_and_equal_prompts_stay_together():
    twins = [
        a_row("can i get a large latte with oat milk"),
        a_row("can i get a large latte with oat milk please"),
    ]
    twins += [a_row("can i get a large latte with oat milk", answer="other")]
    for salt in "abcdefgh":
        result = split([*twins, *distinct_rows(30)], salt=salt)
        assert len(set(result.sides[:3])) == 1
        assert len(set(result.clusters[:3])) == 1


def test_rows_linked_through_a_rejected_row_stay_together():
    hub = a_row("tea", "g")
    rows = [hub, a_row("parcel", "g", day=1), a_row("refund", "g", day=300), *distinct_rows(300)]
    result = split(rows, time_split=True)
    assert reasons(result)[0] == "missing_time"
    assert result.clusters[1] == result.clusters[2]


ROWS = st.lists(
    st.builds(
        lambda cut, tail, group, answer: a_row(
            " ".join("please send one large oat milk latte to my office".split()[cut:] + tail),
            group,
            answer=answer,
        ),
        st.integers(0, 8),
        st.lists(st.sampled_from(["now", "tea", "refund", "parcel", "lost", "bank", "card"]), max_size=4),
        st.none() | st.sampled_from(["a", "b", "c", "d", "e"]),
        st.sampled_from("xyz"),
    ),
    min_size=6,
    max_size=20,
    unique_by=lambda row: row.id,
)


def assert_nothing_stands_on_both_sides(rows: list[SplitRow], result: SplitResult) -> None:
    held_out = [row for row, side in zip(rows, result.sides, strict=True) if side == "held_out"]
    trained = [row for row, side in zip(rows, result.sides, strict=True) if side in ("train", "validation")]
    for held in held_out:
        for row in trained:
            assert held.prompt != row.prompt
            assert held.group is None or held.group != row.group
            assert jaccard(held.signature, row.signature) < 0.8


@given(ROWS, st.randoms())
@settings(deadline=None, max_examples=60)
def test_sides_share_nothing_and_the_order_of_rows_does_not_matter(rows: list[SplitRow], random):
    rows = [*rows, *distinct_rows(4)]
    result = split(rows, held_out=0.4)
    assert_nothing_stands_on_both_sides(rows, result)
    order = list(range(len(rows)))
    random.shuffle(order)
    shuffled = split([rows[place] for place in order], held_out=0.4)
    assert [result.sides[place] for place in order] == list(shuffled.sides)
    assert [result.clusters[place] for place in order] == list(shuffled.clusters)


@given(ROWS, ROWS, st.sampled_from("abc"))
@settings(deadline=None, max_examples=60)
def test_over_versions_no_row_moves_and_no_relative_of_a_held_out_row_is_trained(old, new, salt):
    first = [*old, *distinct_rows(4)]
    before = split(first, held_out=0.4)
    memory = recorded(first, before)
    known = {row.id for row in first}
    second = [*first, *(row for row in new if row.id not in known)]
    after = split(second, memory, held_out=0.4, salt=salt)
    for row, side in zip(second, after.sides, strict=True):
        if row.id in known:
            assert side is not None
            assert (side == "held_out") == (memory.side(row.id) == "held_out")
    assert_nothing_stands_on_both_sides(second, after)
    recorded(second, after, memory)  # raises HeldOutLeak if any row moved


def two_recorded() -> tuple[SplitRow, SplitRow, VaultMemory]:
    trained, held = a_row("where is my parcel", "t"), a_row("one latte with oat milk", "h")
    return trained, held, VaultMemory([trained.remember("train"), held.remember("held_out")])


def test_relatives_of_recorded_rows_follow_them():
    _, _, memory = two_recorded()
    rows = [
        a_row("where is my parcel?", answer="prompt"),
        a_row("i want my money back", "t"),
        a_row("one latte with oat milks"),
        a_row("what are your hours", "h"),
        *distinct_rows(20),
    ]
    result = split(rows, memory)
    assert {result.sides[0], result.sides[1]} <= {"train", "validation"}
    assert result.sides[2:4] == ("held_out", "held_out")
    assert result.report.joined_rows == 4


def test_a_new_row_that_ties_train_to_held_out_is_rejected_with_both_relatives():
    trained, held, memory = two_recorded()
    rows = [a_row("where is my parcel", "h", answer="new"), *distinct_rows(20)]
    result = split(rows, memory)
    assert reasons(result) == {0: "bridges_train_and_held_out"}
    assert result.rejections[0].evidence == {"train": trained.id, "held_out": held.id}
    assert result.report.bridging_rows == 1
    assert "1 rows (4.8%) were rejected because they tie recorded" in result.warnings[0]


def test_recorded_rows_keep_their_side_when_a_new_row_would_tie_them():
    trained, held, memory = two_recorded()
    bridge = a_row("one latte with oat milk", "t", answer="new")
    result = split([trained, held, bridge, *distinct_rows(20)], memory)
    assert result.sides[0] in ("train", "validation")
    assert result.sides[1] == "held_out"
    assert reasons(result) == {2: "bridges_train_and_held_out"}


def test_recorded_train_rows_are_left_out_when_new_rules_tie_them_to_held_out_rows():
    trained, held, memory = two_recorded()
    regrouped = [replace(trained, group="same"), replace(held, group="same"), *distinct_rows(20)]
    result = split(regrouped, memory)
    assert reasons(result) == {0: "bridges_train_and_held_out"}
    assert result.rejections[0].evidence == {"recorded": "train", "held_out": held.id}
    assert result.sides[1] == "held_out"


def test_validation_counts_as_trained():
    rows = distinct_rows(60)
    first = split(rows)
    place = first.sides.index("validation")
    relative = replace(rows[place], id=digest_bytes(b"another answer"))
    memory = recorded(rows, first)
    assert split([relative, *distinct_rows(40, start=100)], memory).sides[0] in ("train", "validation")


def test_a_warning_says_that_no_new_cluster_reached_the_held_out_set():
    rows = distinct_rows(60)
    again = split(rows, recorded(rows, split(rows)), salt="other")
    assert [warning[:49] for warning in again.warnings] == [
        "No new cluster reached the held-out set (0 new cl"
    ]


def test_a_cluster_larger_than_the_held_out_share_goes_to_train_with_a_warning():
    rows = [replace(row, group="acme") for row in distinct_rows(60)] + distinct_rows(60, start=100)
    for salt in "abcdefgh":
        result = split(rows, salt=salt)
        assert set(result.sides[:60]) == {"train"}
        assert any("group 'acme' has 60 of them" in warning for warning in result.warnings)


def test_few_clusters_still_fill_every_side():
    for count in (3, 5, 10):
        for salt in "abcdefgh":
            assert min(split(distinct_rows(count), salt=salt).report.rows_of.values()) >= 1


def test_a_group_that_swallows_everything_is_named():
    rows = [replace(row, group="acme") for row in distinct_rows(10)]
    with pytest.raises(EmptySplit, match=r"group 'acme' has 10 of them.*Choose a finer `group` field"):
        split(rows)


def test_no_rows_at_all_say_where_to_look():
    with pytest.raises(EmptySplit, match="data rejects"):
        split([])


def test_rows_that_all_follow_trained_rows_cannot_be_judged_on():
    rows = distinct_rows(12)
    memory = VaultMemory(row.remember("train") for row in rows)
    with pytest.raises(EmptySplit, match=r"held_out would have no rows.*Add fresh rows"):
        split(rows, memory)


def test_shares_that_leave_nothing_for_training_are_refused():
    with pytest.raises(RecipeError, match="expected a sum below 1"):
        split(distinct_rows(20), held_out=0.6, validation=0.4)


def test_a_time_split_holds_out_the_latest_rows():
    rows = distinct_rows(100)
    result = split(rows, time_split=True)
    assert [place for place, side in enumerate(result.sides) if side == "held_out"] == list(range(80, 100))


def test_a_cluster_is_as_late_as_its_latest_row_and_later_train_rows_are_not_used():
    rows = [
        replace(row, group="old" if place < 40 or place == 99 else None)
        for place, row in enumerate(distinct_rows(100))
    ]
    result = split(rows, time_split=True)
    assert set(result.sides[:40]) <= {"train", "validation"}
    assert reasons(result) == {99: "embargo"}


def test_an_embargo_leaves_a_gap_before_the_first_held_out_time():
    result = split(distinct_rows(100), time_split=True, embargo_s=3 * 86_400)
    assert Counter(reasons(result).values()) == {"embargo": 2}
    assert set(reasons(result)) == {78, 79}
    assert result.rejections[0].evidence["first_held_out"] == "2026-03-22T00:00:00+00:00"
