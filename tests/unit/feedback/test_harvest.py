"""The stage: one commit, one blob, edges from traces to the source; repeated and raced."""

import dataclasses
import json
from datetime import timedelta

import pytest
from tests.fakes import START, InMemoryRecords, fake_ports
from tests.live_world import a_feedback, a_text, a_trace, live

from tunewright.errors import BlobCorrupt, WorkspaceBusy
from tunewright.feedback.harvest import harvest, harvested_lines, harvests_of
from tunewright.recipe import FlywheelSection
from tunewright.records import Harvest, TraceText
from tunewright.values import digest_bytes

WIDE = FlywheelSection(author_cap=1.0, model_answer_cap=0.5)


@pytest.fixture
def ports(tmp_path):
    return fake_ports(tmp_path)


@pytest.fixture
def world(tmp_path):
    return live(tmp_path)


def correct(world, number: int, text: str = "", **changes) -> str:
    """Store a trace and an approved correction of it; gives the feedback's id."""
    fields = {
        "id": f"fb_{number:032x}",
        "at": START + timedelta(seconds=number),
        "trace": f"tr_{number:032x}",
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
    said = TraceText(
        owner=f"fb_{number:032x}", text=text or f"better {number}", expires_at=START + timedelta(days=9)
    )
    world.traces.write(
        [a_trace(number, consent="train"), a_text(number), a_feedback(**(fields | changes)), said]
    )
    return said.owner


def run(ports, world, policy=WIDE, mask=lambda turns: turns) -> Harvest | None:
    return harvest("shop", policy, ports, world, mask=mask)


def test_a_harvest_is_one_commit_with_blob_edges_and_event(ports, world):
    first, second = correct(world, 1), correct(world, 2)
    made = run(ports, world)
    assert made is not None
    assert (str(made.ref), made.rows, made.feedback) == ("shop@1", 2, (first, second))
    assert made.reviewers == {"rita": 2}
    data = ports.blobs.get(made.blob)
    assert [json.loads(line)["feedback"] for line in data.splitlines()] == [first, second]
    edges = {(edge.parent, edge.child, edge.role) for edge in ports.records.edges}
    assert edges == {
        (f"trace:tr_{1:032x}", "harvest:shop@1", "trace"),
        (f"trace:tr_{2:032x}", "harvest:shop@1", "trace"),
        ("harvest:shop@1", f"source:{digest_bytes(data)}", "source"),
    }
    [event] = ports.records.events(kind="harvest")
    assert event.detail["rows"] == 2
    assert "better" not in str(event.to_json())


def test_what_was_harvested_is_not_harvested_again_and_new_feedback_is(ports, world):
    correct(world, 1)
    run(ports, world)
    assert run(ports, world) is None
    assert "1 already_harvested" in ports.progress.finished[-1]
    newer = correct(world, 2)
    made = run(ports, world)
    assert made is not None
    assert (str(made.ref), made.feedback, made.left_out) == ("shop@2", (newer,), {"already_harvested": 1})
    assert [str(one.ref) for one in harvests_of("shop", ports.records)] == ["shop@1", "shop@2"]


def test_nothing_approved_makes_no_harvest_and_no_event(ports, world):
    correct(world, 1, status="pending")
    assert run(ports, world) is None
    assert (ports.records.commits, len(ports.records.ledger)) == (0, 0)


def test_a_text_whose_time_is_over_is_not_harvested(ports, world):
    correct(world, 1)
    ports.clock.tick(86400 * 40)
    assert run(ports, world) is None
    assert "text_expired" in ports.progress.finished[-1]


def test_an_authors_rows_of_earlier_harvests_count(ports, world):
    author = "a" * 32
    policy = FlywheelSection(author_cap=0.01)
    correct(world, 1, author=author)
    assert run(ports, world, policy) is not None
    correct(world, 2, author=author)
    assert run(ports, world, policy) is None
    assert "1 author_cap" in ports.progress.finished[-1]


class RacedRecords(InMemoryRecords):
    """Another process harvests the same feedback right before our commit."""

    def __init__(self, clock, times: int) -> None:
        super().__init__(clock)
        self.times = times
        self.before_commit = self.race

    def race(self) -> None:
        if self.times:
            self.times -= 1
            self.heads["harvest:shop"] = f"{self.times}"


def test_a_lost_race_is_run_again_and_many_lost_races_are_said(ports, world):
    correct(world, 1)
    once = dataclasses.replace(ports, records=RacedRecords(ports.clock, 1))
    made = run(once, world)
    assert made is not None
    assert str(made.ref) == "shop@1"
    with pytest.raises(WorkspaceBusy, match="Run again"):
        run(dataclasses.replace(ports, records=RacedRecords(ports.clock, 99)), world)


def test_the_mask_decides_what_is_stored(ports, world):
    correct(world, 1, "write to ann@example.org")

    def mask(turns):
        return tuple(
            {**turn, "content": turn["content"].replace("ann@example.org", "<EMAIL_1>")} for turn in turns
        )

    made = run(ports, world, mask=mask)
    assert made is not None
    assert b"ann@" not in ports.blobs.get(made.blob)
    assert b"<EMAIL_1>" in ports.blobs.get(made.blob)


def test_a_damaged_harvest_is_named(ports, world):
    correct(world, 1)
    made = run(ports, world)
    assert made is not None
    bad = made.model_copy(update={"blob": ports.blobs.put(b"{}\nnot json\n")})
    with pytest.raises(BlobCorrupt, match="line 2 of harvest shop@1"):
        list(harvested_lines(bad, ports.blobs))
