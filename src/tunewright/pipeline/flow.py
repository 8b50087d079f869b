"""READ THIS FIRST: the stages, in order.

curate -> train -> evaluate -> register -> roll out. Each stage takes the recipe, the record before it and
the ports, and returns one frozen, committed record; a stage whose fingerprint is known returns what is
stored. The rollout begins here, in shadow; a running gateway moves it on. Stages never import each other;
this file alone knows the order.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tunewright.curate.curate import curate
from tunewright.deploy.policy import live_scorers_of
from tunewright.evals.evaluate import evaluate
from tunewright.evals.inputs import read_suite_files
from tunewright.evals.planner import reachable_verdict
from tunewright.evals.suites import check_gate
from tunewright.pipeline.harvested import with_harvests
from tunewright.pipeline.rollout_start import begin_rollout
from tunewright.ports import Ports
from tunewright.recipe import Recipe
from tunewright.records import DatasetVersion, EvalReport, ModelVersion, Rollout, RolloutState, TrainingRun
from tunewright.registry.register import register
from tunewright.registry.waive import is_waived
from tunewright.train.train import train

FEW_ROWS = 1000
"""Rows below which people are told what so few can prove."""

Stage = Literal["curate", "train", "evaluate", "register"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one walk through the factory made; absent is what the walk did not reach."""

    dataset: DatasetVersion
    run: TrainingRun | None = None
    report: EvalReport | None = None
    model: ModelVersion | None = None
    """Absent as well when the gate did not pass and nobody waived it."""
    rollout: Rollout | None = None
    """Of this model against the champion; absent without a champion and where none starts by itself."""
    rollout_state: RolloutState | None = None
    """Where the rollout stood when the walk ended."""
    next: str = ""
    """What happens to the model next, in words; empty without a model."""


def run_recipe(recipe: Recipe, ports: Ports, *, harvest_dir: Path, until: Stage = "register") -> Outcome:
    """Walk a recipe from raw files to a registered model, re-using whatever is made already."""
    check_gate(recipe.gate)  # a typing mistake there must not cost a training
    live_scorers_of(recipe)
    if until != "curate":
        ports.bases.resolve(recipe.train.base)
        read_suite_files(recipe.gate, ports)
    dataset = curate(with_harvests(recipe, ports, harvest_dir), ports)
    _say_what_is_reachable(recipe, dataset, ports)
    if until == "curate":
        return Outcome(dataset)
    run = train(recipe, dataset, ports)
    if until == "train":
        return Outcome(dataset, run)
    report = evaluate(recipe, run, ports)
    may_register = report.verdict == "pass" or is_waived(report, ports)
    if until == "evaluate" or not may_register:
        return Outcome(dataset, run, report)
    model = register(recipe, report, ports)
    begun = begin_rollout(recipe, model, ports)
    return Outcome(dataset, run, report, model, begun.rollout, begun.state, begun.next)


def _say_what_is_reachable(recipe: Recipe, dataset: DatasetVersion, ports: Ports) -> None:
    if dataset.rows_kept >= FEW_ROWS:
        return
    margins = [one.margin for one in recipe.gate.require if one.not_worse_than is not None]
    fraction = recipe.data.split.held_out
    ports.progress.finish(
        reachable_verdict(
            dataset.splits["held_out"].rows,
            min(margins, default=0.03),
            alpha=recipe.gate.alpha,
            held_out_fraction=fraction,
        )
    )
