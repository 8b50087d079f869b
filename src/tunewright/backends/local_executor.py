"""Runs a worker module as a process of its own on this machine, with an environment made from nothing.

The worker's standard output is JSON lines; anything else it prints, and its standard error, go to
`stderr.txt` in its folder. Whoever calls reads the last lines from there when a worker fails.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import BinaryIO, cast

from tunewright.errors import StorageError
from tunewright.values import Json

STDERR_FILE = "stderr.txt"
"""Where a worker's standard error is kept, in its folder."""


class LocalExecutor:
    """Implements ports.Executor with a subprocess."""

    def __init__(
        self,
        *,
        threads: int,
        grace_s: float = 60.0,
        passed_on: Mapping[str, str] | None = None,
    ) -> None:
        """Remember how workers run.

        Args:
            threads: threads of a worker's numeric libraries; they change bits, so the worker records them.
            grace_s: how long a worker may take to save after SIGTERM before it is killed.
            passed_on: further variables for the worker, such as CUDA_VISIBLE_DEVICES; nothing else is
                inherited, so no key, workspace or data folder of the parent is visible.
        """
        self._threads = threads
        self._grace_s = grace_s
        self._passed_on = dict(passed_on or {})

    def run(self, module: str, folder: Path, *, on_line: Callable[[Mapping[str, Json]], None]) -> int:
        """Run `python -m module FOLDER` to its end; each JSON line it prints goes to on_line.

        SIGINT and SIGTERM of this process are passed on once, as SIGTERM; the worker is killed when it has
        not ended after the grace time. It is ended as well when on_line raises, or when this process dies.

        Returns:
            The exit code; negative when a signal ended the worker.

        Raises:
            StorageError: the folder cannot be written.
        """
        folder = folder.absolute()
        try:
            stderr = (folder / STDERR_FILE).open("wb")
        except OSError as error:
            raise StorageError(
                f"cannot write to {folder}: {error.strerror}; expected a writable run folder with free space"
            ) from error
        with stderr, self._start(module, folder, stderr) as worker:
            try:
                with _passing_on_signals(lambda: self._stop(worker)):
                    for line in cast("BinaryIO", worker.stdout):
                        _deliver(line, on_line, stderr)
                    return worker.wait()
            finally:
                if worker.poll() is None:
                    self._stop(worker)
                    worker.wait()

    def _start(self, module: str, folder: Path, stderr: BinaryIO) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "tunewright.backends.child", module, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            cwd=folder,
            env=worker_environment(folder, self._threads) | self._passed_on,
            start_new_session=True,  # Ctrl-C on the terminal reaches the parent only, which passes it on
        )

    def _stop(self, worker: "subprocess.Popen[bytes]") -> None:
        worker.terminate()
        timer = threading.Timer(self._grace_s, worker.kill)
        timer.daemon = True
        timer.start()


def worker_environment(folder: Path, threads: int) -> dict[str, str]:
    """Make a worker's whole environment; nothing is taken over from this process."""
    return {
        "PATH": os.defpath,
        "LANG": "C.UTF-8",
        "HOME": str(folder),
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "PASSIVE",  # spinning barriers cost 2 to 6 times when cores are shared
        "GOMP_SPINCOUNT": "10000",  # but microseconds of it save a third of a small step: design/LOG.md
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONHASHSEED": "0",
        "PYTHONUNBUFFERED": "1",
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    }


def _deliver(line: bytes, on_line: Callable[[Mapping[str, Json]], None], stderr: BinaryIO) -> None:
    try:
        value = json.loads(line)
    except ValueError:
        value = None
    if isinstance(value, dict):
        on_line(cast("Mapping[str, Json]", value))
    else:
        stderr.write(line)
        stderr.flush()


@contextmanager
def _passing_on_signals(stop: Callable[[], None]) -> Generator[None]:
    """Call stop at the first SIGINT or SIGTERM of this process, and swallow further ones until the end."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may handle signals; it is then for that thread to stop us
        return
    stopped = threading.Event()

    def pass_on(number: int, frame: FrameType | None) -> None:
        if not stopped.is_set():
            stopped.set()
            stop()

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
