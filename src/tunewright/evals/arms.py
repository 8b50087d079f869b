"""Asking every arm every row: candidate, base, few-shot and incumbent by engine, nearest by look-up."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tunewright.core.scorers import Answer
from tunewright.core.tokens import ChatTokenizer
from tunewright.evals.baselines import FewShot, Nearest, Room, fitted_chat, nearest_examples
from tunewright.evals.cache import Kept, find_outputs, output_key, store_outputs
from tunewright.evals.few_shot import FoundPrompt, OpenRows, find_prompt
from tunewright.evals.fleet import Fleet
from tunewright.evals.inputs import Inputs
from tunewright.evals.items import Chat, as_chat
from tunewright.evals.outputs import Asked, Outputs, add_likelihoods, ask_arms, num_requests
from tunewright.evals.suites import Suite
from tunewright.ports import BaseFiles, Ports, VaultSession
from tunewright.records import Arm
from tunewright.values import Json, digest_json

VERSION = 1
"""Raised when the same model would be asked in another way; part of the keys of stored answers."""

ASSUMED_CONTEXT_TOKENS = 2048
"""For a base whose configuration does not say what it was trained with."""

Chats = Mapping[str, Mapping[str, Chat]]
"""Suite -> row -> messages."""


@dataclass(frozen=True, slots=True)
class Answered:
    """What every arm said."""

    outputs: Mapping[Arm, Outputs]
    models: Mapping[Arm, str]
    """Arm -> how reports name its model."""
    missing: Mapping[Arm, str]
    """Arm -> why it was not asked."""
    nearest: Mapping[str, Mapping[str, Nearest]]
    """Suite -> row -> the nearest train row."""
    too_long: Mapping[str, frozenset[str]]
    """Suite -> rows whose prompt the base cannot hold; every model's answer to them is empty."""
    heads: Mapping[str, tuple[str | None, str]]
    """Heads that make the new answers findable; moved with the commit."""
    facts: dict[str, Json]


def answer_suites(
    inputs: Inputs,
    suites: Sequence[Suite],
    rows: OpenRows,
    fleet: Fleet,
    *,
    ports: Ports,
    session: VaultSession,
) -> Answered:
    """Ask all arms, re-using answers that are stored.

    Args:
        inputs: what is judged.
        suites: the rows and scorers.
        rows: train and validation rows, for the baselines.
        fleet: running engines.
        ports: stores and progress.
        session: the opened vault; stored answers are sealed.

    Raises:
        EngineFailed: an engine failed.
    """
    tokenizer = ChatTokenizer.from_base(inputs.base)
    room = Room(
        context_tokens=context_tokens(inputs.base),
        answer_tokens=inputs.recipe.gate.max_new_tokens,
        count=lambda chat: len(tokenizer.encode(chat, add_generation_prompt=True)),
    )
    found = find_prompt(inputs, rows, fleet.served["few_shot"], room, ports)
    too_long = _too_long(suites, room)
    chats = _chats(suites, fleet, found.prompt, room, too_long)
    kept = find_outputs(_keys(inputs, suites, fleet, chats), ports, session)
    fresh = _ask(inputs, suites, _unanswered(fleet, chats, kept), tokenizer, ports=ports)
    outputs: dict[Arm, Outputs] = {}
    for answered in (kept.found, fresh):
        outputs |= {arm: _with_unasked(said, too_long) for arm, said in answered.items()}
    nearest = {suite.name: nearest_examples(rows.train, suite.examples) for suite in suites}
    outputs["nearest_example"] = {
        suite: {row: one.answer for row, one in rows_found.items()} for suite, rows_found in nearest.items()
    }
    return Answered(
        outputs=outputs,
        models=_labels(inputs, found.prompt),
        missing=_missing(fleet, found),
        nearest=nearest,
        heads={**found.heads, **store_outputs(kept, fresh, ports.blobs, session)},
        too_long=too_long,
        facts={
            "few_shot": found.facts,
            "reused_answers": [str(arm) for arm in sorted(kept.found)],
            "prompts_too_long": sum(map(len, too_long.values())),
        },
    )


def _ask(
    inputs: Inputs, suites: Sequence[Suite], asked: Sequence[Asked], tokenizer: ChatTokenizer, *, ports: Ports
) -> dict[Arm, dict[str, dict[str, Answer]]]:
    """Generate what is not stored, and weigh the reference answers where a scorer asks for it."""
    ports.progress.start("answers", num_requests(asked), "answers")
    fresh = ask_arms(asked, inputs.recipe.gate.max_new_tokens, ports.progress.update)
    for one in asked:
        if one.arm != "few_shot" and _same_tokenizer(one.arm, inputs):
            fresh[one.arm] = add_likelihoods(
                fresh[one.arm], suites, one, tokenizer=tokenizer, max_tokens=context_tokens(inputs.base)
            )
    return fresh


