"""E-processes: the false-alarm rate at any time, bounds of the bets, and what an estimate promises."""

from math import exp, isclose, log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunewright.core.eprocess import (
    BETS,
    MAX_LOSS,
    NO_EVIDENCE,
    NO_RATIO_EVIDENCE,
    Bet,
    bet_not_worse,
    bet_pair_not_worse,
    bet_pair_worse,
    bet_worse,
    expected_outcome,
    log_e,
    rounds_needed,
    update,
    update_ratio,
)

probabilities = st.floats(0.005, 0.99)
rates = st.floats(0, 1)
expectations = st.floats(0, 0.2)


def simulated_peaks(
    *, runs: int, units: int, p: float, incumbent: float, candidate: float, mirror: bool, pairs: int = 0
):
    """Highest E of vectorised runs, written apart from the product's scalar code; pairs come first."""
    rng = np.random.default_rng(7)
    wealth, peak = np.zeros((runs, len(BETS))), np.zeros(runs)
    bets = np.array(BETS)
    for _ in range(pairs):
        gap = (rng.random(runs) < candidate).astype(float) - (rng.random(runs) < incumbent)
        stake = np.minimum(2 * bets, MAX_LOSS / (0.95 if mirror else 1.0))
        wealth += np.log1p(stake * (0.05 - gap if mirror else gap)[:, None])
        peak = np.maximum(peak, np.log(np.exp(wealth).mean(axis=1)))
    total, count = np.full(runs, 1.0), np.full(runs, 20.0)
    for _ in range(units):
        arm = rng.random(runs) < p
        bad = (rng.random(runs) < np.where(arm, candidate, incumbent)).astype(float)
        mean = np.clip(total / count, 0, 0.2)
        gap = np.where(arm, 1 / p, -1 / (1 - p)) * (bad - mean)
        x = 0.05 - gap if mirror else gap
        up, down = (1 - mean) / p, mean / p
        bound = np.maximum(up, mean / (1 - p)) if mirror else np.maximum(down, (1 - mean) / (1 - p))
        stake = np.minimum(4 * p * bets[None, :], (MAX_LOSS / bound)[:, None])
        wealth += np.log1p(stake * x[:, None])
        peak = np.maximum(peak, np.log(np.exp(wealth).mean(axis=1)))
        total, count = total + np.where(arm, 0, bad), count + ~arm
    return peak


def scalar_peak(outcomes: list[tuple[bool, float]], p: float) -> float:
    process, num, total = NO_EVIDENCE, 0, 0.0
    for is_candidate, outcome in outcomes:
        bet = bet_worse(
            is_candidate=is_candidate,
            p=p,
            outcome=outcome,
            expected=expected_outcome(num, total),
            delta=0.0,
        )
        process = update(process, bet, scale=4 * p)
        num, total = num + (not is_candidate), total + (0.0 if is_candidate else outcome)
    return process.peak


@pytest.mark.parametrize(("p", "pairs"), [(0.05, 0), (0.5, 0), (0.05, 200), (0.5, 200)])
def test_without_a_difference_the_alarm_rate_at_any_time_stays_below_alpha(p: float, pairs: int):
    peaks = simulated_peaks(
        runs=1_500, units=1_500, p=p, incumbent=0.1, candidate=0.1, mirror=False, pairs=pairs
    )
    assert (peaks >= log(1 / 0.05)).mean() <= 0.05


@pytest.mark.parametrize("pairs", [0, 200])
def test_a_candidate_worse_by_the_margin_is_rarely_ever_called_not_worse(pairs: int):
    peaks = simulated_peaks(
        runs=1_500, units=1_500, p=0.5, incumbent=0.1, candidate=0.15, mirror=True, pairs=pairs
    )
    assert (peaks >= log(1 / 0.05)).mean() <= 0.05


def test_great_harm_is_found_in_nearly_every_run():
    peaks = simulated_peaks(runs=300, units=600, p=0.5, incumbent=0.05, candidate=0.25, mirror=False)
    assert (peaks >= log(100)).mean() > 0.99


def test_the_scalar_process_agrees_with_a_direct_calculation():
    outcomes = [(place % 3 == 0, float(place % 7 == 0)) for place in range(200)]
    wealth, total, count, peak = np.ones(len(BETS)), 1.0, 20, 1.0
    for is_candidate, bad in outcomes:
        mean = min(total / count, 0.2)
        x = (bad - mean) / 0.3 if is_candidate else -(bad - mean) / 0.7
        bound = max(mean / 0.3, (1 - mean) / 0.7)
        wealth *= 1 + np.minimum(1.2 * np.array(BETS), 0.9 / bound) * x
        peak = max(peak, wealth.mean())
        if not is_candidate:
            total, count = total + bad, count + 1
    assert isclose(exp(scalar_peak(outcomes, 0.3)), peak, rel_tol=1e-9)


