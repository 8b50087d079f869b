"""How often rollouts decide rightly, and how soon: simulated units through the product's own decision.

    python benchmarks/canary_truth.py [--runs 200] [--seed 1] [--cells null,...] [--json FILE]

Each run assigns units, folds their outcomes and asks `next_step` after every five of them, from the first
stage of the ramp to a decision or 6,000 units. What varies is the live scorer `score:quality`; five
guardrails share alpha. Beside it, on the same units: the rules people use instead.
"""

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from math import log, sqrt
from pathlib import Path

from tunewright.core.eprocess import NO_EVIDENCE, bet_worse, expected_outcome, log_e, update
from tunewright.core.stats import wilson_interval
from tunewright.deploy.assignment import Seen, assign
from tunewright.deploy.canary import next_step
from tunewright.deploy.evidence import Unit, extend_units, start_evidence
from tunewright.records import LiveScorer, Rollout, RolloutPolicy, RolloutState
from tunewright.recipe import DeploySection
from tunewright.values import Digest, Ref

QUALITY = "score:quality"
POLL = 5
START = datetime(2026, 1, 1, tzinfo=UTC)
Z_ALPHA = 2.326
"""One-sided .01, as a person would test once."""


@dataclass(frozen=True)
class Cell:
    """One world and what its candidate is like."""

    name: str
    incumbent: float = 0.05
    candidate: float = 0.05
    cost: float = 0.05
    """Chance of a slow answer, and of a long one, on both arms: 5 % by definition of the p95."""
    ramp: tuple[float, ...] = (0.01, 0.05, 0.25, 0.5, 1.0)
    min_units: int = DeploySection.model_fields["min_units"].default
    outage_share: float | None = None
    """From this share of traffic on, everyone's rate is three times as high."""
    users: int = 0
    """Returning users, heavy ones first; 0: every unit is new."""
    rated: float = 0.0
    """Share of units whose quality is seen, as feedback only; 0: a live scorer sees every one."""
    max_units: int = 6_000


CELLS = (
    Cell("null, 5 % bad"),
    Cell("null, 5 %, only quality varies", cost=0.0),
    Cell("null, 20 %, only quality varies", 0.2, 0.2, cost=0.0),
    Cell("better, 20 -> 10 %, only quality varies", 0.2, 0.1, cost=0.0),
    Cell("better, 20 -> 10 %, ramp 5/25/50", 0.2, 0.1, cost=0.0, ramp=(0.05, 0.25, 0.5, 1.0)),
    Cell("bad, 10 -> 60 %", 0.1, 0.6),
    Cell("bad, 10 -> 60 %, ramp 5/25/50", 0.1, 0.6, ramp=(0.05, 0.25, 0.5, 1.0)),
    Cell("+5 points, 5 -> 10 %", 0.05, 0.1),
    Cell("+20 points, 5 -> 25 %", 0.05, 0.25),
    Cell("outage triples everyone's rate from 25 % on", min_units=500, outage_share=0.25),
    Cell("returning users, heavy spread", users=2_000, min_units=500),
    Cell("+5 points, seen by feedback on 3 %", 0.05, 0.1, rated=0.03),
)


@dataclass
class Arms:
    """Counts of a pooled z-test: [incumbent, candidate]."""

    num: list[int] = field(default_factory=lambda: [0, 0])
    bad: list[float] = field(default_factory=lambda: [0.0, 0.0])

    def add(self, is_candidate: bool, outcome: float) -> None:
        self.num[is_candidate] += 1
        self.bad[is_candidate] += outcome

    def is_worse(self) -> bool:
        if min(self.num) < 20:
            return False
        pooled = sum(self.bad) / sum(self.num)
        error = sqrt(pooled * (1 - pooled) * sum(1 / num for num in self.num))
        return error > 0 and (self.bad[1] / self.num[1] - self.bad[0] / self.num[0]) / error > Z_ALPHA


@dataclass(frozen=True)
class Run:
    """How one rollout ended."""

    outcome: str
    units: int
    exposed: int
    z_alarm: bool
    """A pooled z-test, looked at every 50 requests, would have rolled back."""
    request_alarm: bool
    """So would the same betting test fed with every request as if users were drawn anew each time."""


