"""Every trace store keeps the same promises."""

from datetime import timedelta

import pytest
from tests.fakes import START
from tests.live_world import KEYS, InMemoryTraces, a_feedback, a_text, a_trace, an_open_trace

from tunewright.backends.sql_traces import open_traces
from tunewright.errors import StorageError, UnknownReference
from tunewright.values import Ref

ROLLOUT = Ref("shop", 1)
LATER = START + timedelta(days=365)


@pytest.fixture(params=["memory", "sqlite"])
def traces(request, tmp_path):
    store = InMemoryTraces() if request.param == "memory" else open_traces(tmp_path / "traces.db", KEYS)
    yield store
    store.close()


def feedback_id(number: int) -> str:
    return f"fb_{number:032x}"


def ids(found) -> list[int]:
    return [int(one.id[3:], 16) for one in found]


def test_an_empty_store_answers_with_nothing(traces):
    traces.write([])
    assert traces.last_seq() == 0
    assert list(traces.newest()) == []
    assert list(traces.feedback()) == []
    assert list(traces.of_rollout(ROLLOUT)) == []
    assert traces.text("tr_1", START) is None
    assert (traces.interrupt_open(START), traces.expire(START)) == (0, 0)


def test_a_trace_comes_back_word_for_word(traces):
    trace = a_trace(7, rollout=ROLLOUT, stage=2, arm="candidate", p=0.1 + 0.2, scores={"json_valid": 1 / 3})
    traces.write([trace])
    assert traces.get(trace.id) == trace


def test_a_closed_trace_replaces_the_open_one(traces):
    traces.write([an_open_trace(1, rollout=ROLLOUT)])
    traces.write([a_trace(1, rollout=ROLLOUT, status="error", error="engine_restarting")])
    assert [trace.status for trace in traces.newest()] == ["error"]
    assert [trace.error for trace in traces.of_rollout(ROLLOUT)] == ["engine_restarting"]


def test_opened_and_closed_in_one_batch_the_last_word_counts(traces):
    traces.write([an_open_trace(1), an_open_trace(2), a_trace(1)])
    assert [trace.status for trace in traces.newest()] == ["open", "ok"]


def test_an_unknown_trace_is_named(traces):
    traces.write([a_trace(1)])
    with pytest.raises(UnknownReference, match="tr_nothing"):
        traces.get("tr_nothing")
    with pytest.raises(UnknownReference):
        traces.get(a_trace(1).id[:20])  # a prefix is no key: ids come from users


def test_a_sequence_number_belongs_to_one_trace_and_a_refused_batch_writes_nothing(traces):
    traces.write([a_trace(1)])
    with pytest.raises(StorageError, match="sequence number"):
        traces.write([a_trace(2), a_trace(1, id=f"tr_{9:032x}"), a_feedback()])
    assert ids(traces.newest()) == [1]
    assert list(traces.feedback()) == []
    assert traces.last_seq() == 1


def test_the_last_sequence_number_survives_removal(traces):
    traces.write([a_trace(3), a_trace(9), a_trace(4)])
    traces.expire(LATER)
    assert list(traces.newest()) == []
    assert traces.last_seq() == 9


def test_a_rollouts_traces_come_in_order_of_assignment_mirrored_ones_too(traces):
    mirrored = a_trace(3, rollout=ROLLOUT, arm="candidate", shadow_of=f"tr_{2:032x}")
    traces.write([a_trace(5, rollout=ROLLOUT), mirrored, a_trace(4, rollout=Ref("shop", 2)), a_trace(1)])
    assert ids(traces.of_rollout(ROLLOUT)) == [3, 5]
    assert ids(traces.of_rollout(ROLLOUT, after_seq=3)) == [5]
    assert ids(traces.of_rollout(ROLLOUT, after_seq=5)) == []


def test_the_newest_are_the_last_assigned_even_when_the_clock_jumped_back(traces):
    traces.write([a_trace(1), a_trace(2, at=START - timedelta(days=3)), a_trace(3, tenant="b")])
    assert ids(traces.newest()) == [3, 2, 1]
    assert ids(traces.newest(limit=2)) == [3, 2]
    assert ids(traces.newest(tenant="default")) == [2, 1]
    assert ids(traces.newest(tenant="' OR 1=1 --")) == []


