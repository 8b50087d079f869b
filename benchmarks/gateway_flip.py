"""How soon requests follow an alias that moved, here and from another process, and a rollout rolled back."""

import asyncio
import json
import random
import statistics
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from bench_processes import HERE, copied, machine, quantile
from gateway_crowd import WAIT_S, Crowd, asking, until_holds
from tunewright.app import App, open_app
from tunewright.cli.progress import PlainProgress
from tunewright.deploy.policy import default_policy
from tunewright.errors import UsageError
from tunewright.live_ports import Live
from tunewright.pipeline.rollout_start import start_with
from tunewright.pipeline.rollout_verbs import RolloutVerbs
from tunewright.ports import Ports
from tunewright.records import ModelVersion, Rollout
from tunewright.server.runtime import Runtime
from tunewright.server.seams import Asked, Caller, Finish
from tunewright.settings import Settings, load_settings
from wire_client import CHAT

TARGET_HERE_S, TARGET_POLLED_S, TARGET_ZERO_S = 0.050, 1.0, 1.0
CHAMPION = "champion"
AFTER_S = 1.0
PROBE_S = 0.001


@dataclass(frozen=True)
class Flips:
    """How often each is done."""

    here: int = 200
    polled: int = 60
    rollbacks: int = 5


@dataclass(frozen=True, slots=True)
class Served:
    """The workspace as the runtime needs it."""

    settings: Settings
    ports: Ports
    live: Live
    rollouts: RolloutVerbs


@dataclass(frozen=True)
class Measured:
    """Everything measured; seconds."""

    machine: str
    move_s: list[float]
    """The move itself: checks, signature, transaction."""
    here_s: list[float]
    """From the end of the move to the first request that follows it, in this process."""
    polled_s: list[float]
    """The same, moved in another process."""
    zero_s: list[float]
    """From the call of `roll_back` to the last request admitted to the candidate."""
    candidate_requests: int
    requests: int
    failed: int
    """Of the requests in flight around the roll backs, the incumbent's included."""

    @property
    def is_met(self) -> bool:
        """Whether every target is kept."""
        return (
            quantile(self.here_s, 0.99) < TARGET_HERE_S
            and quantile(self.polled_s, 0.99) < TARGET_POLLED_S
            and max(self.zero_s) < TARGET_ZERO_S
            and self.failed == 0
        )

    def to_json(self) -> Mapping[str, object]:
        """Dump to plain JSON values."""
        return asdict(self) | {"is_met": self.is_met}

    def text(self) -> str:
        """Print line by line."""
        return "\n".join(
            [
                f"alias flips with the real engine; {self.machine}; milliseconds",
                _line("move of the alias itself (transaction)", self.move_s),
                _line("then, to the first request that follows; target p99 < 50", self.here_s),
                _line("the same, moved in another process; target p99 < 1,000", self.polled_s),
                _line("roll back to the candidate's last request; target < 1,000", self.zero_s),
                f"around these: {self.requests} requests, {self.candidate_requests} to the candidate, "
                f"{self.failed} failed (target 0)",
                f"all targets: {'met' if self.is_met else 'MISSED'}",
            ]
        )


class Prober:
    """Sees where a request for a name would go now."""

    def __init__(self, runtime: Runtime, name: str) -> None:
        self._runtime = runtime
        self._caller = Caller("benchmark", "caller", "benchmark", "none")
        self._asked = Asked(name, None, "none", False, (), b"", CHAT)

    def digest(self) -> str:
        """Admit a request and end it at once."""
        ticket = self._runtime.admit(self._asked, self._caller)
        self._runtime.finish(ticket, Finish("ok", text="-", digest=ticket.trace.digest))
        return ticket.trace.digest

    async def until(self, digest: str) -> float:
        """Wait until requests go there; gives the monotonic clock."""
        deadline_s = time.monotonic() + WAIT_S
        while self.digest() != digest:
            if time.monotonic() > deadline_s:
                sys.exit(f"requests did not reach {digest[:12]} within {WAIT_S:g} s")
            await asyncio.sleep(PROBE_S)
        return time.monotonic()


def measure_flips(workspace: Path, keys: Path, flips: Flips) -> Measured:
    """Measure on a copy; the workspace itself is only read."""
    with copied(workspace, keys) as (there, there_keys):
        settings = load_settings({"TUNEWRIGHT_CONFIG": str(there_keys)}, workspace=there)
        with open_app(settings, PlainProgress()) as app:
            return asyncio.run(_measure(app, flips))


