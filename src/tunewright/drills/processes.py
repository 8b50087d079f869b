"""Commands of the product as processes of their own, as a terminal starts them; and how to kill them."""

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import psutil

from tunewright.errors import EngineFailed, WorkerFailed
from tunewright.settings import Settings

logger = logging.getLogger(__name__)

START_S = 300.0
END_S = 120.0
COMMAND = "tunewright.cli.main"
ENGINE_MODULE = "tunewright.backends.engine.server"
_POLL_S = 0.02
_TAIL_CHARACTERS = 1000


@dataclass(frozen=True, slots=True)
class Gateway:
    """A running `tunewright serve`."""

    url: str
    """Such as http://127.0.0.1:8080."""
    process: int
    """Its process id."""


@contextmanager
def running(
    settings: Settings, module: str, words: Sequence[str], *, errors: Path
) -> "Generator[subprocess.Popen[str]]":
    """Run `python -m module WORDS` on a workspace; whatever of it still runs on exit is killed.

    Args:
        settings: the workspace, keys, data and threads it works with.
        module: such as `tunewright.cli.main`.
        words: its arguments.
        errors: file for standard error.
    """
    with (
        errors.open("w", encoding="utf-8") as stderr,
        subprocess.Popen(
            [sys.executable, "-m", module, *words],
            env=environment_of(settings),
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            start_new_session=True,  # Ctrl-C reaches the drill only, which ends what it started
        ) as process,
    ):
        try:
            yield process
        finally:
            kill_family(process)


def environment_of(settings: Settings) -> dict[str, str]:
    """Write settings as the environment of a command."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TUNEWRIGHT_")}
    told = {
        "TUNEWRIGHT_HOME": str(settings.workspace),
        "TUNEWRIGHT_CONFIG": str(settings.config_dir),
        "TUNEWRIGHT_RECORDS": settings.records_url,
        "TUNEWRIGHT_BLOBS": settings.blobs_url,
        "TUNEWRIGHT_THREADS": str(settings.threads),
        "TUNEWRIGHT_ACTOR": settings.actor,
    }
    if settings.data_root is not None:
        told["TUNEWRIGHT_DATA"] = str(settings.data_root)
    return inherited | told


def finish(process: "subprocess.Popen[str]", errors: Path, what: str) -> str:
    """Wait for a command that must end well; returns its standard output.

    Raises:
        WorkerFailed: it did not; quotes its last words.
    """
    shown, _ = process.communicate(timeout=START_S)
    if process.returncode != 0:
        raise WorkerFailed(f"{what} ended with code {process.returncode}; expected 0. {last_words(errors)}")
    return shown


def last_words(errors: Path) -> str:
    """Quote the end of a command's standard error."""
    return f"Its last words: {errors.read_text('utf-8', errors='replace')[-_TAIL_CHARACTERS:].strip()}"


def kill_family(process: "subprocess.Popen[str]") -> int:
    """Kill a command that runs, with all that it started (SIGKILL); returns the number of processes killed.

    One that has ended is left alone: its number may belong to somebody else by now.
    """
    if process.poll() is not None:
        return 0
    started = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    killed = 1
    for one in started:
        try:
            one.kill()
            killed += 1
        except psutil.NoSuchProcess:
            continue
    process.wait()
    psutil.wait_procs(started, timeout=END_S)
    return killed


def engine_of(gateway: Gateway) -> int:
    """Find the process id of a gateway's engine. Raises EngineFailed when it has none."""
    try:
        children = psutil.Process(gateway.process).children()
        engines = [child.pid for child in children if ENGINE_MODULE in child.cmdline()]
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        engines = []
    if not engines:
        raise EngineFailed(f"the gateway at {gateway.url} has no engine process; expected one")
    return engines[0]


def wait_until(holds: Callable[[], object], limit_s: float, what: str) -> None:
    """Look every 20 ms until something holds. Raises WorkerFailed when it never does."""
    end_s = time.monotonic() + limit_s
    while not holds():
        if time.monotonic() > end_s:
            raise WorkerFailed(f"waited {limit_s:.0f} s for {what} in vain")
        time.sleep(_POLL_S)


@contextmanager
def serving(settings: Settings) -> Generator[Gateway]:
    """Run `tunewright serve` on a free port of this machine; ends it in order on exit.

    Raises:
        EngineFailed: it did not start; quotes its last words.
    """
    settings.workspace.mkdir(parents=True, exist_ok=True)
    errors = settings.workspace / "serve.txt"
    with running(settings, COMMAND, ["serve", "--port=0", "--json"], errors=errors) as process:
        assert process.stdout is not None, "it was started with a pipe"
        line = process.stdout.readline()
        if not line.startswith("{"):
            raise EngineFailed(f"the gateway did not start. {last_words(errors)}")
        ready = cast("dict[str, object]", json.loads(line))
        try:
            yield Gateway(str(ready["url"]), process.pid)
        finally:
            _end(process)


def _end(process: "subprocess.Popen[str]") -> None:
    """Ask it to end in order; whoever started it kills what remains after END_S."""
    process.terminate()
    try:
        process.wait(END_S)
    except subprocess.TimeoutExpired:
        logger.warning("the gateway did not end within %g s and is killed", END_S)
