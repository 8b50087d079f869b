"""What is harvested and what is not: the pure decision."""

from collections import Counter
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fakes import START
from tests.live_world import a_feedback, a_text, a_trace

from tunewright.feedback.choose import Before, Chosen, Rules, author_limit, choose, own_limit
from tunewright.recipe import FlywheelSection
from tunewright.records import TraceText

WIDE = FlywheelSection(author_cap=1.0, model_answer_cap=1.0)


def rules(policy=WIDE, **changes) -> Rules:
    return Rules("shop", policy, lambda turns: turns, **changes)


def edit(number: int, *, trace: int | None = None, **changes):
    fields = {
        "id": f"fb_{number:032x}",
        "at": START + timedelta(seconds=number),
        "trace": f"tr_{trace or number:032x}",
        "author": f"{number:032x}",
        "kind": "edit",
        "value": None,
        "is_bad": True,
        "edit_distance": 0.5,
        "has_text": True,
        "consent": "train",
        "status": "approved",
        "reviewer": "rita",
    }
    return a_feedback(**(fields | changes))


def praise(number: int, **changes):
    fields = {"kind": "thumb", "value": 1.0, "is_bad": False, "edit_distance": None, "has_text": False}
    return edit(number, **(fields | changes))


def world(feedback, **trace_changes) -> tuple[dict, dict]:
    numbers = sorted({int(one.trace[3:], 16) for one in feedback})
    traces = {trace.id: trace for trace in (a_trace(n, consent="train", **trace_changes) for n in numbers)}
    texts = {text.owner: text for text in map(a_text, numbers)}
    for one in feedback:
        if one.kind == "edit":
            said = f"better {one.id[-4:]}"
            texts[one.id] = TraceText(owner=one.id, text=said, expires_at=START + timedelta(days=9))
    return traces, texts


def chosen(feedback, rules_=None, **trace_changes) -> Chosen:
    traces, texts = world(feedback, **trace_changes)
    return choose(feedback, traces, texts, rules_ or rules())


def test_an_approved_correction_becomes_the_target_of_its_own_prompt():
    [row] = chosen([edit(3)]).rows
    fields = row.to_json()
    assert fields["messages"] == [
        {"role": "user", "content": "question 3"},
        {"role": "assistant", "content": "better 0003"},
    ]
    assert fields["user"] == "u:" + a_trace(3).unit
    assert (fields["trace"], fields["feedback"]) == (a_trace(3).id, edit(3).id)
    assert fields["time"] == a_trace(3).at.isoformat()
    assert fields["source"] == "trace"


@pytest.mark.parametrize(
    ("feedback", "reason"),
    [
        (edit(1, status="pending"), "not_approved"),
        (edit(1, status="rejected"), "not_approved"),
        (edit(1, status="superseded"), "not_approved"),
        (praise(1, value=0.0), "not_a_target"),
        (praise(1, kind="rating", value=3.0), "not_a_target"),
        (edit(1, kind="comment"), "not_a_target"),
        (edit(1, kind="harm"), "not_a_target"),
        (edit(1, consent="review"), "no_consent"),
        (praise(1, consent="none"), "no_consent"),
    ],
)
def test_what_is_left_out_is_counted_by_reason(feedback, reason):
    assert chosen([feedback]) == Chosen((), {reason: 1})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"name": "other"}, "other_model"),
        ({"name": None, "asked": "base"}, "other_model"),
        ({"shadow_of": f"tr_{9:032x}"}, "other_model"),
        ({"status": "cancelled"}, "unfinished_answer"),
        ({"finish_reason": "length"}, "unfinished_answer"),
    ],
)
def test_traces_that_give_no_row_are_counted_by_reason(change, reason):
    assert chosen([praise(1)], **change).left_out == {reason: 1}


@pytest.mark.parametrize("asked", ["shop", "shop:champion", "shop@2"])
def test_a_correction_of_the_base_counts_for_the_name_that_was_asked_for(asked):
    assert len(chosen([edit(1)], name=None, model=None, digest="base", asked=asked).rows) == 1


def test_a_text_whose_time_is_over_gives_no_row():
    traces, texts = world([edit(1)])
    for gone in (edit(1).id, edit(1).trace):
        left = {owner: text for owner, text in texts.items() if owner != gone}
        assert choose([edit(1)], traces, left, rules()).left_out == {"text_expired": 1}
    assert choose([edit(1)], {}, texts, rules()).left_out == {"text_expired": 1}


def test_the_newest_of_conflicting_corrections_wins_and_outranks_praise():
    found = chosen([edit(1, trace=7), edit(2, trace=7), praise(3, trace=7)])
    assert [row.feedback for row in found.rows] == [edit(2).id]
    assert found.left_out == {"older_correction": 2}


def test_what_was_harvested_is_not_harvested_again():
    before = Before(feedback=frozenset({edit(1).id}), traces=frozenset({edit(1).trace, edit(2).trace}))
    found = chosen([edit(1), praise(2), edit(3, trace=2)], rules(before=before))
    assert [row.feedback for row in found.rows] == [edit(3).id], "a newer correction of the trace may follow"
    assert found.left_out == {"already_harvested": 2}


