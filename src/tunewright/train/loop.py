"""The training loop, from top to bottom in one function; what it calls is beside it, each in its own file.

Shapes: a micro-batch is one sequence of T tokens that holds several documents.
"""
# pyright: reportUnknownMemberType=false

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import psutil
import torch
from torch import Tensor

from tunewright.core.tokens import TokenRow
from tunewright.errors import TrainingDiverged, TrainingError, TrainingInterrupted
from tunewright.records import MetricPoint
from tunewright.train import watch
from tunewright.train.batches import OrderDigest, plan_steps
from tunewright.train.checkpoint import (
    Checkpoint,
    TrainState,
    load_checkpoint,
    load_latest,
    make_optimizer,
    restore,
    rotate,
    save_checkpoint,
)
from tunewright.train.job import CHECKPOINT_FOLDER, TrainJob
from tunewright.train.memory import peak_memory_bytes, within_memory
from tunewright.train.methods import Trainable
from tunewright.train.objectives import Objective, sft_loss
from tunewright.train.packed import micro_batches
from tunewright.train.passes import accumulate, evaluate
from tunewright.train.schedule import rate_at
from tunewright.values import Digest, Json

FIRST_LOSSES = 5
EVAL_MICRO_TOKENS = 2048


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where the loop works and whom it tells."""

    folder: Path
    device: torch.device
    emit: Callable[[Mapping[str, Json]], None]
    """Takes events: started, step, checkpoint."""
    should_stop: Callable[[], bool]
    """True once somebody has asked to stop."""


@dataclass(frozen=True, slots=True)
class LoopResult:
    """What the loop made."""

    state: TrainState
    weights: Mapping[str, Tensor]
    """Of the best evaluation; of the last step where there is no validation."""
    best_step: int
    num_steps: int
    """As planned; fewer were done after early stopping."""
    stopped: Literal["finished", "early_stopping"]
    order_digest: Digest
    notes: tuple[str, ...]
    """What a person should know: checkpoints passed over, memory that ran out."""


def run_loop(
    job: TrainJob,
    trainable: Trainable,
    rows: Mapping[Literal["train", "validation"], Sequence[TokenRow]],
    peak_rate: float,
    around: Surroundings,
    objective: Objective = sft_loss,
) -> LoopResult:
    """Train to the end, resuming from the newest whole checkpoint of this job.

    Args:
        job: what is asked; its identity ties checkpoints to it.
        trainable: the model at its start, self-checked.
        rows: token rows of both splits; validation may be empty.
        peak_rate: the learning rate with `auto` resolved.
        around: where and whom to tell.
        objective: what is minimised.

    Raises:
        TrainingDiverged: NaN or a loss spike; names step, rows and the last good checkpoint.
        TrainingInterrupted: asked to stop; a checkpoint was saved.
        StorageError: a checkpoint could not be written.
    """
    # 1. Lay out every step, and how often to look.
    settings, train_rows = job.settings, rows["train"]
    plan = plan_steps(
        [row.row for row in train_rows],
        seed=settings.seed,
        epochs=settings.epochs,
        batch_rows=settings.batch_rows,
        max_steps=settings.max_steps,
    )
    num_steps = len(plan)
    eval_every = watch.every_steps(settings.eval_every_steps, num_steps)
    checkpoint_every = settings.checkpoint_every_steps or eval_every
    validation = micro_batches(rows["validation"], EVAL_MICRO_TOKENS, around.device)
    root = around.folder / CHECKPOINT_FOLDER
    model, optimizer = (
        trainable.causal,
        make_optimizer(trainable.parameters, settings.weight_decay, peak_rate),
    )
    clipped = list(trainable.parameters.values())
    order, notes = OrderDigest(), list[str]()

    # 2. Start, or go on where the newest whole checkpoint stands.
    checkpoint, passed_over = load_latest(root, job.identity())
    notes += passed_over
    if checkpoint is None:
        _seed_everything(settings.seed + 1)
        state = _first_state(job, trainable)
        base_eval_loss = evaluate(model, objective, validation, job, around.device)
        state = state.model_copy(update={"base_eval_loss": base_eval_loss})
    else:
        state = checkpoint.state
        trainable.load(checkpoint.weights)
        restore(checkpoint, optimizer)
        for step_rows in plan[: state.step]:
            order.update(train_rows[index].row for index in step_rows)
    around.emit(
        {
            "event": "started",
            "num_steps": num_steps,
            "resumed_from": state.step,
            "base_eval_loss": state.base_eval_loss,
        }
    )

    # 3. Step after step: gradients, clip, rate, update, measure; evaluate and save when due.
    stopped: Literal["finished", "early_stopping"] = "finished"
    saved_step = state.step if checkpoint is not None else None
    while state.step < num_steps:
        if watch.is_patience_out(_evaluations(state), settings.patience):
            stopped = "early_stopping"
            break
        started, step = time.perf_counter(), state.step + 1
        step_rows = [train_rows[index] for index in plan[step - 1]]
        model.train()
        loss, micro_tokens = within_memory(
            lambda size, batch=step_rows: accumulate(model, objective, batch, size, job, around.device),
            state.micro_tokens,
            longest=max(len(row.ids) for row in step_rows),
            on_retry=lambda: optimizer.zero_grad(set_to_none=True),
        )
        if micro_tokens < state.micro_tokens:
            notes.append(
                f"memory ran out at step {step}: micro-batches of {micro_tokens} tokens from there on"
            )
        grad_norm = torch.nn.utils.clip_grad_norm_(clipped, settings.max_grad_norm).item()
        losses = [point.train_loss for point in state.metrics] + [loss]
        if why := watch.divergence(losses, grad_norm):
            raise _diverged(step, why, step_rows, saved_step, root)
        rate = rate_at(
            step,
            num_steps=num_steps,
            peak=peak_rate,
            warmup_fraction=settings.warmup_fraction,
            kind=settings.schedule,
        )
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        order.update(row.row for row in step_rows)
        step_tokens, step_s = sum(len(row.ids) for row in step_rows), time.perf_counter() - started

        is_eval_due = step % eval_every == 0 or step == num_steps
        eval_loss = evaluate(model, objective, validation, job, around.device) if is_eval_due else None
        point = MetricPoint(
            step=step,
            epoch=((step - 1) * settings.batch_rows + len(step_rows)) / len(train_rows),
            num_tokens=state.num_tokens + step_tokens,
            train_loss=loss,
            eval_loss=eval_loss,
            learning_rate=rate,
            grad_norm=grad_norm,
            tokens_per_s=step_tokens / step_s,
            memory_bytes=psutil.Process().memory_info().rss,
        )
        state = state.model_copy(
            update={
                "step": step,
                "num_tokens": point.num_tokens,
                "wall_s": state.wall_s + time.perf_counter() - started,
                "peak_memory_bytes": max(state.peak_memory_bytes, peak_memory_bytes()),
                "micro_tokens": micro_tokens,
                "first_losses": (*state.first_losses, loss)[:FIRST_LOSSES],
                "metrics": (*state.metrics, point),
            }
        )
        around.emit({"event": "step", "num_steps": num_steps, **point.to_json()})
        is_interrupted = around.should_stop()
        if is_eval_due or step % checkpoint_every == 0 or is_interrupted:
            save_checkpoint(root, state, trainable.weights(), optimizer)
            best = watch.best_of(_evaluations(state))
            rotate(root, settings.keep_checkpoints, best.step if best else None)
            saved_step = step
            around.emit({"event": "checkpoint", "step": step})
        if is_interrupted and step < num_steps:
            raise TrainingInterrupted(
                f"training stopped after step {step} of {num_steps}, as asked; a checkpoint is saved in "
                f"{root}. The same command resumes."
            )

    # 4. The best evaluation becomes the candidate.
    best = watch.best_of(_evaluations(state))
    best_step = best.step if best else state.step
    weights = trainable.weights() if best_step == state.step else _weights_of(root, best_step, job)
    trainable.load(weights)
    return LoopResult(state, weights, best_step, num_steps, stopped, Digest(order.hexdigest()), tuple(notes))


def _seed_everything(seed: int) -> None:
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)


def _first_state(job: TrainJob, trainable: Trainable) -> TrainState:
    return TrainState(
        job=job.identity(),
        step=0,
        num_tokens=0,
        wall_s=0.0,
        peak_memory_bytes=peak_memory_bytes(),
        micro_tokens=job.settings.micro_tokens,
        first_losses=(),
        init_digest=trainable.digest(),
        base_eval_loss=None,
        metrics=(),
    )


def _evaluations(state: TrainState) -> list[tuple[int, float]]:
    return [(point.step, point.eval_loss) for point in state.metrics if point.eval_loss is not None]


def _diverged(
    step: int, why: str, rows: Sequence[TokenRow], saved_step: int | None, root: Path
) -> TrainingDiverged:
    names = ", ".join(row.row[:12] for row in rows[:8])
    last = f"the last good checkpoint is step {saved_step} in {root}" if saved_step else "no checkpoint yet"
    return TrainingDiverged(
        f"training diverged at step {step}: {why}; rows of the step ({len(rows)}): {names}; {last}. "
        "Lower train.learning_rate or raise warmup_fraction, and look at these rows."
    )


def _weights_of(root: Path, step: int, job: TrainJob) -> Mapping[str, Tensor]:
    found = load_checkpoint(root, step, job.identity())
    if not isinstance(found, Checkpoint):
        raise TrainingError(
            f"the best checkpoint cannot be used: {found}; expected it whole. Remove {root} and run again."
        )
    return found.weights
