"""The loop on a model of a few thousand parameters: it learns, resumes to the bit, and stops as it should."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.train_world import a_job, save_llama, token_rows

from tunewright.errors import TrainingDiverged, TrainingError, TrainingInterrupted
from tunewright.recipe import LoraSettings, TrainSection
from tunewright.train.batches import OrderDigest, plan_steps
from tunewright.train.checkpoint import list_steps
from tunewright.train.loop import LoopResult, Surroundings, run_loop
from tunewright.train.memory import is_out_of_memory, within_memory
from tunewright.train.methods import load_base, make_trainable
from tunewright.train.objectives import sft_loss

CPU = torch.device("cpu")
ROWS, VALIDATION = token_rows(24), token_rows(6, seed=1)
SETTINGS = TrainSection(
    lora=LoraSettings(rank=4, dropout=0.1),
    epochs=4,
    batch_rows=8,
    micro_tokens=64,
    eval_every_steps=3,
    patience=None,
)


class World:
    """A run folder with a base; `train` runs the loop in it, as often as one likes."""

    def __init__(self, root: Path, settings: TrainSection = SETTINGS) -> None:
        self.root, self.settings = root, settings
        self.base = save_llama(root / "base")
        self.events: list[dict] = []

    def train(self, objective=sft_loss, *, stop_after=None, validation=VALIDATION, rate=0.02) -> LoopResult:
        torch.manual_seed(self.settings.seed)
        trainable = make_trainable(load_base(self.base, self.settings, CPU), self.settings)
        job = a_job(self.settings, self.base, ROWS, validation)
        self.events.clear()
        around = Surroundings(
            self.root, CPU, self.events.append, lambda: stop_after is not None and self.steps() >= stop_after
        )
        return run_loop(job, trainable, {"train": ROWS, "validation": validation}, rate, around, objective)

    def steps(self) -> int:
        return max((event["step"] for event in self.events if event["event"] == "step"), default=0)

    @property
    def checkpoints(self) -> list[int]:
        return list_steps(self.root / "checkpoints")


def equal_weights(one: LoopResult, other: LoopResult) -> bool:
    return all(torch.equal(one.weights[name], other.weights[name]) for name in one.weights)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[World, LoopResult]:
    world = World(tmp_path_factory.mktemp("whole"))
    return world, world.train()


def test_it_learns_and_reports_every_step(whole):
    world, result = whole
    points = result.state.metrics
    assert [point.step for point in points] == list(range(1, 13))
    assert points[-1].eval_loss < result.state.base_eval_loss - 0.05
    assert [point.step for point in points if point.eval_loss is not None] == [3, 6, 9, 12]
    assert points[-1].epoch == 4.0
    assert points[-1].num_tokens == 4 * sum(len(row.ids) for row in ROWS)
    assert [event["event"] for event in world.events][:2] == ["started", "step"]
    assert json.dumps(world.events)


def test_order_digest_is_that_of_the_plan(whole):
    _, result = whole
    order = OrderDigest()
    for step in plan_steps([row.row for row in ROWS], seed=0, epochs=4, batch_rows=8):
        order.update(ROWS[index].row for index in step)
    assert result.order_digest == order.hexdigest()


def test_the_same_job_gives_the_same_bits_and_another_seed_others(whole, tmp_path):
    _, result = whole
    again = World(tmp_path / "again").train()
    assert equal_weights(result, again)
    assert result.state.init_digest == again.state.init_digest
    assert result.state.first_losses == again.state.first_losses
    other = World(tmp_path / "other", SETTINGS.model_copy(update={"seed": 1})).train()
    assert not equal_weights(result, other)


@pytest.mark.parametrize("stop_after", [2, 3, 7])
def test_stopped_and_resumed_gives_the_bits_of_the_run_that_was_not(whole, tmp_path, stop_after: int):
    _, result = whole
    world = World(tmp_path)
    with pytest.raises(TrainingInterrupted, match=f"after step {stop_after} of 12.*resumes"):
        world.train(stop_after=stop_after)
    assert stop_after in world.checkpoints
    resumed = world.train()
    assert world.events[0]["resumed_from"] == stop_after
    assert equal_weights(result, resumed)
    assert resumed.order_digest == result.order_digest
    assert [p.train_loss for p in resumed.state.metrics] == [p.train_loss for p in result.state.metrics]


def test_an_interrupt_that_comes_with_the_last_step_does_not_throw_the_work_away(tmp_path):
    assert World(tmp_path).train(stop_after=12).state.step == 12


def test_best_evaluation_becomes_the_candidate_and_its_checkpoint_survives_rotation(tmp_path):
    world = World(tmp_path, SETTINGS.model_copy(update={"keep_checkpoints": 1}))
    steps = iter(range(1000))

    def worse_later(model, batch):
        return sft_loss(model, batch) + (0.0 if model.training else 50.0 * next(steps))

    result = world.train(worse_later)
    assert result.best_step == 3
    assert world.checkpoints == [3, 12]
    assert not torch.equal(
        next(iter(result.weights.values())), next(iter(World(tmp_path / "x").train().weights.values()))
    )


def test_patience_stops_early_also_after_a_resume(tmp_path):
    world = World(tmp_path, SETTINGS.model_copy(update={"patience": 1}))
    steps = iter(range(1000))

    def worse_later(model, batch):
        return sft_loss(model, batch) + (0.0 if model.training else 50.0 * next(steps))

    result = world.train(worse_later)
    assert (result.stopped, result.state.step, result.best_step) == ("early_stopping", 6, 3)
    assert world.train(worse_later).state.step == 6


def test_without_validation_the_last_step_is_the_candidate(tmp_path):
    result = World(tmp_path).train(validation=[])
    assert result.best_step == 12
    assert result.state.base_eval_loss is None


def test_nan_stops_with_step_rows_and_last_good_checkpoint(tmp_path):
    world = World(tmp_path)

    def nan_at_step_five(model, batch):
        loss = sft_loss(model, batch)
        return loss * math.nan if model.training and world.steps() == 4 else loss

    with pytest.raises(
        TrainingDiverged, match=r"step 5: the loss is nan.*0-0.*last good checkpoint is step 3"
    ):
        world.train(nan_at_step_five)
    assert world.checkpoints == [3]


def test_a_rate_far_too_high_is_stopped_with_advice(tmp_path):
    world = World(tmp_path, SETTINGS.model_copy(update={"max_grad_norm": 1e9, "schedule": "constant"}))
    with pytest.raises(TrainingDiverged, match=r"diverged at step \d+.*Lower train\.learning_rate"):
        world.train(rate=5.0)


def test_memory_that_runs_out_halves_micro_batches_and_keeps_the_result(whole, tmp_path):
    settings = SETTINGS.model_copy(update={"lora": LoraSettings(rank=4), "micro_tokens": 128})
    calm = World(tmp_path / "calm", settings).train()

    def crowded(model, batch):
        if model.training and batch.num_tokens > 64:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried")
        return sft_loss(model, batch)

    world = World(tmp_path / "crowded", settings)
    result = world.train(crowded)
    assert result.state.micro_tokens == 64
    assert result.notes == ("memory ran out at step 1: micro-batches of 64 tokens from there on",)
    for name, value in calm.weights.items():
        torch.testing.assert_close(result.weights[name], value, rtol=1e-2, atol=1e-3)


def test_memory_too_small_for_one_row_is_an_error_with_a_next_step():
    def never(size: int) -> float:
        raise MemoryError

    with pytest.raises(TrainingError, match=r"one row of 40 tokens.*max_tokens"):
        within_memory(never, 64, longest=40, on_retry=lambda: None)


def test_other_errors_are_not_taken_for_memory():
    assert not is_out_of_memory(RuntimeError("shape mismatch"))
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))

    def broken(size: int) -> float:
        raise RuntimeError("shape mismatch")

    with pytest.raises(RuntimeError, match="shape mismatch"):
        within_memory(broken, 64, longest=40, on_retry=lambda: None)


def test_micro_batch_size_does_not_change_the_gradient_only_its_rounding(tmp_path):
    settings = SETTINGS.model_copy(update={"lora": LoraSettings(rank=4), "max_steps": 3})
    big = World(tmp_path / "big", settings.model_copy(update={"micro_tokens": 4096})).train()
    small = World(tmp_path / "small", settings.model_copy(update={"micro_tokens": 24})).train()
    for one, other in zip(big.state.metrics, small.state.metrics, strict=True):
        assert one.train_loss == pytest.approx(other.train_loss, rel=1e-4)
        assert one.grad_norm == pytest.approx(other.grad_norm, rel=1e-3)


def test_bf16_trains_close_to_fp32(whole, tmp_path):
    _, result = whole
    settings = SETTINGS.model_copy(update={"precision": "bf16"})
    low = World(tmp_path, settings).train()
    assert low.state.metrics[-1].eval_loss == pytest.approx(result.state.metrics[-1].eval_loss, abs=0.15)


def test_full_fine_tuning_learns_and_resumes_to_the_bit(tmp_path):
    settings = SETTINGS.model_copy(update={"method": "full"})
    whole = World(tmp_path / "whole", settings).train(rate=0.005)
    world = World(tmp_path / "stopped", settings)
    with pytest.raises(TrainingInterrupted):
        world.train(stop_after=5, rate=0.005)
    assert equal_weights(whole, world.train(rate=0.005))
    assert whole.state.metrics[-1].eval_loss < whole.state.base_eval_loss - 0.3


def test_labels_outside_the_answer_would_change_the_loss(whole, tmp_path):
    _, result = whole
    wrong = [replace(row, spans=((1, len(row.ids)),)) for row in VALIDATION]
    other = World(tmp_path).train(validation=wrong)
    assert other.state.base_eval_loss != result.state.base_eval_loss
