"""A bad candidate on purpose: the champion's recipe, briefly trained on its own data with shuffled answers.

The dataset version is committed by hand under a name of its own, `<name>-shuffled`, so that it is no ancestor
of any honest version. The held-out rows stay as they are: the real gate judges the candidate, and fails it.
"""

import json
import random
from collections.abc import Mapping, Sequence

from tunewright.core.references import get_record
from tunewright.core.rows import encode_examples, load_split
from tunewright.core.text import content_id
from tunewright.errors import UsageError
from tunewright.evals.evaluate import evaluate
from tunewright.ports import Commit, Ports
from tunewright.recipe import Recipe
from tunewright.records import (
    DatasetVersion,
    Edge,
    EventDraft,
    Example,
    Message,
    ModelVersion,
    Split,
    SplitInfo,
)
from tunewright.registry.register import register
from tunewright.registry.waive import waive
from tunewright.train.train import train
from tunewright.values import Digest, Ref, canonical_json, digest_json, merkle_root, node

AUTHOR = "rollback drill"
REASON = "drill: a bad candidate is let past the gate on purpose, to see it fall under live traffic"
_SHUFFLED: tuple[Split, ...] = ("train", "validation")


def make_bad_candidate(
    recipe: Recipe, champion: ModelVersion, ports: Ports, *, seed: int, max_steps: int
) -> ModelVersion:
    """Train on shuffled answers, let the gate judge, waive its verdict, and register.

    Args:
        recipe: the champion's; only the number of steps is changed.
        champion: whose dataset is shuffled.
        ports: of the workspace.
        seed: of the shuffling.
        max_steps: optimiser steps.

    Raises:
        UsageError: the gate passed the candidate, so that it is no bad one.
        TrainingError, EngineFailed, StorageError: it could not be made.
    """
    honest = get_record(ports.records, DatasetVersion, champion.dataset)
    dataset = shuffle_answers(honest, ports, name=f"{champion.ref.name}-shuffled", seed=seed)
    short = recipe.model_copy(
        update={"train": recipe.train.model_copy(update={"max_steps": max_steps, "patience": None})}
    )
    report = evaluate(short, train(short, dataset, ports), ports)
    if report.verdict == "pass":
        raise UsageError(
            f"the gate passed {report.ref}, trained on shuffled answers; expected it to fail. The recipe's "
            "requirements ask for too little, so this drill has no bad candidate to show."
        )
    waive(report.ref, REASON, AUTHOR, ports)
    return register(short, report, ports)


def shuffle_answers(honest: DatasetVersion, ports: Ports, *, name: str, seed: int) -> DatasetVersion:
    """Commit a version whose train and validation rows have each other's answers; held-out stays as it is."""
    renamed: dict[str, Digest] = {}
    splits = dict(honest.splits)
    for split in _SHUFFLED:
        rows = load_split(honest, split, ports.blobs)
        mixed = mix_answers(rows, seed=seed)
        renamed |= {old.id: new.id for old, new in zip(rows, mixed, strict=True)}
        mixed.sort(key=lambda row: row.id)
        root = merkle_root([row.id for row in mixed])
        splits[split] = SplitInfo(rows=len(mixed), digest=root, blob=ports.blobs.put(encode_examples(mixed)))
    identity = {"shuffled": honest.digest, "seed": seed}
    draft = honest.model_copy(
        update={
            "digest": digest_json(identity),
            "fingerprint": digest_json({**identity, "record": "rollback drill"}),
            "parents": (),
            "splits": splits,
            "lineage": ports.blobs.put(_rename(ports.blobs.get(honest.lineage), renamed)),
            "warnings": ("rollback drill: answers of train and validation were shuffled on purpose",),
            "created_at": ports.clock(),
        }
    )
    record = ports.records.commit(
        Commit(
            kind="dataset",
            name=name,
            make=lambda ref: draft.model_copy(update={"ref": ref}),
            event=EventDraft(
                kind="drill",
                actor=AUTHOR,
                subject=node("dataset", name),
                detail={"shuffled": str(honest.ref)},
            ),
            edges=lambda ref: [_edge(honest.ref, ref)],
        )
    )
    assert isinstance(record, DatasetVersion)  # the kind says so
    return record


def mix_answers(rows: Sequence[Example], *, seed: int) -> list[Example]:
    """Give each row the answer of another row, one that says something else where there is one."""
    rng = random.Random(seed)
    answers = [row.answer for row in rows]
    mixed: list[Example] = []
    for row in rows:
        others = [answer for answer in answers if answer != row.answer] or answers
        messages = (*row.prompt, Message(role="assistant", content=rng.choice(others)))
        mixed.append(row.model_copy(update={"messages": messages, "id": content_id(messages)}))
    return mixed


def _rename(lineage: bytes, renamed: Mapping[str, Digest]) -> bytes:
    """Write the lineage again with the new ids, sorted by them."""
    lines = [json.loads(line) for line in lineage.splitlines()]
    named = [{**line, "row": renamed.get(line["row"], line["row"])} for line in lines]
    return b"".join(canonical_json(line) + b"\n" for line in sorted(named, key=lambda line: line["row"]))


def _edge(parent: Ref, child: Ref) -> Edge:
    return Edge(parent=node("dataset", parent), child=node("dataset", child), role="dataset")
