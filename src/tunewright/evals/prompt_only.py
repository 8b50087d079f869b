"""How far a prompt alone gets: the base with its best few-shot prompt, measured before anything is trained.

Looks at train and validation rows only: one half of the validation rows chooses the prompt, the other half
measures it, so that the figure is not flattered by the choice. The held-out rows stay sealed.
"""

from dataclasses import dataclass

import numpy as np

from tunewright.core.rows import load_split
from tunewright.core.scorers import score
from tunewright.core.stats_clusters import cluster_codes
from tunewright.core.text import prompt_text
from tunewright.core.tokens import ChatTokenizer
from tunewright.evals.arms import context_tokens
from tunewright.evals.baselines import Room, candidate_prompts, choose_prompt, fitted_chat, trial_rows
from tunewright.evals.estimates import Aligned, Precision
from tunewright.evals.estimates import score as estimate
from tunewright.evals.evidence import Metric
from tunewright.evals.few_shot import deciding_scorer, figure_of
from tunewright.evals.outputs import BASE, ask
from tunewright.ports import Ports
from tunewright.recipe import Recipe
from tunewright.records import DatasetVersion, Interval

MIN_ROWS = 20
"""Validation rows below which nothing is measured."""


@dataclass(frozen=True, slots=True)
class PromptOnly:
    """What a prompt alone scores."""

    metric: str
    interval: Interval
    label: str
    """The prompt chosen, such as `few_shot:k=4`."""


def measure_prompt(recipe: Recipe, dataset: DatasetVersion, ports: Ports) -> PromptOnly | None:
    """Choose the best few-shot prompt and measure it; nothing where rows, context or scorers do not allow it.

    Raises:
        EngineFailed: the engine failed.
    """
    gate = recipe.gate
    train, validation = (load_split(dataset, side, ports.blobs) for side in ("train", "validation"))
    scorer = deciding_scorer(gate, validation)
    if scorer is None or len(validation) < MIN_ROWS or gate.few_shot == 0:
        return None
    rows = trial_rows(validation, len(validation))
    trial, measured = trial_rows(rows[: len(rows) // 2]), rows[len(rows) // 2 :]
    base = ports.bases.resolve(recipe.train.base)
    tokenizer = ChatTokenizer.from_base(base)
    room = Room(
        context_tokens=context_tokens(base),
        answer_tokens=gate.max_new_tokens,
        count=lambda chat: len(tokenizer.encode(chat, add_generation_prompt=True)),
    )
    prompts, cap = candidate_prompts(train, trial, gate.few_shot, room)
    if not prompts:
        return None
    with ports.engines.start(base.folder) as engine:
        ports.progress.start("few-shot prompt", len(prompts) * len(trial), "answers")
        choice = choose_prompt(
            prompts,
            trial,
            ask=lambda chats: ask(
                engine, [(BASE, chat) for chat in chats], gate.max_new_tokens, ports.progress.update
            ),
            metric=lambda answers: figure_of(scorer, answers, trial),
            cap=cap,
        )
        chats = [(BASE, fitted_chat(choice.best, row, room)) for row in measured]
        answers = ask(engine, chats, gate.max_new_tokens)
    ports.progress.finish(f"few-shot prompt: {choice.best.label} was best of {len(prompts)}")
    scored = [score(scorer, answer, row) for answer, row in zip(answers, measured, strict=True)]
    kept = [(row, value) for row, value in zip(measured, scored, strict=True) if value is not None]
    codes = cluster_codes([row.group or prompt_text(row.messages) for row, _ in kept])
    values = np.array([value for _, value in kept], dtype=np.float64)
    metric = Metric(scorer.metric, "validation", scorer.scorer.kind, combine=scorer.combine)
    aligned = Aligned((values,), codes, (len(measured) - len(kept),), len(measured))
    found = estimate(aligned, metric, Precision(level=1 - 2 * gate.alpha))
    interval = Interval(
        estimate=found.value,
        low=found.low,
        high=found.high,
        n=len(kept),
        clusters=len(set(codes.tolist())),
        method=found.method,
    )
    return PromptOnly(scorer.metric, interval, choice.best.label)
