"""The rollback drill: a bad candidate, waived past the gate, falls under live traffic by itself.

`drill_rollback` works on any workspace with a champion and a running gateway; `run_rollback_drill` makes both
in a scratch workspace first. The rollout, its statistics and the gateway are the real ones; only the users
are simulated.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from tunewright.app import App, open_app
from tunewright.core.references import get_record
from tunewright.deploy.policy import policy_of
from tunewright.deploy.rollout import history, last_state
from tunewright.deploy.transitions import words_of
from tunewright.drills.gateway_client import Target
from tunewright.drills.processes import serving
from tunewright.drills.rollback_result import RollbackResult, fall_of, fate_of
from tunewright.drills.scratch import scratch
from tunewright.drills.shuffled import make_bad_candidate
from tunewright.drills.small_shop import desk_questions, make_champion, same_text
from tunewright.drills.traffic import Answered, SimulatedUsers, Traffic
from tunewright.pipeline.rollout_start import start_with
from tunewright.ports import Progress
from tunewright.recipe import Recipe
from tunewright.records import LIVE_PHASES, EvalReport, ModelVersion, Rollout, Trace
from tunewright.settings import Settings

LOOK_EVERY_S = 0.1
AFTER_S = 1.5
"""Traffic goes on for so long after the decision, to see that none of it reaches the candidate."""

STORE_S = 10.0
_TELL_EVERY = 50


@dataclass(frozen=True, slots=True)
class RollbackPlan:
    """Sizes of the drill."""

    bad_steps: int = 60
    """Optimiser steps of the bad candidate."""
    max_requests: int = 1500
    """After so many the drill gives up waiting for a decision."""
    concurrency: int = 8
    seed: int = 20261120


def run_rollback_drill(
    settings: Settings, progress: Progress, *, plan: RollbackPlan | None = None
) -> RollbackResult:
    """Make a small champion in a scratch workspace, serve it, and run the drill on it.

    Args:
        settings: threads, accelerator, base cache and actor; its workspace is not touched.
        progress: is told what happens.
        plan: sizes.

    Raises:
        TrainingError, EngineFailed, StorageError: the machine could not run it.
    """
    plan, started_s = plan or RollbackPlan(), time.monotonic()
    with scratch(settings, "rollback") as places, open_app(places, progress) as app:
        recipe, champion = make_champion(app, seed=plan.seed)
        with serving(places) as gateway:
            secret = app.keys.add("caller", "drill", "none").secret
            target = Target(gateway.url, secret, champion.ref.name, max_tokens=recipe.gate.max_new_tokens)
            users = SimulatedUsers(plan.seed, desk_questions(plan.seed), same_text)
            return drill_rollback(app, recipe, target, users, plan=plan, started_s=started_s)


def drill_rollback(
    app: App,
    recipe: Recipe,
    target: Target,
    users: SimulatedUsers,
    *,
    plan: RollbackPlan,
    started_s: float | None = None,
) -> RollbackResult:
    """Make a bad candidate for the champion of a workspace, roll it out, and watch it fall.

    Args:
        app: the workspace; `recipe.name` has a champion.
        recipe: the champion's; its `deploy` section rules the rollout.
        target: the running gateway of this workspace.
        users: who ask it.
        plan: sizes.
        started_s: when the drill began, by the monotonic clock; absent: now.

    Raises:
        UsageError: there is no champion, another rollout is live, or the gate passed the bad candidate.
        TrainingError, EngineFailed, StorageError: the machine could not run it.
    """
    started_s = time.monotonic() if started_s is None else started_s
    ports = app.ports
    alias = ports.records.alias(recipe.name, "champion").target
    champion = app.models.find(str(alias) if alias else recipe.name)
    bad = make_bad_candidate(recipe, champion, ports, seed=plan.seed, max_steps=plan.bad_steps)
    rollout, _ = start_with(bad, policy_of(recipe), ports)
    ports.progress.start(f"rollback drill: {bad.ref} against {champion.ref}", plan.max_requests, "requests")
    watch = _Watch(app, rollout)
    sending = users.send(
        target,
        plan.max_requests,
        concurrency=plan.concurrency,
        until=watch.is_over,
        on_answer=watch.note,
    )
    traffic = asyncio.run(sending)
    result = _result(app, rollout, traffic, watch, wall_s=time.monotonic() - started_s)
    ports.progress.finish(
        f"{result.outcome.replace('_', ' ')} after {result.fall.exposed} exposed users: {result.reason}"
    )
    return result


class _Watch:
    """Knows when a rollout was decided; reads the registry at most every LOOK_EVERY_S."""

    def __init__(self, app: App, rollout: Rollout) -> None:
        self._records = app.ports.records
        self._progress = app.ports.progress
        self._rollout = rollout
        self._looked_s = self._seen_s = float("-inf")
        self._answers = 0
        self.decided_at: datetime | None = None

    def note(self, answered: Answered) -> None:
        """Count an answer, and tell how far the rollout is."""
        self._answers += 1
        if self._answers % _TELL_EVERY == 0:
            state = last_state(self._records, self._rollout.ref)
            self._progress.update(self._answers, f"{words_of(state.phase)}, {state.share:.0%} of users")

    def is_over(self) -> bool:
        """Say whether the decision is AFTER_S old."""
        now_s = time.monotonic()
        if self.decided_at is None and now_s - self._looked_s > LOOK_EVERY_S:
            self._looked_s = now_s
            self._look(now_s)
        return self.decided_at is not None and now_s - self._seen_s > AFTER_S

    def _look(self, now_s: float) -> None:
        if last_state(self._records, self._rollout.ref).phase not in LIVE_PHASES:
            last = history(self._records, self._rollout.ref)[-1]
            self.decided_at, self._seen_s = last.at, now_s


def _settled(app: App, rollout: Rollout) -> Sequence[Trace]:
    """Read the rollout's traces once the gateway has stored how each of them ended."""
    deadline_s = time.monotonic() + STORE_S
    while True:
        traces = app.live.traces.of_rollout(rollout.ref)
        if all(trace.closed_at for trace in traces) or time.monotonic() > deadline_s:
            return traces
        time.sleep(LOOK_EVERY_S)


def _result(app: App, rollout: Rollout, traffic: Traffic, watch: _Watch, *, wall_s: float) -> RollbackResult:
    records = app.ports.records
    state = last_state(records, rollout.ref)
    fall = fall_of(_settled(app, rollout), watch.decided_at)
    right = traffic.right_by_digest
    candidate = get_record(records, ModelVersion, rollout.candidate)
    return RollbackResult(
        outcome=fate_of(state),
        rollout=str(rollout.ref),
        candidate=str(rollout.candidate),
        incumbent=str(rollout.incumbent),
        reason=state.reason,
        fall=fall,
        requests=traffic.requests,
        failed_requests=len(traffic.failures),
        gate_verdict=get_record(records, EvalReport, candidate.evaluation).verdict,
        right_incumbent=right.get(rollout.incumbent_digest),
        right_candidate=right.get(rollout.candidate_digest),
        wall_s=wall_s,
    )
