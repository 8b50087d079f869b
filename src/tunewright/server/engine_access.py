"""Where a request finds the engine: waits for a restart, loads a version that is asked for by name."""

import asyncio

from tunewright.errors import EngineFailed, RequestRefused
from tunewright.server.conductor import Conductor, Rooms
from tunewright.server.routing import BASE, UNAVAILABLE
from tunewright.server.seams import Upstream

WAIT_S = 30.0


class EngineAccess:
    """Confined to one event loop."""

    def __init__(self, rooms: Rooms, conductor: Conductor, *, wait_s: float = WAIT_S) -> None:
        self._rooms = rooms
        self._conductor = conductor
        self._wait_s = wait_s

    async def upstream(self, digest: str) -> Upstream:
        """Say where the engine is that holds an adapter, or the base.

        Raises:
            RequestRefused: 503 `engine_restarting` after a bounded wait, or why the adapter is not served.
        """
        running = self._rooms.engine.running
        if running is not None and self._has(digest):
            return running.upstream
        try:
            async with asyncio.timeout(self._wait_s):
                return await self._wait(digest)
        except TimeoutError:
            raise RequestRefused(
                "the engine is restarting and was not back in time; try again in a few seconds",
                UNAVAILABLE,
                "engine_restarting",
            ) from None

    async def _wait(self, digest: str) -> Upstream:
        while True:
            running = await self._rooms.engine.wait()
            if self._has(digest):
                return running.upstream
            model = self._conductor.table.by_digest.get(digest)
            reason = self._conductor.table.left_out.get(digest)
            if model is None or reason is not None:
                why = reason.reason if reason else f"adapter {digest[:12]} is not registered any more"
                raise RequestRefused(why, UNAVAILABLE, "model_unavailable", "model")
            try:
                await self._rooms.adapters.load(model, running)
            except EngineFailed:
                self._rooms.engine.failed(running.upstream)
            self._conductor.rebuild()

    def _has(self, digest: str) -> bool:
        return digest == BASE or digest in self._rooms.adapters.resident
