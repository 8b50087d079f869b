"""Decisions about a running training: when to evaluate, when to stop, what the curves say. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from tunewright.records import MetricPoint
from tunewright.values import Json

EVALUATIONS_A_RUN = 10
SPIKE_FACTOR = 1.5
SPIKE_MARGIN_NATS = 0.5
SPIKE_STEPS = 3
STILL_FALLING_FRACTION = 0.01
"""Relative fall of the eval loss over the last evaluation above which a run counts as stopped too early."""


def every_steps(given: int | None, num_steps: int) -> int:
    """Resolve `eval_every_steps`: as given, else ten times a run."""
    return given or max(1, math.ceil(num_steps / EVALUATIONS_A_RUN))


def divergence(losses: Sequence[float], grad_norm: float) -> str | None:
    """Say why a run has diverged, or None.

    NaN or infinity counts at once. A spike counts when the last three losses all exceed 1.5 times the first
    loss by half a nat: one odd batch does not stop a run.

    Args:
        losses: training loss of every step so far, the current one last.
        grad_norm: gradient norm of the current step before clipping.
    """
    loss = losses[-1]
    if not math.isfinite(loss):
        return f"the loss is {loss}"
    if not math.isfinite(grad_norm):
        return f"the gradient norm is {grad_norm}"
    limit = SPIKE_FACTOR * losses[0] + SPIKE_MARGIN_NATS
    recent = losses[-SPIKE_STEPS:]
    if len(losses) > SPIKE_STEPS and min(recent) > limit:
        shown = ", ".join(f"{value:.3f}" for value in recent)
        return f"the last {SPIKE_STEPS} losses ({shown}) exceed {limit:.3f} (the first loss: {losses[0]:.3f})"
    return None


@dataclass(frozen=True, slots=True)
class Best:
    """The best evaluation so far."""

    step: int
    eval_loss: float


def best_of(evaluations: Sequence[tuple[int, float]]) -> Best | None:
    """Find the lowest eval loss of a trained step (step 0 is the base); the earlier one wins a tie."""
    trained = [(loss, step) for step, loss in evaluations if step > 0]
    if not trained:
        return None
    loss, step = min(trained)
    return Best(step, loss)


def is_patience_out(evaluations: Sequence[tuple[int, float]], patience: int | None) -> bool:
    """Say whether the last `patience` evaluations all failed to improve on the best before them."""
    best = best_of(evaluations)
    if patience is None or best is None:
        return False
    return sum(step > best.step for step, _ in evaluations) >= patience


def mean_tokens_per_s(points: Sequence[MetricPoint]) -> float:
    """Average the speed over all steps, evaluations and checkpoints left out."""
    tokens = [point.num_tokens for point in points]
    step_tokens = [now - before for before, now in pairwise([0, *tokens])]
    seconds = sum(count / point.tokens_per_s for count, point in zip(step_tokens, points, strict=True))
    return sum(step_tokens) / seconds if seconds > 0 else 0.0


def curve_report(
    points: Sequence[MetricPoint], base_eval_loss: float | None, stopped: str
) -> dict[str, Json]:
    """Read the curves: gain over base, gap between training and validation, trend, underfit.

    Returns:
        base_eval_loss, best_eval_loss, gain (nats a token), gap (eval minus mean train loss around the best
        evaluation, nats), trend (relative change of the last evaluation), underfit and why.
    """
    evaluations = [(point.step, point.eval_loss) for point in points if point.eval_loss is not None]
    best = best_of(evaluations)
    if best is None:
        return {"underfit": False, "underfit_reason": "there are no validation rows to tell by"}
    before = [point.train_loss for point in points if point.step <= best.step][-10:]
    losses = [loss for _, loss in evaluations]
    trend = losses[-1] / losses[-2] - 1 if len(losses) > 1 and losses[-2] > 0 else 0.0
    is_falling = stopped == "finished" and best.step == evaluations[-1][0] and trend < -STILL_FALLING_FRACTION
    has_no_gain = base_eval_loss is not None and best.eval_loss >= base_eval_loss
    reason = "no gain over the base" if has_no_gain else "eval loss was still falling" if is_falling else ""
    return {
        "base_eval_loss": base_eval_loss,
        "best_eval_loss": best.eval_loss,
        "gain": None if base_eval_loss is None else base_eval_loss - best.eval_loss,
        "gap": best.eval_loss - sum(before) / len(before),
        "trend": trend,
        "underfit": bool(reason),
        "underfit_reason": reason,
    }
