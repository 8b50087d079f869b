"""Which few-shot prompt the base is given: tried on validation rows once, and remembered."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from tunewright.core.scorers import SCORERS, Answer, BoundScorer, bind_scorer, score
from tunewright.evals.baselines import (
    Choice,
    FewShot,
    Room,
    candidate_prompts,
    choose_prompt,
    trial_rows,
)
from tunewright.evals.evidence import Metric
from tunewright.evals.facts import metric_of
from tunewright.evals.fleet import Served
from tunewright.evals.inputs import Inputs
from tunewright.evals.outputs import ask
from tunewright.ports import Ports
from tunewright.recipe import GateSection
from tunewright.records import Example
from tunewright.values import Digest, Json, canonical_json, digest_json

VERSION = 1
"""Raised when another prompt would be chosen from the same rows."""


@dataclass(frozen=True, slots=True)
class OpenRows:
    """The rows an evaluation may look at freely."""

    train: Sequence[Example]
    validation: Sequence[Example]


@dataclass(frozen=True, slots=True)
class FoundPrompt:
    """The prompt, or why there is none."""

    prompt: FewShot | None
    facts: dict[str, Json]
    """How it was found; `reason` where there is none."""
    heads: dict[str, tuple[str | None, str]]
    """Makes a new choice findable; empty where it was stored."""


def find_prompt(inputs: Inputs, rows: OpenRows, served: Served, room: Room, ports: Ports) -> FoundPrompt:
    """Read the stored choice, or try prompts on validation rows with the base.

    Raises:
        EngineFailed: the engine failed.
    """
    gate = inputs.recipe.gate
    if gate.few_shot == 0:
        return FoundPrompt(None, {"reason": "gate.few_shot is 0"}, {})
    scorer = deciding_scorer(gate, rows.validation)
    key = _key(inputs, scorer)
    stored = ports.records.head(key)
    if stored is not None:
        facts: dict[str, Json] = json.loads(ports.blobs.get(Digest(stored)))
        return FoundPrompt(_rebuild(facts, rows.train), facts, {})
    trial = trial_rows(rows.validation) if scorer else []
    prompts, cap = candidate_prompts(rows.train, trial or rows.train[:1], gate.few_shot, room)
    if not prompts:
        reason = f"no example fits the base's trained context of {room.context_tokens} tokens"
        return FoundPrompt(None, {"reason": reason, "context_tokens": room.context_tokens}, {})
    ports.progress.start("few-shot prompt", len(prompts) * len(trial), "answers")
    choice = _choose(prompts, trial, scorer, served, gate=gate, ports=ports, cap=cap)
    facts = _facts(choice, scorer, room)
    return FoundPrompt(choice.best, facts, {key: (None, ports.blobs.put(canonical_json(facts)))})


def _choose(
    prompts: Sequence[FewShot],
    trial: Sequence[Example],
    scorer: BoundScorer | None,
    served: Served,
    *,
    gate: GateSection,
    ports: Ports,
    cap: int | None,
) -> Choice:
    if scorer is None:
        return Choice(prompts[-1], {}, 0, cap)
    return choose_prompt(
        prompts,
        trial,
        ask=lambda chats: ask(
            served.engine,
            [(served.model, chat) for chat in chats],
            gate.max_new_tokens,
            ports.progress.update,
        ),
        metric=lambda answers: figure_of(scorer, answers, trial),
        cap=cap,
    )


def figure_of(scorer: BoundScorer, answers: Sequence[Answer], trial: Sequence[Example]) -> float:
    """Compute the deciding metric on validation rows, turned so that higher is better."""
    scored = [score(scorer, answer, example) for answer, example in zip(answers, trial, strict=True)]
    metric = Metric(scorer.metric, "validation", scorer.scorer.kind, combine=scorer.combine)
    figure = metric_of(metric, [value for value in scored if value is not None])
    if figure is None:
        return float("-inf")
    return figure if scorer.scorer.higher_is_better else -figure


def deciding_scorer(gate: GateSection, validation: Sequence[Example]) -> BoundScorer | None:
    """Find the first scorer of the first suite that a generated answer alone decides."""
    for spec in gate.suites[0].scorers:
        known = SCORERS[spec.kind]
        if validation and not known.needs_logprobs and not known.information_only:
            return bind_scorer(spec, validation)
    return None


def _key(inputs: Inputs, scorer: BoundScorer | None) -> str:
    splits = inputs.dataset.splits
    made_from = {
        "version": VERSION,
        "base": inputs.base.ref.digest,
        "rows": [splits[side].blob for side in ("train", "validation") if side in splits],
        "most": inputs.recipe.gate.few_shot,
        "max_new_tokens": inputs.recipe.gate.max_new_tokens,
        "scorer": scorer.digest if scorer else None,
    }
    return f"few_shot:{digest_json(made_from)}"


def _facts(choice: Choice, scorer: BoundScorer | None, room: Room) -> dict[str, Json]:
    return {
        "k": len(choice.best.examples),
        "seed": choice.best.seed,
        "rows": [example.id for example in choice.best.examples],
        "tried": dict(choice.scores),
        "validation_rows": choice.num_trial_rows,
        "metric": scorer.metric if scorer else None,
        "context_tokens": room.context_tokens,
        "cap": choice.cap,
    }


def _rebuild(facts: dict[str, Json], train: Sequence[Example]) -> FewShot:
    by_row = {str(example.id): example for example in train}
    rows, seed = facts["rows"], facts["seed"]
    assert isinstance(rows, list)  # we wrote it
    assert isinstance(seed, int)  # we wrote it
    return FewShot(tuple(by_row[str(row)] for row in rows), seed)
