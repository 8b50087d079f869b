"""The rollback drill: a bad candidate, waived past the gate, falls under live traffic by itself.

`drill_rollback` works on any workspace with a champion and a running gateway; `run_rollback_drill` makes both
in a scratch workspace first. The rollout, its statistics and the gateway are the real ones; only the users are
simulated.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from tunewright.app import App, open_app
from tunewright.core.references import get_record
from tunewright.deploy.policy import policy_of
from tunewright.deploy.rollout import history, last_state, step_of
from tunewright.drills.gateway_client import Target
from tunewright.drills.processes import serving
from tunewright.drills.rollback_result import Fall, RollbackResult, fall_of, fate_of
from tunewright.drills.scratch import scratch
from tunewright.drills.shuffled import make_bad_candidate
from tunewright.drills.small_shop import make_champion, routing_questions, same_text
from tunewright.drills.traffic import SimulatedUsers, Traffic
from tunewright.pipeline.rollout_start import start_with
from tunewright.ports import Progress
from tunewright.recipe import Recipe
from tunewright.records import LIVE_PHASES, EvalReport, ModelVersion, Rollout
from tunewright.settings import Settings

LOOK_EVERY_S = 0.1
AFTER_S = 1.5
"""Traffic goes on for so long after the decision, to see that none of it reaches the candidate."""

STORE_S = 10.0


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
            users = SimulatedUsers(plan.seed, routing_questions(plan.seed), same_text)
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
    traffic = asyncio.run(_send(users, target, plan, watch))
    fall = _settle(app, rollout, watch.decided_at)
    result = _result(app, rollout, bad, traffic, fall, wall_s=time.monotonic() - started_s)
    ports.progress.finish(
        f"{result.outcome.replace('_', ' ')} after {fall.exposed} exposed users: {result.reason}"
    )
    return result
