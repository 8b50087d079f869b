"""How often rollouts decide rightly, and how soon: simulated units through the product's own decision.

    python benchmarks/canary_truth.py [--runs 200] [--seed 1] [--cells null,...] [--json FILE]

Each run assigns units, folds their outcomes and asks `next_step` after every five of them, from the first
stage of the ramp to a decision, or to the last unit. What varies is the live scorer `score:quality`; five
guardrails and two shadow comparisons share alpha. Beside it: the rules people use instead.
"""

import argparse
import json
import random
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from math import log, sqrt
from pathlib import Path

from tunewright.core.eprocess import NO_EVIDENCE, EProcess, bet_worse, expected_outcome, update
from tunewright.core.stats import wilson_interval
from tunewright.deploy.assignment import Seen, assign
from tunewright.deploy.canary import next_step
from tunewright.deploy.evidence import Unit, extend_units, start_evidence
from tunewright.recipe import DeploySection
from tunewright.records import LiveScorer, Rollout, RolloutPolicy, RolloutState
from tunewright.values import Digest, Ref

QUALITY = "score:quality"
ALPHA = 0.01
POLL, LOOK_EVERY = 5, 50
"""Requests between two looks, of ours and of the z-test."""
OUTCOMES = {"promote": "promoted", "roll_back": "rolled_back", "hold": "held"}
PEERS = "6,000 pairs, 5 % bad, no difference"
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
    Cell("+5 points, 1,500 units a stage", 0.05, 0.1, min_units=1_500, max_units=12_000),
    Cell("+20 points, 5 -> 25 %", 0.05, 0.25),
    Cell("+20 points, 1,500 units a stage", 0.05, 0.25, min_units=1_500, max_units=12_000),
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
    given = deploy.model_dump()
    fields = {name: given[name] for name in RolloutPolicy.model_fields if name != "live_scorers"}
    scorers = (LiveScorer(kind="quality", name="quality"),)
    return Rollout(
        ref=Ref("sim", 1), fingerprint=Digest("f" * 64), candidate=Ref("sim", 2),
        candidate_digest=Digest("c" * 64), incumbent=Ref("sim", 1), incumbent_digest=Digest("a" * 64),
        salt=salt, policy=RolloutPolicy.model_validate(fields | {"live_scorers": scorers}), started_at=START,
    )  # fmt: skip


class World:
    """Users and their outcomes, by one seed."""

    def __init__(self, cell: Cell, seed: int) -> None:
        self.cell = cell
        self.rng = random.Random(seed)
        self.rates = [self.rng.betavariate(0.05 * 0.4, 0.95 * 0.4) for _ in range(cell.users)]

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
    exposed, z_alarm, every = 0, False, EveryRequest()
    for place, (user, own_rate) in enumerate(world.arrivals(), start=1):
        arm = assign(rollout, state, user, seen.get(user))
        is_candidate = arm.arm == "candidate"
        outcomes = world.outcomes(is_candidate, state.share, own_rate)
        exposed += is_candidate
        if arm.p is not None and arm.stage is not None:
            seen[user] = Seen(arm.stage, arm.arm)
            waiting.append(Unit(arm.stage, is_candidate, arm.p, outcomes))
        bad = outcomes.get("feedback") if cell.rated else outcomes[QUALITY]
        if bad is not None:
            arms.add(is_candidate, bad)
            every.add(is_candidate, state.share, bad)
        if place % LOOK_EVERY == 0:
            z_alarm = z_alarm or arms.is_worse()
        if place % POLL:
            continue
        evidence, waiting = extend_units(evidence, waiting), []
        step = next_step(rollout, state, evidence, START + timedelta(seconds=place))
        if step.action == "advance":
            state = state.model_copy(update={"stage": step.stage, "share": step.share})
        elif step.action != "wait" or place >= cell.max_units:
            outcome = OUTCOMES.get(step.action, "undecided")
            return Run(outcome, sum(evidence.units), exposed, z_alarm, every.process.peak >= log(1 / ALPHA))
    raise AssertionError("arrivals never end")


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


def share(count: int, total: int) -> str:
    """Write a share with its 95 % Monte Carlo interval."""
    low, high = wilson_interval(count, total)
    return f"{count / total:.1%} ({low:.1%} to {high:.1%})"


def line(cell: Cell, runs: list[Run]) -> str:
    """Write one row of the table."""
    total = len(runs)
    ends = [
        share(sum(run.outcome == outcome for run in runs), total) for outcome in ("promoted", "rolled_back")
    ]
    units, exposed = (sorted(column) for column in ([r.units for r in runs], [r.exposed for r in runs]))
    middle, high = total // 2, int(0.9 * total)
    naive = [share(sum(r.z_alarm for r in runs), total), share(sum(r.request_alarm for r in runs), total)]
    figures = [f"{units[middle]:,} / {units[high]:,}", f"{exposed[middle]:,} / {exposed[high]:,}"]
    return "| " + " | ".join([cell.name, *ends, *figures, *naive]) + " |"


def main() -> None:
    """Run the cells and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=200, help="rollouts a cell")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cells", default="", help="only cells whose name holds this text")
    parser.add_argument("--json", type=Path, help="write every run here")
    options = parser.parse_args()
    began, seeds = time.process_time(), range(options.seed * 10_000, options.seed * 10_000 + options.runs)
    print("| world | promoted | rolled back | units, median / p90 | exposed | peeked z | each request |")
    print("|---|---|---|---|---|---|---|")
    kept: dict[str, object] = {}
    for cell in [cell for cell in CELLS if options.cells in cell.name]:
        runs = [simulate(cell, seed) for seed in seeds]
        kept[cell.name] = [asdict(run) for run in runs]
        print(line(cell, runs), flush=True)
    if options.cells in PEERS:
        found = [peers(seed) for seed in seeds]
        kept[PEERS] = found
        rules = ("1.5x in three windows", "peeked z-test", "betting, alpha .01")
        counts = [sum(one[place] for one in found) for place in range(len(rules))]
        rates = [f"{rule} {share(count, len(found))}" for rule, count in zip(rules, counts, strict=True)]
        print(f"\n{PEERS}: {'; '.join(rates)}")
    print(f"\n{options.runs} runs a cell, seed {options.seed}, {time.process_time() - began:.0f} CPU seconds")
    if options.json:
        options.json.write_text(json.dumps(kept), encoding="utf-8")


if __name__ == "__main__":
    main()
