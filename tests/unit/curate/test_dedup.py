"""Duplicates, near-duplicates and conflicts."""

from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from tunewright.core.text import content_id, jaccard, prompt_text, signature
from tunewright.curate.dedup import DedupRow, dedup_row, deduplicate, label_consistency
from tunewright.records import Example, Message, Source

EARLY, LATE = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)
PROMPT = "please send one large oat milk latte to the second floor of our new office today"


def a_row(prompt: str, answer: str = "ok", *, system: str | None = None, quality=0.0, time=None) -> DedupRow:
    turns = [("system", system)] if system else []
    turns += [("user", prompt), ("assistant", answer)]
    messages = tuple(Message(role=role, content=content) for role, content in turns)
    source = Source(digest="0" * 64, path="rows.jsonl", line=1)
    example = Example(id=content_id(messages), messages=messages, time=time, source=source)
    return dedup_row(example, signature(prompt_text(messages)), quality=quality)


def decide(rows, policy="keep_all", threshold=0.8):
    return deduplicate(rows, threshold=threshold, policy=policy)


def reasons(result) -> dict[int, tuple[str, int | None]]:
    return {removal.row: (removal.reason, removal.kept) for removal in result.removals}


def test_an_exact_duplicate_names_the_row_it_repeats():
    rows = [a_row("one tea"), a_row("where is my parcel"), a_row(" one  tea ")]
    result = decide(rows)
    assert reasons(result) == {2: ("exact_duplicate", 0)} or reasons(result) == {0: ("exact_duplicate", 2)}
    assert result.removals[0].evidence == {"kept": rows[0].id, "jaccard": 1.0}


def test_a_near_duplicate_with_the_same_answer_is_removed():
    rows = [a_row(PROMPT), a_row(PROMPT + " please", quality=1.0)]
    result = decide(rows)
    assert reasons(result) == {0: ("near_duplicate", 1)}
    assert result.removals[0].evidence["jaccard"] == round(jaccard(rows[0].signature, rows[1].signature), 6)


def test_a_near_duplicate_with_another_answer_stays_and_is_reported():
    result = decide([a_row(PROMPT, "yes"), a_row(PROMPT + " please", "no")])
    assert result.removals == ()
    assert result.conflicts.near_conflicting_pairs == 1
    assert result.conflicts.conflicting_rows == 0


def test_a_near_duplicate_under_another_system_turn_stays():
    assert (
        decide([a_row(PROMPT, system="be brief"), a_row(PROMPT + " please", system="be long")]).removals == ()
    )


def test_near_duplicates_are_stars_and_not_chains():
    words = PROMPT.split()
    middle = " ".join(words)
    left, right = " ".join([*words[1:], "x"]), " ".join(["y", *words[:-1]])
    rows = [a_row(left), a_row(middle), a_row(right)]
    assert jaccard(rows[0].signature, rows[2].signature) < 0.8 < jaccard(rows[0].signature, rows[1].signature)
    result = decide(rows)
    kept = [row for row in range(3) if row not in reasons(result)]
    assert [removal.kept in kept for removal in result.removals] == [True] * len(result.removals)
    assert not ({0, 2} <= set(reasons(result)) and 1 not in kept)


def test_the_longest_row_is_kept_then_the_best_then_the_oldest():
    longest = [a_row(PROMPT, quality=9.0), a_row(PROMPT + " thanks")]
    assert reasons(decide(longest)) == {0: ("near_duplicate", 1)}
    best = [a_row(PROMPT, time=EARLY), a_row(PROMPT.title(), quality=1.0, time=LATE)]
    assert reasons(decide(best)) == {0: ("near_duplicate", 1)}
    oldest = [a_row(PROMPT), a_row(PROMPT.title(), time=LATE), a_row(PROMPT.upper(), time=EARLY)]
    assert reasons(decide(oldest)) == {0: ("near_duplicate", 2), 1: ("near_duplicate", 2)}


