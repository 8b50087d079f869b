"""Asking every arm every row: candidate, base, few-shot and incumbent by engine, nearest by look-up."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tunewright.core.tokens import ChatTokenizer
from tunewright.evals.baselines import FewShot, Nearest, Room, fitted_chat, nearest_examples
from tunewright.evals.cache import find_outputs, output_key, store_outputs
from tunewright.evals.few_shot import FoundPrompt, OpenRows, find_prompt
from tunewright.evals.fleet import Fleet, Served
from tunewright.evals.inputs import Inputs
from tunewright.evals.items import Chat, as_chat
from tunewright.evals.outputs import Asked, Outputs, add_likelihoods, ask_arms, num_requests
from tunewright.evals.suites import Suite
from tunewright.ports import Ports, VaultSession
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
    room = _room(inputs, tokenizer)
    found = find_prompt(inputs, rows, fleet.served["few_shot"], room, ports)
    chats = _chats(suites, fleet, found.prompt, room)
    keys: dict[Arm, str] = {
        arm: _key(inputs, suites, fleet.served[arm], asked) for arm, asked in chats.items()
    }
    kept = find_outputs(keys, ports, session)
    asked = [
        Asked(arm, fleet.served[arm].engine, fleet.served[arm].model, chats[arm])
        for arm in chats
        if arm not in kept.found
    ]
    ports.progress.start("answers", num_requests(asked), "answers")
    fresh = ask_arms(asked, inputs.recipe.gate.max_new_tokens, ports.progress.update)
    for one in asked:
        if one.arm != "few_shot" and _same_tokenizer(one.arm, inputs):
            fresh[one.arm] = add_likelihoods(
                fresh[one.arm], suites, one, tokenizer=tokenizer, max_tokens=room.context_tokens
            )
    nearest = {suite.name: nearest_examples(rows.train, suite.examples) for suite in suites}
    return Answered(
        outputs={**kept.found, **fresh, "nearest_example": _looked_up(nearest)},
        models=_labels(inputs, found.prompt),
        missing=_missing(fleet, found),
        nearest=nearest,
        heads={**found.heads, **store_outputs(kept, fresh, ports.blobs, session)},
        facts={"few_shot": found.facts, "reused_answers": [str(arm) for arm in sorted(kept.found)]},
    )


def _chats(suites: Sequence[Suite], fleet: Fleet, prompt: FewShot | None, room: Room) -> dict[Arm, Chats]:
    """Write every arm's messages; all but the few-shot arm get the row's own prompt."""
    plain = {
        suite.name: {item.row: as_chat(suite.examples[item.row].prompt) for item in suite.items}
        for suite in suites
    }
    chats: dict[Arm, Chats] = {arm: plain for arm in fleet.served if arm != "few_shot"}
    if prompt is not None:
        chats["few_shot"] = {
            suite.name: {
                item.row: fitted_chat(prompt, suite.examples[item.row], room) for item in suite.items
            }
            for suite in suites
        }
    return chats


def _looked_up(nearest: Mapping[str, Mapping[str, Nearest]]) -> Outputs:
    return {suite: {row: found.answer for row, found in rows.items()} for suite, rows in nearest.items()}


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


def _room(inputs: Inputs, tokenizer: ChatTokenizer) -> Room:
    context = inputs.base.config.get("max_position_embeddings")
    return Room(
        context_tokens=context if isinstance(context, int) else ASSUMED_CONTEXT_TOKENS,
        answer_tokens=inputs.recipe.gate.max_new_tokens,
        count=lambda chat: len(tokenizer.encode(chat, add_generation_prompt=True)),
    )


def _same_tokenizer(arm: Arm, inputs: Inputs) -> bool:
    """Say whether token ids, and so likelihoods a token, mean the same for this arm."""
    if arm != "incumbent" or inputs.incumbent is None:
        return True
    return inputs.incumbent.model.base.tokenizer_digest == inputs.base.ref.tokenizer_digest


def _key(inputs: Inputs, suites: Sequence[Suite], served: Served, chats: Chats) -> str:
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
    return output_key(served.identity, _plain(chats), decoding, VERSION)


def _plain(chats: Chats) -> dict[str, dict[str, list[dict[str, str]]]]:
    return {
        suite: {row: [dict(turn) for turn in chat] for row, chat in rows.items()}
        for suite, rows in chats.items()
    }
