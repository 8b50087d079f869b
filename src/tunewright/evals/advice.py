"""When fine-tuning is the wrong tool: rules on what is known of a task, an answer with reasons."""

from dataclasses import dataclass
from typing import Literal

from tunewright.records import Interval

Answer = Literal["yes", "only_with_learning_curve", "measure_first", "fix_data_first", "no"]

FEW_ROWS = 200
"""Labelled rows below which the answer is no."""
ENOUGH_ROWS = 1_000
"""Labelled rows above which no learning curve is asked for."""


@dataclass(frozen=True, slots=True)
class Situation:
    """What is known about a task before anything is trained."""

    num_rows: int
    """Labelled rows after curation."""
    bar: float | None = None
    """The score that would be good enough; higher is better."""
    few_shot: Interval | None = None
    """Measured score of the base with its best few-shot prompt."""
    label_consistency: float | None = None
    """Share of identical prompts whose answers agree; on such prompts no model can score above it."""
    is_representative: bool = True
    """Whether the rows look like what will be asked in production."""
    is_still_improving: bool | None = None
    """Whether a learning curve was still rising at its last point; absent when none was measured."""
    changes_weekly: bool = False
    is_latency_or_size_strict: bool = False
    is_sensitive: bool = False
    is_continual: bool = False
    """New tasks keep being added to one model."""


@dataclass(frozen=True, slots=True)
class Advice:
    """Whether to fine-tune, why, and what to mind."""

    answer: Answer
    reasons: tuple[str, ...]
    """What decided; the first reason is the strongest."""
    suggestions: tuple[str, ...]
    """What to do instead, or to mind when going on."""


def advise(situation: Situation) -> Advice:
    """Answer whether this task should be fine-tuned, by the first rule that applies."""
    rules = (_volatile, _wrong_data, _too_few, _not_measured, _prompt_is_enough, _too_close, _no_curve, _flat)
    for rule in rules:
        advice = rule(situation)
        if advice is not None:
            return advice
    return Advice("yes", (_rows(situation), *_prompt_words(situation)), _to_mind(situation))


def _rows(situation: Situation) -> str:
    return f"There are {situation.num_rows:,} labelled rows."


def _prompt_words(situation: Situation) -> tuple[str, ...]:
    few_shot, bar = situation.few_shot, situation.bar
    if few_shot is None or bar is None:
        return ()
    score = f"The base with its best few-shot prompt scores {few_shot.estimate:.2f}"
    between = f"(interval {few_shot.low:.2f} to {few_shot.high:.2f})"
    if few_shot.high < bar:
        return (f"{score} {between}, below the bar of {bar:.2f}.",)
    if few_shot.low >= bar:
        return (f"{score} {between}, which clears the bar of {bar:.2f}.",)
    return (f"{score} {between}, which cannot be told from the bar of {bar:.2f}.",)


def _to_mind(situation: Situation) -> tuple[str, ...]:
    notes: list[str] = []
    if situation.is_latency_or_size_strict:
        notes.append("Latency or size is strict: put an adapter on a small base, or distil into one.")
    if situation.is_sensitive:
        notes.append(
            "The data is sensitive: train on premises, on synthetic rows, or with differential privacy."
        )
    if situation.is_continual:
        notes.append(
            "Tasks keep coming: replay a share of the older rows, so that earlier tasks are not forgotten."
        )
    return tuple(notes)


def _volatile(situation: Situation) -> Advice | None:
    if not situation.changes_weekly:
        return None
    reason = "The wanted behaviour changes weekly; a trained model would always be behind."
    return Advice("no", (reason,), ("Use retrieval or prompts, which change in minutes.",))


def _wrong_data(situation: Situation) -> Advice | None:
    reasons: list[str] = []
    if not situation.is_representative:
        reasons.append("The rows do not look like what will be asked; a model learns what it is shown.")
    ceiling, bar = situation.label_consistency, situation.bar
    if ceiling is not None and bar is not None and ceiling < bar:
        reasons.append(
            f"Identical prompts agree on their answer in only {100 * ceiling:.0f} % of cases, "
            f"so a bar of {bar:.2f} is out of reach for any model."
        )
    if not reasons:
        return None
    fix = "Fix the data upstream first: settle conflicting labels, or collect rows like those to come."
    return Advice("fix_data_first", tuple(reasons), (fix,))


def _too_few(situation: Situation) -> Advice | None:
    if situation.num_rows >= FEW_ROWS:
        return None
    reason = f"{_rows(situation)} Below {FEW_ROWS} the result depends on luck, and the gate can prove little."
    return Advice("no", (reason,), ("Use a few-shot prompt, and collect more rows meanwhile.",))


def _not_measured(situation: Situation) -> Advice | None:
    if situation.bar is None:
        reason = "No bar was set, so it cannot be said whether a prompt alone is enough."
        return Advice("measure_first", (_rows(situation), reason), ("Say which score would be good enough.",))
    if situation.few_shot is None:
        reason = "It is not known how well the base does with its best few-shot prompt."
        return Advice("measure_first", (_rows(situation), reason), ("Measure the few-shot prompt first.",))
    return None


def _prompt_is_enough(situation: Situation) -> Advice | None:
    few_shot, bar = situation.few_shot, situation.bar
    is_cheap = not situation.is_latency_or_size_strict
    if few_shot is None or bar is None or few_shot.low < bar or not is_cheap:
        return None
    return Advice("no", _prompt_words(situation), ("Serve the base with that prompt.",))


def _too_close(situation: Situation) -> Advice | None:
    few_shot, bar = situation.few_shot, situation.bar
    if few_shot is None or bar is None or not few_shot.low < bar <= few_shot.high:
        return None
    more = f"Measure the few-shot prompt on more than {few_shot.n} rows."
    return Advice("measure_first", _prompt_words(situation), (more,))


def _no_curve(situation: Situation) -> Advice | None:
    if situation.num_rows > ENOUGH_ROWS or situation.is_still_improving is not None:
        return None
    reason = f"{_rows(situation)} Between {FEW_ROWS} and {ENOUGH_ROWS:,} it depends on the task."
    curve = "Train on a quarter, a half and all of the rows, and go on only if the score still rises."
    return Advice(
        "only_with_learning_curve", (reason, *_prompt_words(situation)), (curve, *_to_mind(situation))
    )


def _flat(situation: Situation) -> Advice | None:
    if situation.num_rows > ENOUGH_ROWS or situation.is_still_improving is not False:
        return None
    reason = f"{_rows(situation)} The learning curve is flat: more of the same rows would not lift the score."
    return Advice("no", (reason,), ("Look at the errors: labels, prompt, or a stronger base.",))
