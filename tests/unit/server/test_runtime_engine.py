import asyncio

import pytest
from tests.runtime_world import (
    CALLER,
    VIEWER,
    a_served_world,
    asked,
    running,
    serve_one,
    until,
    well,
)

from tunewright.errors import RequestRefused


@pytest.fixture
def world(tmp_path):
    return a_served_world(tmp_path)


def play(scene):
    asyncio.run(asyncio.wait_for(scene, 30))


def test_a_champion_is_verified_loaded_and_probed_before_it_answers(world):
    model = world.model()

    async def scene():
        async with running(world) as runtime:
            assert model.adapter in world.engines.engine.adapters
            trace = serve_one(runtime, unit="ann")
            assert (trace.digest, trace.model, trace.rollout) == (model.adapter, model.ref, None)
            assert runtime.counts().adapters_resident == 1

    play(scene())


def test_another_adapters_answer_is_an_error_whatever_it_says(world):
    world.model()

    async def scene():
        async with running(world) as runtime:
            runtime.finish(runtime.admit(asked(), CALLER), well("base"))

    play(scene())
    (trace,) = world.live.traces.traces.values()
    assert (trace.status, trace.error) == ("error", "digest_mismatch")


def test_a_champion_that_does_not_repeat_its_probes_is_not_served(world):
    model = world.model()
    world.engines.altered.add(model.adapter)

    async def scene():
        async with running(world) as runtime:
            with pytest.raises(RequestRefused, match="probe_mismatch") as found:
                runtime.admit(asked(), CALLER)
            assert (found.value.status, found.value.code) == (503, "model_unavailable")
            assert not runtime.readiness().is_ready
            assert serve_one(runtime, model="base").digest == "base"

    play(scene())


def test_an_adapter_whose_bytes_were_changed_is_never_loaded(world):
    model = world.model()
    digest = next(digest for digest, data in world.ports.blobs.stored.items() if data == b"weights 0")
    world.ports.blobs.stored[digest] = b"weights!!"

    async def scene():
        async with running(world) as runtime:
            assert model.adapter not in world.engines.engine.adapters
            assert any("does not hash" in problem for problem in runtime.readiness().problems)

    play(scene())


def test_a_version_asked_for_by_name_is_loaded_on_demand_and_later_unloaded(world):
    world.model()
    second = world.model(1)

    async def scene():
        async with running(world) as runtime:
            assert second.adapter not in runtime.house.rooms.adapters.resident
            ticket = runtime.admit(asked("shop@2"), VIEWER)
            await runtime.upstream(ticket.trace.digest)
            await asyncio.sleep(0.15)
            assert not world.wire.unloaded, "it is in use"
            runtime.finish(ticket, well(second.adapter))
            await until(lambda: world.wire.unloaded == [second.adapter])

    play(scene())


def test_a_dead_engine_comes_back_with_its_adapters_while_requests_wait(world):
    model = world.model()

    async def scene():
        async with running(world) as runtime:
            before = await runtime.upstream(model.adapter)
            world.engines.engine.is_dead = True
            runtime.engine_failed(before)
            after = await runtime.upstream(model.adapter)
            assert after.url != before.url
            assert model.adapter in world.engines.engine.adapters
            assert runtime.counts().engine_restarts == 1
            assert runtime.readiness().is_ready

    play(scene())


def test_an_engine_that_keeps_dying_is_told_with_its_last_words(world):
    async def scene():
        async with running(world) as runtime:
            upstream = await runtime.upstream("base")
            world.engines.are_stillborn = True
            world.engines.engine.is_dead = True
            runtime.engine_failed(upstream)
            await until(lambda: "5 times within 60 s" in "".join(runtime.readiness().problems))
            assert "no memory" in runtime.readiness().problems[0]
            assert not runtime.readiness().is_ready
            with pytest.raises(RequestRefused) as found:
                await runtime.upstream("base")
            assert (found.value.status, found.value.code) == (503, "engine_restarting")
            world.engines.are_stillborn = False
            assert (await runtime.upstream("base")).url == world.engines.engine.url

    play(scene())
