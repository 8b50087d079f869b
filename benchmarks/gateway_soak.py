"""Mixed traffic for long against the gateway: does its memory grow, and is a trace lost?"""

import asyncio
import random
import sqlite3
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path

import orjson

from bench_processes import Child, child, first_key, machine, resident_mb
from wire_client import CHAT, FEEDBACK, TEXT, Answer, Connections, get, post, run

SEED = 20261120
REFUSED, HUNG_UP, RATED = 0.02, 0.01, 0.05
STREAMED, TEXTS = 0.3, 0.2
"""Of the requests that are neither refused nor hung up on."""

FEW_BYTES = 200
"""A request may leave so much behind over the second half: a leak of one small object each shows."""
NOISE_MB = 4.0
"""What an allocator may keep whatever happens."""

MARKS = (0.1, 0.5, 1.0)
SETTLE_S = 5.0


@dataclass(frozen=True)
class Soak:
    """Everything measured."""

    machine: str
    requests: int
    seconds: float
    answered: int
    hung_up: int
    rated: int
    statuses: dict[str, int]
    memory_mb: dict[str, float]
    """Share of the requests sent -> resident memory of the gateway."""
    admitted: int
    """Requests that the gateway counted at their end."""
    stored: int
    """Traces in the store that are closed."""
    unknown: int
    """Traces that a client was told of and the store does not know."""
    counted_lost: int
    store_mb: float

    @property
    def growth_mb(self) -> float:
        """Memory that the second half added."""
        return self.memory_mb["1"] - self.memory_mb["0.5"]

    @property
    def bound_mb(self) -> float:
        """What it may have added."""
        return max(NOISE_MB, FEW_BYTES * self.requests / 2 / 2**20)

    @property
    def lost(self) -> int:
        """Requests without a trace."""
        return max(self.admitted - self.stored, self.unknown, self.counted_lost)

    @property
    def is_met(self) -> bool:
        """Whether nothing was lost, nothing failed, and memory stayed."""
        expected = set(self.statuses) <= {"200", "400", "404"}
        return self.lost == 0 and self.growth_mb <= self.bound_mb and expected

    def to_json(self) -> Mapping[str, object]:
        """Dump to plain JSON values."""
        judged = {"growth_mb": self.growth_mb, "bound_mb": self.bound_mb, "lost": self.lost}
        return asdict(self) | judged | {"is_met": self.is_met}

    def text(self) -> str:
        """Print line by line."""
        memory = ", ".join(f"{100 * float(at):.0f} %: {mb:.1f} MB" for at, mb in self.memory_mb.items())
        return "\n".join(
            [
                f"{self.requests} requests in {self.seconds:.0f} s ({self.requests / self.seconds:.0f}/s); "
                f"{self.machine}",
                f"answered {self.answered}, hung up on {self.hung_up}, feedback on {self.rated}; "
                f"replies by status: {self.statuses}",
                f"memory of the gateway after {memory}; the second half added {self.growth_mb:.1f} MB, "
                f"bound {self.bound_mb:.1f} MB",
                f"requests admitted {self.admitted}, traces stored {self.stored}, told but not stored "
                f"{self.unknown}, counted as lost {self.counted_lost}; traces.db {self.store_mb:.1f} MB",
                f"nothing lost, nothing failed, memory within bound: {'met' if self.is_met else 'MISSED'}",
            ]
        )


@dataclass
class Tally:
    """What the clients saw."""

    statuses: Counter[int] = field(default_factory=Counter[int])
    traces: list[str] = field(default_factory=list[str])
    hung_up: int = 0
    rated: int = 0
    memory_mb: dict[str, float] = field(default_factory=dict[str, float])


