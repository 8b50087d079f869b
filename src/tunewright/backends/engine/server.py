"""The engine's process: `python -m tunewright.backends.engine.server --base FOLDER --port 0`.

Speaks HTTP on the loopback interface to whoever knows the bearer token. When it is ready it prints one JSON
line, {"port": n}, with "token" beside it when none was given in the environment.
"""

import argparse
import asyncio
import hmac
import json
import os
import secrets
import shutil
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import orjson
from aiohttp import web

from tunewright.backends.engine.launcher import TOKEN_VARIABLE
from tunewright.backends.engine.lifeline import call_when_orphaned
from tunewright.backends.engine.loading import load_base
from tunewright.backends.engine.scheduler import Scheduler
from tunewright.backends.engine.service import Service
from tunewright.core import openai_replies as replies
from tunewright.core import openai_wire as wire
from tunewright.errors import (
    AdapterRefused,
    BaseMismatch,
    BlobCorrupt,
    RequestRefused,
    TokenError,
    TunewrightError,
)

WRITE_TIMEOUT_S = 60.0
"""A client that takes no byte of a stream for so long is hung up on."""

ALIVE_POLL_S = 0.5
EXIT_DEAD = 70
"""Exit code when the decoding thread died."""

_SERVICE = web.AppKey("service", Service)
_TOKEN = web.AppKey("token", str)
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def build_app(service: Service, token: str) -> web.Application:
    """Put the endpoints together."""
    app = web.Application(middlewares=[_speak_openai, _check_token], client_max_size=wire.MAX_BODY_BYTES)
    app[_SERVICE], app[_TOKEN] = service, token
    app.router.add_get("/health", _health)
    app.router.add_get("/v1/models", _models)
    app.router.add_post("/v1/chat/completions", _chat)
    app.router.add_post("/v1/completions", _text)
    app.router.add_post("/tokenize", _tokenize)
    app.router.add_post("/v1/load_lora_adapter", _load)
    app.router.add_post("/v1/unload_lora_adapter", _unload)
    return app


