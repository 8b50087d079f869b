"""Progress for people: one bar with ETA on a terminal, plain lines elsewhere. Always on standard error."""

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.progress import TimeRemainingColumn as EtaColumn

_PLAIN_EVERY_S = 5.0


class PlainProgress:
    """Prints a line when a stage starts, every few seconds, and when it ends."""

    def __init__(self) -> None:
        self._stage, self._total, self._unit = "", None, "rows"
        self._started_s = self._said_s = 0.0

    def start(self, stage: str, total: int | None = None, unit: str = "rows") -> None:
        """Begin a stage."""
        self._stage, self._total, self._unit = stage, total, unit
        self._started_s = self._said_s = time.monotonic()
        print(
            f"{stage} ..." if total is None else f"{stage}: {total:,} {unit} ...", file=sys.stderr, flush=True
        )

    def update(self, done: int, note: str = "") -> None:
        """Say how far the stage is, at most every few seconds."""
        now_s = time.monotonic()
        if now_s - self._said_s < _PLAIN_EVERY_S:
            return
        self._said_s = now_s
        of = f"/{self._total:,}" if self._total else ""
        print(
            f"{self._stage}: {done:,}{of} {self._unit} {note}{self._eta(done, now_s)}".rstrip(),
            file=sys.stderr,
        )

    def _eta(self, done: int, now_s: float) -> str:
        if not self._total or done <= 0:
            return ""
        left_s = (now_s - self._started_s) / done * (self._total - done)
        return f" (about {left_s:.0f} s left)"

    def finish(self, summary: str) -> None:
        """End the stage with one line."""
        print(summary, file=sys.stderr, flush=True)


class BarProgress:
    """A live bar on a terminal."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            EtaColumn(),
            TextColumn("{task.fields[note]}"),
            console=self._console,
            transient=True,
        )
        self._task = self._bar.add_task("", visible=False, note="")

    def __enter__(self) -> Self:
        """Show the bar."""
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the terminal as it was."""
        self._bar.stop()

    def start(self, stage: str, total: int | None = None, unit: str = "rows") -> None:
        """Begin a stage."""
        self._bar.remove_task(self._task)  # a reset task would keep its old total
        self._task = self._bar.add_task(f"{stage} ({unit})", total=total, note="")

    def update(self, done: int, note: str = "") -> None:
        """Move the bar."""
        self._bar.update(self._task, completed=done, note=note)

    def finish(self, summary: str) -> None:
        """Hide the bar and print one line."""
        self._bar.update(self._task, visible=False)
        self._console.print(summary, markup=False, highlight=False, soft_wrap=True)