def test_text_is_gone_at_its_time_even_before_it_is_removed(traces):
    traces.write([a_trace(1), a_text(1, expires_at=START + timedelta(seconds=10))])
    owner = a_trace(1).id
    found = traces.text(owner, START + timedelta(seconds=9.999999))
    assert (found.messages, found.text) == (({"role": "user", "content": "question 1"},), "answer 1")
    assert traces.text(owner, START + timedelta(seconds=10)) is None
    assert traces.expire(START + timedelta(seconds=10)) == 1
    assert traces.text(owner, START) is None
    assert traces.get(owner) == a_trace(1), "the trace itself stays until its own time"


def test_text_written_again_replaces_the_text_before(traces):
    traces.write([a_text(1, text="first"), a_text(1, text="second")])
    assert traces.text(a_trace(1).id, START).text == "second"


@pytest.mark.parametrize("text", ["", "ünïcode 🙂", 'quote " and \x00 zero', "x" * 1_000_000])
def test_any_text_comes_back(traces, text):
    traces.write([a_text(1, text=text)])
    assert traces.text(a_trace(1).id, START).text == text


def test_expired_traces_take_text_and_feedback_along_approved_or_not(traces):
    word = a_feedback(kind="edit", value=None, has_text=True)
    traces.write([a_trace(1), a_text(1, expires_at=LATER + timedelta(days=1)), word])
    traces.write([a_text(owner=word.id, messages=(), expires_at=LATER + timedelta(days=1))])
    traces.write([a_trace(2, retain_until=LATER + timedelta(days=1)), a_feedback(id=feedback_id(2))])
    traces.review(word.id, "approved", reviewer="ann", note="right", at=START)
    traces.write([a_feedback(id=feedback_id(3), trace=a_trace(2).id)])
    assert traces.expire(LATER) == 2, "both texts, though their own time is not over"
    assert ids(traces.newest()) == [2]
    assert ids(traces.feedback()) == [3]
    assert list(traces.reviews(word.id)) == []
    assert traces.text(word.id, START) is None
    assert traces.expire(LATER) == 0


def test_a_clock_that_jumps_back_removes_nothing(traces):
    traces.write([a_trace(1), a_text(1)])
    assert traces.expire(START - timedelta(days=9999)) == 0
    assert traces.text(a_trace(1).id, START - timedelta(days=9999)) is not None


def test_the_last_word_of_an_author_counts_and_the_history_stays(traces):
    traces.write([a_trace(1), a_feedback(value=1.0), a_feedback(id=feedback_id(2), value=0.0, is_bad=True)])
    assert [one.value for one in traces.feedback()] == [0.0]
    assert [one.value for one in traces.feedback(status="superseded")] == [1.0]
    assert traces.get_feedback(feedback_id(1)).status == "superseded"


def test_the_last_word_is_the_last_written_even_when_the_clock_jumped_back(traces):
    traces.write([a_feedback()])
    traces.write([a_feedback(id=feedback_id(2), at=START - timedelta(days=1))])
    assert ids(traces.feedback()) == [2]


def test_other_authors_kinds_and_traces_supersede_nothing(traces):
    traces.write(
        [
            a_feedback(),
            a_feedback(id=feedback_id(2), author="b" * 32),
            a_feedback(id=feedback_id(3), kind="harm", value=None, is_bad=True),
            a_feedback(id=feedback_id(4), trace=f"tr_{2:032x}"),
        ]
    )
    assert ids(traces.feedback()) == [1, 2, 3, 4]


def test_feedback_written_again_changes_nothing(traces):
    traces.write([a_feedback(), a_feedback(id=feedback_id(2))])
    traces.review(feedback_id(2), "approved", reviewer="ann", note="", at=START)
    traces.write([a_feedback(), a_feedback(id=feedback_id(2))])
    assert [one.status for one in traces.feedback()] == ["approved"]
    assert ids(traces.feedback(status="superseded")) == [1]


