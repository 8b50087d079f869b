import asyncio
import time

import pytest
from tests.live_world import a_text
from tests.runtime_world import (
    CALLER,
    a_served_world,
    asked,
    jump,
    running,
    serve_one,
    until,
    well,
)

from tunewright.core.ledger import alias_event
from tunewright.errors import RequestRefused, StorageError, WorkspaceBusy
from tunewright.registry.aliases import revoke, roll_back, set_alias
from tunewright.server.seams import Caller
from tunewright.values import Digest, Ref


@pytest.fixture
def world(tmp_path):
    return a_served_world(tmp_path)


def play(scene):
    asyncio.run(asyncio.wait_for(scene, 30))


def test_an_empty_workspace_serves_the_base_and_says_that_there_is_no_champion(world):
    async def scene():
        async with running(world) as runtime:
            assert [(one.id, one.digest) for one in runtime.models(CALLER)] == [("base", "base")]
            ticket = runtime.admit(asked("base"), CALLER)
            assert ticket.note == "no model has a champion yet, so the base answers"
            assert (await runtime.upstream("base")).url == world.engines.engine.url
            runtime.finish(ticket, well("base"))
            assert runtime.readiness() == type(runtime.readiness())(True, ())

    play(scene())
    (trace,) = world.live.traces.traces.values()
    assert (trace.digest, trace.status, trace.model, trace.asked) == ("base", "ok", None, "base")


def test_a_trace_keeps_who_answered_and_its_text_as_far_as_consent_goes(world):
    world.model()
    silent = Caller("2" * 12, "caller", "quiet", "none")

    async def scene():
        async with running(world) as runtime:
            kept = runtime.admit(asked(unit="ann"), CALLER)
            runtime.finish(kept, well(kept.trace.digest, text="hello"))
            unkept = runtime.admit(asked(unit="ann"), silent)
            runtime.finish(unkept, well(unkept.trace.digest))
            assert kept.trace.unit != unkept.trace.unit, "two tenants' users are never one"
            assert "ann" not in kept.trace.model_dump_json()
            return kept, unkept

    kept, unkept = asyncio.run(scene())
    assert set(world.live.traces.texts) == {kept.trace.id}
    assert world.live.traces.texts[kept.trace.id].text == "hello"
    assert world.live.traces.traces[unkept.trace.id].consent == "none"


def test_sequence_numbers_go_on_after_a_restart_and_open_traces_are_closed(world):
    async def first():
        async with running(world) as runtime:
            runtime.admit(asked("base"), CALLER)

    async def second():
        async with running(world) as runtime:
            serve_one(runtime, model="base")

    play(first())
    play(second())
    traces = sorted(world.live.traces.traces.values(), key=lambda trace: trace.seq)
    assert [(trace.seq, trace.status) for trace in traces] == [(1, "interrupted"), (2, "ok")]


def test_a_second_server_on_one_workspace_is_refused_with_the_first_ones_process_id(world):
    async def scene():
        async with running(world):
            with pytest.raises(WorkspaceBusy, match=r"process \d+ serves the workspace"):
                await world.runtime().start()
        async with running(world):
            pass

    play(scene())


def test_an_alias_moved_by_another_process_is_followed_within_a_second(world):
    first = world.model()
    second = world.model(1)

    async def scene():
        async with running(world) as runtime:
            assert serve_one(runtime).digest == first.adapter
            started_s = time.monotonic()
            set_alias("shop", "champion", target=second.ref, actor="ann", reason="better", ports=world.ports)
            await until(lambda: serve_one(runtime).digest == second.adapter)
            roll_back("shop", "champion", actor="ann", reason="worse", ports=world.ports)
            await until(lambda: serve_one(runtime).digest == first.adapter)
            assert time.monotonic() - started_s < 5
            assert {first.adapter, second.adapter} <= runtime.house.rooms.adapters.resident

    play(scene())


