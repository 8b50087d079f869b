"""A small champion for the rollback drill: messages to teams, learnt in a few seconds."""

from collections.abc import Sequence

from tunewright.app import App
from tunewright.drills.leak_data import make_rows
from tunewright.drills.scratch import data_of
from tunewright.drills.traffic import Question
from tunewright.errors import GateNotPassed
from tunewright.pipeline.flow import run_recipe
from tunewright.recipe import (
    DataSection,
    DeploySection,
    GateSection,
    LoraSettings,
    Recipe,
    Requirement,
    ScorerSpec,
    SourceSpec,
    SplitRules,
    SuiteSpec,
    TrainSection,
)
from tunewright.records import ModelVersion

NAME = "desk"
METRIC = "exact"
ROWS, QUESTIONS = 160, 400
ALWAYS = 1.0
"""Here the thing a message names decides its team without exception."""


def desk_recipe() -> Recipe:
    """Write the champion's recipe; its rollouts are short."""
    return Recipe(
        name=NAME,
        data=DataSection(
            sources=(SourceSpec(path="desk.jsonl"),), split=SplitRules(held_out=0.3, validation=0.05)
        ),
        train=TrainSection(
            epochs=8,
            batch_rows=8,
            learning_rate=2e-3,
            lora=LoraSettings(rank=16, alpha=16.0),
            patience=None,
        ),
        gate=GateSection(
            suites=(SuiteSpec(scorers=(ScorerSpec(kind="normalised_match", name=METRIC),)),),
            require=(
                Requirement(metric=METRIC, at_least=0.6),
                Requirement(metric=METRIC, better_than="base"),
            ),
            few_shot=0,
            max_new_tokens=8,
        ),
        deploy=DeploySection(
            ramp=(0.25, 0.5, 1.0), shadow_requests=30, min_units=30, window_s=1.0, deadline_s=600.0
        ),
    )


def make_champion(app: App, *, seed: int) -> tuple[Recipe, ModelVersion]:
    """Walk the recipe in an empty workspace; the model becomes champion, as the first of its name.

    Raises:
        GateNotPassed: it did not pass its gate.
    """
    rows = make_rows("routing", ROWS, seed=seed, explained=ALWAYS)
    path = data_of(app.settings) / "desk.jsonl"
    path.write_text("".join(f"{row.line()}\n" for row in rows), encoding="utf-8")
    recipe = desk_recipe()
    outcome = run_recipe(recipe, app.ports, harvest_dir=app.settings.workspace / "harvest")
    if outcome.model is None or outcome.report is None:
        said = outcome.report.reasons if outcome.report else ()
        raise GateNotPassed(f"the drill's champion did not pass its gate: {'; '.join(said)}; expected a pass")
    return recipe, outcome.model


def desk_questions(seed: int) -> Sequence[Question]:
    """Ask what the champion was not trained on."""
    rows = make_rows("routing", ROWS + QUESTIONS, seed=seed, explained=ALWAYS)[ROWS:]
    return [Question(({"role": "user", "content": row.prompt},), row.answer) for row in rows]


def same_text(answer: str, truth: str) -> bool:
    """Judge as a user of this desk does: only the right team is right."""
    return answer.strip().casefold() == truth.casefold()