def test_feedback_is_found_by_what_is_asked_for(traces):
    traces.write([a_trace(1, rollout=ROLLOUT), a_trace(2)])
    traces.write([a_feedback(), a_feedback(id=feedback_id(2), trace=a_trace(2).id)])
    traces.write([a_feedback(id=feedback_id(3), kind="comment", value=None, is_bad=None)])
    traces.review(feedback_id(3), "rejected", reviewer="ann", note="spam", at=START)
    assert ids(traces.feedback(rollout=ROLLOUT)) == [1, 3]
    assert ids(traces.feedback(rollout=Ref("shop", 2))) == []
    assert ids(traces.feedback(trace=a_trace(2).id)) == [2]
    assert ids(traces.feedback(kind="comment")) == [3]
    assert ids(traces.feedback(status="pending")) == [1, 2]
    assert ids(traces.feedback(status="pending", limit=1)) == [1]
    assert ids(traces.feedback(kind="comment", status="pending")) == []
    assert ids(traces.feedback(limit=0)) == []


def test_feedback_is_found_by_a_prefix_that_only_it_has(traces):
    traces.write([a_feedback(id="fb_aa" + "0" * 30), a_feedback(id="fb_ab" + "0" * 30, kind="rating")])
    assert traces.get_feedback("fb_aa").kind == "thumb"
    assert traces.get_feedback("fb_ab" + "0" * 30).kind == "rating"
    for wanted in ("fb_a", "fb_ac", "", "%", "_", "'", "fb_aa" + "0" * 31):
        with pytest.raises(UnknownReference):
            traces.get_feedback(wanted)


def test_the_newest_decision_counts_and_those_before_are_kept(traces):
    traces.write([a_feedback()])
    traces.review("fb_00", "rejected", reviewer="ann", note="not sure", at=START)
    reviewed = traces.review("fb_00", "approved", reviewer="bob", note="it is right", at=LATER)
    assert (reviewed.status, reviewed.reviewer, reviewed.note) == ("approved", "bob", "it is right")
    assert traces.get_feedback(feedback_id(1)) == reviewed
    assert [one.reviewer for one in traces.reviews(feedback_id(1))] == ["ann", "bob"]
    assert ids(traces.feedback(status="approved")) == [1]


def test_what_was_superseded_cannot_be_approved(traces):
    traces.write([a_feedback(), a_feedback(id=feedback_id(2))])
    with pytest.raises(UnknownReference, match=feedback_id(1)):
        traces.review(feedback_id(1), "approved", reviewer="ann", note="", at=START)
    assert list(traces.feedback(status="approved")) == []


def test_something_newer_takes_an_approval_back(traces):
    traces.write([a_feedback()])
    traces.review(feedback_id(1), "approved", reviewer="ann", note="", at=START)
    traces.write([a_feedback(id=feedback_id(2))])
    assert list(traces.feedback(status="approved")) == []


def test_an_unknown_feedback_cannot_be_reviewed(traces):
    with pytest.raises(UnknownReference, match="fb_1"):
        traces.review("fb_1", "approved", reviewer="ann", note="", at=START)


def test_open_traces_are_interrupted_once(traces):
    traces.write([an_open_trace(1, rollout=ROLLOUT), a_trace(2), an_open_trace(3)])
    at = START + timedelta(minutes=1)
    assert traces.interrupt_open(at) == 2
    found = traces.of_rollout(ROLLOUT)[0]
    assert (found.status, found.error, found.closed_at) == ("interrupted", "gateway_stopped", at)
    assert traces.get(a_trace(2).id) == a_trace(2)
    assert traces.interrupt_open(at) == 0


def test_a_trace_is_not_closed_before_it_was_opened_when_the_clock_jumped_back(traces):
    traces.write([an_open_trace(1)])
    traces.interrupt_open(START - timedelta(days=1))
    assert traces.get(a_trace(1).id).closed_at == a_trace(1).at
