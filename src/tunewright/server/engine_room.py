"""Keeps one engine process running: starts it, looks after it, starts it again when it died.

A new engine is shown to nobody before its adapters are loaded and probed again.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from tunewright.errors import BaseModelError, EngineFailed, RequestRefused
from tunewright.ports import Engine, Engines
from tunewright.server.engine_wire import EngineWire
from tunewright.server.seams import Upstream

logger = logging.getLogger(__name__)

UNSTABLE_DEATHS = 5
UNSTABLE_WITHIN_S = 60.0
MAX_SILENCES = 3
"""Looks without an answer after which an engine counts as dead."""
MAX_WORDS_CHARACTERS = 600


@dataclass(frozen=True, slots=True)
class Timing:
    """How often and how patiently."""

    poll_s: float = 0.5
    wait_s: float = 30.0
    """How long a request waits for an engine that is restarting."""
    first_pause_s: float = 0.2
    """Before the second of several starts in a row; doubles up to max_pause_s."""
    max_pause_s: float = 15.0


@runtime_checkable
class _Reachable(Protocol):
    url: str
    token: str


@dataclass(frozen=True, slots=True)
class Running:
    """An engine that was started."""

    engine: Engine
    upstream: Upstream
    hold: AbstractContextManager[Engine]


class Deaths:
    """How engines ended lately."""

    def __init__(self) -> None:
        self._recent: deque[tuple[float, str]] = deque(maxlen=UNSTABLE_DEATHS)

    def note(self, words: str) -> None:
        """Remember an end and its last words."""
        self._recent.append((time.monotonic(), words[-MAX_WORDS_CHARACTERS:]))
        logger.error("the engine ended: %s", words[-MAX_WORDS_CHARACTERS:])

    def words(self) -> str:
        """Say why there is no engine now."""
        recent = self._lately()
        if len(recent) >= UNSTABLE_DEATHS:
            return (
                f"the engine ended {len(recent)} times within {UNSTABLE_WITHIN_S:g} s; it is started again "
                f"from time to time. {recent[-1]}"
            )
        return "the engine is restarting" + (f": {recent[-1]}" if recent else "")

    def pause_s(self, timing: Timing) -> float:
        """No pause after a single death, longer ones while it keeps dying."""
        num_recent = len(self._lately())
        if num_recent <= 1:
            return 0.0
        return min(timing.first_pause_s * 2 ** (num_recent - 2), timing.max_pause_s)

    def _lately(self) -> list[str]:
        return [words for at_s, words in self._recent if time.monotonic() - at_s < UNSTABLE_WITHIN_S]


Refill = Callable[[Running], Awaitable[None]]
"""Loads and probes the adapters of an engine just started. Raises EngineFailed."""


class EngineRoom:
    """One engine at a time; confined to one event loop."""

    def __init__(
        self, engines: Engines, base: Path, wire: EngineWire, *, refill: Refill, timing: Timing | None = None
    ) -> None:
        self._engines = engines
        self._base = base
        self._wire = wire
        self._refill = refill
        self._timing = timing or Timing()
        self._running: Running | None = None
        self._trusted = asyncio.Event()
        self._look = asyncio.Event()
        self._silences = 0
        self._is_stopping = False
        self._deaths = Deaths()
        self.num_restarts = 0

    @property
    def running(self) -> Running | None:
        """The engine, while nothing speaks against it."""
        return self._running if self._trusted.is_set() else None

    @property
    def problem(self) -> str | None:
        """Why no request can be answered now; None while an engine runs."""
        return None if self.running is not None else self._deaths.words()

    async def start(self) -> None:
        """Start the first engine. Raises EngineFailed."""
        self._running = await self._launch()
        self._trusted.set()

    async def watch(self) -> None:
        """Look after the engine until `stop`; run this as a task."""
        while not self._is_stopping:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._look.wait(), self._timing.poll_s)
            self._look.clear()
            if self._is_stopping:
                return
            if self._running is not None and await self.is_alive(self._running):
                self._trusted.set()
            elif self._silences == 0:
                await self._restart()

    async def stop(self) -> None:
        """End the engine; await the task of `watch` first, it sees that it is to end."""
        running, self._running = self._running, None
        self._trusted.clear()
        if running is not None:
            await _leave(running)

    def ask_to_stop(self) -> None:
        """Make `watch` end."""
        self._is_stopping = True
        self._look.set()

    def failed(self, upstream: Upstream) -> None:
        """Look at the engine at once; until then nobody is sent to it."""
        if self._running is not None and self._running.upstream == upstream:
            self._trusted.clear()
            self._look.set()

    async def wait(self) -> Running:
        """Wait for a running engine. Raises RequestRefused (503) after a bounded time."""
        try:
            async with asyncio.timeout(self._timing.wait_s):
                while self.running is None:
                    await self._trusted.wait()
        except TimeoutError:
            raise RequestRefused(
                "the engine is restarting and was not back in time; try again in a few seconds",
                503,
                "engine_restarting",
            ) from None
        running = self.running
        assert running is not None, "the loop has just seen it"
        return running

    async def is_alive(self, running: Running) -> bool:
        """Look once; silence counts as dead only after several looks."""
        health = await self._wire.health(running.upstream)
        if health == "ok":
            self._silences = 0
            return True
        self._silences += 1
        if health == "dead" or self._silences >= MAX_SILENCES:
            self._silences = 0
        return False

    async def _restart(self) -> None:
        self._trusted.clear()
        dead, self._running = self._running, None
        if dead is not None:
            words = await asyncio.to_thread(last_words, dead.engine)
            self._deaths.note(words)
            await _leave(dead)
        await asyncio.sleep(self._deaths.pause_s(self._timing))
        try:
            self._running = await self._launch()
        except (EngineFailed, BaseModelError) as error:
            self._deaths.note(str(error))
            return
        self.num_restarts += 1
        self._trusted.set()
        logger.info("restarted the engine, number %d", self.num_restarts)

    async def _launch(self) -> Running:
        hold = self._engines.start(self._base)
        engine = await asyncio.to_thread(hold.__enter__)
        if not isinstance(engine, _Reachable):
            raise EngineFailed("this engine has no address; expected one that speaks HTTP")
        running = Running(engine, Upstream(engine.url, engine.token), hold)
        try:
            await self._refill(running)
        except EngineFailed:
            await _leave(running)
            raise
        return running


async def _leave(running: Running) -> None:
    await asyncio.to_thread(running.hold.__exit__, None, None, None)


def last_words(engine: Engine) -> str:
    """Ask an engine that seems dead for anything; the error says what is known of its process."""
    try:
        engine.tokenize([{"role": "user", "content": "-"}], add_generation_prompt=True)
    except EngineFailed as error:
        return str(error)
    return "It stopped to answer in time."
