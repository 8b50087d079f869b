"""A gateway runtime on fakes: registered models, an engine that can die, a clock that jumps."""

import asyncio
import dataclasses
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from tests.fakes import FakeBases, FakeVault, InMemoryRecords, fake_ports
from tests.live_world import a_policy, live
from tests.registry_world import RECIPE, TunedEngine, make_world

from tunewright.deploy.rollout import start_rollout
from tunewright.errors import EngineFailed, StorageError
from tunewright.live_ports import Live
from tunewright.pipeline.key_verbs import KeyVerbs
from tunewright.pipeline.rollout_verbs import RolloutVerbs
from tunewright.ports import Ports
from tunewright.records import ModelVersion, Record, Rollout
from tunewright.registry.register import register
from tunewright.server.conductor import Pace
from tunewright.server.engine_room import Timing
from tunewright.server.engine_wire import Health
from tunewright.server.opening import RuntimeOptions
from tunewright.server.runtime import Runtime
from tunewright.server.seams import Asked, Caller, Finish, Upstream
from tunewright.server.shadow import ShadowLimits
from tunewright.values import Ref

CALLER = Caller("0" * 12, "caller", "default", "train")
VIEWER = Caller("1" * 12, "viewer", "default", "train")
QUICK = RuntimeOptions(
    keep_unwanted_s=0.0,
    timing=Timing(poll_s=0.01, wait_s=0.5, first_pause_s=0.001, max_pause_s=0.002),
    pace=Pace(registry_s=0.01, judge_s=0.01, tidy_s=0.05),
    shadow=ShadowLimits(pause_s=0.001),
)


class MortalEngine(TunedEngine):
    """Has an address; says nothing any more once it is dead."""

    def __init__(self, number: int, house: "MortalEngines") -> None:
        super().__init__()
        self.url = f"http://127.0.0.1:{number}"
        self.token = "secret"
        self.is_dead = False
        self._house = house

    def load_adapter(self, digest, files):
        self._live()
        if digest in self._house.unloadable:
            raise EngineFailed("the engine refused the adapter")
        super().load_adapter(digest, files)

    def logprobs(self, rows, model):
        self._live()
        shift = -1.0 if model in self._house.altered else 0.0
        return [[0.0] + [-1.0 + shift] * (len(row) - 1) for row in rows]

    def tokenize(self, messages, *, add_generation_prompt):
        self._live()
        return super().tokenize(messages, add_generation_prompt=add_generation_prompt)

    def _live(self) -> None:
        if self.is_dead:
            raise EngineFailed("It ended with code -9. Its last words: out of memory")


class FragileRecords(InMemoryRecords):
    """Set `broken` to make every event fail as a full disk does."""

    broken: StorageError | None = None

    def append(self, event, *, heads=None):
        if self.broken is not None:
            raise self.broken
        return super().append(event, heads=heads)


class MortalEngines:
    """Starts engines, remembers them all; new ones may be dead from the start."""

    def __init__(self) -> None:
        self.engines: list[MortalEngine] = []
        self.altered: set[str] = set()
        """Digests whose probes are not repeated."""
        self.unloadable: set[str] = set()
        self.are_stillborn = False

    @contextmanager
    def start(self, base: Path):
        engine = MortalEngine(len(self.engines) + 1, self)
        if self.are_stillborn:
            raise EngineFailed("the engine did not start. Its last words: no memory")
        self.engines.append(engine)
        yield engine
        engine.is_dead = True

    @property
    def engine(self) -> MortalEngine:
        return self.engines[-1]


@dataclass
class FakeWire:
    """Sees whether a MortalEngine lives; answers mirrored requests with `answer`."""

    engines: MortalEngines
    answer: Callable[[str], Finish] = lambda digest: Finish("ok", text="tuned", digest=digest, num_tokens=3)
    unloaded: list[str] = field(default_factory=list)
    mirrored: list[bytes] = field(default_factory=list)

    async def health(self, upstream: Upstream) -> Health:
        found = [engine for engine in self.engines.engines if engine.url == upstream.url]
        return "dead" if found[0].is_dead else "ok"

    async def unload(self, upstream: Upstream, digest: str) -> None:
        self.unloaded.append(digest)

    async def mirror(self, upstream: Upstream, path: str, body: bytes) -> Finish:
        self.mirrored.append(body)
        await asyncio.sleep(0)
        return self.answer(body.split(b'"model":"')[1][:64].decode())


