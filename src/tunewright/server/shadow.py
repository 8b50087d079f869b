"""Mirrors requests to a candidate without anybody seeing its answer; yields to live traffic."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

from tunewright.records import Rollout, Trace
from tunewright.server.seams import Asked


@dataclass(frozen=True, slots=True)
class Mirror:
    """A request that the incumbent has answered."""

    original: Trace
    asked: Asked
    rollout: Rollout


@dataclass(frozen=True, slots=True)
class ShadowLimits:
    """How little of the engine mirrored requests may take."""

    max_waiting: int = 256
    """Further ones are dropped and counted."""
    max_running: int = 4
    max_live: int = 8
    """With so many live requests in flight no mirrored one begins."""
    pause_s: float = 0.02
    """Before looking again whether live traffic leaves room."""


class Shadow:
    """A bounded queue and those that run; confined to one event loop."""

    def __init__(
        self,
        send: Callable[[Mirror], Awaitable[None]],
        *,
        num_live: Callable[[], int],
        limits: ShadowLimits | None = None,
    ) -> None:
        """Start empty.

        Args:
            send: asks the candidate and writes the trace; raises nothing.
            num_live: live requests in flight.
            limits: see there.
        """
        self._send = send
        self._num_live = num_live
        self._limits = limits or ShadowLimits()
        self._queue: asyncio.Queue[Mirror] = asyncio.Queue(self._limits.max_waiting)
        self._running: set[asyncio.Task[None]] = set()
        self.num_dropped = 0

    @property
    def num_running(self) -> int:
        """Mirrored requests in flight."""
        return len(self._running)

    def offer(self, mirror: Mirror) -> bool:
        """Queue a request; False when there is no room and it is dropped."""
        try:
            self._queue.put_nowait(mirror)
        except asyncio.QueueFull:
            self.num_dropped += 1
            return False
        return True

    async def run(self) -> None:
        """Send until cancelled; run this as a task."""
        while True:
            mirror = await self._queue.get()
            while not self._has_room():
                await asyncio.sleep(self._limits.pause_s)
            task = asyncio.create_task(self._carry(mirror))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def stop(self) -> None:
        """Give up what runs."""
        running = list(self._running)
        for task in running:
            task.cancel()
        for task in running:
            with suppress(asyncio.CancelledError):
                await task

    def _has_room(self) -> bool:
        return self._num_live() < self._limits.max_live and len(self._running) < self._limits.max_running

    async def _carry(self, mirror: Mirror) -> None:
        await self._send(mirror)
