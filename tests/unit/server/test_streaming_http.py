"""Streams through the gateway: passed on as they come, and closed once however they end."""

import asyncio

from tests.fake_engine import chunk_of, event, hang_up, hang_up_midway, open_stream, refusing
from tests.server_world import DIGEST, World, chat_body, eventually, play

from tunewright.server.options import GatewayOptions


def test_a_stream_carries_the_digest_in_each_event_and_the_token_in_the_first():
    async def scene(world: World):
        events, is_done, headers = await world.stream()
        assert is_done
        assert [one["model"] for one in events] == ["shop"] * 3
        assert [one["tunewright"]["digest"] for one in events] == [DIGEST] * 3
        assert [one["tunewright"].get("feedback_token") for one in events] == ["token-1", None, None]
        assert headers["X-Tunewright-Trace"] == world.runtime.admitted[0].trace.id
        assert headers["Content-Type"] == "text/event-stream"
        finish = world.runtime.finish_of_one
        assert (finish.status, finish.text, finish.digest) == ("ok", "hello world", DIGEST)
        assert (finish.num_prompt_tokens, finish.num_tokens, finish.finish_reason) == (3, 2, "stop")
        assert finish.ttft_s is not None
        assert 0 < finish.ttft_s <= finish.latency_s

    play(scene)


def test_the_counts_are_asked_for_and_hidden_from_who_did_not_ask():
    async def scene(world: World):
        events, _, _ = await world.stream()
        assert world.engine.bodies[0]["stream_options"] == {"include_usage": True}
        assert all("usage" not in one for one in events)
        events, is_done, _ = await world.stream(stream_options={"include_usage": True})
        assert is_done
        assert events[-1]["usage"]["total_tokens"] == 5

    play(scene)


def test_events_are_passed_on_as_they_come():
    release = asyncio.Event()

    async def halting(request, body):
        response = await open_stream(request)
        await response.write(chunk_of(body, "hello"))
        await release.wait()
        await response.write(chunk_of(body, " world", "stop") + b"data: [DONE]\n\n")
        return response

    async def scene(world: World):
        headers = {"Authorization": "Bearer caller-key"}
        url = world.url + "/v1/chat/completions"
        async with world.client.post(url, json=chat_body(stream=True), headers=headers) as response:
            async with asyncio.timeout(2):
                first = await response.content.readuntil(b"\n\n")
            assert b"hello" in first
            assert not world.runtime.finished
            release.set()
            rest = await response.content.read()
            assert b"world" in rest
            assert rest.endswith(b"data: [DONE]\n\n")
        assert world.runtime.finish_of_one.status == "ok"

    play(scene, halting)


def test_events_cut_anywhere_by_the_network_stay_whole():
    async def in_pieces(request, body):
        response = await open_stream(request)
        data = b": ping\n\n" + chunk_of(body, "hällo") + chunk_of(body, "", "stop") + b"data: [DONE]\n\n"
        data = data.replace(b"\n\n", b"\r\n\r\n")
        for start in range(0, len(data), 7):
            await response.write(data[start : start + 7])
            await asyncio.sleep(0)
        return response

    async def scene(world: World):
        events, is_done, _ = await world.stream()
        assert is_done
        assert "".join(one["choices"][0]["delta"]["content"] for one in events) == "hällo"

    play(scene, in_pieces)


def test_a_stream_that_breaks_before_its_first_event_is_tried_again():
    async def scene(world: World):
        events, is_done, _ = await world.stream()
        assert is_done
        assert len(events) == 3
        assert len(world.runtime.failures) == 1
        assert world.runtime.finish_of_one.status == "ok"

    play(scene, hang_up)


def test_a_stream_that_breaks_midway_ends_with_an_error_event_and_no_done():
    async def scene(world: World):
        events, is_done, _ = await world.stream()
        assert not is_done
        assert events[0]["choices"][0]["delta"]["content"] == "hello"
        assert events[-1]["error"]["code"] == "engine_interrupted"
        assert len(world.engine.bodies) == 1
        finish = world.runtime.finish_of_one
        assert (finish.status, finish.error, finish.text) == ("interrupted", "engine_interrupted", "hello")

    play(scene, hang_up_midway)


