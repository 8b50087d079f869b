"""Ask base and candidate the same few trained prompts through the engine and record what they answer."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from tunewright.core.rows import load_split
from tunewright.errors import BaseChanged, EngineFailed, IndistinguishableFromBase, TemplateMismatch
from tunewright.ports import BaseFiles, Engine, GenerateRequest, Ports
from tunewright.records import DatasetVersion, Example, Probe, TrainingRun
from tunewright.registry.probes import NUM_PROMPTS, NUM_TOKENS, Answer, tells_from_base
from tunewright.trees import get_tree, write_tree
from tunewright.values import Digest

Chat = list[dict[str, str]]


def record_probes(run: TrainingRun, dataset: DatasetVersion, ports: Ports) -> tuple[Probe, ...]:
    """Record greedy answers of a run's candidate and of its base to trained prompts.

    Raises:
        BaseChanged: the base on this machine is not the one that was trained.
        IndistinguishableFromBase: every answer equals the base's.
        EngineFailed: the engine failed, or answered with another model than the one asked for.
    """
    base = ports.bases.resolve(run.base.name)
    if base.ref.digest != run.base.digest:
        raise BaseChanged(
            f"base {run.base.name} at {base.folder} has digest {base.ref.digest[:12]}; run {run.ref} was "
            f"trained on {run.base.digest[:12]}. Restore the base's files, or train again."
        )
    prompts = choose_prompts(load_split(dataset, "train", ports.blobs))
    files = get_tree(ports.blobs, run.candidate)
    with ports.engines.start(base.folder) as engine:
        plain = [ask(engine, prompt, "base") for prompt in prompts]
        tuned = [] if run.method == "full" else _ask_adapter(engine, run.candidate, files, prompts)
    if run.method == "full":
        tuned = _ask_full_model(files, base, prompts, ports)
    probes = tuple(_probe(ids, b, t) for (ids, b), (_, t) in zip(plain, tuned, strict=True))
    finding = tells_from_base(probes)
    if not finding.holds:
        raise IndistinguishableFromBase(
            f"candidate {run.candidate[:12]} of run {run.ref}: {'; '.join(finding.reasons)}; expected at "
            "least one other answer. Training changed nothing: check learning rate, steps and "
            "the adapter's targets."
        )
    return probes


def choose_prompts(examples: Sequence[Example]) -> list[Chat]:
    """Pick a few different prompts, none of the longest, by row id; never from held-out rows."""
    ordered = sorted(examples, key=lambda example: (sum(len(m.content) for m in example.prompt), example.id))
    shorter = sorted(ordered[: max(NUM_PROMPTS, (len(ordered) + 1) // 2)], key=lambda example: example.id)
    chats = {example.prompt: [dict(turn.to_json()) for turn in example.prompt] for example in shorter}
    return list(chats.values())[:NUM_PROMPTS]


def ask(engine: Engine, prompt: Chat, model: str) -> tuple[tuple[int, ...], Answer]:
    """Ask one prompt alone, greedily; returns the prompt's ids and the answer's tokens and log-probabilities.

    The wire carries text, so the answer's ids are those of the answered turn as the template writes it.
    """
    ids = engine.tokenize(prompt, add_generation_prompt=True)
    request = GenerateRequest(messages=prompt, model=model, max_tokens=NUM_TOKENS)
    generation = engine.generate([request])[0]
    if generation.model != model:
        raise EngineFailed(
            f"asked for model {model[:12]}, {generation.model[:12]} answered; restart the engine"
        )
    answered = [*prompt, {"role": "assistant", "content": generation.text}]
    turn = engine.tokenize(answered, add_generation_prompt=False)
    if turn[: len(ids)] != ids:
        raise TemplateMismatch(
            "the chat template changes its prompt once an answer follows; expected the answered chat to "
            "start with the prompt's tokens. Use a template that only appends."
        )
    spoken = tuple(turn[len(ids) :][:NUM_TOKENS])
    logprobs = engine.logprobs([[*ids, *spoken]], model)[0][len(ids) :]
    return tuple(ids), Answer(spoken, tuple(logprobs))


def _ask_adapter(
    engine: Engine, digest: Digest, files: Mapping[str, bytes], prompts: Sequence[Chat]
) -> list[tuple[tuple[int, ...], Answer]]:
    engine.load_adapter(digest, files)
    return [ask(engine, prompt, digest) for prompt in prompts]


def _ask_full_model(
    files: Mapping[str, bytes], base: BaseFiles, prompts: Sequence[Chat], ports: Ports
) -> list[tuple[tuple[int, ...], Answer]]:
    """Write a full model, with the base's tokenizer files where it has none, and ask it as a base."""
    with tempfile.TemporaryDirectory(prefix="tunewright-probe-") as scratch:
        folder = Path(scratch)
        write_tree(folder, files, base)
        with ports.engines.start(folder) as engine:
            return [ask(engine, prompt, "base") for prompt in prompts]


def _probe(ids: tuple[int, ...], base: Answer, tuned: Answer) -> Probe:
    return Probe(
        prompt_ids=ids,
        token_ids=tuned.token_ids,
        logprobs=tuned.logprobs,
        base_token_ids=base.token_ids,
        base_logprobs=base.logprobs,
    )
