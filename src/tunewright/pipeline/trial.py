"""`try`: base and tuned model side by side on the same prompts."""

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tunewright.core.rows import decode_examples
from tunewright.errors import BaseChanged
from tunewright.ports import Engine, GenerateRequest, Generation, Ports
from tunewright.records import DatasetVersion, Message, ModelVersion, TrainingRun
from tunewright.registry.load import load_verified
from tunewright.trees import write_tree


@dataclass(frozen=True, slots=True)
class SideBySide:
    """One prompt with both answers."""

    prompt: str
    base: Generation
    tuned: Generation


def chats_to_try(
    model: ModelVersion, ports: Ports, *, prompts: Sequence[str], count: int = 3
) -> list[Sequence[Message]]:
    """Turn typed prompts into chats; without any, take the first validation rows, never held-out ones.

    Typed prompts get the system turn of the training data, if it has one.
    """
    dataset = ports.records.get("dataset", model.dataset)
    assert isinstance(dataset, DatasetVersion)
    examples = decode_examples(ports.blobs.get(dataset.splits["validation"].blob))
    if not prompts:
        return [example.prompt for example in examples[:count]]
    first = examples[0].messages[0]
    system = [first] if first.role == "system" else []
    return [[*system, Message(role="user", content=prompt)] for prompt in prompts]


def side_by_side(
    model: ModelVersion, chats: Sequence[Sequence[Message]], ports: Ports, *, max_tokens: int = 128
) -> list[SideBySide]:
    """Verify the model's signature and bytes, load it, and answer every chat with base and tuned model.

    Raises:
        BaseChanged: the base is not the one the model was trained on.
        IntegrityError: the signature or a file does not verify.
        EngineFailed: the engine could not start or answer.
    """
    files = load_verified(model, ports)
    base = ports.bases.resolve(model.base.name)
    if base.ref.digest != model.base.digest:
        raise BaseChanged(
            f"base {model.base.name} at {base.folder} has digest {base.ref.digest[:12]}; model {model.ref} "
            f"was trained on {model.base.digest[:12]}. Restore the base's files, or train again."
        )
    run = ports.records.get("run", model.run)
    assert isinstance(run, TrainingRun)
    with ExitStack() as stack:
        engine = stack.enter_context(ports.engines.start(base.folder))
        if run.method == "full":
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tunewright-")))
            write_tree(folder, files, base)
            tuned_engine, tuned_name = stack.enter_context(ports.engines.start(folder)), "base"
        else:
            engine.load_adapter(model.adapter, files)
            tuned_engine, tuned_name = engine, model.adapter
        plain = _answer(engine, "base", chats, max_tokens)
        tuned = _answer(tuned_engine, tuned_name, chats, max_tokens)
    prompts = [chat[-1].content for chat in chats]
    return [SideBySide(*row) for row in zip(prompts, plain, tuned, strict=True)]


def _answer(
    engine: Engine, name: str, chats: Sequence[Sequence[Message]], max_tokens: int
) -> list[Generation]:
    return engine.generate(
        [
            GenerateRequest(
                messages=[{"role": turn.role, "content": turn.content} for turn in chat],
                model=name,
                max_tokens=max_tokens,
            )
            for chat in chats
        ]
    )