@given(p=probabilities, outcome=rates, expected=expectations, is_candidate=st.booleans())
def test_no_outcome_falls_below_the_bound_of_its_bet(
    p: float, outcome: float, expected: float, is_candidate: bool
):
    worse = bet_worse(is_candidate=is_candidate, p=p, outcome=outcome, expected=expected, delta=0.03)
    mirror = bet_not_worse(is_candidate=is_candidate, p=p, outcome=outcome, expected=expected, margin=0.05)
    for bet in (worse, mirror):
        assert bet.x >= -bet.bound * (1 + 1e-12)
        assert min(update(NO_EVIDENCE, bet, scale=4 * p).wealth) >= log(1 - MAX_LOSS) - 1e-9


@given(p=probabilities, rate=rates, expected=expectations, margin=st.floats(0.01, 0.5))
def test_both_bets_are_fair_exactly_where_their_hypotheses_end(
    p: float, rate: float, expected: float, margin: float
):
    def mean_x(candidate: float, *, mirror: bool) -> float:
        total = 0.0
        for is_candidate, weight, mean in ((True, p, candidate), (False, 1 - p, rate)):
            if mirror:
                bet = bet_not_worse(
                    is_candidate=is_candidate, p=p, outcome=mean, expected=expected, margin=margin
                )
            else:
                bet = bet_worse(is_candidate=is_candidate, p=p, outcome=mean, expected=expected, delta=0.0)
            total += weight * bet.x
        return total

    assert mean_x(rate, mirror=False) == pytest.approx(0, abs=1e-9)
    assert mean_x(rate + margin, mirror=True) == pytest.approx(0, abs=1e-9)


@given(candidate=rates, incumbent=rates, margin=st.floats(0.001, 0.99))
def test_the_bets_on_a_pair_keep_their_bounds_and_mirror_each_other(
    candidate: float, incumbent: float, margin: float
):
    worse = bet_pair_worse(candidate, incumbent)
    mirror = bet_pair_not_worse(candidate, incumbent, margin=margin)
    assert worse.x + mirror.x == pytest.approx(margin), "fair where the mean rise is 0, and the margin"
    for bet in (worse, mirror):
        assert bet.x >= -bet.bound * (1 + 1e-9) - 1e-12
        assert min(update(NO_EVIDENCE, bet, scale=2.0).wealth) >= log(1 - MAX_LOSS) - 1e-9


def test_the_peak_remembers_what_the_current_value_has_lost():
    process = NO_EVIDENCE
    for _ in range(10):
        process = update(process, Bet(0.9, 1.0), scale=2.0)
    high = log_e(process)
    for _ in range(10):
        process = update(process, Bet(-0.9, 1.0), scale=2.0)
    assert process.peak == pytest.approx(high)
    assert log_e(process) < process.peak
    assert process.count == 20


def test_evidence_beyond_the_range_of_floats_stays_a_number():
    process = NO_EVIDENCE
    for _ in range(3_000):
        process = update(process, Bet(1.0, 1.0), scale=2.0)
    assert 1_500 < log_e(process) < 3_000


def test_pairs_of_equal_outcomes_say_nothing():
    assert log_e(update(NO_EVIDENCE, bet_pair_worse(1.0, 1.0), scale=2.0)) == 0.0


def test_units_divided_as_assigned_rarely_look_otherwise_and_lost_units_do():
    rng = np.random.default_rng(3)
    alarms = 0
    for _ in range(100):
        process = NO_RATIO_EVIDENCE
        for is_candidate in rng.random(300) < 0.25:
            process = update_ratio(process, is_candidate=bool(is_candidate), p=0.25)
        alarms += process.peak >= log(1 / 0.01)
    lost = NO_RATIO_EVIDENCE
    for is_candidate in rng.random(600) < 0.25:
        if not is_candidate or rng.random() < 0.5:
            lost = update_ratio(lost, is_candidate=bool(is_candidate), p=0.25)
    assert alarms <= 4
    assert lost.peak >= log(1 / 0.001)


def test_the_estimate_of_rounds_is_right_where_all_rounds_are_alike():
    needed = rounds_needed(NO_EVIDENCE, [(1.0, Bet(0.1, 1.0))], scale=2.0, target=log(20))
    process = NO_EVIDENCE
    while log_e(process) < log(20):
        process = update(process, Bet(0.1, 1.0), scale=2.0)
    assert needed == pytest.approx(process.count, abs=1.5)
    assert rounds_needed(process, [(1.0, Bet(0.1, 1.0))], scale=2.0, target=log(20)) == 0.0


def test_there_is_no_estimate_where_no_bet_grows():
    assert rounds_needed(NO_EVIDENCE, [(1.0, Bet(-0.1, 1.0))], scale=2.0, target=log(20)) is None