def test_a_revoked_champion_is_not_answered_from_any_more(world):
    model = world.model()

    async def scene():
        async with running(world) as runtime:
            revoke(model.ref, actor="ann", reason="leaks", ports=world.ports)

            def is_refused():
                try:
                    serve_one(runtime)
                except RequestRefused as error:
                    return error.status == 404 and "revoked by ann" in str(error)
                return False

            await until(is_refused)
            assert any("revoked" in problem for problem in runtime.readiness().problems)

    play(scene())


def test_a_revoked_key_is_refused_soon_and_a_new_one_is_let_in(world):
    async def scene():
        async with running(world) as runtime:
            key = world.keys.add("viewer", "acme", "review")
            await until(lambda: runtime.caller(key.secret) is not None)
            assert runtime.caller(key.secret) == Caller(key.id, "viewer", "acme", "review")
            world.keys.revoke(key.id)
            await until(lambda: runtime.caller(key.secret) is None)
            assert runtime.caller("tw-wrong") is None

    play(scene())


def test_traces_wait_in_memory_while_the_store_is_full_and_answers_go_on(world):
    async def scene():
        async with running(world) as runtime:
            world.live.traces.broken = StorageError("disk full")
            for _ in range(3):
                serve_one(runtime, model="base")
            await until(lambda: any("disk full" in one for one in runtime.readiness().problems))
            assert runtime.readiness().is_ready
            assert runtime.counts().traces_waiting >= 3
            world.live.traces.broken = None

    play(scene())
    assert [trace.status for trace in world.live.traces.traces.values()] == ["ok"] * 3


def test_a_store_that_cannot_be_written_at_the_start_keeps_nobody_from_an_answer(world):
    world.live.traces.broken = StorageError("read-only")

    async def scene():
        async with running(world) as runtime:
            assert runtime.readiness().is_ready
            assert any("read-only" in problem for problem in runtime.readiness().problems)
            assert serve_one(runtime, model="base").digest == "base"
            world.live.traces.broken = None
            await until(lambda: not runtime.readiness().problems)

    play(scene())
    assert [trace.status for trace in world.live.traces.traces.values()] == ["ok"]


def test_champions_on_another_base_are_named_and_the_most_used_base_runs(world):
    model = world.model()
    records = world.ports.records
    elsewhere = model.model_copy(
        update={
            "ref": Ref("zoo", 1),
            "adapter": Digest("9" * 64),
            "fingerprint": Digest("8" * 64),
            "base": model.base.model_copy(update={"name": "big", "digest": Digest("7" * 64)}),
        }
    )
    records.stored["model"][elsewhere.ref] = elsewhere
    state = records.alias("zoo", "champion")
    event = alias_event(state, elsewhere.ref, action="first", actor="ann", reason="first")
    records.move_alias(state, elsewhere.ref, event)

    async def scene():
        async with running(world) as runtime:
            assert runtime.house.base.ref == model.base
            assert serve_one(runtime).digest == model.adapter
            (problem,) = runtime.readiness().problems
            assert "zoo@1 was trained on base big" in problem and "serve --base big" in problem
            assert runtime.readiness().is_ready
            with pytest.raises(RequestRefused, match="trained on base big") as found:
                runtime.admit(asked("zoo"), CALLER)
            assert found.value.status == 404

    play(scene())


def test_texts_are_removed_when_their_time_is_over(world):
    world.live.traces.write([a_text(1)])
    jump(world, 40 * 86400)

    async def scene():
        async with running(world):
            await until(lambda: not world.live.traces.texts)

    play(scene())


def test_a_request_before_the_start_is_refused_as_not_ready(world):
    runtime = world.runtime()
    assert not runtime.readiness().is_ready
    with pytest.raises(RequestRefused) as found:
        runtime.admit(asked(), CALLER)
    assert found.value.status == 503
    assert Ref("shop", 1) not in world.ports.records.stored.get("model", {})
