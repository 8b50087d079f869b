"""The order of review, and who may decide."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes import START, fake_ports
from tests.live_world import KEYS, a_feedback, live

from tunewright.core.keyed import keyed_hash
from tunewright.errors import StorageError, UsageError
from tunewright.feedback.review import MAX_NOTE_CHARS, check_review, decide, review_queue


def fb(number: int, kind: str = "thumb", bad: bool | None = True, **changes):
    at = START + timedelta(seconds=number)
    value = 0.0 if kind == "thumb" else None
    fields = {"id": f"fb_{number:032x}", "at": at, "kind": kind, "is_bad": bad, "value": value}
    return a_feedback(**(fields | changes))


def unsampled(count: int, **changes) -> list:
    """Feedback that the sample does not hold."""
    made = [fb(number, **changes) for number in range(3 * count)]
    drawn = {one.feedback.id for one in review_queue(made) if one.is_sample}
    return [one for one in made if one.id not in drawn][:count]


def test_escalations_harm_and_edits_come_before_thumbs_down_and_those_before_praise():
    kinds = ["thumb", "edit", "comment", "harm", "escalation"]
    found = [one.model_copy(update={"kind": kind}) for one, kind in zip(unsampled(5), kinds, strict=True)]
    good = fb(9_999, bad=False)
    queue = [one.feedback.kind for one in review_queue([good, *reversed(found)])]
    assert queue[:3] == ["edit", "harm", "escalation"], "the oldest first among equals"
    assert queue.index("thumb") > 2


def test_a_tenth_is_a_uniform_sample_marked_and_mixed_in():
    pending = [fb(number) for number in range(2_000)]
    queue = review_queue(pending)
    sample = {one.feedback.id for one in queue if one.is_sample}
    assert 150 < len(sample) < 250
    assert sum(one.is_sample for one in queue[:100]) == 10
    again = {one.feedback.id for one in review_queue(pending[:1_000]) if one.is_sample}
    assert again == sample & {one.id for one in pending[:1_000]}, "the sample does not change as days go by"
    other = {one.feedback.id for one in review_queue(pending, seed="1") if one.is_sample}
    assert other != sample


@given(st.lists(st.tuples(st.integers(0, 10**6), st.sampled_from(["thumb", "edit", "comment"])), unique=True))
def test_every_feedback_stands_in_the_queue_once(made: list[tuple[int, str]]):
    pending = [fb(number, kind) for number, kind in dict(made).items()]
    queue = review_queue(pending)
    assert sorted(one.feedback.id for one in queue) == sorted(one.id for one in pending)


def test_a_decision_is_one_event_without_text_and_one_line_in_the_store(tmp_path):
    ports, world = fake_ports(tmp_path), live(tmp_path)
    world.traces.write([fb(1)])
    decided = decide(fb(1), "approved", reviewer="rita", note="as ann said", ports=ports, traces=world.traces)
    assert (decided.status, decided.reviewer, decided.note) == ("approved", "rita", "as ann said")
    [event] = ports.records.events(kind="review")
    assert event.subject == f"feedback:{fb(1).id}"
    assert event.detail["decision"] == "approved"
    assert "ann" not in str(event.to_json())


def test_no_approval_exists_that_the_ledger_does_not_tell_of(tmp_path):
    ports, world = fake_ports(tmp_path), live(tmp_path)
    world.traces.write([fb(1)])
    world.traces.broken = StorageError("the disk is full")
    with pytest.raises(StorageError):
        decide(fb(1), "approved", reviewer="rita", note="", ports=ports, traces=world.traces)
    assert world.traces.get_feedback(fb(1).id).status == "pending"
    assert len(ports.records.events(kind="review")) == 1


def test_nobody_reviews_their_own_feedback():
    mine = fb(1, author=keyed_hash(KEYS.unit, "default", "ann"))
    with pytest.raises(UsageError, match="author"):
        check_review(mine, " ann ", "", KEYS)
    check_review(mine, "rita", "", KEYS)


@pytest.mark.parametrize(
    ("reviewer", "note", "status", "said"),
    [
        ("", "", "pending", "reviewer"),
        ("r" * 257, "", "pending", "256"),
        ("rita", "x" * (MAX_NOTE_CHARS + 1), "pending", "note"),
        ("rita", "", "superseded", "newer"),
    ],
)
def test_a_decision_that_must_not_count_is_refused(reviewer, note, status, said):
    with pytest.raises(UsageError, match=said):
        check_review(fb(1, status=status), reviewer, note, KEYS)
