"""Rollouts on a real database: one winner of every race, and edits by hand are found."""

import dataclasses
import sqlite3
import threading

import pytest
from tests.fakes import fake_ports
from tests.live_world import a_policy
from tests.registry_world import RECIPE, TunedEngine, make_world

from tunewright.backends.sql_records import SqlRecords
from tunewright.deploy.canary import Step
from tunewright.deploy.rollout import history, last_state, read_state, start_rollout, take_step
from tunewright.errors import AliasConflict
from tunewright.registry.register import register
from tunewright.registry.verify import verify_workspace
from tunewright.values import Ref

ADVANCE = Step("advance", "Enough was mirrored.", 0.05, 0)
PROMOTE = Step("promote", "No guardrail is worse.", 1.0, 4)
ROLL_BACK = Step("roll_back", "Errors rose.", 0.0, 0)


@pytest.fixture
def ports(tmp_path):
    records = SqlRecords(f"sqlite:///{tmp_path / 'registry.db'}")
    yield dataclasses.replace(fake_ports(tmp_path, TunedEngine()), records=records)
    records.close()


@pytest.fixture
def started(ports):
    models = [register(RECIPE, make_world(ports, seed=seed).report, ports) for seed in range(2)]
    return start_rollout(models[1], models[0], a_policy(), ports)


def race(rollout, state, steps, ports):
    """Take all steps from one state at once; returns what each got."""
    got: list[object] = [None] * len(steps)
    barrier = threading.Barrier(len(steps))

    def run(index):
        barrier.wait()
        try:
            got[index] = take_step(rollout, state, steps[index], ports, actor=f"thread {index}")
        except AliasConflict as error:
            got[index] = error

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(steps))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return got


@pytest.mark.parametrize("attempt", range(5))
def test_of_a_promotion_and_a_roll_back_at_the_same_time_exactly_one_wins(started, ports, attempt):
    rollout, state = started
    state = take_step(rollout, state, ADVANCE, ports, actor="gateway")
    before = ports.records.tip()
    got = race(rollout, state, [PROMOTE, ROLL_BACK, PROMOTE, ROLL_BACK], ports)
    winners = [one for one in got if not isinstance(one, AliasConflict)]
    assert len(winners) == 1
    assert all("was moved by another process first" in str(one) for one in got if one is not winners[0])
    assert ports.records.tip() == before + 1
    now = read_state(ports.records, "shop")
    champion = ports.records.alias("shop", "champion").target
    assert now == winners[0]
    assert (now.phase, champion) in [("promoted", Ref("shop", 2)), ("rolled_back", Ref("shop", 1))]
    assert verify_workspace(ports.records, ports.blobs, ports.signer).problems == ()


@pytest.mark.parametrize(
    "edit",
    [
        "UPDATE heads SET value = '{}' WHERE key = 'rollout:shop'",
        "UPDATE heads SET value = replace(value, 'rolled_back', 'ramp') WHERE key = 'rollout:shop'",
        "UPDATE heads SET value = x'ff' WHERE key = 'rollout:shop'",
        "DELETE FROM heads WHERE key = 'rollout:shop'",
    ],
)
def test_a_state_edited_by_hand_is_found(started, ports, tmp_path, edit):
    take_step(*started, ROLL_BACK, ports, actor="ann")
    assert verify_workspace(ports.records, ports.blobs, ports.signer).ok
    with sqlite3.connect(tmp_path / "registry.db") as connection:
        connection.execute(edit)
    connection.close()
    found = verify_workspace(ports.records, ports.blobs, ports.signer)
    assert any("head 'rollout:shop' is" in problem for problem in found.problems)


def test_a_state_reads_back_from_the_ledger_as_it_was(started, ports):
    rollout, state = started
    moved = take_step(rollout, state, ADVANCE, ports, actor="gateway")
    assert last_state(ports.records, rollout.ref) == read_state(ports.records, "shop") == moved
    assert [event.detail["to"] for event in history(ports.records, rollout.ref)] == ["shadow", "ramp"]
