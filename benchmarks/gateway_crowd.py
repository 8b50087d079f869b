"""Clients that go on asking a gateway in this process while something else happens to it."""

import asyncio
import json
import sys
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tunewright.app import App
from tunewright.server.gateway import build_gateway
from tunewright.server.listening import listening, take_port
from tunewright.server.options import GatewayOptions
from tunewright.server.runtime import Runtime
from wire_client import CHAT, Connections, post

CLIENTS = 4
"""Few enough that the gateway still mirrors to a shadow."""
WAIT_S = 60.0


@dataclass
class Crowd:
    """Clients that go on asking."""

    asked: int = 0
    failed: int = 0
    of_digest: dict[str, int] = field(default_factory=dict[str, int])
    is_over: bool = False


@asynccontextmanager
async def asking(app: App, runtime: Runtime, name: str, crowd: Crowd) -> AsyncGenerator[None]:
    """Keep clients asking over HTTP while the block runs."""
    secret = (await asyncio.to_thread(app.keys.add, "caller", "benchmark", "none")).secret
    await until_holds(lambda: runtime.caller(secret) is not None, "the key to be known")
    taken = take_port("127.0.0.1", 0)
    async with listening(build_gateway(runtime, GatewayOptions()), taken):
        port = taken.getsockname()[1]
        clients = [asyncio.create_task(_ask_on(port, secret, name, crowd)) for _ in range(CLIENTS)]
        try:
            yield
        finally:
            crowd.is_over = True
            await asyncio.gather(*clients)
    taken.close()


async def _ask_on(port: int, secret: str, name: str, crowd: Crowd) -> None:
    connections = Connections(port)
    while not crowd.is_over:
        crowd.asked += 1
        fields: dict[str, object] = {
            "model": name,
            "messages": [{"role": "user", "content": "Where is my order?"}],
            "max_tokens": 24,
            "user": f"user-{crowd.asked}",
        }
        answer = await connections.ask(post(CHAT, secret, fields))
        if answer.status != 200:
            crowd.failed += 1
            continue
        digest = json.loads(answer.body)["tunewright"]["digest"]
        crowd.of_digest[digest] = crowd.of_digest.get(digest, 0) + 1
    connections.close()


async def until_holds(holds: Callable[[], bool], what: str) -> None:
    """Look every 10 ms until something holds; end the benchmark when it never does."""
    deadline_s = time.monotonic() + WAIT_S
    while not holds():
        if time.monotonic() > deadline_s:
            sys.exit(f"waited {WAIT_S:g} s for {what} in vain")
        await asyncio.sleep(0.01)
