"""When to stop and what the curves say."""

import math

import pytest

from tunewright.records import MetricPoint
from tunewright.train.curves import sparkline
from tunewright.train.watch import (
    Best,
    best_of,
    curve_report,
    divergence,
    every_steps,
    is_patience_out,
    mean_tokens_per_s,
)


def points(*losses: tuple[float, float | None]) -> list[MetricPoint]:
    return [
        MetricPoint(
            step=step,
            epoch=0.0,
            num_tokens=100 * step,
            train_loss=train,
            eval_loss=held,
            learning_rate=0.1,
            grad_norm=1.0,
            tokens_per_s=50.0 if step == 1 else 200.0,
            memory_bytes=1,
        )
        for step, (train, held) in enumerate(losses, start=1)
    ]


def test_nan_and_infinite_gradients_stop_at_once():
    assert divergence([2.0, math.nan], 1.0) == "the loss is nan"
    assert divergence([2.0], math.inf) == "the gradient norm is inf"


def test_one_odd_batch_does_not_stop_but_three_in_a_row_do():
    assert divergence([2.0, 1.0, 9.0], 1.0) is None
    assert divergence([2.0, 1.0, 9.0, 9.0], 1.0) is None
    why = divergence([2.0, 1.0, 9.0, 9.0, 9.0], 1.0)
    assert why is not None
    assert "exceed 3.500" in why


def test_evaluations_come_ten_times_a_run_unless_told():
    assert (every_steps(None, 100), every_steps(None, 7), every_steps(3, 100)) == (10, 1, 3)


def test_best_ignores_the_base_and_prefers_the_earlier_of_equals():
    assert best_of([(0, 0.1), (5, 0.4), (10, 0.3), (15, 0.3)]) == Best(10, 0.3)
    assert best_of([(0, 0.1)]) is None


def test_patience_counts_evaluations_since_the_best():
    evaluations = [(5, 0.5), (10, 0.3), (15, 0.4), (20, 0.35)]
    assert is_patience_out(evaluations, 2)
    assert not is_patience_out(evaluations, 3)
    assert not is_patience_out(evaluations, None)
    assert not is_patience_out([], 1)


def test_falling_loss_at_the_end_is_underfit_and_a_flat_one_is_not():
    falling = curve_report(points((3, 3.0), (2, 2.0), (1, 1.0)), 4.0, "finished")
    assert (falling["underfit"], falling["underfit_reason"]) == (True, "eval loss was still falling")
    assert falling["gain"] == 3.0
    flat = curve_report(points((3, 3.0), (1, 1.0), (1, 0.999)), 4.0, "finished")
    assert flat["underfit"] is False


def test_no_gain_over_the_base_is_underfit_whatever_the_curve():
    report = curve_report(points((1, 1.0), (1, 1.2)), 0.9, "early_stopping")
    assert report["underfit_reason"] == "no gain over the base"


def test_gap_compares_validation_with_training_up_to_the_best():
    report = curve_report(points((1.0, 1.5), (0.5, 1.25), (0.1, 2.0)), 4.0, "finished")
    assert report["gap"] == pytest.approx(1.25 - 0.75)


def test_speed_is_weighted_by_tokens():
    assert mean_tokens_per_s(points((1, None), (1, None))) == pytest.approx(200 / 2.5)
    assert mean_tokens_per_s([]) == 0.0


def test_sparkline_spans_lowest_to_highest_and_averages_long_curves():
    assert sparkline([0.0, 0.5, 1.0]) == "▁▅█"
    assert sparkline([2.0, 2.0]) == "▁▁"
    assert sparkline([]) == ""
    assert len(sparkline([float(n) for n in range(1000)], width=20)) == 20
