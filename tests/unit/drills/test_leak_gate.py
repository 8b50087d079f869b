"""What the drill reads back from an evaluation, and what the gate's pure decision says of it."""

import dataclasses
from pathlib import Path

import pytest
from tests.unit.evals.evaluation_world import HELD_OUT, TRAIN, World, a_run, a_world, answers, store

from tunewright.drills.leak_items import Judged, decide_unchecked, evidence_of, read_judged
from tunewright.drills.leak_plant import plant_leak
from tunewright.evals.evaluate import evaluate
from tunewright.evals.evidence import Contamination
from tunewright.evals.gate import decide
from tunewright.records import DatasetVersion, TrainingRun

REQUIRE = [{"metric": "exact", "better_than": "base"}, {"metric": "exact", "at_least": 0.8}]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return a_world(tmp_path, require=REQUIRE)


def judged(world: World, run: TrainingRun, dataset: DatasetVersion) -> Judged:
    report = evaluate(world.recipe, run, world.ports)
    session = world.ports.vault.open("audit", "drill", "tester")
    return read_judged(report, dataset, world.ports, session)


def leaky(world: World) -> Judged:
    session = world.ports.vault.open("audit", "drill", "tester")
    dataset = plant_leak(world.dataset, world.ports, session)
    run = store(world.ports, "run", a_run(world.ports, dataset, [*TRAIN, *HELD_OUT], seed=7))
    assert isinstance(run, TrainingRun)
    world.engine.tables[run.candidate] = answers(HELD_OUT)
    return judged(world, run, dataset)


def test_what_is_read_back_gives_the_same_decision_again(world: World):
    honest = judged(world, world.run, world.dataset)
    clean = Contamination(num_rows=len(HELD_OUT))
    again = decide(evidence_of(honest, world.recipe, world.ports, clean), world.recipe.gate)
    assert again.verdict == honest.report.verdict == "pass"
    assert [arm.metrics for arm in again.arms] == [arm.metrics for arm in honest.report.arms]
    assert [(c.name, c.verdict, c.estimate) for c in again.checks] == [
        (c.name, c.verdict, c.estimate) for c in honest.report.checks
    ]


def test_the_leaky_candidate_is_void_and_would_have_passed_without_the_check(world: World):
    found = leaky(world)
    assert found.report.verdict == "void"
    assert len(found.report.report["contamination"]["hits"]) == len(HELD_OUT)
    events = len(world.records.events())
    unchecked = decide_unchecked(found, world.recipe, world.ports)
    assert unchecked.verdict == "pass"
    assert len(world.records.events()) == events, "nothing is written"
    assert not world.records.list("model")


def test_the_leaky_version_says_what_it_is_and_keeps_the_held_out_rows(world: World):
    found = leaky(world)
    honest, made = world.dataset, found.dataset
    assert made.splits["held_out"] == honest.splits["held_out"]
    assert made.splits["train"].rows == len(TRAIN) + len(HELD_OUT)
    assert made.digest != honest.digest
    assert made.parents == (honest.ref,)
    assert "on purpose" in made.warnings[0]
    assert made.rows_in == made.rows_kept + sum(made.removed.values())
    [event] = world.records.events(kind="drill")
    assert event.detail["leaked_rows"] == len(HELD_OUT)


def test_evidence_without_a_finding_keeps_a_missing_arm_missing(world: World):
    honest = judged(world, world.run, world.dataset)
    found = evidence_of(honest, world.recipe, world.ports, Contamination(num_rows=1))
    assert "incumbent" in found.missing_arms
    assert {arm.arm for arm in found.arms} >= {"candidate", "base", "nearest_example"}
    assert dataclasses.asdict(found.parity)["num_rows"] > 0
