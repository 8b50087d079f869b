"""What the gateway adds to an answer, beside the engine alone and beside haproxy, in one run."""

import gc
import shutil
import socket
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from bench_processes import child, cpu_s, first_key, haproxy, machine, quantile
from canned_engine import TOKEN
from wire_client import CHAT, Timing, open_loop, post, run

TARGET_P50_S, TARGET_P99_S = 0.001, 0.005
WARM_UP = 150
DIRECT, PROXY, GATEWAY = "direct", "haproxy", "gateway"
PROMPT = "I ordered two bags of the house blend last week and one of them arrived open. " * 3


@dataclass(frozen=True)
class Load:
    """How much is asked, and how often."""

    rate: float = 300.0
    seconds: float = 4.0
    rounds: int = 4


@dataclass(frozen=True)
class Figures:
    """One arm, streamed or not; seconds."""

    arm: str
    is_stream: bool
    n: int
    failed: int
    p50_s: float
    p99_s: float
    first_p50_s: float
    first_p99_s: float
    added_p50_s: float
    """Over direct."""
    added_p99_s: float


@dataclass(frozen=True)
class Overhead:
    """Everything measured."""

    machine: str
    rate: float
    rounds: int
    gateway_cpu_share: float
    """Of one core, while it answered."""
    figures: tuple[Figures, ...]

    @property
    def is_met(self) -> bool:
        """Whether whole answers keep both targets."""
        ours = [one for one in self.figures if one.arm == GATEWAY and not one.is_stream]
        return all(
            one.added_p50_s <= TARGET_P50_S and one.added_p99_s <= TARGET_P99_S and not one.failed
            for one in ours
        )

    def to_json(self) -> Mapping[str, object]:
        """Dump to plain JSON values."""
        return asdict(self) | {"is_met": self.is_met}

    def text(self) -> str:
        """Print as a table."""
        lines = [
            f"{self.rate:g} requests a second, {self.rounds} alternating rounds; {self.machine}",
            f"gateway: {self.gateway_cpu_share:.2f} of one core while it answered; times in milliseconds",
            f"{'':<20}{'n':>6} {'failed':>6} {'p50':>7} {'p99':>8} {'first p50':>10} {'first p99':>10} "
            f"{'added p50':>10} {'added p99':>10}",
        ]
        for one in self.figures:
            times = (one.p50_s, one.p99_s, one.first_p50_s, one.first_p99_s, one.added_p50_s, one.added_p99_s)
            widths = (7, 8, 10, 10, 10, 10)
            cells = " ".join(f"{1e3 * t:>{w}.2f}" for t, w in zip(times, widths, strict=True))
            name = f"{one.arm}{', stream' if one.is_stream else ''}"
            lines.append(f"{name:<20}{one.n:>6} {one.failed:>6} {cells}")
        if not any(one.arm == PROXY for one in self.figures):
            lines.append("haproxy: skipped, it is not installed")
        verdict = "met" if self.is_met else "MISSED"
        lines.append(f"target p50 <= 1 ms and p99 <= 5 ms added to whole answers: {verdict}")
        return "\n".join(lines)


def measure_overhead(load: Load, profile: Path | None = None) -> Overhead:
    """Measure all arms in turns."""
    timings: dict[tuple[str, bool], list[Timing]] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tunewright-bench-")))
        engine = stack.enter_context(child("canned_engine.py", []))
        words = [f"--workspace={folder / 'w'}", f"--keys={folder / 'k'}", f"--engine-port={engine.port}"]
        words += [f"--profile={profile}"] if profile else []
        gateway = stack.enter_context(child("canned_gateway.py", words))
        arms = {DIRECT: (engine.port, TOKEN)}
        if shutil.which("haproxy"):
            port = _free_port()
            stack.enter_context(haproxy(engine.port, port))
            arms[PROXY] = (port, TOKEN)
        arms[GATEWAY] = (gateway.port, first_key(gateway))
        busy_s = spent_s = 0.0
        for _ in range(load.rounds):
            for is_stream in (False, True):
                for arm, (port, secret) in arms.items():
                    before_s = cpu_s(gateway.pid)
                    found = _round(port, _requests(secret, is_stream=is_stream), load)
                    timings.setdefault((arm, is_stream), []).extend(found)
                    if arm == GATEWAY:
                        busy_s += load.seconds + WARM_UP / load.rate
                        spent_s += cpu_s(gateway.pid) - before_s
        return Overhead(machine(), load.rate, load.rounds, spent_s / busy_s, tuple(_figures(timings)))


def _round(port: int, request_of: Callable[[int], bytes], load: Load) -> list[Timing]:
    number = WARM_UP + int(load.rate * load.seconds)
    gc.collect()
    gc.disable()  # a collection here would be counted as somebody else's delay
    try:
        return run(open_loop(port, request_of, rate=load.rate, number=number))[WARM_UP:]
    finally:
        gc.enable()


def _requests(secret: str, *, is_stream: bool) -> Callable[[int], bytes]:
    def request_of(index: int) -> bytes:
        fields: dict[str, object] = {
            "model": "base",
            "messages": [{"role": "user", "content": PROMPT}],
            "max_tokens": 32,
            "user": f"user-{index % 50}",
        }
        if is_stream:
            fields |= {"stream": True}
        return post(CHAT, secret, fields)

    return request_of


def _figures(timings: dict[tuple[str, bool], list[Timing]]) -> list[Figures]:
    found: list[Figures] = []
    for (arm, is_stream), of_arm in sorted(timings.items(), key=lambda item: item[0][1]):
        direct = [one.last_s for one in timings[DIRECT, is_stream]]
        whole, first = [one.last_s for one in of_arm], [one.first_s for one in of_arm]
        p50_s, p99_s = quantile(whole, 0.5), quantile(whole, 0.99)
        found.append(
            Figures(
                arm=arm,
                is_stream=is_stream,
                n=len(of_arm),
                failed=sum(one.status != 200 for one in of_arm),
                p50_s=p50_s,
                p99_s=p99_s,
                first_p50_s=quantile(first, 0.5),
                first_p99_s=quantile(first, 0.99),
                added_p50_s=p50_s - quantile(direct, 0.5),
                added_p99_s=p99_s - quantile(direct, 0.99),
            )
        )
    return found


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])
