"""The demo's live half: simulated customers drive a rollout and correct answers, which come back as data."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tunewright.app import App
from tunewright.demo.customers import is_right, live_questions
from tunewright.demo.shop import make_shop
from tunewright.deploy.rollout import find_rollout, history, last_state, step_of
from tunewright.drills.gateway_client import Target
from tunewright.drills.processes import Gateway
from tunewright.drills.traffic import Habits, Question, SimulatedUsers, Traffic
from tunewright.ports import Progress
from tunewright.records import LIVE_PHASES, DatasetVersion, Harvest, LedgerEvent, Rollout, RolloutState
from tunewright.values import Ref

SEED = 41
MAX_REQUESTS = 1500
"""Traffic ends here when the rollout is still open; it takes about 1,100 requests."""
CONCURRENCY = 6
"""Below the number of live requests from which the gateway mirrors nothing to a shadow."""
CHUNK = 50
"""Requests between two lines of progress."""

CUSTOMERS = Habits(rate=0.9, slip=0.02, correct=0.3, returning=0.1, stream=0.2)
APPROVAL_NOTE = "simulated operator: the correction is the order as the shop's staff would write it"
OPERATOR = "simulated-operator"


@dataclass(frozen=True, slots=True)
class CanaryDone:
    """How a rollout ended under traffic."""

    rollout: Rollout
    state: RolloutState
    steps: tuple[LedgerEvent, ...]
    requests: int
    """Requests that customers sent while it was open."""
    traffic: Traffic
    """Empty where the rollout had ended before."""

    @property
    def outcome(self) -> str:
        """promoted, rolled_back or held."""
        return self.state.phase if self.state.phase in ("promoted", "rolled_back") else "held"


@dataclass(frozen=True, slots=True)
class FlywheelDone:
    """What came back from production."""

    approved: int
    harvest: Harvest | None
    dataset: DatasetVersion
    kept: int
    """Harvested rows that are in the new dataset version."""


def shop_customers(*, seed: int = SEED, count: int = MAX_REQUESTS) -> SimulatedUsers:
    """Make customers whose questions stand in none of the shop's files."""
    asked = [
        Question(({"role": "user", "content": question.said},), question.order)
        for question in live_questions(make_shop(), count, seed=seed)
    ]
    return SimulatedUsers(seed, asked, lambda answer, truth: is_right(truth, answer), CUSTOMERS)


def front_desk(app: App, gateway: Gateway, name: str) -> Target:
    """Make an API key for the customers and say where they ask."""
    return Target(gateway.url, app.keys.add("caller", "shop", "review").secret, name)


def drive_rollout(app: App, target: Target, rollout: Ref, progress: Progress) -> CanaryDone:
    """Send customers until a rollout has ended, or the traffic has."""

    def is_over() -> bool:
        return last_state(app.ports.records, rollout).phase not in LIVE_PHASES

    progress.start(f"canary {rollout}", MAX_REQUESTS, "requests")
    customers, traffic = shop_customers(), Traffic()
    while not is_over() and traffic.requests < MAX_REQUESTS:
        traffic += customers.run(target, CHUNK, concurrency=CONCURRENCY, until=is_over)
        progress.update(traffic.requests, last_state(app.ports.records, rollout).reason)
    done = _ended(app, rollout, traffic)
    progress.finish(f"rollout {rollout}: {done.outcome} after {done.requests} requests")
    return done


def turn_the_flywheel(app: App, recipe: Path, progress: Progress) -> FlywheelDone:
    """Approve corrections as an operator would, harvest them, and make the next dataset version."""
    progress.start("feedback")
    pending = [one.feedback.id for one in app.feedback.list(kind="edit", limit=None)]
    if pending:
        app.feedback.approve(pending, note=APPROVAL_NOTE, reviewer=OPERATOR)
    harvest = app.feedback.harvest(recipe)
    progress.finish(f"{len(pending)} corrections approved, {harvest.rows if harvest else 0} harvested")
    outcome, _ = app.run(recipe, until="curate")
    return FlywheelDone(len(pending), harvest, outcome.dataset, _kept(outcome.dataset, harvest))


def _kept(dataset: DatasetVersion, harvest: Harvest | None) -> int:
    sources = [one for one in dataset.sources if harvest is not None and one.digest == harvest.blob]
    return sum(one.rows_kept for one in sources)


def _ended(app: App, rollout: Ref, traffic: Traffic) -> CanaryDone:
    records = app.ports.records
    stored = app.live.traces.of_rollout(rollout)
    return CanaryDone(
        rollout=find_rollout(records, rollout),
        state=last_state(records, rollout),
        steps=tuple(history(records, rollout)),
        requests=sum(trace.shadow_of is None for trace in stored),
        traffic=traffic,
    )


def step_rows(steps: Sequence[LedgerEvent]) -> list[list[str]]:
    """Lay a rollout's steps out as a table: time, what, share, why."""
    rows: list[list[str]] = []
    for event in steps:
        step = step_of(event)
        share = float(str(step.get("share", 0)))
        rows.append(
            [f"{event.at:%H:%M:%S}", str(step.get("action")), f"{share:.0%}", str(step.get("reason"))]
        )
    return rows
