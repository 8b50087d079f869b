"""A fake engine: real HTTP, the OpenAI wire format, no model; it behaves as badly as a test wants."""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

Behaviour = Callable[[web.Request, dict[str, object]], Awaitable[web.StreamResponse]]


@dataclass
class FakeEngine:
    """Answers "hello world" word by word, unless told to behave otherwise."""

    behaviours: list[Behaviour] = field(default_factory=list)
    """Used up one a request."""
    bodies: list[dict[str, object]] = field(default_factory=list)
    tokens: list[str | None] = field(default_factory=list)
    was_hung_up_on: asyncio.Event = field(default_factory=asyncio.Event)
    held: asyncio.Event = field(default_factory=asyncio.Event)
    """Set it to let `wait_for_release` go on."""

    def app(self) -> web.Application:
        app = web.Application(client_max_size=2**24)
        app.router.add_post("/{path:.*}", self.answer)
        return app

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.bodies.append(body)
        self.tokens.append(request.headers.get("Authorization"))
        if self.behaviours:
            return await self.behaviours.pop(0)(request, body)
        if request.path == "/tokenize":
            return web.json_response({"tokens": [1, 2], "count": 2, "max_model_len": 512})
        return await (well_streamed if body.get("stream") else well)(request, body)


def usage() -> dict[str, object]:
    return {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


def reply_of(body: Mapping[str, object], text: str = "hello world") -> dict[str, object]:
    is_chat = "messages" in body
    content: dict[str, object] = (
        {"message": {"role": "assistant", "content": text}} if is_chat else {"text": text}
    )
    return {
        "id": "cmpl-1",
        "object": "chat.completion" if is_chat else "text_completion",
        "created": 1,
        "model": body["model"],
        "choices": [{"index": 0, "finish_reason": "stop", "logprobs": None, **content}],
        "usage": usage(),
        "tunewright": {"digest": body["model"], "latency_s": 0.25},
    }


def chunk_of(body: Mapping[str, object], text: str, finish_reason: str | None = None) -> bytes:
    is_chat = "messages" in body
    content: dict[str, object] = {"delta": {"content": text}} if is_chat else {"text": text}
    return event(
        {
            "id": "cmpl-1",
            "object": "chat.completion.chunk" if is_chat else "text_completion",
            "created": 1,
            "model": body["model"],
            "choices": [{"index": 0, "finish_reason": finish_reason, "logprobs": None, **content}],
            "tunewright": {"digest": body["model"]},
        }
    )


def usage_event(body: Mapping[str, object]) -> bytes:
    fields = {"id": "cmpl-1", "object": "chat.completion.chunk", "created": 1, "model": body["model"]}
    return event({**fields, "choices": [], "usage": usage()})


def event(value: object) -> bytes:
    return f"data: {json.dumps(value)}\n\n".encode()


async def well(request: web.Request, body: dict[str, object]) -> web.StreamResponse:
    return web.json_response(reply_of(body))


async def well_streamed(request: web.Request, body: dict[str, object]) -> web.StreamResponse:
    response = await open_stream(request)
    for text in ("hello", " world"):
        await response.write(chunk_of(body, text))
    await response.write(chunk_of(body, "", "stop"))
    if body.get("stream_options") == {"include_usage": True}:
        await response.write(usage_event(body))
    await response.write(b"data: [DONE]\n\n")
    await response.write_eof()
    return response


async def open_stream(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    return response


async def hang_up(request: web.Request, body: dict[str, object]) -> web.StreamResponse:
    """Die before the first byte, as a killed engine does."""
    assert request.transport is not None
    request.transport.abort()
    raise ConnectionResetError


async def hang_up_midway(request: web.Request, body: dict[str, object]) -> web.StreamResponse:
    response = await open_stream(request)
    await response.write(chunk_of(body, "hello"))
    await asyncio.sleep(0.02)
    return await hang_up(request, body)


def refusing(status: int, code: str, message: str = "no") -> Behaviour:
    async def refuse(request: web.Request, body: dict[str, object]) -> web.StreamResponse:
        error = {"message": message, "type": "invalid_request_error", "param": "messages", "code": code}
        return web.json_response({"error": error}, status=status)

    return refuse


@asynccontextmanager
async def fake_engine(engine: FakeEngine) -> AsyncGenerator[str]:
    """Let it listen; gives its URL."""
    runner = web.AppRunner(engine.app(), handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        engine.held.set()
        await runner.cleanup()
