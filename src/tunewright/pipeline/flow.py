"""READ THIS FIRST: the stages, in order.

curate -> train -> evaluate -> register. Each stage takes the recipe, the record before it and the ports, and
returns one frozen, committed record; a stage whose fingerprint is known returns what is stored.
Stages never import each other; this file alone knows the order.
"""

from dataclasses import dataclass
from typing import Literal

from tunewright.curate.curate import curate
from tunewright.evals.evaluate import evaluate
from tunewright.ports import Ports
from tunewright.recipe import Recipe
from tunewright.records import DatasetVersion, EvalReport, ModelVersion, TrainingRun
from tunewright.registry.register import register
from tunewright.registry.waive import is_waived
from tunewright.train.train import train

Stage = Literal["curate", "train", "evaluate", "register"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one walk through the factory made; absent is what the walk did not reach."""

    dataset: DatasetVersion
    run: TrainingRun | None = None
    report: EvalReport | None = None
    model: ModelVersion | None = None
    """Absent as well when the gate did not pass and nobody waived it."""


def run_recipe(recipe: Recipe, ports: Ports, *, until: Stage = "register") -> Outcome:
    """Walk a recipe from raw files to a registered model, re-using whatever is made already."""
    dataset = curate(recipe, ports)
    if until == "curate":
        return Outcome(dataset)
    run = train(recipe, dataset, ports)
    if until == "train":
        return Outcome(dataset, run)
    report = evaluate(recipe, run, ports)
    may_register = report.verdict == "pass" or is_waived(report, ports)
    if until == "evaluate" or not may_register:
        return Outcome(dataset, run, report)
    return Outcome(dataset, run, report, register(recipe, report, ports))
