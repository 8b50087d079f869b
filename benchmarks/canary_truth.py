"""How often rollouts decide rightly, and how soon: simulated units through the product's own decision.

    python benchmarks/canary_truth.py [--runs 200] [--seed 1] [--jobs 2] [--cells null] [--json FILE]

Each run goes from shadow to a decision, or to the last unit: mirrored pairs as traces through `extend`, then
units by `assign`; `next_step` is asked after every five. What varies is the live scorer `score:quality`; five
guardrails share alpha. Exposed counts users' requests only. Beside it: the rules people use instead.
"""

import argparse
import json
import os
import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from math import log
from pathlib import Path

from canary_rivals import ALPHA, LOOK_EVERY, PEERS, Arms, EveryRequest, peers
from tunewright.core.stats import wilson_interval
from tunewright.deploy.assignment import Seen, assign
from tunewright.deploy.canary import Step, next_step
from tunewright.deploy.evidence import Evidence, Unit, extend, extend_units, start_evidence
from tunewright.recipe import DeploySection
from tunewright.records import LiveScorer, Rollout, RolloutPolicy, RolloutState, Trace
from tunewright.values import Digest, Ref

QUALITY = "score:quality"
POLL = 5
"""Requests, or mirrored pairs, between two decisions."""
OUTCOMES = {"promote": "promoted", "roll_back": "rolled_back", "hold": "held"}
START = datetime(2026, 1, 1, tzinfo=UTC)


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
    shadow_requests: int = DeploySection.model_fields["shadow_requests"].default
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
    Cell("+5 points, 5 -> 10 %", 0.05, 0.1, max_units=8_000),
    Cell("+5 points, 300 mirrored requests", 0.05, 0.1, shadow_requests=300, max_units=8_000),
    Cell("+20 points, 5 -> 25 %", 0.05, 0.25),
    Cell("outage triples everyone's rate from 25 % on", min_units=500, outage_share=0.25),
    Cell("returning users, heavy spread", users=2_000, min_units=500),
    Cell("+5 points, seen by feedback on 3 %", 0.05, 0.1, rated=0.03),
)


@dataclass(frozen=True)
class Run:
    """How one rollout ended."""

    outcome: str
    units: int
    exposed: int
    in_shadow: bool
    """It ended before any user was exposed."""
    z_alarm: bool
    """A pooled z-test, looked at every 50 requests, would have rolled back."""
    request_alarm: bool
    """So would the same betting test fed with every request as if users were drawn anew each time."""


def rollout_of(cell: Cell, salt: str) -> Rollout:
    """Make the rollout of a cell, by the recipe's defaults."""
    deploy = DeploySection(
        ramp=cell.ramp, min_units=cell.min_units, shadow_requests=cell.shadow_requests,
        feedback_required=cell.rated > 0,
    )  # fmt: skip
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


def mirrored(rollout: Rollout, seq: int, user: str, found: Sequence[dict[str, float | None]]) -> list[Trace]:
    """Make the traces of a request and its mirrored twin."""
    traces: list[Trace] = []
    for place, (arm, outcomes) in enumerate(zip(("incumbent", "candidate"), found, strict=True)):
        bad = outcomes[QUALITY]
        fields = {
            "id": f"tr_{seq + place:032x}", "seq": seq + place, "at": START, "tenant": "sim", "unit": user,
            "asked": "sim", "name": "sim", "rollout": rollout.ref, "arm": arm, "status": "ok",
            "digest": rollout.candidate_digest if place else rollout.incumbent_digest, "latency_s": 0.1,
            "num_tokens": 10, "scores": {} if bad is None else {"quality": 1.0 - bad}, "closed_at": START,
            "retain_until": START, "shadow_of": traces[0].id if place else None,
        }  # fmt: skip
        traces.append(Trace.model_validate(fields))
    return traces


def shadow(rollout: Rollout, world: "World", arrivals: Iterator[tuple[str, float]]) -> tuple[Evidence, Step]:
    """Mirror requests until the shadow phase ends: the step is `advance` or `roll_back`."""
    evidence, step, seq = start_evidence(rollout), None, 1
    state = RolloutState(
        rollout=rollout.ref, phase="shadow", stage=0, share=0.0, revision=1, since=START,
        deadline=START + timedelta(days=7), reason="simulated",
    )  # fmt: skip
    while step is None or step.action == "wait":
        traces: list[Trace] = []
        for _ in range(POLL):
            user, own_rate = next(arrivals)
            found = [world.outcomes(is_candidate, 0.0, own_rate) for is_candidate in (False, True)]
            traces += mirrored(rollout, seq, user, found)
            seq += 2
        evidence = extend(evidence, traces, (), state, START)
        step = next_step(rollout, state, evidence, START)
    return evidence, step


def simulate(cell: Cell, seed: int) -> Run:
    """Take one rollout from shadow to a decision, or to the last unit."""
    rollout, world = rollout_of(cell, f"{cell.name}:{seed}"), World(cell, seed)
    arrivals = world.arrivals()
    evidence, step = shadow(rollout, world, arrivals)
    if step.action != "advance":
        return Run(OUTCOMES[step.action], 0, 0, in_shadow=True, z_alarm=False, request_alarm=False)
    seen, waiting, arms = dict[str, Seen](), list[Unit](), Arms()
    state = RolloutState(
        rollout=rollout.ref, phase="ramp", stage=0, share=step.share, revision=2, since=START,
        deadline=START + timedelta(days=7), reason="simulated", baseline=step.baseline,
    )  # fmt: skip
    exposed, z_alarm, every = 0, False, EveryRequest()
    for place, (user, own_rate) in enumerate(arrivals, start=1):
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
            request_alarm = every.process.peak >= log(1 / ALPHA)
            return Run(outcome, sum(evidence.units), exposed, False, z_alarm, request_alarm)
    raise AssertionError("arrivals never end")


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
    in_shadow = f"{sum(run.in_shadow for run in runs) / total:.1%}"
    return "| " + " | ".join([cell.name, *ends, in_shadow, *figures, *naive]) + " |"


def main() -> None:
    """Run the cells and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=200, help="rollouts a cell")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--cells", default="", help="only cells whose name holds this text")
    parser.add_argument("--json", type=Path, help="write every run here")
    options = parser.parse_args()
    seeds = range(options.seed * 10_000, options.seed * 10_000 + options.runs)
    print("| world | promoted | rolled back | in shadow | units | exposed | peeked z | each request |")
    print("|---|---|---|---|---|---|---|---|")
    kept: dict[str, object] = {}
    with ProcessPoolExecutor(options.jobs) as pool:
        for cell in [cell for cell in CELLS if options.cells in cell.name]:
            runs = list(pool.map(partial(simulate, cell), seeds, chunksize=5))
            kept[cell.name] = [asdict(run) for run in runs]
            print(line(cell, runs), flush=True)
    if options.cells in PEERS:
        found = [peers(seed) for seed in seeds]
        kept[PEERS] = found
        rules = ("1.5x in three windows", "peeked z-test", "betting, alpha .01")
        counts = [sum(one[place] for one in found) for place in range(len(rules))]
        rates = [f"{rule} {share(count, len(found))}" for rule, count in zip(rules, counts, strict=True)]
        print(f"\n{PEERS}: {'; '.join(rates)}")
    print(f"\n{options.runs} runs a cell, seed {options.seed}, {sum(os.times()[:4]):.0f} CPU seconds")
    if options.json:
        options.json.write_text(json.dumps(kept), encoding="utf-8")


if __name__ == "__main__":
    main()
