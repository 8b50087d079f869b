"""Keeps the routing table true: follows the registry, loads what it names, and moves rollouts on.

The registry is looked at every 100 ms, so that an alias, a key or a rollout that another process moved acts
here within a second. A new table takes the place of the old one at once; nothing waits for a load.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from tunewright.deploy.canary import Step, next_step
from tunewright.errors import AliasConflict, EngineFailed, RequestRefused, TunewrightError
from tunewright.ports import Live, Ports
from tunewright.records import BaseModelRef, Rollout, RolloutState
from tunewright.server.adapters_room import AdaptersRoom
from tunewright.server.engine_room import EngineRoom
from tunewright.server.registry_view import Registered, Rollouts, read_registry
from tunewright.server.rollout_memory import RolloutMemory, recall
from tunewright.server.routing import Loaded, Table, build_table, wanted
from tunewright.server.rules import step_without_evidence
from tunewright.server.trace_writer import TraceWriter
from tunewright.values import Ref

logger = logging.getLogger(__name__)

BUSY_FRACTION = 0.1
"""Judging takes at most this share of the time, however much there is to judge."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How often is looked."""

    registry_s: float = 0.1
    judge_s: float = 0.25
    tidy_s: float = 60.0
    expire_s: float = 3600.0


@dataclass(frozen=True, slots=True)
class Rooms:
    """What the conductor directs."""

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
        self._halted: set[Ref] = set()
        self._work = asyncio.Event()
        self._problems: dict[str, str] = {}
        self.registered = registered
        """The registry as last read."""
        self.memories: dict[Ref, RolloutMemory] = {}
        """Of every live rollout."""
        self.table: Table = build_table(registered.view, Loaded(base))

    @property
    def problems(self) -> tuple[str, ...]:
        """What could not be read or recorded, and still cannot."""
        return tuple(self._problems.values())

    async def start(self) -> None:
        """Read the live rollouts back and load what is wanted. Raises EngineFailed."""
        await self._recall(self.registered)
        await self._load_wanted()
        self.rebuild()

    def rebuild(self) -> None:
        """Put a new table in the place of the old one."""
        adapters = self._rooms.adapters
        loaded = Loaded(self._base, frozenset(adapters.resident), dict(adapters.refused))
        self.table = build_table(self.registered.view, loaded, halted=self._halted, before=self.table)

    async def follow(self) -> None:
        """Look at the registry for ever; run this as a task."""
        while True:
            await asyncio.sleep(self._pace.registry_s)
            await self._attempt("registry", "the registry cannot be read", self._follow_once)

    async def judge(self) -> None:
        """Move rollouts on for ever; run this as a task."""
        while True:
            started_s = time.monotonic()
            for rollout, state in list(self.registered.view.rollouts.values()):
                await self.judge_one(rollout, state)
            spent_s = time.monotonic() - started_s
            await asyncio.sleep(max(self._pace.judge_s, spent_s / BUSY_FRACTION))

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
                await self._attempt("expiry", "traces cannot be removed", self._expire)
            await asyncio.sleep(self._pace.tidy_s)

    async def refresh(self) -> None:
        """Read the registry now and swap the table. Raises StorageError."""
        now = self._ports.clock()
        registered = await asyncio.to_thread(read_registry, self._ports.records, self._rollouts, now)
        await self._recall(registered)
        self.registered = registered
        live = {rollout.ref for rollout, _ in registered.view.rollouts.values()}
        self._halted &= live
        self.rebuild()
        self.memories = {ref: memory for ref, memory in self.memories.items() if ref in live}
        self._work.set()

    async def judge_one(self, rollout: Rollout, state: RolloutState) -> None:
        """Extend one rollout's evidence, decide, and act on what was decided."""
        memory = self.memories.get(rollout.ref)
        if memory is None:
            await self._recall(self.registered)
            return
        step = step_without_evidence(rollout, state, self.registered.view, self.table)
        if step is None:
            is_served = rollout.ref.name in self.table.rollouts or rollout.ref in self._halted
            if not is_served:
                return
            now = self._ports.clock()
            await memory.extend(state, now)
            step = next_step(rollout, state, memory.evidence, now)
        if step.action == "wait" or (step.action != "roll_back" and self._rooms.writer.problem):
            return
        if step.action == "roll_back":
            self._halted.add(rollout.ref)  # no request more, before anything is written
            self.rebuild()
        await self._attempt(
            f"rollout {rollout.ref.name}",
            f"rollout {rollout.ref} cannot {step.action.replace('_', ' ')}",
            partial(self._take, rollout, state, step),
        )

    async def _take(self, rollout: Rollout, state: RolloutState, step: Step) -> None:
        try:
            if step.action != "roll_back":
                await self._rooms.writer.flush()  # what decided must be there for a replay
            after = await asyncio.to_thread(self._rollouts.take, rollout, state, step)
            logger.info("rollout %s: %s, %s", rollout.ref, after.phase, after.reason)
        except AliasConflict as conflict:
            self._halted.discard(rollout.ref)
            logger.info("rollout %s was moved elsewhere first: %s", rollout.ref, conflict)
        await self.refresh()

    async def _follow_once(self) -> None:
        tip = await asyncio.to_thread(self._ports.records.tip)
        if tip != self.registered.tip:
            await self.refresh()

    async def _recall(self, registered: Registered) -> None:
        """Read back the traces of rollouts that are new here; until then their requests are no evidence."""
        for rollout, _ in registered.view.rollouts.values():
            if rollout.ref not in self.memories:
                sentence = f"the traces of rollout {rollout.ref} cannot be read"
                await self._attempt("recall", sentence, partial(self._recall_one, rollout))

    async def _recall_one(self, rollout: Rollout) -> None:
        memory = await asyncio.to_thread(recall, rollout, self._live.traces)
        self.memories.setdefault(rollout.ref, memory)

    async def _load_wanted(self) -> None:
        """Load what is missing, and let the table know after each."""
        adapters = self._rooms.adapters
        for model in wanted(self.registered.view, self._ports.clock()):
            is_revoked = model.adapter in self.registered.view.revoked
            is_ours = model.base.digest == self._base.digest and not is_revoked
            if is_ours and adapters.is_due(model.adapter):
                await adapters.load(model, await self._rooms.engine.wait())
                self.rebuild()

    async def _expire(self) -> None:
        await asyncio.to_thread(self._live.traces.expire, self._ports.clock())

    async def _attempt(self, key: str, sentence: str, action: Callable[[], Awaitable[None]]) -> None:
        """Do something that may fail for now; say so until it succeeds."""
        try:
            await action()
        except TunewrightError as error:
            if key not in self._problems:
                logger.error("%s: %s", sentence, error)
            self._problems[key] = f"{sentence}: {error}"
        else:
            self._problems.pop(key, None)
