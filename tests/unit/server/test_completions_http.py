"""Completions through the gateway: what is forwarded, what is told, and how each request is closed."""

import asyncio

import pytest
from aiohttp import web
from tests.fake_engine import hang_up, refusing, well
from tests.server_world import DIGEST, ENGINE_TOKEN, FakeRuntime, World, chat_body, eventually, play

from tunewright.server.options import GatewayOptions


def test_a_chat_is_answered_under_the_name_asked_for_with_the_digest_beside_it():
    async def scene(world: World):
        status, reply, headers = await world.chat(user="ann", temperature=0.5)
        assert status == 200
        assert reply["model"] == "shop"
        assert reply["choices"][0]["message"]["content"] == "hello world"
        assert reply["tunewright"] == {
            "asked": "shop",
            "model": "shop@2",
            "digest": DIGEST,
            "trace": world.runtime.admitted[0].trace.id,
            "feedback_token": "token-1",
            "latency_s": 0.25,
        }
        assert headers["X-Tunewright-Model"] == "shop@2"
        assert headers["X-Tunewright-Digest"] == DIGEST
        assert headers["X-Tunewright-Trace"] == reply["tunewright"]["trace"]
        assert headers["X-Tunewright-Feedback-Token"] == "token-1"

    play(scene)


def test_the_engine_gets_everything_as_it_came_but_the_digest_for_a_model_and_its_own_token():
    async def scene(world: World):
        await world.chat(user="ann", temperature=0.5, stop=["."], seed=7)
        assert world.engine.bodies == [
            chat_body(model=DIGEST, user="ann", temperature=0.5, stop=["."], seed=7)
        ]
        assert world.engine.tokens == [f"Bearer {ENGINE_TOKEN}"]
        assert world.runtime.asked_upstream == [DIGEST]

    play(scene)


def test_the_arm_is_not_told():
    async def scene(world: World):
        _, reply, headers = await world.chat()
        assert "candidate" not in str(reply) + str(headers)

    play(scene)


def test_a_finish_holds_text_counts_digest_and_time():
    async def scene(world: World):
        await world.chat()
        finish = world.runtime.finish_of_one
        assert (finish.status, finish.error, finish.text) == ("ok", None, "hello world")
        assert (finish.digest, finish.finish_reason) == (DIGEST, "stop")
        assert (finish.num_prompt_tokens, finish.num_tokens) == (3, 2)
        assert 0 < finish.latency_s < 5
        assert finish.ttft_s is None

    play(scene)


def test_a_note_of_the_runtime_reaches_the_user():
    async def scene(world: World):
        _, reply, headers = await world.chat(model="base")
        assert reply["tunewright"]["note"] == "no champion yet"
        assert reply["tunewright"]["model"] is None
        assert headers["X-Tunewright-Model"] == "base"

    play(scene, runtime=FakeRuntime(note="no champion yet"))


def test_a_text_completion_is_one_user_turn():
    async def scene(world: World):
        status, reply, _ = await world.post("/v1/completions", {"model": "shop", "prompt": "once"})
        assert (status, reply["choices"][0]["text"]) == (200, "hello world")
        assert world.runtime.admitted[0].asked.messages == ({"role": "user", "content": "once"},)
        assert world.runtime.finish_of_one.text == "hello world"

    play(scene)


def test_scoring_a_text_keeps_no_text():
    async def scene(world: World):
        body = {"model": "shop", "prompt": [[1, 2]], "echo": True, "max_tokens": 0, "logprobs": 1}
        status, _, _ = await world.post("/v1/completions", body)
        assert status == 200
        assert world.runtime.admitted[0].asked.consent == "none"
        assert world.runtime.admitted[0].asked.messages == ()

    play(scene)


def test_the_unit_is_the_user_else_the_session_else_nobody():
    async def scene(world: World):
        await world.post("/v1/chat/completions", chat_body(user="ann"), X_Session_Id="s1")
        await world.post("/v1/chat/completions", chat_body(), X_Session_Id="s1")
        await world.post("/v1/chat/completions", chat_body(user=""))
        assert [ticket.asked.unit for ticket in world.runtime.admitted] == ["ann", "s1", None]

    play(scene)


@pytest.mark.parametrize(
    ("key", "header", "expected"),
    [
        ("caller-key", "review", "review"),
        ("caller-key", "none", "none"),
        ("caller-key", None, "train"),
        ("shy-key", "train", "none"),
    ],
)
def test_the_consent_header_lowers_and_never_raises(key: str, header: str | None, expected: str):
    async def scene(world: World):
        headers = {} if header is None else {"X_Tunewright_Consent": header}
        await world.post("/v1/chat/completions", chat_body(), key=key, **headers)
        assert world.runtime.admitted[0].asked.consent == expected

    play(scene)


def test_an_unknown_consent_is_refused_by_the_headers_name():
    async def scene(world: World):
        status, reply, _ = await world.post("/v1/chat/completions", chat_body(), X_Tunewright_Consent="all")
        assert status == 400
        assert reply["error"]["param"] == "X-Tunewright-Consent"
        assert world.runtime.admitted == []

    play(scene)


def test_an_unknown_model_is_refused_without_a_trace():
    async def scene(world: World):
        status, reply, _ = await world.chat(model="gone")
        assert (status, reply["error"]["code"]) == (404, "model_not_found")
        assert world.runtime.finished == []
        assert world.engine.bodies == []

    play(scene)


