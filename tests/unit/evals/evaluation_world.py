"""A workspace in which a run has just finished, with a fake engine that answers from a dict."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.fakes import FakeBases, FakeEngine, InMemoryRecords, fake_ports

from tunewright.core.rows import encode_examples
from tunewright.core.tokens import ChatTokenizer, dump_token_rows, token_row
from tunewright.ports import BaseFiles, Commit, GenerateRequest, Ports
from tunewright.recipe import Recipe
from tunewright.records import (
    AliasState,
    DatasetVersion,
    EvalReport,
    EventDraft,
    Example,
    Message,
    ModelVersion,
    Record,
    Source,
    SplitInfo,
    TrainingRun,
)
from tunewright.trees import put_tree
from tunewright.values import Digest, Ref, digest_bytes, digest_json, merkle_root

TINY = FakeBases().resolve("tiny")
TOKENIZER = ChatTokenizer.from_base(TINY)
ZERO = Digest("0" * 64)
DRINKS = [
    "latte",
    "mocha",
    "black tea",
    "espresso",
    "cocoa",
    "lemonade",
    "matcha",
    "cortado",
    "chai",
    "juice",
]
NUMBERS = ["one", "two", "three", "four", "five", "six"]


def a_row(question: str, answer: str, size: str = "small") -> Example:
    turns = (Message(role="user", content=question), Message(role="assistant", content=answer))
    digest = digest_bytes(f"{question}|{answer}".encode())
    source = Source(digest=ZERO, path="rows.jsonl", line=1)
    return Example(id=digest, messages=turns, source=source, slices={"size": size})


def orders(numbers: Sequence[str], sentence: str) -> list[Example]:
    return [
        a_row(sentence.format(n=number, d=drink), json.dumps({"item": drink, "n": number}), size=number)
        for number in numbers
        for drink in DRINKS
    ]


TRAIN = orders(NUMBERS[:3], "could somebody bring {n} {d} to the garden table")
VALIDATION = orders(NUMBERS[3:4], "my wife and I would enjoy {n} {d} in a paper cup")
HELD_OUT = orders(NUMBERS, "hey there barista, {d} times {n} for pickup at noon")


@dataclass
class TableEngine(FakeEngine):
    """Tokenises as the trainer does; an adapter answers from its table, the base says nothing useful."""

    tables: dict[str, Mapping[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.answer = self.look_up

    def look_up(self, request: GenerateRequest) -> str:
        return self.tables.get(request.model, {}).get(request.messages[-1]["content"], "I see.")

    def tokenize(self, messages: Sequence[Mapping[str, str]], *, add_generation_prompt: bool) -> list[int]:
        return TOKENIZER.encode(messages, add_generation_prompt=add_generation_prompt)


def answers(rows: Sequence[Example], wrong: int = 0) -> dict[str, str]:
    """Right answers to all but the first rows."""
    table = {row.messages[-2].content: row.answer for row in rows}
    return table | {row.messages[-2].content: "no" for row in rows[:wrong]}


class OneBase(FakeBases):
    """Hashes the shipped base once for all tests."""

    def resolve(self, name: str) -> BaseFiles:
        return TINY if name == "tiny" else super().resolve(name)


@dataclass
class World:
    """A workspace in which a run has just finished."""

    ports: Ports
    engine: TableEngine
    recipe: Recipe
    dataset: DatasetVersion
    run: TrainingRun

    @property
    def records(self) -> InMemoryRecords:
        assert isinstance(self.ports.records, InMemoryRecords)
        return self.ports.records

    def looks(self) -> int:
        return len(self.records.events(kind="look"))


def a_recipe(**gate: object) -> Recipe:
    scorers = [
        {"kind": "json_equal", "name": "exact"},
        {"kind": "json_field", "name": "item", "settings": {"path": "item"}},
        {"kind": "stop_rate"},
    ]
    gate = {"suites": [{"scorers": scorers}], "few_shot": 2, "max_new_tokens": 16} | gate
    return Recipe.model_validate(
        {"name": "coffee", "data": {"sources": [{"path": "rows.jsonl"}]}, "gate": gate}
    )


def store(ports: Ports, kind: str, record: Record) -> Record:
    def make(ref: Ref) -> Record:
        return record.model_copy(update={"ref": ref})

    event = EventDraft(kind=kind, actor="tester", subject=kind)
    return ports.records.commit(Commit(kind=kind, name="coffee", make=make, event=event))


def a_dataset(ports: Ports, train: Sequence[Example]) -> DatasetVersion:
    session = ports.vault.open("curate", "dataset:coffee", "tester")
    sides = {"train": train, "validation": VALIDATION, "held_out": HELD_OUT}
    splits = {}
    for side, rows in sides.items():
        data = encode_examples(rows)
        blob = ports.blobs.put(session.seal(data) if side == "held_out" else data)
        splits[side] = SplitInfo(rows=len(rows), digest=merkle_root([row.id for row in rows]), blob=blob)
    lineage = b"".join(
        json.dumps(
            {
                "row": row.id,
                "split": side,
                "cluster": row.id,
                "group": None,
                "sources": [[ZERO, "rows.jsonl", 1]],
            }
        ).encode()
        + b"\n"
        for side, rows in sides.items()
        for row in rows
    )
    neighbours = {row.id: 0.9 for row in HELD_OUT}
    return DatasetVersion(
        ref=Ref("coffee", 1),
        digest=digest_json([split.digest for split in splits.values()]),
        fingerprint=digest_json(["dataset", [row.id for row in train]]),
        sources=(),
        rows_in=sum(map(len, sides.values())),
        rows_kept=sum(map(len, sides.values())),
        removed={},
        splits=splits,
        num_clusters=len(HELD_OUT),
        effective_clusters=float(len(HELD_OUT)),
        rejections=ports.blobs.put(b""),
        lineage=ports.blobs.put(lineage),
        neighbours=ports.blobs.put(session.seal(json.dumps(neighbours).encode())),
        vault_before=ZERO,
        vault_after=ZERO,
        report={"contamination": {"lexical_threshold": 0.95}},
        created_at=ports.clock(),
    )


def a_run(ports: Ports, dataset: DatasetVersion, trained: Sequence[Example], seed: int = 0) -> TrainingRun:
    sides = {"train": trained, "validation": VALIDATION}
    tokens = {
        side: [token_row(TOKENIZER, row.id, row.messages, max_tokens=128) for row in rows]
        for side, rows in sides.items()
    }
    reference = [
        {"row": row.row, "ids": row.ids, "logprobs": [0.0] + [-1.0] * (len(row.ids) - 1)}
        for row in tokens["train"][:4]
    ]
    tree = {
        "adapter_model.safetensors": f"weights {seed}".encode(),
        "parity.json": json.dumps({"rows": reference}).encode(),
    }
    base = ports.bases.resolve("tiny").ref
    return TrainingRun(
        ref=Ref("coffee", 1),
        fingerprint=digest_json(["run", seed, dataset.digest]),
        dataset=dataset.ref,
        dataset_digest=dataset.digest,
        base=base,
        method="lora",
        settings={"precision": "fp32"},
        seed=seed,
        environment={},
        self_checks=(),
        metrics=(),
        order_digest=ZERO,
        token_blobs={side: ports.blobs.put(dump_token_rows(rows)) for side, rows in tokens.items()},
        trained_rows=ports.blobs.put(
            json.dumps([row.id for rows in sides.values() for row in rows]).encode()
        ),
        best_step=1,
        stopped="finished",
        candidate=put_tree(ports.blobs, tree),
        num_tokens=1,
        wall_s=1.0,
        peak_memory_bytes=1,
        created_at=ports.clock(),
    )


def a_world(
    tmp_path: Path,
    *,
    train: Sequence[Example] = TRAIN,
    trained: Sequence[Example] = TRAIN,
    wrong: int = 0,
    **gate: object,
) -> World:
    engine = TableEngine()
    ports = replace(fake_ports(tmp_path, engine), bases=OneBase())
    dataset = store(ports, "dataset", a_dataset(ports, train))
    assert isinstance(dataset, DatasetVersion)
    run = store(ports, "run", a_run(ports, dataset, trained))
    assert isinstance(run, TrainingRun)
    engine.tables[run.candidate] = answers(HELD_OUT, wrong)
    return World(ports, engine, a_recipe(**gate), dataset, run)


def a_model(world: World, run: TrainingRun, report: EvalReport) -> ModelVersion:
    model = ModelVersion(
        ref=Ref("coffee", 1),
        fingerprint=digest_json(["model", run.candidate]),
        semantic_version="1.0.0",
        adapter=run.candidate,
        base=run.base,
        dataset=run.dataset,
        dataset_digest=run.dataset_digest,
        run=run.ref,
        evaluation=report.ref,
        held_out=report.held_out,
        verdict=report.verdict,
        signature="",
        key_id="",
        created_at=world.ports.clock(),
    )
    stored = store(world.ports, "model", model)
    assert isinstance(stored, ModelVersion)
    return stored


def crown(world: World, model: ModelVersion) -> None:
    event = EventDraft(kind="alias", actor="tester", subject="model:coffee")
    state: AliasState = world.records.alias("coffee", "champion")
    world.records.move_alias(state, model.ref, event)


def second_run(world: World, wrong: int, seed: int = 1) -> TrainingRun:
    run = store(world.ports, "run", a_run(world.ports, world.dataset, TRAIN, seed=seed))
    assert isinstance(run, TrainingRun)
    world.engine.tables[run.candidate] = answers(HELD_OUT, wrong)
    return run
