"""The `openai` package, unchanged, against the gateway: answers, streams, lists, classes of errors."""

import asyncio
from collections.abc import Awaitable, Callable

import openai
import pytest
from tests.fake_engine import Behaviour, hang_up_midway, refusing
from tests.server_world import DIGEST, FakeRuntime, World, gateway_world

from tunewright.errors import RequestRefused
from tunewright.server.options import GatewayOptions

HI = [{"role": "user", "content": "hi"}]
Scene = Callable[[World, openai.AsyncOpenAI], Awaitable[None]]


def play(
    scene: Scene,
    *behaviours: Behaviour,
    key: str = "caller-key",
    options: GatewayOptions | None = None,
    runtime: FakeRuntime | None = None,
) -> None:
    async def run() -> None:
        async with gateway_world(*behaviours, options=options, runtime=runtime) as world:
            base_url = world.url + "/v1"
            async with openai.AsyncOpenAI(base_url=base_url, api_key=key, max_retries=0) as client:
                await scene(world, client)

    asyncio.run(run())


def test_a_chat_is_answered_and_says_which_version_it_was():
    async def scene(world: World, client: openai.AsyncOpenAI):
        reply = await client.chat.completions.create(model="shop", messages=HI, max_tokens=5, user="ann")
        assert reply.choices[0].message.content == "hello world"
        assert reply.model == "shop"
        assert reply.usage is not None
        assert reply.usage.total_tokens == 5
        assert reply.model_extra is not None
        assert reply.model_extra["tunewright"]["digest"] == DIGEST
        assert reply._request_id.startswith("req_")

    play(scene)


def test_a_stream_is_read_to_its_end_and_counts_as_answered():
    async def scene(world: World, client: openai.AsyncOpenAI):
        stream = await client.chat.completions.create(model="shop", messages=HI, stream=True)
        text = "".join([event.choices[0].delta.content or "" async for event in stream])
        assert text == "hello world"
        assert world.runtime.finish_of_one.status == "ok"

    play(scene)


def test_a_stream_tells_its_counts_to_who_asks():
    async def scene(world: World, client: openai.AsyncOpenAI):
        stream = await client.chat.completions.create(
            model="shop", messages=HI, stream=True, stream_options={"include_usage": True}
        )
        events = [event async for event in stream]
        assert events[-1].usage is not None
        assert events[-1].usage.completion_tokens == 2
        assert events[-1].choices == []

    play(scene)


def test_a_raw_reply_has_the_headers_that_feedback_needs():
    async def scene(world: World, client: openai.AsyncOpenAI):
        raw = await client.chat.completions.with_raw_response.create(model="shop", messages=HI)
        assert raw.headers["x-tunewright-model"] == "shop@2"
        given = {"trace": raw.headers["x-tunewright-trace"], "kind": "thumb", "value": "up"}
        headers = {"X-Tunewright-Feedback-Token": raw.headers["x-tunewright-feedback-token"]}
        stored = await client.post(
            "/feedback", cast_to=dict[str, str], body=given, options={"headers": headers}
        )
        assert stored["status"] == "pending"
        assert world.runtime.feedback[0].token == "token-1"

    play(scene)


def test_text_completions_and_their_streams_work():
    async def scene(world: World, client: openai.AsyncOpenAI):
        reply = await client.completions.create(model="shop", prompt="once", max_tokens=5)
        assert reply.choices[0].text == "hello world"
        stream = await client.completions.create(model="shop", prompt="once", stream=True)
        assert "".join([event.choices[0].text async for event in stream]) == "hello world"

    play(scene)


def test_models_are_listed_and_shown():
    async def scene(world: World, client: openai.AsyncOpenAI):
        assert [model.id async for model in client.models.list()] == ["base", "shop"]
        assert (await client.models.retrieve("shop")).id == "shop"
        with pytest.raises(openai.NotFoundError, match="expected one of: base, shop"):
            await client.models.retrieve("gone")

    play(scene)


def test_a_wrong_key_is_an_authentication_error():
    async def scene(world: World, client: openai.AsyncOpenAI):
        with pytest.raises(openai.AuthenticationError) as caught:
            await client.chat.completions.create(model="shop", messages=HI)
        assert caught.value.code == "invalid_api_key"

    play(scene, key="wrong")


def test_an_unknown_model_is_a_not_found_error():
    async def scene(world: World, client: openai.AsyncOpenAI):
        with pytest.raises(openai.NotFoundError) as caught:
            await client.chat.completions.create(model="gone", messages=HI)
        assert (caught.value.code, caught.value.param) == ("model_not_found", "model")

    play(scene)


def test_a_field_nobody_knows_is_a_bad_request_error():
    async def scene(world: World, client: openai.AsyncOpenAI):
        with pytest.raises(openai.BadRequestError) as caught:
            await client.chat.completions.create(model="shop", messages=HI, extra_body={"lora_path": "/etc"})
        assert (caught.value.code, caught.value.param) == ("unknown_field", "lora_path")

    play(scene)


def test_what_the_engine_refuses_is_a_bad_request_error():
    async def scene(world: World, client: openai.AsyncOpenAI):
        with pytest.raises(openai.BadRequestError, match="too long"):
            await client.chat.completions.create(model="shop", messages=HI)

    play(scene, refusing(400, "context_length_exceeded", "too long"))


def test_too_many_requests_are_a_rate_limit_error():
    async def scene(world: World, client: openai.AsyncOpenAI):
        with pytest.raises(openai.RateLimitError) as caught:
            await client.chat.completions.create(model="shop", messages=HI)
        assert caught.value.code == "too_many_requests"
        assert caught.value.response.headers["retry-after"] == "1"

    play(scene, options=GatewayOptions(max_in_flight=0))


def test_a_role_that_does_not_suffice_is_a_permission_error():
    class Strict(FakeRuntime):
        def admit(self, asked, caller):
            raise RequestRefused("versions need role viewer", 403, "role_too_low", "model")

    async def scene(world: World, client: openai.AsyncOpenAI):
        with pytest.raises(openai.PermissionDeniedError):
            await client.chat.completions.create(model="shop@1", messages=HI)

    play(scene, runtime=Strict())


def test_a_stream_that_breaks_is_an_api_error_not_a_short_answer():
    async def scene(world: World, client: openai.AsyncOpenAI):
        stream = await client.chat.completions.create(model="shop", messages=HI, stream=True)
        with pytest.raises(openai.APIError, match="stopped in the middle"):
            async for _ in stream:
                pass
        assert world.runtime.finish_of_one.status == "interrupted"

    play(scene, hang_up_midway)


def test_a_client_that_retries_gets_over_a_restart():
    class Restarting(FakeRuntime):
        async def upstream(self, digest):
            if len(self.admitted) < 2:
                raise RequestRefused("the engine is restarting", 503, "engine_restarting")
            return await super().upstream(digest)

    async def scene(world: World, client: openai.AsyncOpenAI):
        reply = await client.with_options(max_retries=2).chat.completions.create(model="shop", messages=HI)
        assert reply.choices[0].message.content == "hello world"
        assert [finish.status for _, finish in world.runtime.finished] == ["interrupted", "ok"]

    play(scene, runtime=Restarting())
