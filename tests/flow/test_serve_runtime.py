"""The runtime on a real engine process: it answers, is killed outright, and comes back."""

import asyncio
import json
import os
import signal
from dataclasses import replace

import aiohttp
from tests.fakes import SilentProgress
from tests.runtime_world import CALLER, asked

from tunewright.app import open_app
from tunewright.server.engine_room import Timing
from tunewright.server.opening import RuntimeOptions
from tunewright.server.runtime import Runtime
from tunewright.server.seams import Finish
from tunewright.settings import load_settings

CHAT = {"model": "base", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}


async def health(upstream):
    headers = {"Authorization": f"Bearer {upstream.token}"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.get(upstream.url + "/health") as reply,
    ):
        return await reply.json()


async def chat(runtime):
    """Ask once as the gateway does; gives the reply."""
    ticket = runtime.admit(asked("base", body=json.dumps(CHAT).encode()), CALLER)
    upstream = await runtime.upstream(ticket.trace.digest)
    headers = {"Authorization": f"Bearer {upstream.token}"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.post(upstream.url + "/v1/chat/completions", json=CHAT) as reply,
    ):
        body = await reply.json()
    text = body["choices"][0]["message"]["content"]
    runtime.finish(ticket, Finish("ok", text=text, digest=body["tunewright"]["digest"], num_tokens=4))
    return body


async def scene(app):
    runtime = Runtime(app, RuntimeOptions(timing=Timing(wait_s=120.0)))
    await runtime.start()
    try:
        first = await chat(runtime)
        before = await runtime.upstream("base")
        os.kill((await health(before))["pid"], signal.SIGKILL)
        runtime.engine_failed(before)
        again = await chat(runtime)
        assert (await runtime.upstream("base")).url != before.url
        assert runtime.counts().engine_restarts == 1
        assert runtime.readiness().is_ready
    finally:
        await runtime.stop()
    return first, again


def test_an_engine_killed_outright_comes_back_and_no_trace_is_lost(tmp_path):
    environment = {"TUNEWRIGHT_CONFIG": str(tmp_path / "config"), "TUNEWRIGHT_THREADS": "1"}
    settings = replace(load_settings(environment, workspace=tmp_path / "ws"), accelerator={})
    with open_app(settings, SilentProgress()) as app:
        first, again = asyncio.run(asyncio.wait_for(scene(app), 120))
        assert first["tunewright"]["digest"] == again["tunewright"]["digest"] == "base"
        traces = app.live.traces.newest()
        assert [(trace.status, trace.digest) for trace in traces] == [("ok", "base")] * 2
        assert app.live.traces.text(traces[0].id, app.ports.clock()) is not None
