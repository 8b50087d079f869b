"""The stage, with a fake engine that answers from a dict: one look, one commit, a verdict with reasons."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from tests.fakes import FakeBases, FakeEngine, FakeEngines, InMemoryBlobs, InMemoryRecords, fake_ports

from tunewright.core.rows import encode_examples
from tunewright.core.tokens import ChatTokenizer, dump_token_rows, token_row
from tunewright.errors import BaseChanged, EngineFailed, RecipeError
from tunewright.evals.evaluate import evaluate
from tunewright.ports import BaseFiles, Commit, GenerateRequest, Generation, Ports, put_tree
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


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, EvalReport]:
    """A good candidate, judged once; for tests that only read."""
    world = a_world(tmp_path_factory.mktemp("judged"))
    return world, evaluate(world.recipe, world.run, world.ports)


def test_a_good_candidate_passes_with_one_look_and_one_commit(judged):
    world, report = judged
    assert report.verdict == "pass", report.reasons
    looks = world.records.events(kind="look", subject=f"held_out:{report.held_out}")
    assert [look.detail["purpose"] for look in looks] == ["evaluate"]
    assert [event.kind for event in world.records.ledger] == ["look", "dataset", "run", "look", "evaluate"]
    assert report.look == 1
    assert report.candidate == world.run.candidate
    assert report.held_out == world.dataset.splits["held_out"].digest
    assert {arm.arm for arm in report.arms} == {"candidate", "base", "few_shot", "nearest_example"}
    exact = {arm.arm: arm.metrics["exact"].estimate for arm in report.arms if "exact" in arm.metrics}
    assert exact["candidate"] == 1.0
    assert exact["base"] == 0.0


def test_edges_and_event_name_run_dataset_and_verdict(judged):
    world, report = judged
    parents = {edge.parent for edge in world.records.parents(f"evaluation:{report.ref}")}
    assert parents == {f"run:{world.run.ref}", f"dataset:{world.dataset.ref}"}
    event = world.records.events(kind="evaluate")[-1]
    assert event.subject == f"evaluation:{report.ref}"
    assert event.detail["verdict"] == "pass"
    assert event.detail["look"] == 1


def test_the_same_evaluation_is_re_used_without_a_look_or_a_request(tmp_path):
    world = a_world(tmp_path)
    first = evaluate(world.recipe, world.run, world.ports)
    looks, requests = world.looks(), len(world.engine.requests)
    assert evaluate(world.recipe, world.run, world.ports) == first
    assert (world.looks(), len(world.engine.requests)) == (looks, requests)


def test_another_gate_is_another_look_but_asks_nobody_again(tmp_path):
    world = a_world(tmp_path)
    evaluate(world.recipe, world.run, world.ports)
    asked = len(world.engine.requests)
    report = evaluate(a_recipe(alpha=0.01), world.run, world.ports)
    assert report.look == 2
    assert report.report["reused_answers"] == ["base", "candidate", "few_shot"]
    probes = len(world.engine.requests) - asked
    assert probes <= 2 * 9  # only the latency probe


def test_a_candidate_no_better_than_the_base_does_not_pass(tmp_path):
    world = a_world(tmp_path, wrong=len(HELD_OUT))
    report = evaluate(world.recipe, world.run, world.ports)
    assert report.verdict in ("fail", "inconclusive")
    assert any("exact" in reason for reason in report.reasons)


def test_a_trained_held_out_row_makes_the_verdict_void(tmp_path):
    leaked = [*TRAIN, HELD_OUT[5]]
    world = a_world(tmp_path, train=leaked, trained=leaked)
    report = evaluate(world.recipe, world.run, world.ports)
    assert report.verdict == "void"
    found = report.report["contamination"]
    assert isinstance(found, dict)
    assert found["exact"] == 1
    assert list(found["hits"]) == [HELD_OUT[5].id]


def test_tokens_that_are_not_the_dataset_s_rows_make_the_verdict_void(tmp_path):
    stranger = a_row("a question from nowhere", "an answer")
    world = a_world(tmp_path, trained=[*TRAIN, stranger])
    report = evaluate(world.recipe, world.run, world.ports)
    assert report.verdict == "void"
    assert any("in neither train nor validation" in reason for reason in report.reasons)


def test_a_record_that_lists_other_rows_than_were_trained_is_void(tmp_path):
    world = a_world(tmp_path)
    listed = world.ports.blobs.put(json.dumps([TRAIN[0].id]).encode())
    run = world.run.model_copy(update={"trained_rows": listed})
    report = evaluate(world.recipe, run, world.ports)
    assert report.verdict == "void"
    assert any("the rows it lists are not the rows of its tokens" in reason for reason in report.reasons)


def test_an_incumbent_is_judged_beside_the_candidate_and_its_answers_are_kept(tmp_path):
    world = a_world(tmp_path, wrong=20)
    first = evaluate(world.recipe, world.run, world.ports)
    crown(world, a_model(world, world.run, first))
    better = second_run(world, wrong=0)
    report = evaluate(world.recipe, better, world.ports)
    assert report.verdict == "pass", report.reasons
    assert report.report["incumbent"] == world.run.candidate
    assert report.report["reused_answers"] == ["base", "few_shot", "incumbent"]
    estimates = {arm.arm: arm.metrics["exact"].estimate for arm in report.arms if "exact" in arm.metrics}
    assert estimates["incumbent"] == pytest.approx(40 / 60)
    assert report.look == 2


def test_a_worse_candidate_does_not_replace_the_incumbent(tmp_path):
    world = a_world(tmp_path)
    first = evaluate(world.recipe, world.run, world.ports)
    crown(world, a_model(world, world.run, first))
    report = evaluate(world.recipe, second_run(world, wrong=25), world.ports)
    assert report.verdict == "fail"
    assert any("incumbent" in reason for reason in report.reasons)


def test_a_champion_asked_for_again_keeps_its_own_report(tmp_path):
    world = a_world(tmp_path, wrong=20)
    crown(world, a_model(world, world.run, evaluate(world.recipe, world.run, world.ports)))
    better = second_run(world, wrong=0)
    report = evaluate(world.recipe, better, world.ports)
    crown(world, a_model(world, better, report))
    looks = world.looks()
    assert evaluate(world.recipe, better, world.ports) == report
    assert world.looks() == looks


def test_an_incumbent_that_saw_the_held_out_rows_makes_the_comparison_void(tmp_path):
    world = a_world(tmp_path, wrong=20)
    leaky = store(world.ports, "run", a_run(world.ports, world.dataset, [*TRAIN, HELD_OUT[0]], seed=7))
    assert isinstance(leaky, TrainingRun)
    world.engine.tables[leaky.candidate] = answers(HELD_OUT)
    first = evaluate(world.recipe, world.run, world.ports)
    crown(world, a_model(world, leaky, first))
    report = evaluate(world.recipe, second_run(world, wrong=0), world.ports)
    assert report.verdict == "void"


def test_stored_items_and_answers_are_sealed(tmp_path):
    scorers = [{"kind": "json_equal", "name": "exact"}, {"kind": "perplexity"}]
    world = a_world(tmp_path, suites=[{"scorers": scorers}])
    report = evaluate(world.recipe, world.run, world.ports)
    assert isinstance(world.ports.blobs, InMemoryBlobs)
    secret = HELD_OUT[0].messages[0].content.encode()
    assert not any(secret in data for data in world.ports.blobs.stored.values())
    session = world.ports.vault.open("audit", "items", "tester")
    lines = [json.loads(line) for line in session.unseal(world.ports.blobs.get(report.items)).splitlines()]
    assert len(lines) == 4 * len(HELD_OUT)
    assert set(lines[0]) == {"row", "arm", "suite", "output", "scores"}
    scores = {line["arm"]: line["scores"] for line in lines if line["row"] == HELD_OUT[0].id}
    answer = token_row(TOKENIZER, "", HELD_OUT[0].messages, max_tokens=128)
    assert scores["candidate"] == {
        "exact": [1.0],
        "perplexity": [answer.num_supervised, answer.num_supervised],
    }
    assert set(scores["few_shot"]) == set(scores["nearest_example"]) == {"exact"}


def test_only_train_rows_are_shown_solved(judged):
    world, _ = judged
    solved = {(row.messages[0].content, row.answer) for row in TRAIN}
    for request in world.engine.requests:
        turns = request.messages
        assert turns[-1]["role"] == "user"
        shown = [(turns[at]["content"], turns[at + 1]["content"]) for at in range(0, len(turns) - 1, 2)]
        assert set(shown) <= solved


def test_the_few_shot_prompt_is_made_of_train_rows_and_chosen_on_validation_rows(judged):
    world, report = judged
    facts = report.report["few_shot"]
    assert isinstance(facts, dict)
    assert set(facts["rows"]) <= {row.id for row in TRAIN}
    assert facts["context_tokens"] == 512
    assert facts["validation_rows"] == len(VALIDATION)
    assert set(facts["tried"]) == {"k=1 seed=0", "k=1 seed=1", "k=2 seed=0", "k=2 seed=1"}


def test_without_the_few_shot_arm_the_report_says_why(tmp_path):
    world = a_world(tmp_path, few_shot=0)
    report = evaluate(world.recipe, world.run, world.ports)
    missing = report.report["missing_arms"]
    assert isinstance(missing, dict)
    assert missing["few_shot"] == "gate.few_shot is 0"
    assert "no champion" in str(missing["incumbent"])


def test_facts_for_people_are_there(judged):
    world, report = judged
    facts = report.report
    assert set(facts) >= {
        "decoding", "suites", "scorers", "stop_rate", "by_similarity_to_train", "slices", "latency",
        "label_consistency", "parity", "contamination", "few_shot",
    }  # fmt: skip
    assert facts["stop_rate"] == {"base": 1.0, "candidate": 1.0, "few_shot": 1.0}
    slices = facts["slices"]
    assert isinstance(slices, dict)
    exact = slices["held_out/exact"]
    assert isinstance(exact, dict)
    two = exact["size=two"]
    assert isinstance(two, dict)
    assert (two["n"], two["too_small"], two["candidate"], two["base"]) == (10, True, 1.0, 0.0)


def test_a_wrong_gate_costs_no_look(tmp_path):
    world = a_world(tmp_path)
    looks = world.looks()
    with pytest.raises(RecipeError, match="unknown scorer"):
        evaluate(a_recipe(suites=[{"scorers": [{"kind": "rouge"}]}]), world.run, world.ports)
    assert world.looks() == looks


def test_an_engine_that_does_not_start_costs_no_look(tmp_path):
    world = a_world(tmp_path)

    class Broken(FakeEngines):
        def start(self, base: Path):
            raise EngineFailed("no memory")

    looks = world.looks()
    with pytest.raises(EngineFailed, match="no memory"):
        evaluate(world.recipe, world.run, replace(world.ports, engines=Broken()))
    assert world.looks() == looks


def test_a_changed_base_is_refused(tmp_path):
    world = a_world(tmp_path)
    base = world.run.base.model_copy(update={"digest": Digest("f" * 64)})
    with pytest.raises(BaseChanged, match="was trained on ffffffffffff"):
        evaluate(world.recipe, world.run.model_copy(update={"base": base}), world.ports)


def test_an_engine_that_answers_with_another_model_is_refused(tmp_path):
    world = a_world(tmp_path)

    class Mixed(TableEngine):
        def generate(
            self, requests: Sequence[GenerateRequest], *, on_done=lambda done: None
        ) -> list[Generation]:
            return [replace(one, model=world.run.candidate) for one in super().generate(requests)]

    ports = replace(world.ports, engines=FakeEngines(Mixed()))
    with pytest.raises(EngineFailed, match="model base was asked"):
        evaluate(world.recipe, world.run, ports)


def test_parity_is_judged_through_the_wire(tmp_path):
    world = a_world(tmp_path)

    class Drifting(TableEngine):
        def logprobs(self, rows: Sequence[Sequence[int]], model: str) -> list[list[float]]:
            return [[0.0] + [-1.1] * (len(row) - 1) for row in rows]

    drifting = Drifting(tables=world.engine.tables)
    report = evaluate(world.recipe, world.run, replace(world.ports, engines=FakeEngines(drifting)))
    parity = next(check for check in report.checks if check.kind == "parity")
    assert parity.verdict == "fail"
    assert parity.estimate == pytest.approx(0.1)


def test_answers_stored_by_another_process_meanwhile_do_not_stop_the_commit(tmp_path):
    other = a_world(tmp_path)
    evaluate(other.recipe, other.run, other.ports)
    world = a_world(tmp_path)
    world.records.before_commit = lambda: world.records.heads.update(other.records.heads)
    report = evaluate(world.recipe, world.run, world.ports)
    assert report.verdict == "pass"
    assert world.records.heads == other.records.heads


def test_a_named_file_is_a_suite_of_its_own(tmp_path):
    suites = [
        {"scorers": [{"kind": "json_equal", "name": "exact"}]},
        {"name": "manners", "path": "manners.jsonl", "scorers": [{"kind": "contains", "name": "polite"}]},
    ]
    world = a_world(tmp_path, suites=suites)
    line = {"prompt": "say something kind please", "completion": "see"}
    (tmp_path / "data" / "manners.jsonl").write_text(json.dumps(line))
    report = evaluate(world.recipe, world.run, world.ports)
    told = report.report["suites"]
    assert isinstance(told, dict)
    assert told["manners"]["rows"] == 1
    first = report.fingerprint
    (tmp_path / "data" / "manners.jsonl").write_text(json.dumps({**line, "completion": "saw"}))
    assert evaluate(world.recipe, world.run, world.ports).fingerprint != first


def test_a_named_file_with_trained_rows_is_contaminated(tmp_path):
    suites = [
        {"scorers": [{"kind": "json_equal", "name": "exact"}]},
        {"name": "old", "path": "old.jsonl", "scorers": [{"kind": "exact_match"}]},
    ]
    world = a_world(tmp_path, suites=suites)
    rows = [{"prompt": TRAIN[0].messages[0].content, "completion": TRAIN[0].answer}]
    (tmp_path / "data" / "old.jsonl").write_text(json.dumps(rows[0]))
    assert evaluate(world.recipe, world.run, world.ports).verdict == "void"


def test_a_fully_tuned_model_is_served_from_its_own_files(tmp_path):
    world = a_world(tmp_path)
    run = world.run.model_copy(update={"method": "full"})
    engines = world.ports.engines
    assert isinstance(engines, FakeEngines)
    seen: list[set[str]] = []
    started = engines.start

    class Watching(FakeEngines):
        def start(self, base: Path):
            seen.append({path.name for path in base.iterdir()})
            return started(base)

    evaluate(world.recipe, run, replace(world.ports, engines=Watching()))
    assert len(seen) == 2
    assert {"adapter_model.safetensors", "tokenizer.json", "config.json"} <= seen[1]
    assert "model.safetensors" not in seen[1]
