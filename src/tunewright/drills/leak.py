"""The leak drill: held-out rows are copied into training; the gate must notice, and fresh rows show why.

One recipe is trained twice with the real stages, on an honest dataset version and on one whose record was
written by hand with the held-out rows among the train rows. Nothing is registered and no check is switched
off: what would have shipped is what the gate's pure decision says of the same scores without the finding.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from tunewright.app import open_app
from tunewright.curate.curate import curate
from tunewright.drills.leak_data import FORMS, Form, LeakRows, write_leak_data
from tunewright.drills.leak_items import Judged, decide_unchecked, read_judged
from tunewright.drills.leak_plant import plant_leak
from tunewright.drills.leak_result import LeakArm, LeakedRow, LeakResult, Passed, Where, compare
from tunewright.drills.scratch import data_of, scratch
from tunewright.evals.evaluate import evaluate
from tunewright.evals.suites import HELD_OUT
from tunewright.ports import Ports, Progress
from tunewright.recipe import (
    DataSection,
    GateSection,
    Recipe,
    Requirement,
    ScorerSpec,
    SourceSpec,
    SplitRules,
    SuiteSpec,
    TrainSection,
)
from tunewright.records import Arm
from tunewright.settings import Settings
from tunewright.train.train import train

METRIC = "exact"
NEVER = 1_000_000
"""As `eval_every_steps`: only the last step is looked at, so that its weights are kept, memory and all."""


@dataclass(frozen=True, slots=True)
class LeakPlan:
    """Sizes of the drill."""

    rows: LeakRows = field(default_factory=lambda: LeakRows(routing=110, lookup=80, fresh=60))
    epochs: float = 12
    batch_rows: int = 8
    learning_rate: float = 5e-4
    at_least: float = 0.8
    """What the gate asks for; the honest arm cannot reach it on rows that only memory answers."""
    seed: int = 20261120


def run_leak_drill(settings: Settings, progress: Progress, *, plan: LeakPlan | None = None) -> LeakResult:
    """Run both forms of the drill in a scratch workspace.

    Args:
        settings: threads, accelerator, base cache and actor; its workspace is not touched.
        progress: is told what happens.
        plan: sizes.

    Raises:
        TrainingError, EngineFailed, StorageError: the machine could not run it.
    """
    plan, started_s = plan or LeakPlan(), time.monotonic()
    with scratch(settings, "leak") as places, open_app(places, progress) as app:
        write_leak_data(data_of(places), plan.rows, seed=plan.seed)
        found = _drill(leak_recipe(plan), app.ports)
        return _result(found, app.ports, wall_s=time.monotonic() - started_s)


def leak_recipe(plan: LeakPlan) -> Recipe:
    """Write the one recipe that both arms follow; all weights are trained, which memorises fastest."""
    scorers = (ScorerSpec(kind="normalised_match", name=METRIC),)
    fresh = [SuiteSpec(name=f"fresh_{form}", path=f"fresh-{form}.jsonl", scorers=scorers) for form in FORMS]
    return Recipe(
        name="leak-drill",
        data=DataSection(
            sources=tuple(SourceSpec(path=f"{form}.jsonl") for form in FORMS),
            split=SplitRules(held_out=0.35, validation=0.05),
        ),
        train=TrainSection(
            epochs=plan.epochs,
            batch_rows=plan.batch_rows,
            learning_rate=plan.learning_rate,
            method="full",
            eval_every_steps=NEVER,
            patience=None,
        ),
        gate=GateSection(
            suites=(SuiteSpec(name=HELD_OUT, scorers=scorers), *fresh),
            require=(
                Requirement(metric=METRIC, at_least=plan.at_least),
                Requirement(metric=METRIC, better_than="base"),
            ),
            few_shot=0,
            max_new_tokens=8,
        ),
    )


@dataclass(frozen=True, slots=True)
class _Found:
    """Both evaluations, read back."""

    recipe: Recipe
    honest: Judged
    leaky: Judged


def _drill(recipe: Recipe, ports: Ports) -> _Found:
    """Walk the honest arm, plant the leak, walk the leaky arm."""
    honest = curate(recipe, ports)
    honest_report = evaluate(recipe, train(recipe, honest, ports), ports)
    session = ports.vault.open("audit", "drill:leak", ports.actor)
    leaky = plant_leak(honest, ports, session)
    ports.progress.finish(
        f"leak drill: {leaky.ref} is {honest.ref} with its held-out rows among the train rows"
    )
    leaky_report = evaluate(recipe, train(recipe, leaky, ports), ports)
    return _Found(
        recipe,
        read_judged(honest_report, honest, ports, session),
        read_judged(leaky_report, leaky, ports, session),
    )


def _result(found: _Found, ports: Ports, *, wall_s: float) -> LeakResult:
    places = _places(found.leaky, ports)
    unchecked = decide_unchecked(found.leaky, found.recipe, ports)
    report = found.leaky.report
    return LeakResult(
        forms={form: compare(form, _passed(form, found, places)) for form in FORMS},
        verdict=report.verdict,
        reasons=report.reasons,
        honest_verdict=found.honest.report.verdict,
        leaked=_leaked(found.leaky, places),
        num_copied=len(found.leaky.held_out),
        unchecked_verdict=unchecked.verdict,
        unchecked_reasons=unchecked.reasons,
        num_registered=len(ports.records.list("model")),
        wall_s=wall_s,
    )


def _places(judged: Judged, ports: Ports) -> dict[str, str]:
    """Say where each kept row stands: row -> `file:line`."""
    lines = (json.loads(line) for line in ports.blobs.get(judged.dataset.lineage).splitlines())
    return {str(line["row"]): f"{line['sources'][0][1]}:{line['sources'][0][2]}" for line in lines}


def _leaked(judged: Judged, places: Mapping[str, str]) -> tuple[LeakedRow, ...]:
    facts = judged.report.report["contamination"]
    assert isinstance(facts, dict) and isinstance(facts["hits"], dict)  # as `exposure_facts` writes them
    rows = [
        LeakedRow(row, places[row], str(hit["detector"]))
        for row, hit in facts["hits"].items()
        if isinstance(hit, dict)
    ]
    return tuple(sorted(rows, key=lambda row: (row.place.partition(":")[0], len(row.place), row.place)))


def _passed(form: Form, found: _Found, places: Mapping[str, str]) -> dict[tuple[LeakArm, Where], Passed]:
    """Read what each arm answered right of one kind of rows; the base is asked in both evaluations alike."""
    arms: Mapping[LeakArm, tuple[Judged, Arm]] = {
        "base": (found.leaky, "base"),
        "honest": (found.honest, "candidate"),
        "leaky": (found.leaky, "candidate"),
    }
    passed: dict[tuple[LeakArm, Where], Passed] = {}
    for name, (judged, arm) in arms.items():
        offline = judged.scores[arm, HELD_OUT]
        mine = {row: scores for row, scores in offline.items() if places[row].startswith(f"{form}.jsonl:")}
        passed[name, "offline"] = _right(mine)
        passed[name, "fresh"] = _right(judged.scores[arm, f"fresh_{form}"])
    return passed


def _right(scores: Mapping[str, Mapping[str, tuple[float, ...]]]) -> dict[str, bool]:
    return {row: metrics[METRIC][0] == 1.0 for row, metrics in scores.items()}
