"""Keeps the routing table true: follows the registry and loads what it names.

The registry is looked at every 100 ms, so that an alias, a key or a rollout that another process moved acts
here within a second. A new table takes the place of the old one at once; nothing waits for a load.
"""

import asyncio
import time
from dataclasses import dataclass
from functools import partial

from tunewright.errors import EngineFailed, RequestRefused
from tunewright.live_ports import Live
from tunewright.ports import Ports
from tunewright.records import BaseModelRef, Rollout
from tunewright.server.adapters_room import AdaptersRoom
from tunewright.server.chores import Problems
from tunewright.server.engine_room import EngineRoom
from tunewright.server.registry_view import Registered, Rollouts, read_registry
from tunewright.server.rollout_memory import RolloutMemory, recall
from tunewright.server.routing import Loaded, Table, build_table, wanted
from tunewright.server.trace_writer import TraceWriter
from tunewright.values import Ref


@dataclass(frozen=True, slots=True)
class Pace:
    """How often is looked."""

    registry_s: float = 0.1
    judge_s: float = 0.25
    tidy_s: float = 60.0
    expire_s: float = 3600.0


@dataclass(frozen=True, slots=True)
class Rooms:
    """Engine, adapters and trace store."""

    engine: EngineRoom
    adapters: AdaptersRoom
    writer: TraceWriter


class Conductor:
    """Follows the registry; confined to one event loop."""

    def __init__(
        self,
        ports: Ports,
        live: Live,
        rollouts: Rollouts,
        *,
        rooms: Rooms,
        base: BaseModelRef,
        registered: Registered,
        pace: Pace | None = None,
    ) -> None:
        self._ports = ports
        self._live = live
        self._rollouts = rollouts
        self._rooms = rooms
        self._base = base
        self._pace = pace or Pace()
        self._work = asyncio.Event()
        self.halted: set[Ref] = set()
        """Rollouts whose candidate gets no request more, though their end is not recorded yet."""
        self.problems = Problems()
        """What could not be read, recorded or removed, and still cannot."""
        self.registered = registered
        """The registry as last read."""
        self.memories: dict[Ref, RolloutMemory] = {}
        """Of every live rollout."""
        self.table: Table = build_table(registered.view, Loaded(base))

    async def start(self) -> None:
        """Read the live rollouts back and load what is wanted. Raises EngineFailed."""
        await self.recall()
        await self._load_wanted()
        self.rebuild()

    def rebuild(self) -> None:
        """Put a new table in the place of the old one."""
        adapters = self._rooms.adapters
        loaded = Loaded(self._base, frozenset(adapters.resident), dict(adapters.refused))
        self.table = build_table(self.registered.view, loaded, halted=self.halted, before=self.table)

    async def follow(self) -> None:
        """Look at the registry for ever; run this as a task."""
        while True:
            await asyncio.sleep(self._pace.registry_s)
            await self.problems.attempt("registry", "the registry cannot be read", self._follow_once)

    async def load(self) -> None:
        """Load what the registry names, for ever; run this as a task."""
        while True:
            await self._work.wait()
            self._work.clear()
            try:
                await self._load_wanted()
            except (EngineFailed, RequestRefused):
                await asyncio.sleep(self._pace.registry_s)  # the engine is down; its room sees to that
                self._work.set()

    async def tidy(self) -> None:
        """Unload what nobody wants and remove what is over, for ever; run this as a task."""
        expired_s = float("-inf")
        while True:
            self._work.set()
            running = self._rooms.engine.running
            if running is not None:
                kept = [model.adapter for model in wanted(self.registered.view, self._ports.clock())]
                await self._rooms.adapters.trim(kept, running)
                self.rebuild()
            if time.monotonic() - expired_s > self._pace.expire_s:
                expired_s = time.monotonic()
                await self.problems.attempt("expiry", "old traces cannot be removed", self._expire)
            await asyncio.sleep(self._pace.tidy_s)

    async def refresh(self) -> None:
        """Read the registry now and swap the table. Raises StorageError."""
        now = self._ports.clock()
        registered = await asyncio.to_thread(read_registry, self._ports.records, self._rollouts, now)
        await self.recall(registered)
        self.registered = registered
        live = {rollout.ref for rollout, _ in registered.view.rollouts.values()}
        self.halted &= live
        self.rebuild()
        self.memories = {ref: memory for ref, memory in self.memories.items() if ref in live}
        self._work.set()

    async def recall(self, registered: Registered | None = None) -> None:
        """Read back the traces of rollouts that are new here; until then their requests are no evidence."""
        for rollout, _ in (registered or self.registered).view.rollouts.values():
            if rollout.ref not in self.memories:
                sentence = f"the traces of rollout {rollout.ref} cannot be read"
                await self.problems.attempt("recall", sentence, partial(self._recall_one, rollout))

    async def _recall_one(self, rollout: Rollout) -> None:
        memory = await asyncio.to_thread(recall, rollout, self._live.traces)
        self.memories.setdefault(rollout.ref, memory)

    async def _follow_once(self) -> None:
        tip = await asyncio.to_thread(self._ports.records.tip)
        if tip != self.registered.tip:
            await self.refresh()

    async def _expire(self) -> None:
        await asyncio.to_thread(self._live.traces.expire, self._ports.clock())

    async def _load_wanted(self) -> None:
        """Load what is missing, and let the table know after each."""
        adapters = self._rooms.adapters
        for model in wanted(self.registered.view, self._ports.clock()):
            is_revoked = model.adapter in self.registered.view.revoked
            is_ours = model.base.digest == self._base.digest and not is_revoked
            if is_ours and adapters.is_due(model.adapter):
                await adapters.load(model, await self._rooms.engine.wait())
                self.rebuild()