@web.middleware
async def _speak_openai(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """Turn every error into the OpenAI shape."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        code = "body_too_large" if error.status == 413 else "invalid_request"
        message = f"{request.method} {request.path}: {error.reason}"
        return _json(replies.refusal(RequestRefused(message, error.status, code)), error.status)
    except TunewrightError as error:
        refused = _as_refusal(error)
        return _json(replies.refusal(refused), refused.status)


def _as_refusal(error: TunewrightError) -> RequestRefused:
    """Say which status and code an error has on the wire."""
    if isinstance(error, RequestRefused):
        return error
    if isinstance(error, BaseMismatch):
        return RequestRefused(str(error), 409, "base_mismatch", "lora_path")
    if isinstance(error, AdapterRefused | BlobCorrupt):
        return RequestRefused(str(error), 400, "adapter_refused", "lora_path")
    if isinstance(error, TokenError):
        return RequestRefused(str(error), 400, "template_refused", "messages")
    return RequestRefused(str(error), 500, "engine_failed")


@web.middleware
async def _check_token(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """Let in whoever knows the token."""
    given = request.headers.get("Authorization", "").encode("utf-8", errors="replace")
    if not hmac.compare_digest(given, f"Bearer {request.app[_TOKEN]}".encode()):
        raise RequestRefused("missing or wrong bearer token", 401, "invalid_api_key")
    return await handler(request)


async def _health(request: web.Request) -> web.Response:
    health = request.app[_SERVICE].health()
    return _json(health, 200 if health["status"] == "ok" else 503)


async def _models(request: web.Request) -> web.Response:
    return _json(request.app[_SERVICE].models())


async def _chat(request: web.Request) -> web.StreamResponse:
    return await _complete(request, wire.parse_chat(await request.read()))


async def _text(request: web.Request) -> web.StreamResponse:
    return await _complete(request, wire.parse_text(await request.read()))


async def _complete(request: web.Request, asked: wire.TextRequest) -> web.StreamResponse:
    service = request.app[_SERVICE]
    return (
        await _stream(request, service, asked) if asked.is_streaming else _json(await service.complete(asked))
    )


async def _stream(request: web.Request, service: Service, asked: wire.TextRequest) -> web.StreamResponse:
    """Send server-sent events; whatever is refused before the first one is an ordinary error reply."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
    events = service.stream(asked)
    try:
        async for event in events:
            if not response.prepared:
                await response.prepare(request)
            await _write(response, b"data: " + orjson.dumps(event) + b"\n\n")
    except RequestRefused as refused:
        if not response.prepared:
            raise
        await _write(response, b"data: " + orjson.dumps(replies.refusal(refused)) + b"\n\n")
    finally:
        await events.aclose()
    await _write(response, replies.DONE)
    await response.write_eof()
    return response


async def _write(response: web.StreamResponse, data: bytes) -> None:
    await asyncio.wait_for(response.write(data), WRITE_TIMEOUT_S)


async def _tokenize(request: web.Request) -> web.Response:
    prompt, opens = wire.parse_tokenize(await request.read())
    return _json(request.app[_SERVICE].tokenize(prompt, add_generation_prompt=opens))


async def _load(request: web.Request) -> web.Response:
    return _json(await request.app[_SERVICE].load(*wire.parse_load(await request.read())))


async def _unload(request: web.Request) -> web.Response:
    return _json(request.app[_SERVICE].unload(wire.parse_unload(await request.read())))


def _json(value: dict[str, object], status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(value), status=status, content_type="application/json")


def main() -> None:
    """Load the base, listen, say so, and serve until told to stop."""
    options = _options()
    if options.parent:
        call_when_orphaned(options.parent, lambda: _leave(options.scratch))
    token = os.environ.pop(TOKEN_VARIABLE, None)
    try:
        sys.exit(asyncio.run(_serve(options, token)))
    except (TunewrightError, OSError, ValueError) as error:  # what a wrong base or port raises
        sys.exit(f"{type(error).__name__}: {error}")


def _leave(scratch: Path | None) -> None:
    """End at once; take along what whoever started us can no longer clear away. Safe to call twice."""
    if scratch is not None:
        shutil.rmtree(scratch, ignore_errors=True)
    os._exit(0)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", type=Path, required=True, help="folder of the base model")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--max-rows", type=int, default=32, help="answers decoded at once")
    parser.add_argument("--cache-mb", type=int, default=1024, help="memory for keys and values")
    parser.add_argument("--parent", type=int, default=0, help="process id of whoever ends with us; 0: nobody")
    parser.add_argument("--scratch", type=Path, help="folder to remove when --parent is gone")
    return parser.parse_args()


async def _serve(options: argparse.Namespace, token: str | None) -> int:
    base = load_base(
        options.base, threads=options.threads, dtype=options.dtype, cache_bytes=options.cache_mb * 2**20
    )
    scheduler = Scheduler(base.decoder, max_rows=options.max_rows)
    secret = token or secrets.token_urlsafe(32)
    app = build_app(Service(base.served, base.adapters, scheduler), secret)
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=1.0)
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", options.port)
        await site.start()
        scheduler.start()
        _say_ready(runner.addresses[0][1], None if token else secret)
        return await _until(stopped, scheduler)
    finally:
        await asyncio.to_thread(scheduler.stop)
        await runner.cleanup()


def _say_ready(port: int, token: str | None) -> None:
    ready: dict[str, object] = {"port": port} if token is None else {"port": port, "token": token}
    sys.stdout.write(json.dumps(ready) + "\n")
    sys.stdout.flush()
    os.dup2(2, 1)  # nobody reads standard output from here on, so that a library that prints must not fill it


async def _until(stopped: asyncio.Event, scheduler: Scheduler) -> int:
    """Wait for a signal, or for the decoding thread to die; return the exit code."""
    while scheduler.load().is_alive:
        try:
            await asyncio.wait_for(stopped.wait(), ALIVE_POLL_S)
        except TimeoutError:
            continue
        return 0
    return EXIT_DEAD


if __name__ == "__main__":
    main()
