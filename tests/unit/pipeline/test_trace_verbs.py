"""Looking at traces: text only when asked for, and never without a line in the ledger."""

from dataclasses import replace
from datetime import timedelta

import pytest
from tests.fakes import START, FixedClock, fake_ports
from tests.live_world import a_feedback, a_text, a_trace, live

from tunewright.errors import StorageError, UnknownReference
from tunewright.pipeline.trace_verbs import COLUMNS, TraceVerbs, printable, shown_json, shown_text, trace_row


@pytest.fixture
def world(tmp_path):
    ports = replace(fake_ports(tmp_path), clock=FixedClock())
    return ports, live(tmp_path)


@pytest.fixture
def verbs(world):
    ports, made = world
    made.traces.write([a_trace(1), a_text(1), a_trace(2, consent="none")])
    return TraceVerbs(ports, made)


def test_without_text_nothing_is_decrypted_and_no_look_is_recorded(world, verbs):
    shown = verbs.show(a_trace(1).id)
    assert shown.texts == {}
    assert "answer 1" not in shown_text(shown, with_text=False)
    assert "texts" not in shown_json(shown, with_text=False)
    assert list(world[0].records.events(kind="look")) == []


def test_the_beginning_of_an_id_that_the_list_shows_finds_the_trace(world, verbs):
    trace = a_trace(3, id="tr_" + "ab" * 16)
    world[1].traces.write([trace])
    assert verbs.show(trace_row(trace)[1]).trace == trace
    with pytest.raises(UnknownReference, match=r"beginning of 2 recent trace ids"):
        verbs.show("tr_00")
    for wanted in ("tr_ff", "", "tr_" + "0" * 32):
        with pytest.raises(UnknownReference, match="there is no trace"):
            verbs.show(wanted)


def test_text_is_shown_after_the_look_is_in_the_ledger(world, verbs):
    shown = verbs.show(a_trace(1).id, with_text=True)
    assert "answer: answer 1" in shown_text(shown, with_text=True)
    [look] = world[0].records.events(kind="look")
    assert (look.subject, look.detail) == (f"trace:{a_trace(1).id}", {"purpose": "trace text"})


def test_a_ledger_that_cannot_be_written_shows_no_text(world, verbs):
    def refuse(event):
        raise StorageError("the disk is full")

    world[0].records.append = refuse
    with pytest.raises(StorageError):
        verbs.show(a_trace(1).id, with_text=True)


def test_the_texts_of_feedback_are_shown_with_it(world, verbs):
    word = a_feedback(kind="edit", value=None, is_bad=True, has_text=True)
    world[1].traces.write([word, a_text(owner=word.id, messages=(), text="a better answer")])
    world[1].traces.review(word.id, "approved", reviewer="ann", note="checked", at=START)
    text = shown_text(verbs.show(a_trace(1).id, with_text=True), with_text=True)
    assert "a better answer" in text
    assert f"{word.id} edit, approved" in text
    assert "approved by ann: checked" in text


def test_text_that_is_not_kept_is_said_to_be_so(verbs):
    text = shown_text(verbs.show(a_trace(2).id, with_text=True), with_text=True)
    assert "no text of this trace is kept" in text


def test_superseded_feedback_is_shown_in_its_place(world, verbs):
    world[1].traces.write([a_feedback(), a_feedback(id=f"fb_{2:032x}", value=0.0, is_bad=True)])
    assert [one.status for one in verbs.show(a_trace(1).id).feedback] == ["superseded", "pending"]


def test_expire_uses_the_clock_of_the_workspace(world, verbs):
    assert verbs.expire() == 0
    world[0].clock.tick(timedelta(days=400).total_seconds())
    assert verbs.expire() == 1
    with pytest.raises(UnknownReference):
        verbs.show(a_trace(1).id)


def test_the_newest_come_first_and_fill_the_columns(verbs):
    rows = [trace_row(trace) for trace in verbs.newest()]
    assert [row[5] for row in rows] == ["10", "10"]
    assert [trace.seq for trace in verbs.newest()] == [2, 1]
    assert {len(row) for row in rows} == {len(COLUMNS)}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\ttext\nünï 🙂", "plain\ttext\nünï 🙂"),
        ("\x1b[2Jgone", "\\x1b[2Jgone"),
        ("back\rspace\x08", "back\\rspace\\x08"),
        ("\u202eevil", "\\u202eevil"),
    ],
)
def test_what_users_wrote_cannot_steer_the_terminal(text, shown):
    assert printable(text) == shown
