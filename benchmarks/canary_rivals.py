"""The rules people use instead of a betting e-process; for `canary_truth.py`."""

import random
from dataclasses import dataclass, field
from math import log, sqrt

from tunewright.core.eprocess import NO_EVIDENCE, EProcess, bet_worse, expected_outcome, update

ALPHA = 0.01
LOOK_EVERY = 50
"""Requests between two looks at the z-test."""
PEERS = "6,000 pairs, 5 % bad, no difference"
Z_ALPHA = 2.326
"""One-sided .01, as a person would test once."""


@dataclass
class Arms:
    """Counts of a pooled z-test: [incumbent, candidate]."""

    num: list[int] = field(default_factory=lambda: [0, 0])
    bad: list[float] = field(default_factory=lambda: [0.0, 0.0])

    def add(self, is_candidate: bool, outcome: float) -> None:
        """Count one outcome."""
        self.num[is_candidate] += 1
        self.bad[is_candidate] += outcome

    def is_worse(self) -> bool:
        """Say whether a one-sided test at .01, looked at now, calls the candidate worse."""
        if min(self.num) < 20:
            return False
        pooled = sum(self.bad) / sum(self.num)
        error = sqrt(pooled * (1 - pooled) * sum(1 / num for num in self.num))
        return error > 0 and (self.bad[1] / self.num[1] - self.bad[0] / self.num[0]) / error > Z_ALPHA


@dataclass
class EveryRequest:
    """The same test fed with every request at p = share, forgetting that users were assigned long ago."""

    process: EProcess = NO_EVIDENCE
    num: int = 0
    bad: float = 0.0

    def add(self, is_candidate: bool, p: float, outcome: float) -> None:
        """Take in one request."""
        expected = expected_outcome(self.num, self.bad)
        bet = bet_worse(is_candidate=is_candidate, p=p, outcome=outcome, expected=expected, delta=0.0)
        self.process = update(self.process, bet, scale=4 * p)
        if not is_candidate:
            self.num, self.bad = self.num + 1, self.bad + outcome


def peers(seed: int, pairs: int = 6_000, rate: float = 0.05, window: int = 100) -> tuple[bool, bool, bool]:
    """Compare equal arms for 6,000 units each; say which rule rolls the candidate back.

    Returns:
        "1.5 times the incumbent's rate in three windows" of 100 answers an arm, the peeked z-test, ours (one
        guardrail, alpha .01).
    """
    rng, arms, ours, part, high, z_alarm = random.Random(seed), Arms(), EveryRequest(), Arms(), 0, False
    for place in range(1, 2 * pairs + 1):
        is_candidate, bad = place % 2 == 0, float(rng.random() < rate)
        arms.add(is_candidate, bad)
        part.add(is_candidate, bad)
        ours.add(rng.random() < 0.5, 0.5, bad)
        if place % LOOK_EVERY == 0:
            z_alarm = z_alarm or arms.is_worse()
        if place % (2 * window) == 0:
            high += part.bad[1] > 1.5 * part.bad[0]
            part = Arms()
    return high >= 3, z_alarm, ours.process.peak >= log(1 / ALPHA)
