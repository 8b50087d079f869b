import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize
from scipy import stats as scipy_stats
from statsmodels.stats.contingency_tables import mcnemar

from tunewright.core.stats import two_sided_z
from tunewright.core.stats_paired import (
    adjusted_mean,
    mcnemar_exact,
    sign_flip_p,
    tango_interval,
    tango_low,
    tango_p,
)


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_equals_statsmodels_and_scipy(wins, losses):
    expected = mcnemar([[5, wins], [losses, 5]], exact=True).pvalue if wins + losses else 1.0
    assert mcnemar_exact(wins, losses) == pytest.approx(expected)
    if wins + losses:
        one_sided = scipy_stats.binomtest(wins, wins + losses, 0.5, alternative="greater").pvalue
        assert mcnemar_exact(wins, losses, alternative="greater") == pytest.approx(one_sided)


def test_no_discordant_pair_proves_nothing():
    assert mcnemar_exact(0, 0) == 1
    assert mcnemar_exact(0, 0, alternative="greater") == 1


def score_from_likelihood(wins, losses, total, delta):
    """Tango's score with its constrained maximum found numerically, independent of the closed form."""

    def negative(loss_rate):
        win_rate, rest = loss_rate + delta, 1 - 2 * loss_rate - delta
        return -(
            wins * np.log(win_rate) + losses * np.log(loss_rate) + (total - wins - losses) * np.log(rest)
        )

    low, high = max(0, -delta) + 1e-12, (1 - delta) / 2 - 1e-12
    best = optimize.minimize_scalar(negative, bounds=(low, high), method="bounded", options={"xatol": 1e-12})
    return (wins - losses - total * delta) / np.sqrt(total * (2 * best.x + delta - delta**2))


@pytest.mark.parametrize(("wins", "losses", "total"), [(40, 20, 160), (12, 3, 44), (1, 9, 50), (25, 25, 60)])
def test_tango_bounds_are_where_the_score_reaches_the_quantile(wins, losses, total):
    z = two_sided_z(0.95)
    low, high = tango_interval(wins, losses, total, z, continuity=0.0)
    assert score_from_likelihood(wins, losses, total, low) == pytest.approx(z, abs=1e-3)
    assert score_from_likelihood(wins, losses, total, high) == pytest.approx(-z, abs=1e-3)


@given(st.integers(0, 100), st.integers(0, 100), st.integers(1, 100))
def test_tango_holds_the_estimate_and_turns_with_the_arms(wins, losses, ties):
    total = wins + losses + ties
    low, high = tango_interval(wins, losses, total)
    assert -1 <= low <= (wins - losses) / total <= high <= 1
    assert tango_interval(losses, wins, total) == pytest.approx((-high, -low), abs=1e-9)


@given(st.integers(0, 40), st.integers(0, 40), st.sampled_from([-0.1, -0.03, 0.0, 0.05]))
def test_tango_p_value_and_bound_agree(wins, losses, null):
    low, _ = tango_interval(wins, losses, 100, two_sided_z(0.9))
    if abs(low - null) > 1e-9:
        assert (tango_p(wins, losses, 100, null) < 0.05) == (low > null)


def test_equal_answers_on_few_rows_leave_a_wide_interval():
    low, high = tango_interval(0, 0, 20, two_sided_z(0.9))
    assert low < -0.1
    assert high > 0.1


def test_impossible_counts_are_refused():
    with pytest.raises(ValueError, match="7 wins and 5 losses of 10"):
        tango_interval(7, 5, 10)


@pytest.mark.parametrize("total", [50, 200])
@pytest.mark.parametrize("margin", [0.03, 0.05, 0.1])
def test_non_inferiority_errs_at_most_alpha_computed_exactly_over_all_tables(total, margin):
    wins, losses = np.meshgrid(np.arange(total + 1.0), np.arange(total + 1.0), indexing="ij")
    possible = wins + losses <= total
    wins, losses = wins[possible], losses[possible]
    passes = tango_low(wins, losses, total, two_sided_z(0.9)) > -margin
    for extra in (1e-4, 0.01, 0.05, 0.1, 0.3):
        win_rate, loss_rate = extra / 2, margin + extra / 2
        tables = np.stack([wins[passes], losses[passes], total - wins[passes] - losses[passes]], axis=1)
        rates = [win_rate, loss_rate, 1 - win_rate - loss_rate]
        assert scipy_stats.multinomial.pmf(tables, total, rates).sum() <= 0.05


def test_pseudo_items_are_the_interval_of_bonett_and_price():
    wins, losses, n = 7, 2, 40
    found = adjusted_mean((wins - losses) / n, (wins + losses) / n, n, (-1.0, 1.0))
    p, q = (wins + 1) / (n + 2), (losses + 1) / (n + 2)
    assert found.estimate == pytest.approx(p - q)
    assert found.se == pytest.approx(np.sqrt((p + q - (p - q) ** 2) / (n + 2)))


def test_sign_flip_enumerates_all_patterns_of_few_clusters():
    clusters = np.repeat(np.arange(10), 3)
    assert sign_flip_p(np.ones(30), clusters) == pytest.approx(1 / 2**10)
    assert sign_flip_p(-np.ones(30), clusters) == 1
    assert sign_flip_p(np.zeros(30), clusters) == 1


def test_sign_flip_equals_scipy_for_single_rows():
    differences = np.random.default_rng(6).normal(0.2, 1, 11)
    expected = scipy_stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", alternative="greater", n_resamples=np.inf
    )
    assert sign_flip_p(differences, np.arange(11)) == pytest.approx(expected.pvalue)


def test_sign_flip_sees_that_ten_copies_of_one_row_are_one_row():
    differences = np.random.default_rng(7).normal(0, 1, 40)
    differences += 0.15 - differences.mean()
    single = sign_flip_p(differences, np.arange(40))
    copies = sign_flip_p(np.repeat(differences, 10), np.repeat(np.arange(40), 10))
    assert copies == single
    assert sign_flip_p(np.repeat(differences, 10), np.arange(400)) < single / 2


def test_gsm8k_paired_test_sees_what_the_unpaired_one_blurs():
    if "TUNEWRIGHT_DATA" not in os.environ:
        pytest.skip("TUNEWRIGHT_DATA is not set")
    path = Path(os.environ["TUNEWRIGHT_DATA"]) / "gsm8k" / "example_model_solutions.jsonl"
    if not path.exists():
        pytest.skip(f"{path} is absent")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    first = np.array([row["6b_verification"]["is_correct"] for row in rows])
    second = np.array([row["175b_finetuning"]["is_correct"] for row in rows])
    paired = mcnemar_exact(int(np.sum(first & ~second)), int(np.sum(~first & second)))
    table = [[first.sum(), (~first).sum()], [second.sum(), (~second).sum()]]
    unpaired = scipy_stats.chi2_contingency(table, correction=False).pvalue
    assert paired == pytest.approx(0.0032, abs=5e-5)
    assert unpaired == pytest.approx(0.021, abs=5e-4)
