"""The one writer of the trace store: collects entries in memory and commits them in batches.

A store that cannot be written keeps nobody waiting: entries stay in memory and are tried again every second,
and only beyond the buffer's bound are they lost, which is counted.
"""

import asyncio
import logging
from contextlib import suppress

from tunewright.errors import StorageError
from tunewright.live_ports import TraceEntry, Traces
from tunewright.records import Trace, TraceText

logger = logging.getLogger(__name__)

CAPACITY = 20_000
"""Entries held in memory while the store cannot be written."""

COLLECT_S = 0.02
"""How long a batch is collected; with the commit itself well below 50 ms."""

RETRY_S = 1.0

_Key = tuple[str, str]


class TraceWriter:
    """Writes traces, texts and feedback in the order they came; confined to one event loop."""

    def __init__(self, traces: Traces, *, capacity: int = CAPACITY, retry_s: float = RETRY_S) -> None:
        self._traces = traces
        self._capacity = capacity
        self._retry_s = retry_s
        self._buffer: dict[_Key, TraceEntry] = {}
        self._in_write: dict[_Key, TraceEntry] = {}
        self._added = 0
        self._committed = 0
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []
        self._news = asyncio.Event()
        self._is_stopping = False
        self.problem: str | None = None
        """Why the store cannot be written; None while it can."""
        self.num_lost = 0
        """Entries that found the buffer full."""

    @property
    def num_waiting(self) -> int:
        """Entries that are not committed yet; one that changed while it was being written counts twice."""
        return len(self._in_write) + len(self._buffer)

    def add(self, entry: TraceEntry) -> bool:
        """Queue an entry; a newer state of one that still waits takes its place. False: it was lost."""
        key = _key(entry)
        if key not in self._buffer and self.num_waiting >= self._capacity:
            self.num_lost += 1
            if self.num_lost == 1:
                logger.error("lost the first trace entry: %d wait for a store that fails", self.num_waiting)
            return False
        self._buffer[key] = entry
        self._added += 1
        self._news.set()
        return True

    def trace(self, trace: str) -> Trace | None:
        """Find a trace that is not committed yet."""
        key = ("trace", trace)
        found = self._buffer.get(key) or self._in_write.get(key)
        return found if isinstance(found, Trace) else None

    def text(self, owner: str) -> TraceText | None:
        """Find a text that is not committed yet."""
        key = ("text", owner)
        found = self._buffer.get(key) or self._in_write.get(key)
        return found if isinstance(found, TraceText) else None

    async def flush(self) -> None:
        """Wait until everything queued so far is committed. Raises StorageError when a commit fails."""
        if self._committed >= self._added:
            return
        done = asyncio.get_running_loop().create_future()
        self._waiters.append((self._added, done))
        self._news.set()
        await done

    async def run(self) -> None:
        """Write until `stop`; run this as a task."""
        while not (self._is_stopping and not self._buffer):
            if not self._buffer:
                self._news.clear()
                await self._news.wait()
                continue
            if not self._is_stopping:
                await asyncio.sleep(COLLECT_S)
            if not await self._commit():
                if self._is_stopping:
                    return
                await self._pause()

    def stop(self) -> None:
        """Make `run` end after one more attempt at everything that waits; await its task."""
        self._is_stopping = True
        self._news.set()

    async def _commit(self) -> bool:
        """Write everything that waits in one transaction; False when that failed."""
        self._in_write, self._buffer, upto = self._buffer, {}, self._added
        try:
            await asyncio.to_thread(self._traces.write, list(self._in_write.values()))
        except StorageError as error:
            self._buffer = self._in_write | self._buffer  # newer states take the place of older ones
            self._in_write = {}
            self._fail(error)
            return False
        self._in_write = {}
        self._committed = upto
        if self.problem is not None:
            logger.warning("the trace store can be written again")
        self.problem = None
        self._settle(upto, None)
        return True

    def _fail(self, error: StorageError) -> None:
        if self.problem is None:
            logger.error("could not write traces: %s", error)
        self.problem = f"traces cannot be written: {error}"
        self._settle(self._added, error)

    def _settle(self, upto: int, error: StorageError | None) -> None:
        """Answer whoever waits for entries up to a number."""
        ready = [done for number, done in self._waiters if number <= upto and not done.done()]
        self._waiters = [(number, done) for number, done in self._waiters if number > upto]
        for done in ready:
            if error is None:
                done.set_result(None)
            else:
                done.set_exception(StorageError(str(error)))

    async def _pause(self) -> None:
        """Wait before the next attempt, unless told to stop."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._retry_s):
                while not self._is_stopping:
                    self._news.clear()
                    await self._news.wait()


def _key(entry: TraceEntry) -> _Key:
    if isinstance(entry, Trace):
        return ("trace", entry.id)
    return ("text", entry.owner) if isinstance(entry, TraceText) else ("feedback", entry.id)
