"""Requests to the engine: sent, tried again while nothing was passed on, and read piece by piece.

Says nothing about clients, traces or models; `completions` and `streaming` do.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from dataclasses import dataclass

import aiohttp
from aiohttp import web
from pydantic import BaseModel, ConfigDict, ValidationError

from tunewright.errors import RequestRefused
from tunewright.server.options import GatewayOptions
from tunewright.server.seams import GatewayRuntime, Upstream

logger = logging.getLogger(__name__)

DONE = b"[DONE]"
"""Data of the last event of a stream."""

INTERRUPTED_CODES = frozenset({"engine_restarting", "engine_interrupted"})
"""Codes of refusals that say that the engine died, not that it answered wrongly."""

CONNECT_TIMEOUT_S = 5.0
READ_ON_S = 1.0
_BROKEN = (aiohttp.ClientError, OSError)
_NOT_READY = frozenset({401, 404, 503})
"""What an engine says that is just being replaced: it knows the token, or the adapter, no more or not yet."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request to the engine."""

    path: str
    digest: str
    """Adapter, or `base`, that the engine must hold."""
    payload: bytes
    is_stream: bool = False


class _Problem(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    message: str
    code: str | int | None = None
    param: str | None = None


class _ErrorReply(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    error: _Problem


class EngineCalls:
    """Sends requests to wherever the runtime says that the engine is."""

    def __init__(
        self, session: aiohttp.ClientSession, runtime: GatewayRuntime, options: GatewayOptions
    ) -> None:
        self._session = session
        self._runtime = runtime
        self._options = options
        self._timeout = aiohttp.ClientTimeout(
            None, sock_connect=CONNECT_TIMEOUT_S, sock_read=options.engine_silence_s
        )

    async def answers(self, call: Call) -> AsyncGenerator[bytes]:
        """Yield the data of each event up to `[DONE]`, or the one whole reply; close it to give up.

        Raises:
            RequestRefused: what the engine refused, word for word; 503 `engine_restarting` when it could not
                be reached, however often tried; 503 `engine_interrupted` when it broke off after the first
                piece; 504 `engine_timeout`.
        """
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + self._options.retry_budget_s
        for pause_s in (*self._options.retry_pauses_s, None):
            upstream = await self._runtime.upstream(call.digest)
            has_begun = False
            try:
                async with aclosing(self._send(call, upstream)) as pieces:
                    async for data in pieces:
                        yield data
                        has_begun = True
                return
            except aiohttp.SocketTimeoutError as error:
                raise _silent(self._options.engine_silence_s) from error
            except _BROKEN as error:
                logger.warning("the connection to the engine broke: %s", type(error).__name__)
                self._runtime.engine_failed(upstream)
                if has_begun:
                    raise _interrupted() from error
            if pause_s is None or loop.time() + pause_s > deadline_s:
                break
            await asyncio.sleep(pause_s)
        raise RequestRefused("the engine is restarting; ask again", 503, "engine_restarting")

    async def _send(self, call: Call, upstream: Upstream) -> AsyncGenerator[bytes]:
        """Send it once. Raises what `_BROKEN` names, or RequestRefused for what the engine refuses."""
        async with self._session.post(
            upstream.url + call.path,
            data=call.payload,
            headers={"Authorization": f"Bearer {upstream.token}", "Content-Type": "application/json"},
            timeout=self._timeout,
        ) as response:
            if response.status in _NOT_READY:
                raise aiohttp.ClientConnectionError("the engine is being replaced")
            if response.status != 200:
                raise _refusal(response.status, await response.read())
            if not call.is_stream:
                yield await response.read()
                return
            async with aclosing(_events(response.content)) as events:
                async for data in events:
                    yield data
                    if data == DONE:
                        await _read_on(response)
                        return
            raise aiohttp.ClientPayloadError("the stream ended before [DONE]")


def engine_session() -> aiohttp.ClientSession:
    """Open a session that keeps connections, stores no cookies and follows no proxy of the environment."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        cookie_jar=aiohttp.DummyCookieJar(),
        skip_auto_headers=("User-Agent", "Accept-Encoding"),
        trust_env=False,
    )


async def _read_on(response: aiohttp.ClientResponse) -> None:
    """Read what follows the last event, so that the connection can be used again; not for long."""
    with suppress(*_BROKEN):
        async with asyncio.timeout(READ_ON_S):
            await response.read()


async def _events(content: aiohttp.StreamReader) -> AsyncGenerator[bytes]:
    """Split server-sent events as they arrive; gives their data, comments are left out."""
    waiting = b""
    async for part in content.iter_any():
        waiting = (waiting + part).replace(b"\r\n", b"\n")
        *events, waiting = waiting.split(b"\n\n")
        for event in events:
            lines = [line[5:].strip() for line in event.split(b"\n") if line.startswith(b"data:")]
            if lines:
                yield b"\n".join(lines)


def _refusal(status: int, body: bytes) -> RequestRefused:
    """Pass on what the engine said; what has no known form is the engine's fault."""
    try:
        problem = _ErrorReply.model_validate_json(body).error
    except ValidationError:
        return RequestRefused(f"the engine answered with status {status}", 502, "engine_failed")
    code = str(problem.code) if problem.code is not None else "engine_refused"
    return RequestRefused(problem.message, status if status >= 400 else 502, code, problem.param)


def _interrupted() -> RequestRefused:
    return RequestRefused(
        "the engine stopped in the middle of the answer; ask again", 503, "engine_interrupted"
    )


def _silent(silence_s: float) -> RequestRefused:
    return RequestRefused(f"the engine said nothing for {silence_s:g} s", 504, "engine_timeout")


CALLS = web.AppKey("calls", EngineCalls)