async def _measure(app: App, flips: Flips) -> Measured:
    pair = _pair(app)
    runtime = Runtime(Served(app.settings, app.ports, app.live, app.rollouts))
    await runtime.start()
    try:
        prober = Prober(runtime, pair[0].ref.name)
        for model in pair:  # both are loaded from here on, and stay so
            await asyncio.to_thread(_move, app, model)
            await prober.until(model.adapter)
        move_s, here_s = await _flip_here(app, runtime, prober, pair, flips.here)
        polled_s = await _flip_elsewhere(app, prober, pair, flips.polled)
        zero_s: list[float] = []
        crowd, candidates = Crowd(), 0
        async with asking(app, runtime, pair[0].ref.name, crowd):
            for _ in range(flips.rollbacks):
                seconds, number = await _roll_back_once(app, runtime, pair, crowd)
                zero_s.append(seconds)
                candidates += number
        return Measured(
            machine(), move_s, here_s, polled_s, zero_s, candidates, requests=crowd.asked, failed=crowd.failed
        )
    finally:
        await runtime.stop()


def _pair(app: App) -> tuple[ModelVersion, ModelVersion]:
    """Take the two newest versions of a name that has a champion."""
    models = app.models.all()
    for name in sorted({model.ref.name for model in models}):
        versions = [model for model in models if model.ref.name == name]
        if len(versions) > 1:
            return versions[-1], versions[-2]
    sys.exit("the workspace holds no two versions of one model; expected a finished demo")


def _move(app: App, model: ModelVersion) -> None:
    app.models.move_alias(CHAMPION, str(model.ref), name=model.ref.name, reason="benchmark")


async def _flip_here(
    app: App, runtime: Runtime, prober: Prober, pair: tuple[ModelVersion, ModelVersion], number: int
) -> tuple[list[float], list[float]]:
    moves_s: list[float] = []
    flips_s: list[float] = []
    for index in range(number):
        model = pair[index % 2]
        began_s = time.monotonic()
        await asyncio.to_thread(_move, app, model)
        moved_s = time.monotonic()
        await runtime.house.conductor.refresh()
        routed_s = await prober.until(model.adapter)
        moves_s.append(moved_s - began_s)
        flips_s.append(routed_s - moved_s)
    return moves_s, flips_s


async def _flip_elsewhere(
    app: App, prober: Prober, pair: tuple[ModelVersion, ModelVersion], number: int
) -> list[float]:
    settings = app.settings
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(HERE / "bench_mover.py"),
        f"--workspace={settings.workspace}",
        f"--keys={settings.config_dir}",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None and process.stdout is not None, "it was started with pipes"
    await process.stdout.readline()
    draw, flips_s = random.Random(1), list[float]()
    for index in range(number):
        model = pair[index % 2]
        await asyncio.sleep(draw.uniform(0, 0.1))  # at any moment between two looks
        process.stdin.write(f"{model.ref}\n".encode())
        routed_s = await prober.until(model.adapter)
        told = json.loads(await process.stdout.readline())
        flips_s.append(max(0.0, routed_s - told["ended_s"]))
    process.stdin.close()
    await process.wait()
    return flips_s


async def _roll_back_once(
    app: App, runtime: Runtime, pair: tuple[ModelVersion, ModelVersion], crowd: Crowd
) -> tuple[float, int]:
    """Start a rollout, let it take half of the users, roll it back.

    Returns:
        Seconds from the call to the last request admitted to the candidate, and how many it was given in all.
    """
    champion = app.ports.records.alias(pair[0].ref.name, CHAMPION).target
    candidate = pair[0] if pair[1].ref == champion else pair[1]
    rollout = await asyncio.to_thread(_start, app, candidate)
    crowd.of_digest.pop(candidate.adapter, None)
    await until_holds(lambda: crowd.of_digest.get(candidate.adapter, 0) >= 10, f"traffic for {candidate.ref}")
    called_at = app.ports.clock()
    await asyncio.to_thread(app.rollouts.roll_back, str(rollout.ref), "benchmark")
    await asyncio.sleep(AFTER_S)
    await runtime.house.writer.flush()
    admitted = await asyncio.to_thread(_admitted, app, rollout)
    return max(0.0, (max(admitted) - called_at).total_seconds()), len(admitted)


def _start(app: App, candidate: ModelVersion) -> Rollout:
    """Start a rollout that statistics will not end."""
    changes = {"ramp": (0.5, 1.0), "shadow_requests": 1, "min_units": 10**6}
    muted = {"latency_slack": 0.99, "tokens_slack": 0.99}
    rollout, _ = start_with(candidate, default_policy().model_copy(update=changes | muted), app.ports)
    return rollout


def _admitted(app: App, rollout: Rollout) -> list[datetime]:
    """When each request was given to the candidate."""
    traces = app.live.traces.of_rollout(rollout.ref)
    found = [one.at for one in traces if one.arm == "candidate" and one.shadow_of is None]
    if not found:
        raise UsageError(f"rollout {rollout.ref} gave its candidate no request; expected half of them")
    return found


def _line(what: str, seconds: list[float]) -> str:
    return (
        f"{what:<58} n {len(seconds):>4}  p50 {1e3 * statistics.median(seconds):>7.1f}  "
        f"p99 {1e3 * quantile(seconds, 0.99):>7.1f}  max {1e3 * max(seconds):>7.1f}"
    )