def measure_soak(requests: int, concurrency: int) -> Soak:
    """Send mixed traffic, as fast as answers come."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tunewright-bench-")))
        engine = stack.enter_context(child("canned_engine.py", []))
        words = [f"--workspace={folder / 'w'}", f"--keys={folder / 'k'}", f"--engine-port={engine.port}"]
        gateway = stack.enter_context(child("canned_gateway.py", words))
        tally, started_s = Tally(), time.monotonic()
        run(_send(gateway, requests, concurrency, tally))
        seconds = time.monotonic() - started_s
        time.sleep(SETTLE_S)  # for what clients hung up on, and the last commit
        figures = run(_metrics(gateway))
        store = folder / "w" / "traces.db"
        stored, unknown = _compare(store, tally.traces)
        return Soak(
            machine=machine(),
            requests=requests,
            seconds=seconds,
            answered=len(tally.traces),
            hung_up=tally.hung_up,
            rated=tally.rated,
            statuses={str(status): number for status, number in sorted(tally.statuses.items())},
            memory_mb=tally.memory_mb,
            admitted=int(figures["tunewright_requests_total"]),
            stored=stored,
            unknown=unknown,
            counted_lost=int(figures["tunewright_traces_lost_total"]),
            store_mb=sum(one.stat().st_size for one in store.parent.glob("traces.db*")) / 2**20,
        )


async def _send(gateway: Child, requests: int, concurrency: int, tally: Tally) -> None:
    connections, numbers = Connections(gateway.port), iter(range(requests))
    marks = {int(share * requests): f"{share:g}" for share in MARKS}
    done = 0

    async def work() -> None:
        nonlocal done
        for number in numbers:
            await _one(connections, first_key(gateway), random.Random(SEED + number), tally)
            done += 1
            if done in marks:
                tally.memory_mb[marks[done]] = resident_mb(gateway.pid)

    await asyncio.gather(*[work() for _ in range(concurrency)])
    connections.close()


async def _one(connections: Connections, secret: str, draw: random.Random, tally: Tally) -> None:
    kind = draw.random()
    if kind < REFUSED:
        answer = await connections.ask(_wrong(secret, draw))
        tally.statuses[answer.status] += 1
    elif kind < REFUSED + HUNG_UP:
        tally.hung_up += 1
        request = post(CHAT, secret, _fields(draw) | {"stream": True})
        await connections.hang_up(request, after_s=draw.uniform(0, 0.01))
    else:
        await _ask(connections, secret, draw, tally)


async def _ask(connections: Connections, secret: str, draw: random.Random, tally: Tally) -> None:
    form, fields = draw.random(), _fields(draw)
    if form < TEXTS:
        del fields["messages"]
        answer = await connections.ask(post(TEXT, secret, fields | {"prompt": _words(draw)}))
    else:
        is_stream = form < TEXTS + STREAMED
        answer = await connections.ask(post(CHAT, secret, fields | {"stream": is_stream}))
    tally.statuses[answer.status] += 1
    if answer.status != 200:
        return
    told = _told(answer)
    tally.traces.append(told["trace"])
    if draw.random() < RATED:
        rating = {"trace": told["trace"], "token": told["feedback_token"], "author": fields["user"]}
        said = await connections.ask(post(FEEDBACK, secret, rating | _opinion(draw)))
        tally.statuses[said.status] += 1
        tally.rated += said.status == 200


def _fields(draw: random.Random) -> dict[str, object]:
    system = {"role": "system", "content": "Answer as the shop."}
    return {
        "model": "base",
        "messages": [system, {"role": "user", "content": _words(draw)}],
        "max_tokens": 32,
        "user": f"user-{draw.randrange(100_000)}",
    }


def _words(draw: random.Random) -> str:
    return " ".join(draw.choices("house blend order bag late open warm cup send again".split(), k=60))


def _wrong(secret: str, draw: random.Random) -> bytes:
    """Write a request that must be refused before it is admitted."""
    changes: list[dict[str, object]] = [{"model": "nobody"}, {"n": 10**4}, {"api_base": "http://x"}]
    return post(CHAT, secret, _fields(draw) | draw.choice(changes))


def _opinion(draw: random.Random) -> dict[str, object]:
    choices: list[dict[str, object]] = [
        {"kind": "thumb", "value": draw.choice(["up", "down"])},
        {"kind": "rating", "value": draw.randint(1, 5)},
        {"kind": "edit", "text": "It arrives on Wednesday."},
    ]
    return draw.choice(choices)


def _told(answer: Answer) -> dict[str, str]:
    """Read the field `tunewright` of a whole answer, or of a stream's first event."""
    body = answer.body
    if body.startswith(b"data:"):
        body = body[5:].split(b"\n\n", 1)[0]
    return orjson.loads(body)["tunewright"]


async def _metrics(gateway: Child) -> dict[str, float]:
    """Sum /metrics over labels."""
    answer = await Connections(gateway.port).ask(get("/metrics", first_key(gateway, "operator")))
    figures: dict[str, float] = {}
    for name, value in _samples(answer.body.decode()):
        figures[name] = figures.get(name, 0.0) + value
    return figures


def _samples(text: str) -> Iterator[tuple[str, float]]:
    for line in text.splitlines():
        if not line.startswith("#"):
            labelled, _, value = line.rpartition(" ")
            yield labelled.partition("{")[0], float(value)


def _compare(store: Path, told: list[str]) -> tuple[int, int]:
    """Count the closed traces, and those that a client was told of and that are not stored."""
    connection = sqlite3.connect(f"file:{store}?mode=ro", uri=True)
    stored = {one for (one,) in connection.execute("SELECT id FROM traces WHERE status <> 'open'")}
    connection.close()
    return len(stored), len(set(told) - stored)
