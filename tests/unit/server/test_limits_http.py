"""Who is let in, and what is too much: keys, sizes, forms, slow clients, paths."""

import asyncio
import json
import logging

import pytest
from aiohttp import web
from tests.server_world import FakeRuntime, World, chat_body, eventually, gateway_world, play
from yarl import URL

from tunewright.server.options import GatewayOptions
from tunewright.server.seams import Readiness

CHAT = "/v1/chat/completions"


async def raw(world: World, data: bytes, *, pause_s: float = 0.0, seconds: float = 5.0) -> bytes:
    """Speak plain bytes; return all that comes back until the gateway closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
    writer.write(data)
    await asyncio.sleep(pause_s)
    async with asyncio.timeout(seconds):
        answer = await reader.read()
    writer.close()
    return answer


def request(body: bytes, *headers: str, path: str = CHAT, method: str = "POST") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: x", "Connection: close", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, *headers, "", ""]).encode() + body


@pytest.mark.parametrize(
    "headers",
    [
        [],
        ["Authorization: Bearer wrong"],
        ["Authorization: Bearer "],
        ["Authorization: Bearer"],
        ["Authorization:"],
        ["Authorization: Basic caller-key"],
        ["Authorization: caller-key"],
        ["Authorization: Bearer caller-key", "Authorization: Bearer caller-key"],
        ["Authorization: Bearer caller-key", "authorization: Bearer wrong"],
        ["Authorization: Bearer " + "k" * 5000],
        ["Authorization: Bearer schlüssel"],
        ["Authorization: Bearer ' OR 1=1 --"],
        ["Authorization: Bearer caller-key caller-key"],
    ],
)
def test_any_key_but_a_known_one_given_once_is_refused_with_401(headers: list[str]):
    async def scene(world: World):
        answer = await raw(world, request(json.dumps(chat_body()).encode(), *headers))
        assert answer.startswith(b"HTTP/1.1 401 ")
        assert b"WWW-Authenticate: Bearer" in answer
        assert json.loads(answer.split(b"\r\n\r\n")[1])["error"]["code"] == "invalid_api_key"
        assert world.runtime.admitted == []

    play(scene)


def test_the_key_is_checked_before_the_body_is_looked_at():
    async def scene(world: World):
        assert (await world.post(CHAT, b"{", key="wrong"))[0] == 401

    play(scene)


@pytest.mark.parametrize(
    ("body", "param", "said"),
    [
        (b"", None, "not JSON"),
        (b"[]", None, "object"),
        (b'{"model": "shop", "messages": [{"role": "user", "content": "\xff"}]}', None, "UTF-8"),
        (b'{"a":' * 100_000, None, "recursion"),
        (b'{"model": "shop", "messages": ' + b"[" * 50_000 + b"]" * 50_000 + b"}", None, "recursion"),
        (json.dumps(chat_body(temperature=float("nan"))).encode(), None, "not JSON"),
        (json.dumps(chat_body(api_base="http://x")).encode(), "api_base", "unknown field"),
        (json.dumps(chat_body(lora_path="/etc")).encode(), "lora_path", "unknown field"),
        (b'{"model": "gone", "model": "shop", "messages": []}', "messages", "at least 1"),
        (b'{"model":"x","model":"shop","messages":[{"role":"user","content":"hi"}]}', "model", "twice"),
        (b'{"model":"shop","messages":[{"role":"user","role":"user","content":"hi"}]}', "role", "twice"),
        (
            b'{"model":"shop","seed":'
            + b"1" * 5000
            + b',"seed":1,"messages":[{"role":"user","content":"hi"}]}',
            None,
            "not JSON",
        ),
        (json.dumps(chat_body(max_tokens=2**31)).encode(), "max_tokens", "1048576"),
        (json.dumps(chat_body(n=10**4)).encode(), "n", "less than or equal to 8"),
        (
            json.dumps(chat_body(messages=[{"role": "user", "content": "x"}] * 10_000)).encode(),
            "messages",
            "2048",
        ),
        (json.dumps(chat_body(messages=[{"role": "user", "content": 1}])).encode(), "messages", "string"),
    ],
)
def test_a_bad_body_is_refused_by_field(body: bytes, param: str | None, said: str):
    async def scene(world: World):
        status, reply, _ = await world.post(CHAT, body)
        assert status == 400
        assert reply["error"]["param"] == param
        assert said in reply["error"]["message"]
        assert reply["error"]["type"] == "invalid_request_error"
        assert world.runtime.admitted == []

    play(scene)


def test_a_huge_body_is_refused_by_its_announced_length_without_reading_it():
    async def scene(world: World):
        head = request(b"", "Authorization: Bearer caller-key").replace(
            b"Content-Length: 0", b"Content-Length: 104857600"
        )
        reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
        writer.write(head)
        async with asyncio.timeout(2):
            line = await reader.readline()
        assert line.startswith(b"HTTP/1.1 413 ")
        writer.close()

    play(scene)


def test_a_huge_body_of_unknown_length_is_refused_once_it_is_too_long():
    async def scene(world: World):
        async def endless():
            for _ in range(200):
                yield b" " * 65536

        headers = {"Authorization": "Bearer caller-key"}
        async with world.client.post(world.url + CHAT, data=endless(), headers=headers) as response:
            assert response.status == 413
            assert (await response.json())["error"]["code"] == "body_too_large"

    play(scene)


def test_a_compressed_body_is_refused():
    async def scene(world: World):
        status, reply, _ = await world.post(CHAT, b"\x1f\x8b", Content_Encoding="gzip")
        assert (status, reply["error"]["code"]) == (415, "compressed_body")

    play(scene)


def test_a_slow_body_is_refused_with_408_and_holds_no_place_after_it():
    async def scene(world: World):
        half = request(b"x" * 100, "Authorization: Bearer caller-key")[:-50]
        answer = await raw(world, half)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"body_too_slow" in answer
        assert (await world.chat())[0] == 200

    play(scene, options=GatewayOptions(body_timeout_s=0.1, max_in_flight=1))


def test_a_slow_head_is_closed_with_408():
    async def scene(world: World):
        answer = await raw(world, b"POST /v1/chat/completions HTTP/1.1\r\nHost: ")
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"head_too_slow" in answer
        assert await raw(world, b"") == answer, "silence is no better"

    play(scene, options=GatewayOptions(header_timeout_s=0.1))


def test_a_long_answer_is_no_slow_head():
    async def slow(request, body):
        await asyncio.sleep(0.8)
        return web.json_response({"choices": []})

    async def scene(world: World):
        assert (await world.chat())[0] == 200

    play(scene, slow, options=GatewayOptions(header_timeout_s=0.2))


def test_one_request_more_than_the_limit_is_told_to_come_back():
    async def held(request, body):
        await engine_may_answer.wait()
        return web.json_response({"choices": []})

    engine_may_answer = asyncio.Event()

    async def scene(world: World):
        first = asyncio.create_task(world.chat())
        await eventually(lambda: bool(world.engine.bodies))
        status, reply, headers = await world.chat()
        assert (status, reply["error"]["code"]) == (429, "too_many_requests")
        assert int(headers["Retry-After"]) > 0
        engine_may_answer.set()
        assert (await first)[0] == 200
        assert (await world.chat())[0] == 200

    play(scene, held, options=GatewayOptions(max_in_flight=1))


@pytest.mark.parametrize(
    "path",
    [
        "/v1/load_lora_adapter",
        "/v1/unload_lora_adapter",
        "/health",
        "/",
        "/v1/",
        "/v1/chat/completions/",
        "/v1/%2e%2e/metrics",
        "//v1/models",
    ],
)
def test_unknown_paths_and_the_engines_administration_are_404_in_the_openai_shape(path: str):
    async def scene(world: World):
        answer = await raw(world, request(b"{}", "Authorization: Bearer viewer-key", path=path))
        assert answer.startswith(b"HTTP/1.1 404 ")
        assert json.loads(answer.split(b"\r\n\r\n")[1])["error"]["code"] == "unknown_endpoint"
        assert world.engine.bodies == []

    play(scene)


def test_a_wrong_method_names_the_right_one():
    async def scene(world: World):
        status, reply, headers = await world.get(CHAT)
        assert (status, reply["error"]["code"], headers["Allow"]) == (405, "method_not_allowed", "POST")

    play(scene)


@pytest.mark.parametrize("name", ["..%2f..%2fetc", "%252e%252e", "shop%00", "shop%5c..", "x" * 2000])
def test_a_models_name_is_only_ever_compared(name: str):
    async def scene(world: World):
        url = URL(f"{world.url}/v1/models/{name}", encoded=True)
        async with world.client.get(url, headers={"Authorization": "Bearer caller-key"}) as response:
            assert response.status == 404
            assert (await response.json())["error"]["code"] in ("model_not_found", "unknown_endpoint")

    play(scene)


def test_every_reply_is_named_and_a_safe_name_of_the_callers_is_kept():
    async def scene(world: World):
        _, _, headers = await world.get("/healthz", key=None)
        assert headers["X-Request-Id"].startswith("req_")
        _, _, headers = await world.post(CHAT, chat_body(), X_Request_Id="mine-1")
        assert headers["X-Request-Id"] == "mine-1"
        _, _, headers = await world.post(CHAT, b"{", X_Request_Id="<script>")
        assert headers["X-Request-Id"].startswith("req_")

    play(scene)


def test_health_needs_no_key_and_readiness_names_the_problems():
    async def scene(world: World):
        assert (await world.get("/healthz", key=None))[:2] == (200, {"status": "ok"})
        assert (await world.get("/readyz", key=None))[:2] == (200, {"status": "ready", "problems": []})
        world.runtime.state = Readiness(is_ready=False, problems=("the engine starts",))
        status, reply, _ = await world.get("/readyz", key=None)
        assert (status, reply) == (503, {"status": "not_ready", "problems": ["the engine starts"]})

    play(scene)


def test_a_probe_string_is_found_in_no_log_and_no_metric(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)
    probe = "zebra-4711-probe"

    async def scene(world: World):
        said = [{"role": "user", "content": probe}]
        await world.chat(messages=said, user=probe)
        await world.stream(messages=said)
        await world.post(CHAT, json.dumps(chat_body(model=probe)).encode())
        await world.post(CHAT, f'{{"{probe}": 1'.encode())
        await world.get(f"/v1/models/{probe}")
        await world.get(f"/{probe}")
        await raw(world, request(b"", f"Authorization: Bearer {probe}"))
        await raw(world, f"GET / HTTP/1.1\r\n{probe} : x\r\n\r\n".encode())
        await raw(world, f"{probe} nonsense\r\n\r\n".encode())
        await raw(world, request(b"", "X-Big: " + probe * 5000))
        headers = {"Authorization": "Bearer viewer-key"}
        async with world.client.get(world.url + "/metrics", headers=headers) as response:
            assert probe not in await response.text()

    play(scene)
    assert probe not in caplog.text


def test_the_gateway_starts_and_ends_without_a_request():
    async def run() -> None:
        async with gateway_world(runtime=FakeRuntime()):
            pass

    asyncio.run(run())
