"""Child processes of a benchmark: started, waited for until they say that they are ready, and ended."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import psutil

HERE = Path(__file__).parent
END_S = 60.0


@dataclass(frozen=True, slots=True)
class Child:
    """A process that is ready."""

    pid: int
    ready: dict[str, object]
    """The line it printed."""

    @property
    def port(self) -> int:
        """Where it listens."""
        port = self.ready["port"]
        assert isinstance(port, int)
        return port


@contextmanager
def child(script: str, words: Sequence[str]) -> Generator[Child]:
    """Run a script beside this file until the block is left; its standard error is ours."""
    process = subprocess.Popen(
        [sys.executable, str(HERE / script), *words], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None, "it was started with a pipe"
        line = process.stdout.readline()
        if not line.startswith("{"):
            sys.exit(f"{script} did not start; it said {line!r}")
        yield Child(process.pid, json.loads(line))
    finally:
        _end(process)


@contextmanager
def haproxy(engine_port: int, port: int) -> Generator[None]:
    """Run haproxy with one thread in front of the engine."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "haproxy.cfg"
        config.write_text(
            "global\n  nbthread 1\n  maxconn 1000\n"
            "defaults\n  mode http\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n"
            "  option http-keep-alive\n  http-reuse always\n"
            f"frontend in\n  bind 127.0.0.1:{port}\n  default_backend engine\n"
            f"backend engine\n  server one 127.0.0.1:{engine_port}\n",
            encoding="utf-8",
        )
        process = subprocess.Popen(["haproxy", "-db", "-f", str(config)], stderr=subprocess.DEVNULL)
        try:
            time.sleep(1.0)
            yield
        finally:
            _end(process)


def _end(process: "subprocess.Popen[str] | subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


def first_key(gateway: Child, role: str = "caller") -> str:
    """Read the secret of a key that the gateway made on its first start."""
    keys = cast("dict[str, str]", gateway.ready["keys"])
    return keys[role]


def resident_mb(pid: int) -> float:
    """Memory of a process that is in RAM now."""
    return psutil.Process(pid).memory_info().rss / 2**20


def cpu_s(pid: int) -> float:
    """CPU time of a process so far, all threads."""
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def machine() -> str:
    """Say on what this runs, and how busy it is."""
    model = "unknown processor"
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.split(":", 1)[1] for line in info.read_text().splitlines() if "model name" in line]
        model = names[0].strip() if names else model
    load = "/".join(f"{one:.1f}" for one in os.getloadavg())
    return f"{os.cpu_count()} cores ({model}), Python {sys.version.split()[0]}, load average {load}"


@contextmanager
def copied(workspace: Path, keys: Path) -> Generator[tuple[Path, Path]]:
    """Copy a workspace and its keys to a scratch folder, which is removed in the end."""
    with tempfile.TemporaryDirectory(prefix="tunewright-bench-") as folder:
        there = Path(folder) / "workspace", Path(folder) / "keys"
        for old, new in zip((workspace, keys), there, strict=True):
            shutil.copytree(old, new, ignore=shutil.ignore_patterns("runs", "reports"))
        yield there


def quantile(values: Sequence[float], share: float) -> float:
    """Smallest value that a share of all values does not exceed."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(share * len(ranked)))]
