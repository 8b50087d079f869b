"""Third part of the crash drill: the engine is killed while clients wait for it."""

import asyncio
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise

from tunewright.app import open_app
from tunewright.drills.crash_result import UnderLoad
from tunewright.drills.gateway_client import Target
from tunewright.drills.processes import Gateway, engine_of, serving
from tunewright.drills.traffic import Answered, Habits, Question, SimulatedUsers, Traffic
from tunewright.live_ports import Traces
from tunewright.ports import Progress
from tunewright.records import Trace
from tunewright.settings import Settings
from tunewright.values import utc_now

MAX_TOKENS = 24
STORE_S = 30.0
"""How long closed traces may take to be stored; the gateway writes them within 50 ms."""
_NEWEST = 10_000


@dataclass(slots=True)
class _Killer:
    """Kills the engine once, after so many answers; confined to one event loop."""

    gateway: Gateway
    after: int
    victim: int | None = None
    killed_at: datetime | None = None
    answered_s: list[float] = field(default_factory=list[float])
    """When each answer came, by the monotonic clock."""

    def note(self, answered: Answered) -> None:
        """Take note of an answer; kill when it is time."""
        self.answered_s.append(time.monotonic())
        if self.victim is None and len(self.answered_s) >= self.after:
            self.victim = engine_of(self.gateway)
            self.killed_at = utc_now()
            os.kill(self.victim, signal.SIGKILL)

    @property
    def longest_pause_s(self) -> float:
        """Longest time between two answers."""
        return max((late - early for early, late in pairwise(self.answered_s)), default=0.0)


def kill_engine_under_load(
    settings: Settings, requests: int, concurrency: int, kill_after: int, progress: Progress
) -> UnderLoad:
    """Serve the base, send requests, kill the engine in between, and see what clients and traces say.

    Args:
        settings: a scratch workspace.
        requests: sent in all, half of them streamed.
        concurrency: clients that wait at the same time.
        kill_after: answers after which the engine is killed.
        progress: is told what happens.

    Raises:
        EngineFailed: the gateway did not start.
    """
    progress.start("crash drill: engine killed under load", requests, "requests")
    with open_app(settings, progress) as app, serving(settings) as gateway:
        secret = app.keys.add("caller", "drill", "none").secret
        target = Target(gateway.url, secret, "base", max_tokens=MAX_TOKENS)
        killer = _Killer(gateway, kill_after)
        traffic = asyncio.run(
            _users(kill_after).send(target, requests, concurrency=concurrency, on_answer=killer.note)
        )
        found = _look(app.live.traces, traffic, killer)
    progress.finish(
        f"{found.answered} of {found.requests} requests were answered with {found.client_retries} retries"
    )
    return found


def _users(seed: int) -> SimulatedUsers:
    questions = [
        Question(({"role": "user", "content": f"tell me about the number {number}"},), "")
        for number in range(97)
    ]
    return SimulatedUsers(seed, questions, lambda answer, truth: True, Habits(rate=0.0, stream=0.5))


def _look(traces: Traces, traffic: Traffic, killer: _Killer) -> UnderLoad:
    """Read what the gateway stored, once it has had time to store it."""
    answered = [one.trace for one in traffic.answered]
    deadline_s = time.monotonic() + STORE_S
    while (lost := _lost(traces, answered)) and time.monotonic() < deadline_s:
        time.sleep(0.1)
    stored = traces.newest(limit=_NEWEST)
    return UnderLoad(
        requests=traffic.requests,
        answered=len(answered),
        failed_requests=len(traffic.failures),
        client_retries=traffic.retries,
        in_flight=sum(_waited(trace, killer.killed_at) for trace in stored),
        engine_restarted=_has_new_engine(killer),
        longest_pause_s=killer.longest_pause_s,
        interrupted=sum(trace.status == "interrupted" for trace in stored),
        traces_lost=lost,
    )


def _lost(traces: Traces, answered: Sequence[str]) -> int:
    """Count answered requests whose trace is missing, or not closed well."""
    closed = {trace.id for trace in traces.newest(limit=_NEWEST) if trace.status == "ok" and trace.closed_at}
    return sum(trace not in closed for trace in answered)


def _waited(trace: Trace, at: datetime | None) -> bool:
    """Say whether a request had begun and not ended at a time."""
    return at is not None and trace.at <= at and (trace.closed_at is None or trace.closed_at > at)


def _has_new_engine(killer: _Killer) -> bool:
    return killer.victim is not None and engine_of(killer.gateway) != killer.victim