def test_what_the_engine_refuses_is_passed_on_and_is_no_evidence():
    async def scene(world: World):
        status, reply, _ = await world.chat()
        assert status == 400
        assert reply["error"] == {
            "message": "600 tokens are too many",
            "type": "invalid_request_error",
            "param": "messages",
            "code": "context_length_exceeded",
        }
        finish = world.runtime.finish_of_one
        assert (finish.status, finish.error) == ("cancelled", "context_length_exceeded")

    play(scene, refusing(400, "context_length_exceeded", "600 tokens are too many"))


def test_an_engine_error_is_passed_on_and_counts_as_an_error():
    async def scene(world: World):
        status, reply, _ = await world.chat()
        assert (status, reply["error"]["code"]) == (500, "engine_failed")
        finish = world.runtime.finish_of_one
        assert (finish.status, finish.error) == ("error", "engine_failed")

    play(scene, refusing(500, "engine_failed"))


def test_a_dead_engine_is_tried_again_and_the_client_sees_nothing():
    async def scene(world: World):
        status, _, _ = await world.chat()
        assert status == 200
        assert [upstream.url for upstream in world.runtime.failures] == ["http://127.0.0.1:9"]
        assert world.runtime.finish_of_one.status == "ok"

    play(scene, dead_first=True)


def test_an_engine_killed_mid_request_is_tried_again():
    async def scene(world: World):
        status, _, _ = await world.chat()
        assert status == 200
        assert len(world.engine.bodies) == 2
        assert len(world.runtime.failures) == 1
        assert len(world.runtime.admitted) == 1

    play(scene, hang_up)


def test_an_engine_that_lost_its_adapters_is_tried_again():
    async def scene(world: World):
        status, _, _ = await world.chat()
        assert status == 200
        assert len(world.runtime.failures) == 1

    play(scene, refusing(404, "model_not_found"))


def test_when_all_tries_are_used_up_the_client_is_asked_to_come_back():
    async def scene(world: World):
        status, reply, headers = await world.chat()
        assert (status, reply["error"]["code"]) == (503, "engine_restarting")
        assert int(headers["Retry-After"]) > 0
        assert len(world.runtime.failures) == 3
        finish = world.runtime.finish_of_one
        assert (finish.status, finish.error) == ("interrupted", "engine_restarting")

    play(scene, hang_up, hang_up, hang_up, well)


def test_a_runtime_without_an_engine_closes_the_trace_as_well():
    async def scene(world: World):
        status, reply, headers = await world.chat()
        assert (status, reply["error"]["code"]) == (503, "engine_restarting")
        assert "Retry-After" in headers
        assert world.runtime.finish_of_one.status == "interrupted"

    play(scene, runtime=FakeRuntime(refuses_upstream=True))


def test_a_silent_engine_is_an_error_after_the_bound():
    async def silent(request, body):
        await asyncio.sleep(5)

    async def scene(world: World):
        status, reply, _ = await world.chat()
        assert (status, reply["error"]["code"]) == (504, "engine_timeout")
        assert world.runtime.finish_of_one.status == "error"

    play(scene, silent, options=GatewayOptions(engine_silence_s=0.05))


@pytest.mark.parametrize("answer", ["nonsense", "[1]", '{"choices": "none"}'])
def test_an_answer_of_no_known_form_is_an_error(answer: str):
    async def odd(request, body):
        return web.Response(text=answer)

    async def scene(world: World):
        status, reply, _ = await world.chat()
        assert (status, reply["error"]["code"]) == (502, "engine_failed")
        assert world.runtime.finish_of_one.status == "error"

    play(scene, odd)


def test_a_client_that_hangs_up_cancels_the_engines_work_and_closes_the_trace():
    async def waiting(request, body):
        try:
            await asyncio.sleep(5)
        finally:
            hung_up.append(True)

    hung_up: list[bool] = []

    async def scene(world: World):
        task = asyncio.create_task(world.chat())
        await eventually(lambda: bool(world.engine.bodies))
        task.cancel()
        await eventually(lambda: bool(hung_up) and bool(world.runtime.finished))
        finish = world.runtime.finish_of_one
        assert (finish.status, finish.error) == ("cancelled", "client_gone")

    play(scene, waiting)


def test_a_bug_in_the_runtime_shows_nothing_of_its_insides(caplog: pytest.LogCaptureFixture):
    class Broken(FakeRuntime):
        def admit(self, asked, caller):
            raise ValueError("secret probe 4711")

    async def scene(world: World):
        status, reply, _ = await world.chat()
        assert (status, reply["error"]["code"]) == (500, "gateway_failed")
        assert "4711" not in str(reply) + caplog.text
        assert "ValueError" in caplog.text

    play(scene, runtime=Broken())


def test_tokenize_asks_the_base_and_leaves_no_trace():
    async def scene(world: World):
        status, reply, _ = await world.post("/tokenize", {"model": "shop", "prompt": "hi"})
        assert (status, reply["tokens"]) == (200, [1, 2])
        assert world.engine.bodies == [{"prompt": "hi"}]
        assert world.runtime.admitted == []
        status, reply, _ = await world.post("/tokenize", {"model": "gone", "prompt": "hi"})
        assert (status, reply["error"]["code"]) == (404, "model_not_found")

    play(scene)