def rollout_of(cell: Cell, salt: str) -> Rollout:
    """Make the rollout of a cell, by the recipe's defaults."""
    deploy = DeploySection(ramp=cell.ramp, min_units=cell.min_units, feedback_required=cell.rated > 0)
    fields = {name: getattr_of(deploy)[name] for name in RolloutPolicy.model_fields if name != "live_scorers"}
    scorers = (LiveScorer(kind="quality", name="quality"),)
    return Rollout(
        ref=Ref("sim", 1), fingerprint=Digest("f" * 64), candidate=Ref("sim", 2),
        candidate_digest=Digest("c" * 64), incumbent=Ref("sim", 1), incumbent_digest=Digest("a" * 64),
        salt=salt, policy=RolloutPolicy.model_validate(fields | {"live_scorers": scorers}), started_at=START,
    )  # fmt: skip


def getattr_of(deploy: DeploySection) -> dict[str, object]:
    return deploy.model_dump()


class World:
    """Users and their outcomes, by one seed."""

    def __init__(self, cell: Cell, seed: int) -> None:
        self.cell = cell
        self.rng = random.Random(seed)
        spread = [self.rng.betavariate(0.05 * 0.4, 0.95 * 0.4) for _ in range(cell.users)]
        self.rates = spread

    def arrivals(self) -> Iterator[tuple[str, float]]:
        """Yield each request's user and, for returning users, the user's own rate."""
        place = 0
        while True:
            place += 1
            if self.cell.users:
                user = int(self.cell.users * self.rng.random() ** 3)
                yield f"u{user}", self.rates[user]
            else:
                yield f"r{place}", -1.0

    def outcomes(self, is_candidate: bool, share: float, own_rate: float) -> dict[str, float | None]:
        """Draw what one answer brings."""
        cell, rng = self.cell, self.rng
        rate = cell.candidate if is_candidate else cell.incumbent
        rate = own_rate if own_rate >= 0 else rate
        if cell.outage_share is not None and share >= cell.outage_share:
            rate = min(1.0, 3 * rate)
        bad = float(rng.random() < rate)
        found: dict[str, float | None] = {"errors": 0.0, QUALITY: None if cell.rated else bad}
        found |= {name: float(rng.random() < cell.cost) for name in ("latency", "output_tokens")}
        if cell.rated and rng.random() < cell.rated:
            found["feedback"] = bad
        return found


def simulate(cell: Cell, seed: int) -> Run:
    """Take one rollout from its first stage to a decision, or to the last unit."""
    rollout, world = rollout_of(cell, f"{cell.name}:{seed}"), World(cell, seed)
    evidence, seen, waiting, arms = start_evidence(rollout), dict[str, Seen](), list[Unit](), Arms()
    state = RolloutState(
        rollout=rollout.ref, phase="ramp", stage=0, share=cell.ramp[0], revision=1, since=START,
        deadline=START + timedelta(days=7), reason="simulated",
    )  # fmt: skip
    exposed, z_alarm, naive = 0, False, (NO_EVIDENCE, 0, 0.0)
    for place, (user, own_rate) in enumerate(world.arrivals(), start=1):
        arm = assign(rollout, state, user, seen.get(user))
        is_candidate = arm.arm == "candidate"
        outcomes = world.outcomes(is_candidate, state.share, own_rate)
        exposed += is_candidate
        if arm.p is not None and arm.stage is not None:
            seen[user] = Seen(arm.stage, arm.arm)
            waiting.append(Unit(arm.stage, is_candidate, arm.p, outcomes))
        bad = outcomes[QUALITY]
        if bad is not None:
            arms.add(is_candidate, bad)
            naive = bet_every_request(naive, is_candidate, state.share, bad) if cell.users else naive
        if place % 50 == 0:
            z_alarm = z_alarm or arms.is_worse()
        if place % POLL:
            continue
        evidence, waiting = extend_units(evidence, waiting), []
        step = next_step(rollout, state, evidence, START + timedelta(seconds=place))
        if step.action == "advance":
            state = state.model_copy(update={"stage": step.stage, "share": step.share})
        elif step.action != "wait" or place >= cell.max_units:
            outcome = {"promote": "promoted", "roll_back": "rolled_back", "hold": "held"}
            alarm = naive[0].peak >= log(5 / 0.01)
            return Run(outcome.get(step.action, "undecided"), sum(evidence.units), exposed, z_alarm, alarm)
    raise AssertionError("arrivals never end")


def bet_every_request(
    naive: tuple, is_candidate: bool, share: float, bad: float
) -> tuple:
    """Feed the same test with one more request, forgetting that its user was assigned long ago."""
    process, num, total = naive
    bet = bet_worse(
        is_candidate=is_candidate, p=share, outcome=bad, expected=expected_outcome(num, total), delta=0.0
    )
    process = update(process, bet, scale=4 * share)
    return process, num + (not is_candidate), total + (0.0 if is_candidate else bad)