def _too_long(suites: Sequence[Suite], room: Room) -> dict[str, frozenset[str]]:
    """Find rows whose prompt leaves no room for even one token of an answer."""
    return {
        suite.name: frozenset(
            row
            for row, example in suite.examples.items()
            if room.count(as_chat(example.prompt)) >= room.context_tokens
        )
        for suite in suites
    }


def _chats(
    suites: Sequence[Suite],
    fleet: Fleet,
    prompt: FewShot | None,
    room: Room,
    too_long: Mapping[str, frozenset[str]],
) -> dict[Arm, Chats]:
    """Write every arm's messages; all but the few-shot arm get the row's own prompt."""
    asked = {
        suite.name: {
            item.row: suite.examples[item.row] for item in suite.items if item.row not in too_long[suite.name]
        }
        for suite in suites
    }
    plain = {
        suite: {row: as_chat(example.prompt) for row, example in rows.items()}
        for suite, rows in asked.items()
    }
    chats: dict[Arm, Chats] = {arm: plain for arm in fleet.served if arm != "few_shot"}
    if prompt is not None:
        chats["few_shot"] = {
            suite: {row: fitted_chat(prompt, example, room) for row, example in rows.items()}
            for suite, rows in asked.items()
        }
    return chats


def _with_unasked(outputs: Outputs, too_long: Mapping[str, frozenset[str]]) -> Outputs:
    """Add an empty answer, cut at its length limit, for every row that could not be asked."""
    nothing = Answer("", finish_reason="length", num_tokens=0)
    return {
        suite: {**dict.fromkeys(sorted(rows), nothing), **outputs.get(suite, {})}
        for suite, rows in too_long.items()
    }


def _missing(fleet: Fleet, found: FoundPrompt) -> dict[Arm, str]:
    missing = dict(fleet.missing)
    if found.prompt is None:
        missing["few_shot"] = str(found.facts["reason"])
    return missing


def _labels(inputs: Inputs, prompt: FewShot | None) -> dict[Arm, str]:
    labels: dict[Arm, str] = {
        "candidate": inputs.run.candidate,
        "base": "base",
        "nearest_example": "nearest_example",
    }
    if prompt is not None:
        labels["few_shot"] = prompt.label
    if inputs.incumbent is not None:
        labels["incumbent"] = inputs.incumbent.model.adapter
    return labels


def context_tokens(base: BaseFiles) -> int:
    """Positions the base was trained with."""
    context = base.config.get("max_position_embeddings")
    return context if isinstance(context, int) else ASSUMED_CONTEXT_TOKENS


def _same_tokenizer(arm: Arm, inputs: Inputs) -> bool:
    """Say whether token ids, and so likelihoods a token, mean the same for this arm."""
    if arm != "incumbent" or inputs.incumbent is None:
        return True
    return inputs.incumbent.model.base.tokenizer_digest == inputs.base.ref.tokenizer_digest


def _unanswered(fleet: Fleet, chats: Mapping[Arm, Chats], kept: Kept) -> list[Asked]:
    return [
        Asked(arm, fleet.served[arm].engine, fleet.served[arm].model, asked)
        for arm, asked in chats.items()
        if arm not in kept.found
    ]


def _keys(
    inputs: Inputs, suites: Sequence[Suite], fleet: Fleet, chats: Mapping[Arm, Chats]
) -> dict[Arm, str]:
    """Name the heads of every arm's answers."""
    weighed = {
        suite.name: {row: example.answer for row, example in suite.examples.items()}
        for suite in suites
        if suite.needs_logprobs
    }
    decoding = {
        "max_new_tokens": inputs.recipe.gate.max_new_tokens,
        "temperature": 0,
        "weighed": digest_json(weighed),
    }
    return {
        arm: output_key(fleet.served[arm].identity, _plain(asked), decoding, VERSION)
        for arm, asked in chats.items()
    }


def _plain(chats: Chats) -> dict[str, dict[str, list[dict[str, str]]]]:
    return {
        suite: {row: [dict(turn) for turn in chat] for row, chat in rows.items()}
        for suite, rows in chats.items()
    }
