"""The gateway's port: taken before anything is loaded, answered on when all is ready, closed in order."""

import asyncio
import logging
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import orjson
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from tunewright.core import openai_replies as replies
from tunewright.errors import SettingsError
from tunewright.server.gateway import FRONT, SPOKEN

BACKLOG = 512
KEEP_ALIVE_S = 75.0
LINGER_S = 2.0
"""For reading on, into nothing, after a refusal, so that the client gets to see it."""

MAX_HEADER_BYTES = 16 * 1024
SHUTDOWN_S = 1.0
"""For answers in the making when `listening` is left; `serve` has waited for them before."""


def take_port(host: str, port: int) -> socket.socket:
    """Take a port, 0 for a free one. Raises SettingsError when it is in use or no address of this machine."""
    try:
        family, kind, number, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError) as error:
        raise SettingsError(
            f"host {host!r} cannot be resolved; expected an address of this machine, such as 127.0.0.1"
        ) from error
    taken = socket.socket(family, kind, number)
    try:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(address)
        taken.listen(BACKLOG)
    except OSError as error:
        taken.close()
        raise SettingsError(
            f"port {port} on {host} cannot be taken: {(error.strerror or str(error)).lower()}. "
            "Choose another with --port, or --port 0 for a free one."
        ) from error
    return taken


@asynccontextmanager
async def listening(app: web.Application, taken: socket.socket) -> AsyncGenerator[web.BaseSite]:
    """Answer on a port until the block is left; gives the site, whose `stop` accepts no new connection."""
    runner = web.AppRunner(
        app,
        handler_cancellation=True,
        access_log=None,
        logger=_quiet_logger(),
        auto_decompress=False,
        keepalive_timeout=KEEP_ALIVE_S,
        lingering_time=LINGER_S,
        max_line_size=MAX_HEADER_BYTES,
        max_field_size=MAX_HEADER_BYTES,
        shutdown_timeout=SHUTDOWN_S,
    )
    await runner.setup()
    guard: asyncio.Task[None] | None = None
    try:
        site = web.SockSite(runner, taken, backlog=BACKLOG)
        await site.start()
        guard = asyncio.create_task(_close_slow_heads(app, runner))
        yield site
    finally:
        if guard is not None:
            guard.cancel()
        await runner.cleanup()


async def _close_slow_heads(app: web.Application, runner: web.AppRunner) -> None:
    """Close connections that have not sent a whole first request head in time."""
    timeout_s, spoken = app[FRONT].options.header_timeout_s, app[SPOKEN]
    loop, first_seen_s = asyncio.get_running_loop(), dict[web.RequestHandler, float]()
    while True:
        await asyncio.sleep(min(1.0, timeout_s / 4))
        connections = set(runner.server.connections if runner.server else ())
        spoken &= connections
        silent = connections - spoken
        first_seen_s = {one: first_seen_s.get(one, loop.time()) for one in silent}
        for connection, since_s in first_seen_s.items():
            if loop.time() - since_s > timeout_s and connection.transport is not None:
                _refuse_slow_head(connection.transport, timeout_s)


def _refuse_slow_head(transport: asyncio.Transport, timeout_s: float) -> None:
    message = f"the request's head did not arrive within {timeout_s:g} s"
    body = orjson.dumps(replies.failure(message, kind="invalid_request_error", code="head_too_slow"))
    head = f"HTTP/1.1 408 Request Timeout\r\nContent-Length: {len(body)}\r\nConnection: close\r\n"
    transport.write(head.encode() + b"Content-Type: application/json\r\n\r\n" + body)
    transport.close()


def _quiet_logger() -> logging.Logger:
    """Make the HTTP library say what failed here, never what was sent, and nothing of malformed requests."""
    logger = logging.getLogger(f"{__name__}.http")
    if not logger.filters:
        logger.addFilter(_is_ours)
    return logger


def _is_ours(record: logging.LogRecord) -> bool:
    if record.exc_info and record.exc_info[0] is not None:
        if issubclass(record.exc_info[0], HttpProcessingError | ConnectionError):
            return False  # the sender was told, or is gone; a line each would let anybody fill the log
        record.msg, record.args = "a request failed: %s", (record.exc_info[0].__name__,)
        record.exc_info = record.exc_text = None
    return True
