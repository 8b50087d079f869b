"""The stage: one look, one commit, a verdict with reasons."""

import json

import pytest
from tests.unit.evals.evaluation_world import (
    HELD_OUT,
    TRAIN,
    VALIDATION,
    World,
    a_model,
    a_recipe,
    a_row,
    a_run,
    a_world,
    answers,
    crown,
    second_run,
    store,
)

from tunewright.evals.evaluate import evaluate
from tunewright.records import EvalReport, TrainingRun


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


def test_only_train_rows_are_shown_solved(judged):
    world, _ = judged
    solved = {(row.messages[0].content, row.answer) for row in TRAIN}
    for request in world.engine.requests:
        turns = request.messages
        assert turns[-1]["role"] == "user"
        shown = [(turns[at]["content"], turns[at + 1]["content"]) for at in range(0, len(turns) - 1, 2)]
        assert set(shown) <= solved


def test_the_few_shot_prompt_is_made_of_train_rows_and_chosen_on_validation_rows(judged):
    _, report = judged
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
    _, report = judged
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
