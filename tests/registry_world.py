"""A small finished factory for tests: raw file, dataset, run and evaluation, all committed."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from tests.fakes import FakeEngine

from tunewright.core.rows import encode_examples
from tunewright.ports import Commit, GenerateRequest, Ports
from tunewright.recipe import DataSection, Recipe, SourceSpec
from tunewright.records import (
    BaseModelRef,
    Check,
    DatasetVersion,
    Edge,
    EvalReport,
    EventDraft,
    Example,
    Message,
    Source,
    SourceCount,
    SplitInfo,
    TrainingRun,
)
from tunewright.trees import put_tree
from tunewright.values import Digest, Ref, digest_bytes, digest_json, merkle_root, node

RAW = "".join(json.dumps({"prompt": f"order {n}", "completion": f"answer {n}"}) + "\n" for n in range(1, 11))
RAW_DIGEST = digest_bytes(RAW.encode())
RECIPE = Recipe(name="shop", data=DataSection(sources=(SourceSpec(path="orders.jsonl"),)))
ADAPTER = {"adapter_model.safetensors": b"weights", "adapter_config.json": b"{}"}


class TunedEngine(FakeEngine):
    """Says something else than the base as soon as an adapter is asked."""

    def __init__(self) -> None:
        super().__init__(answer=lambda request: "same" if request.model == "base" else "tuned")


class NoOpEngine(FakeEngine):
    """An engine whose adapters change nothing."""

    def __init__(self) -> None:
        super().__init__(answer=_same)


def _same(request: GenerateRequest) -> str:
    return "same"


@dataclass(frozen=True)
class World:
    """Committed records that fit each other."""

    dataset: DatasetVersion
    run: TrainingRun
    report: EvalReport


def row(number: int) -> Example:
    """The example of line `number` of the raw file."""
    messages = (
        Message(role="user", content=f"order {number}"),
        Message(role="assistant", content=f"answer {number}"),
    )
    return Example(
        id=digest_bytes(f"row {number}".encode()),
        messages=messages,
        source=Source(digest=RAW_DIGEST, path="orders.jsonl", line=number),
    )


def split_of(number: int) -> str:
    """Lines 1 to 6 train, 7 and 8 validation, 9 and 10 held out."""
    return "train" if number <= 6 else "validation" if number <= 8 else "held_out"


def make_world(
    ports: Ports,
    *,
    verdict: str = "pass",
    seed: int = 0,
    data: str = "",
    adapter: Mapping[str, bytes] | None = None,
    method: str = "lora",
) -> World:
    """Commit dataset, run and evaluation; other seeds and data make other versions."""
    (ports.data_root / "orders.jsonl").write_text(RAW, "utf-8")
    dataset = make_dataset(ports, data)
    files = {name: bytes + f" {seed}".encode() for name, bytes in (adapter or ADAPTER).items()}
    run = make_run(ports, dataset, seed, files, method)
    return World(dataset, run, make_report(ports, run, dataset, verdict))


def make_dataset(ports: Ports, data: str) -> DatasetVersion:
    """Commit ten rows of one raw file; `data` makes another version of them."""
    seal = ports.vault.open("curate", "dataset:shop", ports.actor).seal
    splits: dict[str, SplitInfo] = {}
    for name in ("train", "validation", "held_out"):
        rows = [row(n) for n in range(1, 11) if split_of(n) == name]
        stored = encode_examples(rows)
        digest = merkle_root([r.id for r in rows])
        blob = ports.blobs.put(seal(stored) if name == "held_out" else stored)
        splits[name] = SplitInfo(rows=len(rows), digest=digest, blob=blob)
    memory = ports.blobs.put(seal(b"memory " + data.encode()))
    head = f"{digest_bytes(data.encode())}:{memory}"
    fields = {
        "digest": digest_json({"data": data}),
        "fingerprint": digest_json({"dataset": data}),
        "sources": (
            SourceCount(path="orders.jsonl", digest=RAW_DIGEST, rows_in=10, rows_kept=10, removed={}),
        ),
        "rows_in": 10,
        "rows_kept": 10,
        "removed": {},
        "splits": splits,
        "num_clusters": 10,
        "effective_clusters": 10.0,
        "rejections": ports.blobs.put(b"no rejections"),
        "lineage": ports.blobs.put(lineage()),
        "neighbours": ports.blobs.put(seal(b"{}")),
        "vault_before": digest_bytes(b""),
        "vault_after": digest_bytes(data.encode()),
        "created_at": ports.clock(),
    }
    commit = Commit(
        kind="dataset",
        name="shop",
        make=lambda ref: DatasetVersion(ref=ref, **fields),
        event=EventDraft(kind="curate", actor=ports.actor, subject="dataset:shop"),
        edges=lambda ref: [Edge(parent=f"source:{RAW_DIGEST}", child=node("dataset", ref), role="source")],
        heads={"vault": (ports.records.head("vault"), head)},
    )
    return committed(ports, commit, DatasetVersion)


def lineage() -> bytes:
    """The lineage blob of ten rows."""
    lines = [
        {
            "row": row(n).id,
            "split": split_of(n),
            "cluster": row(n).id,
            "group": None,
            "sources": [[RAW_DIGEST, "orders.jsonl", n]],
        }
        for n in range(1, 11)
    ]
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def make_run(
    ports: Ports, dataset: DatasetVersion, seed: int, files: Mapping[str, bytes], method: str
) -> TrainingRun:
    """Commit a run whose candidate is `files`."""
    base = ports.bases.resolve("tiny").ref
    fields = {
        "fingerprint": digest_json({"run": seed, "dataset": dataset.digest}),
        "dataset": dataset.ref,
        "dataset_digest": dataset.digest,
        "base": base,
        "method": method,
        "settings": {"learning_rate": 0.001, "epochs": 3.0},
        "seed": seed,
        "environment": {},
        "self_checks": (),
        "metrics": (),
        "order_digest": digest_bytes(b"order"),
        "token_blobs": {"train": ports.blobs.put(b"tokens"), "validation": ports.blobs.put(b"more tokens")},
        "trained_rows": ports.blobs.put(json.dumps([row(n).id for n in range(1, 9)]).encode()),
        "best_step": 3,
        "stopped": "finished",
        "candidate": put_tree(ports.blobs, files),
        "num_tokens": 100,
        "wall_s": 1.0,
        "peak_memory_bytes": 1,
        "created_at": ports.clock(),
    }
    commit = Commit(
        kind="run",
        name="shop",
        make=lambda ref: TrainingRun(ref=ref, **fields),
        event=EventDraft(kind="train", actor=ports.actor, subject="run:shop"),
        edges=lambda ref: [
            Edge(parent=node("dataset", dataset.ref), child=node("run", ref), role="dataset"),
            Edge(parent=node("base", base.digest), child=node("run", ref), role="base"),
        ],
    )
    return committed(ports, commit, TrainingRun)


def make_report(ports: Ports, run: TrainingRun, dataset: DatasetVersion, verdict: str) -> EvalReport:
    """Commit an evaluation with one check."""
    check = Check(
        name="exact better_than base",
        metric="exact",
        kind="better_than",
        against="base",
        estimate=0.4,
        low=0.2,
        high=0.6,
        n=2,
        method="cr2",
        verdict=verdict,
        sentence="The candidate is better than the base.",
    )
    fields = {
        "fingerprint": digest_json({"evaluation": run.fingerprint, "verdict": verdict}),
        "dataset": dataset.ref,
        "run": run.ref,
        "candidate": run.candidate,
        "base": run.base,
        "held_out": dataset.splits["held_out"].digest,
        "arms": (),
        "checks": (check,),
        "verdict": verdict,
        "reasons": ("exact better_than base: 0.400",),
        "look": 1,
        "items": ports.blobs.put(b"items " + verdict.encode()),
        "created_at": ports.clock(),
    }
    commit = Commit(
        kind="evaluation",
        name="shop",
        make=lambda ref: EvalReport(ref=ref, **fields),
        event=EventDraft(kind="evaluate", actor=ports.actor, subject="evaluation:shop"),
        edges=lambda ref: [Edge(parent=node("run", run.ref), child=node("evaluation", ref), role="run")],
    )
    return committed(ports, commit, EvalReport)


def committed(ports, commit, cls):
    """Commit and check the type."""
    record = ports.records.commit(commit)
    assert isinstance(record, cls)
    return record


def a_base(letter: str = "a") -> BaseModelRef:
    """A base that is nowhere."""
    return BaseModelRef(name="tiny", digest=Digest(letter * 64), tokenizer_digest=Digest("b" * 64))


def a_report(ref: Ref, **changes: object) -> EvalReport:
    """An evaluation that is committed as a plain record."""
    fields = {
        "ref": ref,
        "fingerprint": Digest("f" * 64),
        "dataset": Ref("shop", 1),
        "run": Ref("shop", 1),
        "candidate": Digest("c" * 64),
        "base": a_base(),
        "held_out": Digest("d" * 64),
        "arms": (),
        "checks": (),
        "verdict": "fail",
        "reasons": (),
        "look": 1,
        "items": Digest("e" * 64),
        "created_at": "2026-01-02T03:04:05Z",
    }
    return EvalReport.model_validate(fields | changes)