def test_a_stream_without_done_counts_as_broken():
    async def short(request, body):
        response = await open_stream(request)
        await response.write(chunk_of(body, "hello"))
        return response

    async def scene(world: World):
        events, is_done, _ = await world.stream()
        assert not is_done
        assert events[-1]["error"]["code"] == "engine_interrupted"
        assert world.runtime.finish_of_one.status == "interrupted"

    play(scene, short)


def test_an_error_event_of_the_engine_is_passed_on_and_counts_as_an_error():
    async def failing(request, body):
        response = await open_stream(request)
        error = {"message": "NaN", "type": "server_error", "param": None, "code": "not_finite"}
        await response.write(chunk_of(body, "hello") + event({"error": error}) + b"data: [DONE]\n\n")
        return response

    async def scene(world: World):
        events, is_done, _ = await world.stream()
        assert not is_done
        assert events[-1]["error"]["code"] == "not_finite"
        finish = world.runtime.finish_of_one
        assert (finish.status, finish.error) == ("error", "not_finite")

    play(scene, failing)


def test_a_refusal_before_the_first_event_is_an_ordinary_error_reply():
    async def scene(world: World):
        status, reply, _ = await world.chat(stream=True)
        assert (status, reply["error"]["code"]) == (400, "context_length_exceeded")
        assert world.runtime.finish_of_one.status == "cancelled"

    play(scene, refusing(400, "context_length_exceeded"))


def test_a_client_that_hangs_up_right_after_done_was_answered():
    async def lingering(request, body):
        response = await open_stream(request)
        await response.write(chunk_of(body, "hello", "stop") + b"data: [DONE]\n\n")
        await asyncio.sleep(0.2)  # the engine's last bytes are late
        return response

    async def scene(world: World):
        headers = {"Authorization": "Bearer caller-key"}
        url = world.url + "/v1/chat/completions"
        async with world.client.post(url, json=chat_body(stream=True), headers=headers) as response:
            await response.content.readuntil(b"[DONE]\n\n")
            response.close()
        await eventually(lambda: bool(world.runtime.finished))
        assert world.runtime.finish_of_one.status == "ok"

    play(scene, lingering)


def test_a_client_that_hangs_up_mid_stream_cancels_the_engines_work():
    hung_up: list[bool] = []

    async def endless(request, body):
        response = await open_stream(request)
        try:
            while True:
                await response.write(chunk_of(body, "la"))
                await asyncio.sleep(0.01)
        finally:
            hung_up.append(True)

    async def scene(world: World):
        headers = {"Authorization": "Bearer caller-key"}
        url = world.url + "/v1/chat/completions"
        async with world.client.post(url, json=chat_body(stream=True), headers=headers) as response:
            await response.content.readuntil(b"\n\n")
            response.close()
        await eventually(lambda: bool(hung_up) and bool(world.runtime.finished))
        finish = world.runtime.finish_of_one
        assert (finish.status, finish.error) == ("cancelled", "client_gone")
        assert finish.text.startswith("la")

    play(scene, endless)


def test_a_client_that_takes_no_byte_is_hung_up_on():
    hung_up: list[bool] = []

    async def flooding(request, body):
        response = await open_stream(request)
        try:
            while True:
                await response.write(chunk_of(body, "x" * 50_000))
        finally:
            hung_up.append(True)

    async def scene(world: World):
        _, writer = await asyncio.open_connection("127.0.0.1", world.port, limit=1024)
        body = b'{"model":"shop","stream":true,"messages":[{"role":"user","content":"hi"}]}'
        head = "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer caller-key\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        await eventually(lambda: bool(hung_up) and bool(world.runtime.finished), 10)
        finish = world.runtime.finish_of_one
        assert (finish.status, finish.error) == ("cancelled", "client_gone")
        assert len(finish.text) == 256 * 1024
        writer.close()

    play(scene, flooding, options=GatewayOptions(write_timeout_s=0.2))
