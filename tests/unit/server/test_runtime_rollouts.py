import asyncio

import pytest
from tests.runtime_world import (
    CALLER,
    QUICK,
    a_served_world,
    asked,
    jump,
    running,
    serve_one,
    until,
    well,
)

from tunewright.deploy.evidence import extend, start_evidence
from tunewright.deploy.rollout import read_state
from tunewright.errors import StorageError
from tunewright.registry.aliases import revoke, set_alias
from tunewright.server.seams import FeedbackDraft, Finish


@pytest.fixture
def world(tmp_path):
    world = a_served_world(tmp_path)
    world.model()
    world.model(1)
    return world


def play(scene):
    return asyncio.run(asyncio.wait_for(scene, 60))


def stands(world):
    return read_state(world.ports.records, "shop")


async def to_ramp(world, runtime):
    """Serve until the shadow phase is over."""
    for number in range(400):
        if stands(world).phase != "shadow":
            break
        serve_one(runtime, unit=f"shadow {number}")
        await asyncio.sleep(0.005)
    assert stands(world).phase == "ramp", stands(world).reason
    await until(lambda: runtime.house.conductor.table.rollouts["shop"][1].phase == "ramp")


async def traffic(world, runtime, *, bad_answer=None, limit=3000):
    """Send one request a user, one in five rated, until the rollout has ended or no more are left."""
    for number in range(limit):
        if stands(world).phase in ("promoted", "rolled_back"):
            return
        ticket = runtime.admit(asked(unit=f"user {number}"), CALLER)
        is_candidate = ticket.trace.arm == "candidate"
        finish = bad_answer if is_candidate and bad_answer else well(ticket.trace.digest)
        runtime.finish(ticket, finish)
        if number % 5 == 0:
            up = FeedbackDraft(ticket.trace.id, ticket.feedback_token, "thumb", 1.0, None, None, None)
            await runtime.give_feedback(up, CALLER)
            jump(world, 1)


def test_in_shadow_everybody_gets_the_incumbent_and_the_candidate_answers_unseen(world):
    rollout = world.rollout(shadow_requests=1000)

    async def scene():
        async with running(world) as runtime:
            trace = serve_one(runtime, unit="ann")
            assert (trace.digest, trace.arm, trace.p) == (rollout.incumbent_digest, "incumbent", None)
            assert (trace.stage, trace.rollout) == (None, rollout.ref)
            await until(lambda: len(world.live.traces.of_rollout(rollout.ref)) == 2)
            return trace

    trace = play(scene())
    live, mirrored = world.live.traces.of_rollout(rollout.ref)
    assert (mirrored.shadow_of, mirrored.arm, mirrored.digest) == (
        trace.id,
        "candidate",
        rollout.candidate_digest,
    )
    assert mirrored.seq > live.seq and mirrored.id not in world.live.traces.texts
    assert b'"stream"' not in world.wire.mirrored[0]


def test_a_good_candidate_is_mirrored_ramped_and_promoted_under_traffic(world):
    rollout = world.rollout(margin=0.2)

    async def scene():
        async with running(world) as runtime:
            await to_ramp(world, runtime)
            assert stands(world).baseline is not None
            await traffic(world, runtime)
            await until(lambda: serve_one(runtime).digest == rollout.candidate_digest)
            assert rollout.incumbent_digest in runtime.house.rooms.adapters.resident
            assert runtime.counts().rollouts == ()

    play(scene())
    assert stands(world).phase == "promoted", stands(world).reason
    assert world.ports.records.alias("shop", "champion").target == rollout.candidate


def test_a_bad_candidate_falls_and_gets_no_request_after_the_decision(world):
    rollout = world.rollout()
    failing = Finish("error", error="engine_failed")

    async def scene():
        async with running(world) as runtime:
            await to_ramp(world, runtime)
            await traffic(world, runtime, bad_answer=failing)
            assert stands(world).phase == "rolled_back"
            after = [serve_one(runtime, unit=f"late {n}").digest for n in range(50)]
            assert set(after) == {rollout.incumbent_digest}

    play(scene())
    exposed = [
        t for t in world.live.traces.of_rollout(rollout.ref) if t.arm == "candidate" and t.shadow_of is None
    ]
    assert 5 <= len(exposed) < 60


def test_evidence_and_assignment_after_a_restart_are_what_they_were(world):
    rollout = world.rollout(min_units=10_000)

    async def first():
        async with running(world) as runtime:
            await to_ramp(world, runtime)
            await traffic(world, runtime, limit=60)
            memory = runtime.house.conductor.memories[rollout.ref]
            await until(lambda: memory.evidence.upto_seq == world.live.traces.last_seq())
            jump(world, 100)
            await memory.extend(stands(world), world.ports.clock())
            return memory.evidence, dict(memory.seen)

    async def second():
        async with running(world) as runtime:
            memory = runtime.house.conductor.memories[rollout.ref]
            await until(lambda: memory.evidence.upto_seq == evidence.upto_seq)
            return memory.evidence, dict(memory.seen)

    evidence, seen = play(first())
    again = play(second())
    assert again == (evidence, seen)
    assert sum(evidence.units) > 50
    stored = world.live.traces.of_rollout(rollout.ref)
    said = world.live.traces.feedback(rollout=rollout.ref)
    assert extend(start_evidence(rollout), stored, said, stands(world), world.ports.clock()) == evidence


