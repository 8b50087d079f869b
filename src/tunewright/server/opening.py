"""Opens what the runtime serves from, and closes it again: lock, trace store, base, engine, champions."""

import asyncio
import logging
import os
from collections import Counter
from collections.abc import Generator
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Protocol

from tunewright.backends.file_lock import file_lock
from tunewright.errors import StorageError, WorkspaceBusy
from tunewright.live_ports import Live
from tunewright.ports import BaseFiles, Ports
from tunewright.server.adapters_room import KEEP_UNWANTED_S, AdaptersRoom
from tunewright.server.conductor import Conductor, Pace, Rooms
from tunewright.server.engine_access import EngineAccess
from tunewright.server.engine_room import EngineRoom, Timing
from tunewright.server.engine_wire import EngineWire, HttpEngineWire
from tunewright.server.feedback_desk import FeedbackDesk
from tunewright.server.judge import RolloutJudge
from tunewright.server.registry_view import Registered, Rollouts, read_registry
from tunewright.server.routing import CHAMPION, choose_base
from tunewright.server.shadow import Shadow, ShadowLimits
from tunewright.server.trace_writer import CAPACITY, TraceWriter
from tunewright.server.traffic import Desk, Traffic

logger = logging.getLogger(__name__)

DEFAULT_BASE = "tiny"
LOCK = "serve"


class _Places(Protocol):
    @property
    def workspace(self) -> Path: ...


class ServedApp(Protocol):
    """What the runtime needs of the App."""

    @property
    def settings(self) -> _Places:
        """Where the workspace is."""
        ...

    @property
    def ports(self) -> Ports:
        """The backends."""
        ...

    @property
    def live(self) -> Live:
        """Trace store and keys."""
        ...

    @property
    def rollouts(self) -> Rollouts:
        """Verbs on rollouts."""
        ...


@dataclass(frozen=True, slots=True)
class RuntimeOptions:
    """What is served and how patiently."""

    base: str | None = None
    """Base to run; absent: the champions', or the shipped one when there is no champion."""
    retain: timedelta = timedelta(days=30)
    """How long traces and their text are kept."""
    buffer_entries: int = CAPACITY
    """Trace entries held in memory while the store cannot be written."""
    keep_unwanted_s: float = KEEP_UNWANTED_S
    """How long a version asked for by name stays loaded after its last use."""
    shadow: ShadowLimits = field(default_factory=ShadowLimits)
    timing: Timing = field(default_factory=Timing)
    pace: Pace = field(default_factory=Pace)


@dataclass(frozen=True, slots=True)
class House:
    """Everything that runs."""

    base: BaseFiles
    rooms: Rooms
    conductor: Conductor
    judge: RolloutJudge
    access: EngineAccess
    traffic: Traffic
    shadow: Shadow
    feedback: FeedbackDesk

    @property
    def writer(self) -> TraceWriter:
        """The one writer of the trace store."""
        return self.rooms.writer


async def open_house(
    app: ServedApp, options: RuntimeOptions, stack: AsyncExitStack, *, wire: EngineWire | None = None
) -> House:
    """Open everything; the stack closes it in the reverse order.

    Raises:
        WorkspaceBusy: another process serves this workspace.
        StorageError: registry or trace store cannot be opened.
        BaseModelError, EngineFailed: the base cannot be served.
    """
    stack.enter_context(_only_one(app.settings.workspace / "locks"))
    ports, live = app.ports, app.live
    writer = TraceWriter(live.traces, capacity=options.buffer_entries)
    await _close_interrupted(live, ports, writer)
    last_seq = await asyncio.to_thread(live.traces.last_seq)
    registered = await asyncio.to_thread(read_registry, ports.records, app.rollouts, ports.clock())
    base = await asyncio.to_thread(_find_base, registered, ports, options.base)
    wire = wire or await _open_wire(stack)
    in_use: Counter[str] = Counter()
    adapters = AdaptersRoom(
        ports, wire, num_in_use=in_use.__getitem__, keep_unwanted_s=options.keep_unwanted_s
    )
    engine = EngineRoom(ports.engines, base.folder, wire, refill=adapters.refill, timing=options.timing)
    await engine.start()
    stack.push_async_callback(engine.stop)
    rooms = Rooms(engine, adapters, writer)
    conductor = Conductor(
        ports, live, app.rollouts, rooms=rooms, base=base.ref, registered=registered, pace=options.pace
    )
    await conductor.start()
    access = EngineAccess(rooms, conductor, wait_s=options.timing.wait_s)
    desk = Desk(conductor, writer, live.keys, ports.clock, options.retain, access.upstream, wire, in_use)
    traffic = Traffic(desk, last_seq=last_seq)
    shadow = Shadow(traffic.mirror, num_live=lambda: traffic.num_live, limits=options.shadow)
    feedback = FeedbackDesk(live, writer, ports.clock, retain=options.retain)
    judge = RolloutJudge(conductor, app.rollouts, writer, ports.clock, pause_s=options.pace.judge_s)
    return House(base, rooms, conductor, judge, access, traffic, shadow, feedback)


@contextmanager
def _only_one(locks: Path) -> Generator[None]:
    """Hold the workspace's lock, and say in a file which process does. Raises WorkspaceBusy, StorageError."""
    owner = locks / f"{LOCK}.pid"

    def refuse() -> None:
        with suppress(OSError):
            number = owner.read_text("utf-8").strip()
            raise WorkspaceBusy(
                f"process {number} serves the workspace {locks.parent} already; expected one server a "
                "workspace. Stop it, or choose another workspace with --workspace."
            )
        raise WorkspaceBusy(f"another process serves the workspace {locks.parent}; stop it first")

    with file_lock(locks, LOCK, on_wait=refuse):
        try:
            owner.write_text(f"{os.getpid()}\n", "utf-8")
        except OSError as error:
            raise StorageError(
                f"cannot write {owner}: {error.strerror}; expected a writable workspace"
            ) from error
        yield
        owner.unlink(missing_ok=True)


async def _close_interrupted(live: Live, ports: Ports, writer: TraceWriter) -> None:
    """Close what a killed server left open; a store that cannot be written is the writer's to report."""
    try:
        number = await asyncio.to_thread(live.traces.interrupt_open, ports.clock())
    except StorageError as error:
        writer.problem = f"traces cannot be written: {error}"
        logger.error("could not close the traces of the server before: %s", error)
        return
    if number:
        logger.warning("closed %d traces that the server before left open", number)


def _find_base(registered: Registered, ports: Ports, asked: str | None) -> BaseFiles:
    """Find the base to run: the one asked for, else that of most champions, else the shipped one."""
    view = registered.view
    champions = [
        view.models[target]
        for (_, alias), target in sorted(view.aliases.items())
        if alias == CHAMPION and target in view.models and view.models[target].adapter not in view.revoked
    ]
    usual = choose_base(champions)
    return ports.bases.resolve(asked or (usual.name if usual else DEFAULT_BASE))


async def _open_wire(stack: AsyncExitStack) -> EngineWire:
    wire = HttpEngineWire()
    await wire.start()
    stack.push_async_callback(wire.stop)
    return wire
