"""Server-sent events: each is passed on the moment it comes, under the name that was asked for."""

import asyncio
from collections.abc import AsyncGenerator

import orjson
from aiohttp import web

from tunewright.core import openai_replies as replies
from tunewright.errors import RequestRefused
from tunewright.server.engine_calls import DONE
from tunewright.server.telling import load_answer, told_headers, told_of
from tunewright.server.watch import Watch

_HEADERS = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-cache",
    "X-Accel-Buffering": "no",  # a proxy in front must not hold events back
}


async def send_stream(
    request: web.Request,
    answers: AsyncGenerator[bytes],
    watch: Watch,
    *,
    wants_usage: bool,
    timeout_s: float,
) -> web.StreamResponse:
    """Pass a stream on; what breaks after the first event ends it with an error event, without `[DONE]`.

    Raises:
        RequestRefused: what went wrong before the first event, for an ordinary error reply.
        ConnectionError: the client is gone, or took no byte for `timeout_s`.
    """
    response = web.StreamResponse(headers=_HEADERS | told_headers(watch.ticket))
    pipe = _Pipe(request, response, timeout_s)
    try:
        async for data in answers:
            if data == DONE:
                watch.complete()
                await pipe.end(replies.DONE)
                continue
            event = _event(data, watch, is_first=not response.prepared, wants_usage=wants_usage)
            if event is not None:
                await pipe.send(event)
    except RequestRefused as refused:
        if not response.prepared:
            raise
        watch.refuse(refused)
        await pipe.end(b"data: " + orjson.dumps(replies.refusal(refused)) + b"\n\n")
    return response


def _event(data: bytes, watch: Watch, *, is_first: bool, wants_usage: bool) -> bytes | None:
    """Rewrite one event; None for counts that only we asked for."""
    fields = load_answer(data)
    seen = watch.see(fields)
    if not wants_usage:
        if seen.is_usage_only:
            return None
        fields.pop("usage", None)
    fields["model"] = watch.ticket.trace.asked
    fields["tunewright"] = told_of(watch.ticket, seen) if is_first else {"digest": seen.digest}
    return b"data: " + orjson.dumps(fields) + b"\n\n"


class _Pipe:
    """Writes to a client that may be slow, or gone."""

    def __init__(self, request: web.Request, response: web.StreamResponse, timeout_s: float) -> None:
        self._request = request
        self._response = response
        self._timeout_s = timeout_s

    async def send(self, data: bytes) -> None:
        if not self._response.prepared:
            await self._response.prepare(self._request)
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._response.write(data)
        except TimeoutError as error:
            if self._request.transport is not None:
                self._request.transport.abort()  # closing would wait for what the client does not take
            raise ConnectionResetError(f"the client took nothing for {self._timeout_s:g} s") from error

    async def end(self, last: bytes) -> None:
        await self.send(last)
        await self._response.write_eof()