@dataclass(frozen=True)
class Places:
    workspace: Path


@dataclass(frozen=True)
class ServedWorld:
    """What the runtime takes an App for, and the engines behind it."""

    settings: Places
    ports: Ports
    live: Live
    engines: MortalEngines
    wire: FakeWire

    @property
    def rollouts(self) -> RolloutVerbs:
        return RolloutVerbs(self.ports, lambda: self.live, self.find)

    @property
    def keys(self) -> KeyVerbs:
        return KeyVerbs(self.ports)

    def find(self, kind: str, name: str) -> Record:
        return self.ports.records.get(kind, Ref.parse(name))

    def model(self, seed: int = 0) -> ModelVersion:
        """Register one more version of `shop`; the first becomes champion."""
        ports = dataclasses.replace(self.ports, engines=_OneEngine(self.engines))
        world = make_world(ports, seed=seed, data=str(seed))
        return register(RECIPE, world.report, ports)

    def rollout(self, **policy: object) -> Rollout:
        """Start a rollout of the newest version against the champion."""
        champion = self.ports.records.alias("shop", "champion").target
        newest = self.ports.records.latest("model", "shop")
        incumbent = self.ports.records.get("model", champion)
        assert isinstance(newest, ModelVersion) and isinstance(incumbent, ModelVersion)
        settings = {"shadow_requests": 5, "ramp": (0.5, 1.0), "min_units": 20, "window_s": 1.0}
        started, _ = start_rollout(newest, incumbent, a_policy(**settings | policy), self.ports)
        return started

    def runtime(self, options: RuntimeOptions = QUICK) -> Runtime:
        return Runtime(self, options, wire=self.wire)


class _OneEngine:
    """Registers with an engine that nobody kills."""

    def __init__(self, engines: MortalEngines) -> None:
        self._engines = engines

    @contextmanager
    def start(self, base: Path):
        yield MortalEngine(0, MortalEngines())


def a_served_world(tmp_path: Path) -> ServedWorld:
    engines = MortalEngines()
    ports = fake_ports(tmp_path)
    records = FragileRecords(ports.clock)
    ports = dataclasses.replace(
        ports, engines=engines, bases=FakeBases(), records=records, vault=FakeVault(records)
    )
    return ServedWorld(Places(tmp_path / "ws"), ports, live(tmp_path), engines, FakeWire(engines))


def asked(model: str = "shop", unit: str | None = None, **changes: object) -> Asked:
    fields = {
        "model": model,
        "unit": unit,
        "consent": "review",
        "is_stream": False,
        "messages": ({"role": "user", "content": "order 1"},),
        "body": b'{"model":"shop","messages":[{"role":"user","content":"order 1"}],"stream":true}',
        "path": "/v1/chat/completions",
    }
    return Asked(**{**fields, **changes})


def well(digest: str | None = None, **changes: object) -> Finish:
    fields = {"text": "tuned", "digest": digest, "finish_reason": "stop", "num_tokens": 3, "latency_s": 0.1}
    return Finish("ok", **{**fields, **changes})


@asynccontextmanager
async def running(world: ServedWorld, options: RuntimeOptions = QUICK) -> AsyncGenerator[Runtime]:
    runtime = world.runtime(options)
    await runtime.start()
    try:
        yield runtime
    finally:
        await runtime.stop()


async def until(claim: Callable[[], bool], timeout_s: float = 15.0) -> None:
    """Wait until something holds; fail when it does not in time."""
    ends_s = time.monotonic() + timeout_s
    while not claim():
        assert time.monotonic() < ends_s, "it did not happen in time"
        await asyncio.sleep(0.005)


def serve_one(runtime: Runtime, unit: str | None = None, model: str = "shop", **changes: object):
    """Admit a request and answer it well at once; gives its trace as opened."""
    ticket = runtime.admit(asked(model, unit), CALLER)
    runtime.finish(ticket, well(ticket.trace.digest, **changes))
    return ticket.trace


def jump(world: ServedWorld, seconds: float) -> None:
    world.ports.clock.now += timedelta(seconds=seconds)
