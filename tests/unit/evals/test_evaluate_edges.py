"""The stage where something is wrong, changed, sealed or unusual."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from tests.fakes import FakeEngines, InMemoryBlobs
from tests.unit.evals.evaluation_world import (
    HELD_OUT,
    TOKENIZER,
    TRAIN,
    TableEngine,
    a_recipe,
    a_world,
)

from tunewright.core.tokens import token_row
from tunewright.errors import BaseChanged, EngineFailed, RecipeError
from tunewright.evals.evaluate import evaluate
from tunewright.ports import GenerateRequest, Generation
from tunewright.values import Digest


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


@pytest.mark.parametrize(
    ("gate", "message"),
    [
        ({"suites": [{"scorers": [{"kind": "rouge"}]}]}, "unknown scorer"),
        ({"suites": [{"scorers": [{"kind": "recall", "settings": {"positive": "x"}}]}]}, "positive 'x'"),
        ({"required_slices": ["sise"]}, "no row has a slice 'sise'; the nearest known one is 'size'"),
    ],
)
def test_a_gate_that_cannot_be_judged_costs_no_look(tmp_path, gate, message):
    world = a_world(tmp_path)
    looks = world.looks()
    with pytest.raises(RecipeError, match=message):
        evaluate(a_recipe(**gate), world.run, world.ports)
    assert world.looks() == looks


def test_a_row_too_long_for_the_base_is_answered_by_nothing_instead_of_stopping_all(tmp_path):
    suites = [
        {"scorers": [{"kind": "json_equal", "name": "exact"}]},
        {"name": "long", "path": "long.jsonl", "scorers": [{"kind": "contains"}, {"kind": "stop_rate"}]},
    ]
    world = a_world(tmp_path, suites=suites)
    lines = [{"prompt": "tea " * 600, "completion": "see"}, {"prompt": "short", "completion": "see"}]
    (tmp_path / "data" / "long.jsonl").write_text("\n".join(map(json.dumps, lines)))
    report = evaluate(world.recipe, world.run, world.ports)
    assert report.report["prompts_too_long"] == 1
    assert all("tea tea" not in request.messages[-1]["content"] for request in world.engine.requests)
    candidate = next(arm for arm in report.arms if arm.arm == "candidate")
    assert {name: figure.estimate for name, figure in candidate.metrics.items()} == {
        "exact": 1.0, "long/contains": 0.5, "long/stop_rate": 0.5,
    }  # fmt: skip


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