def test_thousands_of_equal_rows_leave_one():
    rows = [a_row("one tea")] * 3000 + [a_row("one tea!"), a_row("where is my parcel")]
    result = decide(rows)
    assert len(result.removals) == 3000
    assert 3001 not in reasons(result)


def test_conflicts_are_counted_with_the_ceiling_a_perfect_model_could_reach():
    rows = [a_row("tea", "a"), a_row("tea", "a"), a_row("tea", "b"), a_row("parcel", "c")]
    report = decide(rows).conflicts
    assert (report.conflicting_prompts, report.conflicting_rows, report.groups) == (1, 3, ((0, 1, 2),))
    assert report.consistency_ceiling == 3 / 4
    assert report.repeated_consistency == 2 / 3
    assert label_consistency(["tea", "tea", "tea", "parcel"], ["a", "a", "b", "c"]) == 3 / 4


def test_keep_all_keeps_both_sides_of_a_conflict():
    assert decide([a_row("tea", "a"), a_row("tea", "b")]).removals == ()


def test_keep_majority_counts_repeats_before_duplicates_go():
    result = decide([a_row("tea", "b"), a_row("tea", "a"), a_row("tea", "a")], policy="keep_majority")
    assert reasons(result)[0] == ("conflict_minority", None)
    assert result.removals[0].evidence == {"same_answer": 1, "same_prompt": 3}
    assert [removal.reason for removal in result.removals[1:]] == ["exact_duplicate"]


def test_a_tied_majority_goes_to_the_oldest_answer():
    rows = [a_row("tea", "a", time=LATE), a_row("tea", "b", time=EARLY)]
    assert reasons(decide(rows, policy="keep_majority")) == {0: ("conflict_minority", None)}


def test_quarantine_rejects_every_row_of_a_conflict_only():
    rows = [a_row("tea", "a"), a_row("tea", "b"), a_row("parcel", "c")]
    assert reasons(decide(rows, policy="quarantine")) == {0: ("conflict", None), 1: ("conflict", None)}


def test_rows_without_words_are_not_near_duplicates_of_each_other():
    assert decide([a_row("🙂🙂🙂"), a_row("😢😢😢")]).removals == ()


ROWS = st.lists(
    st.builds(
        lambda cut, extra, answer, time: a_row(" ".join(PROMPT.split()[cut:] + extra), answer, time=time),
        st.integers(0, 4),
        st.lists(st.sampled_from(["a", "b", "now"]), max_size=3),
        st.sampled_from(["yes", "no"]),
        st.sampled_from([None, EARLY, LATE]),
    ),
    max_size=14,
)


@given(ROWS)
@settings(deadline=None, max_examples=40)
def test_every_removed_row_has_a_kept_twin_and_no_kept_twins_remain(rows: list[DedupRow]):
    gone = reasons(decide(rows))
    for row, (reason, kept) in gone.items():
        assert kept is not None
        assert kept not in gone or (reason, gone[kept][0]) == ("exact_duplicate", "near_duplicate")
        assert rows[row].answer == rows[kept].answer
        assert jaccard(rows[row].signature, rows[kept].signature) >= 0.8
    left = [row for row in range(len(rows)) if row not in gone]
    for a in left:
        for b in left:
            alike = jaccard(rows[a].signature, rows[b].signature) >= 0.8
            assert a == b or not (alike and rows[a].answer == rows[b].answer)


@given(ROWS, st.randoms())
@settings(deadline=None, max_examples=40)
def test_the_order_of_rows_does_not_change_what_is_kept(rows: list[DedupRow], random):
    def kept(some):
        gone = reasons(decide(some, policy="keep_majority"))
        return sorted(row.content for place, row in enumerate(some) if place not in gone)

    shuffled = list(rows)
    random.shuffle(shuffled)
    assert kept(shuffled) == kept(rows)
