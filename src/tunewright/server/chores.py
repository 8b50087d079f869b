"""Work that goes on beside requests: named tasks, and attempts that may fail for now."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Coroutine

from tunewright.errors import TunewrightError

logger = logging.getLogger(__name__)


class Problems:
    """What could not be done and still cannot; confined to one event loop."""

    def __init__(self) -> None:
        self._found: dict[str, str] = {}

    @property
    def sentences(self) -> tuple[str, ...]:
        """Each problem in words."""
        return tuple(self._found.values())

    async def attempt(self, key: str, sentence: str, action: Callable[[], Awaitable[None]]) -> None:
        """Do something that may fail for now; the problem stays until an attempt of this key succeeds."""
        try:
            await action()
        except TunewrightError as error:
            if key not in self._found:
                logger.error("%s: %s", sentence, error)
            self._found[key] = f"{sentence}: {error}"
        else:
            self._found.pop(key, None)


class Chores:
    """Tasks by name; one that fails is our own defect and is told, never passed over."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self.crashed: list[str] = []
        """Which tasks failed, in words."""

    def begin(self, name: str, work: Coroutine[None, None, None]) -> None:
        """Run a task beside everything else."""
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._note_end)
        self._tasks[name] = task

    def cancel_but(self, names: Collection[str]) -> None:
        """Cancel all tasks but those that end by themselves."""
        for name, task in self._tasks.items():
            if name not in names:
                task.cancel()

    async def wait(self) -> None:
        """Wait until all have ended."""
        if self._tasks:
            await asyncio.wait(self._tasks.values())

    def _note_end(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("the task %s failed", task.get_name(), exc_info=error)
            self.crashed.append(f"the task {task.get_name()} failed, restart the server: {error}")