def test_the_mask_sees_the_whole_row_and_may_refuse_it():
    masked = Rules("shop", WIDE, lambda turns: "secret" if "question 1" in turns[0]["content"] else turns)
    found = chosen([edit(1), edit(2)], masked)
    assert [row.feedback for row in found.rows] == [edit(2).id]
    assert found.left_out == {"secret": 1}


def test_an_edit_that_changes_nothing_is_the_models_own_answer():
    same = edit(1, edit_distance=0.0)
    cap = rules(FlywheelSection(author_cap=1.0, model_answer_cap=0.3))
    assert chosen([same], cap).left_out == {"model_answer_cap": 1}
    assert chosen([same]).rows[0].is_own


def test_own_answers_stay_below_their_share_of_the_harvest():
    cap = rules(FlywheelSection(author_cap=1.0, model_answer_cap=0.3))
    found = chosen([*[edit(n) for n in range(1, 8)], *[praise(n) for n in range(11, 21)]], cap)
    assert sum(row.is_own for row in found.rows) == 3
    assert len(found.rows) == 10
    assert found.left_out == {"model_answer_cap": 7}
    assert chosen([praise(1), praise(2)], cap).left_out == {"model_answer_cap": 2}
    assert own_limit(FlywheelSection(model_answer_cap=0.0), 100) == 0


def test_the_oldest_corrections_of_an_author_are_taken_first():
    author = "a" * 32
    cap = rules(FlywheelSection(author_cap=0.01, model_answer_cap=1.0), before=Before(dataset_rows=195))
    found = chosen([edit(n, author=author) for n in (5, 3, 4, 6)], cap)
    assert [row.feedback for row in found.rows] == [edit(3).id], "1 % of 195 and the few harvested is one"
    more = rules(FlywheelSection(author_cap=0.01), before=Before(dataset_rows=298))
    assert len(chosen([edit(n, author=author) for n in (5, 3, 4, 6)], more).rows) == 3


def test_rows_harvested_earlier_count_against_the_author():
    author = "a" * 32
    before = Before(dataset_rows=200, rows_by_author={author: 2})
    cap = rules(FlywheelSection(author_cap=0.01), before=before)
    assert chosen([edit(1, author=author)], cap).left_out == {"author_cap": 1}


KINDS = st.sampled_from(["thumb", "rating", "edit", "comment", "harm", "escalation"])
RANDOM = st.builds(
    lambda n, trace, author, kind, value, status, consent, distance: edit(
        n,
        trace=trace,
        author=f"{author:032x}",
        kind=kind,
        value=float(value) if kind in ("thumb", "rating") else None,
        status=status,
        consent=consent,
        edit_distance=distance if kind == "edit" else None,
    ),
    st.integers(1, 10**6),
    st.integers(1, 40),
    st.integers(1, 5),
    KINDS,
    st.integers(0, 5),
    st.sampled_from(["pending", "approved", "approved", "rejected", "superseded"]),
    st.sampled_from(["none", "review", "train", "train"]),
    st.sampled_from([0.0, 0.4, 1.0]),
)
MANY = st.lists(RANDOM, max_size=40, unique_by=lambda one: one.id)
POLICIES = st.builds(
    FlywheelSection,
    author_cap=st.floats(0.001, 1.0),
    model_answer_cap=st.floats(0.0, 1.0),
)


@settings(max_examples=150, deadline=None)
@given(MANY, POLICIES, st.integers(0, 400))
def test_no_author_is_above_the_cap_and_own_answers_stay_below_theirs(feedback, policy, dataset_rows):
    found = chosen(feedback, rules(policy, before=Before(dataset_rows=dataset_rows)))
    limit = author_limit(policy, dataset_rows + len(found.rows))
    assert all(count <= limit for count in Counter(row.author for row in found.rows).values())
    own = sum(row.is_own for row in found.rows)
    assert own <= policy.model_answer_cap * len(found.rows) + 1e-6
    assert len(found.rows) + sum(found.left_out.values()) == len(feedback), "every feedback is accounted for"


@settings(max_examples=150, deadline=None)
@given(MANY)
def test_model_output_that_nobody_approved_never_becomes_a_target(feedback):
    found = chosen(feedback)
    by_id = {one.id: one for one in feedback}
    for row in found.rows:
        one = by_id[row.feedback]
        assert (one.status, one.consent) == ("approved", "train")
        target = row.turns[-1]["content"]
        if target.startswith("answer"):
            assert one.kind in ("thumb", "rating")
            assert one.value in (1.0, 4.0, 5.0)
        else:
            assert one.kind == "edit"
    assert len({row.trace for row in found.rows}) == len(found.rows)


@settings(max_examples=50, deadline=None)
@given(MANY, st.randoms())
def test_the_order_feedback_is_read_in_does_not_matter(feedback, random):
    shuffled = list(feedback)
    random.shuffle(shuffled)
    assert chosen(shuffled) == chosen(feedback)
