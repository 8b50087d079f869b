"""A gateway on a fake runtime and a fake engine: real HTTP on both sides, no model anywhere.

`gateway_world(...)` is an async context manager; tests run it inside `asyncio.run`.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import aiohttp
from tests.fake_engine import Behaviour, FakeEngine, fake_engine
from tests.fakes import START

from tunewright.errors import RequestRefused
from tunewright.records import Feedback, RolloutArm, Trace
from tunewright.server.gateway import build_gateway
from tunewright.server.listening import listening, take_port
from tunewright.server.options import GatewayOptions
from tunewright.server.seams import (
    Asked,
    Caller,
    Counts,
    FeedbackDraft,
    Finish,
    Readiness,
    ServedModel,
    Ticket,
    Upstream,
)
from tunewright.values import Ref

DIGEST = "d" * 64
ENGINE_TOKEN = "engine-token"
KEYS: Mapping[str, Caller] = {
    "caller-key": Caller("k1", "caller", "acme", "train"),
    "shy-key": Caller("k2", "caller", "acme", "none"),
    "viewer-key": Caller("k3", "viewer", "acme", "review"),
}


@dataclass
class FakeRuntime:
    """One model, `shop`, at `shop@2`; remembers everything it is told."""

    upstream_urls: Sequence[str] = ()
    """Given in turn, the last one again and again."""
    arm: RolloutArm | None = "candidate"
    note: str | None = None
    refuses_upstream: bool = False
    admitted: list[Ticket] = field(default_factory=list)
    finished: list[tuple[Ticket, Finish]] = field(default_factory=list)
    failures: list[Upstream] = field(default_factory=list)
    feedback: list[FeedbackDraft] = field(default_factory=list)
    state: Readiness = field(default_factory=lambda: Readiness(is_ready=True))
    figures: Counts = field(default_factory=Counts)
    feedback_error: RequestRefused | None = None
    asked_upstream: list[str] = field(default_factory=list)

    def caller(self, secret: str) -> Caller | None:
        return KEYS.get(secret)

    def models(self, caller: Caller) -> Sequence[ServedModel]:
        return [
            ServedModel("base", "base", None, "the base without adapter"),
            ServedModel("shop", DIGEST, Ref("shop", 2)),
        ]

    def admit(self, asked: Asked, caller: Caller) -> Ticket:
        if asked.model not in ("shop", "base"):
            raise RequestRefused(f"no model {asked.model!r}; expected shop", 404, "model_not_found", "model")
        is_base, number = asked.model == "base", len(self.admitted) + 1
        trace = Trace(
            id=f"tr_{number:032x}",
            seq=number,
            at=START,
            tenant=caller.tenant,
            unit="0" * 32,
            asked=asked.model,
            name=None if is_base else "shop",
            model=None if is_base else Ref("shop", 2),
            digest="base" if is_base else DIGEST,
            arm=None if is_base else self.arm,
            consent=asked.consent,
            retain_until=START + timedelta(days=30),
        )
        ticket = Ticket(trace, asked, f"token-{number}", self.note)
        self.admitted.append(ticket)
        return ticket

    async def upstream(self, digest: str) -> Upstream:
        if self.refuses_upstream:
            raise RequestRefused("the engine is restarting", 503, "engine_restarting")
        index = min(len(self.asked_upstream), len(self.upstream_urls) - 1)
        self.asked_upstream.append(digest)
        return Upstream(self.upstream_urls[index], ENGINE_TOKEN)

    def engine_failed(self, upstream: Upstream) -> None:
        self.failures.append(upstream)

    def finish(self, ticket: Ticket, finish: Finish) -> None:
        self.finished.append((ticket, finish))

    async def give_feedback(self, draft: FeedbackDraft, caller: Caller) -> Feedback:
        if self.feedback_error is not None:
            raise self.feedback_error
        self.feedback.append(draft)
        return Feedback(
            id=f"fb_{len(self.feedback):032x}",
            at=START,
            trace=draft.trace,
            tenant=caller.tenant,
            author="0" * 32,
            kind=draft.kind,
        )

    def readiness(self) -> Readiness:
        return self.state

    def counts(self) -> Counts:
        return self.figures

    @property
    def finish_of_one(self) -> Finish:
        """How the only request went; each admitted one was finished exactly once."""
        assert [ticket for ticket, _ in self.finished] == self.admitted
        (_, finish) = self.finished[-1]
        return finish


@dataclass
class World:
    """A gateway that listens, and what is around it."""

    runtime: FakeRuntime
    engine: FakeEngine
    url: str
    port: int
    client: aiohttp.ClientSession

    async def post(
        self, path: str, body: object, key: str | None = "caller-key", **headers: str
    ) -> tuple[int, dict[str, object], Mapping[str, str]]:
        """Send JSON (or raw bytes); return status, reply and headers."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if key is not None:
            sent["Authorization"] = f"Bearer {key}"
        async with self.client.post(self.url + path, data=data, headers=sent) as response:
            return response.status, json.loads(await response.read()), response.headers

    async def chat(self, **fields: object) -> tuple[int, dict[str, object], Mapping[str, str]]:
        return await self.post("/v1/chat/completions", chat_body(**fields))

    async def stream(self, **fields: object) -> tuple[list[dict[str, object]], bool, Mapping[str, str]]:
        """Read a whole stream; return its events, whether it ended with [DONE], and the headers."""
        headers = {"Authorization": "Bearer caller-key"}
        body = chat_body(stream=True, **fields)
        async with self.client.post(
            self.url + "/v1/chat/completions", json=body, headers=headers
        ) as response:
            lines = [line[6:] for line in (await response.read()).decode().split("\n\n") if line]
            events = [json.loads(line) for line in lines if line != "[DONE]"]
            return events, lines[-1] == "[DONE]", response.headers

    async def get(
        self, path: str, key: str | None = "caller-key"
    ) -> tuple[int, dict[str, object], Mapping[str, str]]:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        async with self.client.get(self.url + path, headers=headers) as response:
            return response.status, json.loads(await response.read()), response.headers