def test_a_unit_counts_once_a_stage_and_keeps_its_arm(world):
    world.rollout(min_units=10_000)

    async def scene():
        async with running(world) as runtime:
            await to_ramp(world, runtime)
            traces = [serve_one(runtime, unit="ann") for _ in range(5)]
            assert len({trace.arm for trace in traces}) == 1
            assert [trace.p for trace in traces] == [0.5, None, None, None, None]

    play(scene())


def test_a_rollback_typed_elsewhere_ends_the_candidates_traffic_soon(
    world,
):  # a second: benchmarks/gateway.py
    rollout = world.rollout(min_units=10_000)

    async def scene():
        async with running(world) as runtime:
            await to_ramp(world, runtime)
            in_flight = runtime.admit(asked(unit="ann"), CALLER)
            world.rollouts.roll_back("shop", "it is rude")
            await until(lambda: not runtime.house.conductor.table.rollouts)
            digests = {serve_one(runtime, unit=f"user {n}").digest for n in range(50)}
            assert digests == {rollout.incumbent_digest}
            runtime.finish(in_flight, well(in_flight.trace.digest))

    play(scene())
    assert all(trace.status == "ok" for trace in world.live.traces.traces.values())


def test_a_candidate_that_does_not_repeat_its_probes_is_rolled_back_before_any_user_sees_it(world):
    rollout = world.rollout()
    world.engines.altered.add(rollout.candidate_digest)

    async def scene():
        async with running(world) as runtime:
            await until(lambda: stands(world).phase == "rolled_back")
            assert serve_one(runtime).digest == rollout.incumbent_digest
            assert runtime.readiness().is_ready

    play(scene())
    assert "probe_mismatch" in stands(world).reason


def test_a_revoked_candidate_is_rolled_back(world):
    rollout = world.rollout(min_units=10_000)

    async def scene():
        async with running(world) as runtime:
            await to_ramp(world, runtime)
            revoke(rollout.candidate, actor="ann", reason="leaks", ports=world.ports)
            await until(lambda: stands(world).phase == "rolled_back")
            assert "revoked by ann" in stands(world).reason
            assert serve_one(runtime).arm is None

    play(scene())


def test_a_rollout_whose_champion_was_moved_by_hand_is_rolled_back(world):
    rollout = world.rollout()

    async def scene():
        async with running(world):
            set_alias(
                "shop", "champion", target=rollout.candidate, actor="ann", reason="now", ports=world.ports
            )
            await until(lambda: stands(world).phase == "rolled_back")

    play(scene())
    assert "champion points to shop@2" in stands(world).reason
    assert world.ports.records.alias("shop", "champion").target == rollout.candidate


def test_while_traces_cannot_be_written_nobody_new_meets_the_candidate_and_nothing_advances(world):
    rollout = world.rollout(min_units=10_000)

    async def scene():
        async with running(world) as runtime:
            await to_ramp(world, runtime)
            known = next(u for u in map(str, range(99)) if serve_one(runtime, u).arm == "candidate")
            before = stands(world)
            world.live.traces.broken = StorageError("disk full")
            serve_one(runtime)
            await until(lambda: runtime.house.writer.problem is not None)
            fresh = [serve_one(runtime, unit=f"new {n}") for n in range(40)]
            assert {(trace.arm, trace.p) for trace in fresh} == {("incumbent", None)}
            assert serve_one(runtime, known).digest == rollout.candidate_digest
            jump(world, 30 * 86400)  # the deadline is over
            await asyncio.sleep(0.1)
            assert stands(world) == before
            world.live.traces.broken = None
            await until(lambda: runtime.house.writer.problem is None)
            await until(lambda: stands(world).phase == "held")

    play(scene())


def test_an_alarm_ends_the_candidates_traffic_even_when_nothing_can_be_written(world):
    rollout = world.rollout(min_units=10_000)
    failing = Finish("error", error="engine_failed")

    async def scene():
        async with running(world) as runtime:
            await to_ramp(world, runtime)
            world.ports.records.broken = StorageError("disk full")
            for number in range(200):
                ticket = runtime.admit(asked(unit=f"user {number}"), CALLER)
                is_candidate = ticket.trace.arm == "candidate"
                runtime.finish(ticket, failing if is_candidate else well(ticket.trace.digest))
                await asyncio.sleep(0.001)
            digests = {serve_one(runtime, unit=f"late {n}").digest for n in range(50)}
            assert digests == {rollout.incumbent_digest}
            assert stands(world).phase == "ramp"
            assert any("cannot roll back: disk full" in one for one in runtime.readiness().problems)
            world.ports.records.broken = None
            await until(lambda: stands(world).phase == "rolled_back")
            await until(lambda: not runtime.readiness().problems)

    play(scene())


def test_shadow_yields_to_live_traffic_and_counts_what_it_drops(world):
    rollout = world.rollout(shadow_requests=1000)
    limits = type(QUICK.shadow)(max_waiting=3, max_live=2, pause_s=0.001)
    options = type(QUICK)(timing=QUICK.timing, pace=QUICK.pace, shadow=limits)

    async def scene():
        async with running(world, options) as runtime:
            busy = [runtime.admit(asked(unit=str(n)), CALLER) for n in range(3)]
            for number in range(10):
                serve_one(runtime, unit=f"user {number}")
            await asyncio.sleep(0.05)
            assert not world.wire.mirrored
            assert runtime.house.shadow.num_dropped >= 6
            for ticket in busy:
                runtime.finish(ticket, well(ticket.trace.digest))
            await until(lambda: len(world.wire.mirrored) >= 3)

    play(scene())
    assert all(t.status == "ok" for t in world.live.traces.of_rollout(rollout.ref))
