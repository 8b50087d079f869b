"""Starts the built-in engine in a process of its own, and never leaves one behind."""

import json
import os
import secrets
import subprocess
import sys
import tempfile
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Literal, cast

from tunewright.backends.engine.client import EngineClient
from tunewright.backends.local_executor import worker_environment
from tunewright.errors import EngineFailed

SERVER_MODULE = "tunewright.backends.engine.server"
TOKEN_VARIABLE = "TUNEWRIGHT_ENGINE_TOKEN"
"""How the child learns its bearer token; the environment of a process is readable by its own user only."""

START_TIMEOUT_S = 300.0
STOP_TIMEOUT_S = 10.0
DYING_S = 1.0
"""An engine that no longer answers is given so long to be seen to have ended."""

TAIL_CHARACTERS = 2000
"""How much of the engine's standard error an error message quotes."""


class LocalEngines:
    """Implements ports.Engines with a subprocess on the loopback interface."""

    def __init__(
        self,
        *,
        threads: int | None = None,
        dtype: Literal["float32", "bfloat16"] = "float32",
        max_rows: int = 32,
        start_timeout_s: float = START_TIMEOUT_S,
        passed_on: Mapping[str, str] | None = None,
    ) -> None:
        """Remember how engines run.

        Args:
            threads: of the numeric library; None is one for each core.
            dtype: of weights and arithmetic.
            max_rows: answers decoded at once.
            start_timeout_s: how long loading the base may take.
            passed_on: further variables for the engine, such as CUDA_VISIBLE_DEVICES; nothing else is
                inherited.
        """
        self._threads = threads or os.cpu_count() or 1
        self._dtype = dtype
        self._max_rows = max_rows
        self._start_timeout_s = start_timeout_s
        self._passed_on = dict(passed_on or {})

    @contextmanager
    def start(self, base: Path) -> Generator[EngineClient]:
        """Start an engine process on a base folder; stops it on exit.

        Raises:
            EngineFailed: it ended or kept silent while starting; quotes its last words.
        """
        token = secrets.token_urlsafe(32)
        with tempfile.TemporaryDirectory(prefix="tunewright-engine-") as folder:
            log = Path(folder) / "stderr.txt"
            process = self._spawn(base, Path(folder), log, token)
            try:
                port = self._wait_ready(process, log)
                diagnose = lambda: _last_words(process, log)  # noqa: E731  (a closure over this process)
                url = f"http://127.0.0.1:{port}"
                with EngineClient(url, token, diagnose=diagnose, scratch=Path(folder)) as client:
                    yield client
            finally:
                _stop(process)

    def _spawn(self, base: Path, folder: Path, log: Path, token: str) -> "subprocess.Popen[bytes]":
        options = {
            "--base": str(base.absolute()),
            "--port": "0",
            "--threads": str(self._threads),
            "--dtype": self._dtype,
            "--max-rows": str(self._max_rows),
            "--parent": str(os.getpid()),
            "--scratch": str(folder),
        }
        with log.open("wb") as stderr:
            return subprocess.Popen(
                [
                    sys.executable,
                    "-P",
                    "-m",
                    SERVER_MODULE,
                    *(word for pair in options.items() for word in pair),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                cwd=folder,
                env=worker_environment(folder, self._threads) | self._passed_on | {TOKEN_VARIABLE: token},
                start_new_session=True,  # Ctrl-C reaches the parent only, which stops the engine in order
            )

    def _wait_ready(self, process: "subprocess.Popen[bytes]", log: Path) -> int:
        """Read the line that names the port."""
        timer = threading.Timer(self._start_timeout_s, process.kill)
        timer.daemon = True
        timer.start()
        line = cast("IO[bytes]", process.stdout).readline()
        timed_out = not timer.is_alive()
        timer.cancel()
        try:
            return int(json.loads(line)["port"])
        except (ValueError, KeyError, TypeError) as error:
            process.kill()
            process.wait()
            waited = f" It was given {self._start_timeout_s:g} s." if timed_out else ""
            raise EngineFailed(f"the engine did not start.{waited} {_last_words(process, log)}") from error


def _last_words(process: "subprocess.Popen[bytes]", log: Path) -> str:
    """Say how the process is and what it wrote last."""
    try:
        code = process.wait(DYING_S)
    except subprocess.TimeoutExpired:
        code = None
    state = "It is still running." if code is None else f"It ended with code {code}."
    try:
        tail = log.read_text("utf-8", errors="replace")[-TAIL_CHARACTERS:].strip()
    except OSError:
        tail = ""
    return f"{state} Its last words: {tail}" if tail else state


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """End the process in order, else by force, and close its pipes."""
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
