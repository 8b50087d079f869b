"""POST /v1/chat/completions and /v1/completions: check, admit, ask the engine, answer."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

import orjson
from aiohttp import web

from tunewright.server.bodies import Completion, CompletionPath, read_body, read_completion
from tunewright.server.engine_calls import CALLS, Call
from tunewright.server.front_desk import FrontDesk
from tunewright.server.seams import Caller, Ticket
from tunewright.server.streaming import send_stream
from tunewright.server.telling import load_answer, told_headers, told_of
from tunewright.server.watch import Watch, watched
from tunewright.values import Json


async def chat(request: web.Request, desk: FrontDesk, caller: Caller) -> web.StreamResponse:
    """Answer a chat."""
    return await _complete(request, desk, caller, "/v1/chat/completions")


async def text(request: web.Request, desk: FrontDesk, caller: Caller) -> web.StreamResponse:
    """Continue a text, or score one."""
    return await _complete(request, desk, caller, "/v1/completions")


async def _complete(
    request: web.Request, desk: FrontDesk, caller: Caller, path: CompletionPath
) -> web.StreamResponse:
    with desk.slot():
        body = await read_body(request, desk.options.body_timeout_s)
        completion = read_completion(path, body, request.headers, caller.consent)
        with watched(desk.runtime, desk.meters, completion.asked, caller, request) as watch:
            call = _call(completion, watch.ticket)
            async with aclosing(request.app[CALLS].answers(call)) as answers:
                if call.is_stream:
                    wants_usage = completion.request.wants_usage_chunk
                    return await send_stream(
                        request,
                        answers,
                        watch,
                        wants_usage=wants_usage,
                        timeout_s=desk.options.write_timeout_s,
                    )
                return await _reply(answers, watch)


def _call(completion: Completion, ticket: Ticket) -> Call:
    """Forward everything as it came, but for the model; counts are always asked for."""
    digest, is_stream = ticket.trace.digest, completion.request.is_streaming
    fields: dict[str, Json] = {**completion.fields, "model": digest}
    if is_stream:
        options = fields.get("stream_options")
        fields["stream_options"] = {**(options if isinstance(options, dict) else {}), "include_usage": True}
    return Call(completion.asked.path, digest, orjson.dumps(fields), is_stream)


async def _reply(answers: AsyncGenerator[bytes], watch: Watch) -> web.Response:
    fields = load_answer(await anext(answers))
    seen = watch.see(fields)
    watch.complete()
    fields["model"] = watch.ticket.trace.asked
    fields["tunewright"] = told_of(watch.ticket, seen)
    headers = told_headers(watch.ticket)
    return web.Response(body=orjson.dumps(fields), content_type="application/json", headers=headers)