def chat_body(**fields: object) -> dict[str, object]:
    return {"model": "shop", "messages": [{"role": "user", "content": "hi"}], **fields}


@asynccontextmanager
async def gateway_world(
    *behaviours: Behaviour,
    options: GatewayOptions | None = None,
    runtime: FakeRuntime | None = None,
    dead_first: bool = False,
) -> AsyncGenerator[World]:
    """Start fake engine and gateway; `dead_first` gives an address where nobody listens for the first try."""
    engine, runtime = FakeEngine(list(behaviours)), runtime or FakeRuntime()
    chosen = options or GatewayOptions(retry_pauses_s=(0.0, 0.0))
    async with fake_engine(engine) as engine_url, aiohttp.ClientSession() as client:
        runtime.upstream_urls = ["http://127.0.0.1:9", engine_url] if dead_first else [engine_url]
        taken = take_port("127.0.0.1", 0)
        port = taken.getsockname()[1]
        async with listening(build_gateway(runtime, chosen), taken):
            yield World(runtime, engine, f"http://127.0.0.1:{port}", port, client)


async def eventually(condition: Callable[[], bool], seconds: float = 3.0) -> None:
    """Wait until something holds; fail when it never does."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


def play(
    scene: Callable[[World], Awaitable[None]],
    *behaviours: Behaviour,
    options: GatewayOptions | None = None,
    runtime: FakeRuntime | None = None,
    dead_first: bool = False,
) -> None:
    """Run one scene on a fresh gateway."""

    async def run() -> None:
        world = gateway_world(*behaviours, options=options, runtime=runtime, dead_first=dead_first)
        async with world as made:
            await scene(made)

    asyncio.run(run())
