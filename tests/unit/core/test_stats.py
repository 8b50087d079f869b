import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from tunewright.core.stats import (
    benjamini_hochberg,
    binomial_exact_p,
    clopper_pearson,
    holm,
    kish_effective,
    two_sided_z,
    wilson_interval,
)
from tunewright.core.stats_distributions import beta_quantile, t_quantile, t_tail

COUNTS = st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(COUNTS)
def test_wilson_equals_statsmodels_at_every_count(counts):
    passed, total = counts
    expected = proportion_confint(passed, total, alpha=0.1, method="wilson")
    assert wilson_interval(passed, total, two_sided_z(0.9)) == pytest.approx(expected, abs=1e-12)


@given(COUNTS)
def test_clopper_pearson_equals_statsmodels_at_every_count(counts):
    passed, total = counts
    expected = proportion_confint(passed, total, alpha=0.1, method="beta")
    assert clopper_pearson(passed, total, 0.9) == pytest.approx(expected, abs=1e-10)


def test_a_perfect_score_on_few_rows_is_not_certainty():
    assert wilson_interval(20, 20)[0] == pytest.approx(0.8389, abs=1e-4)
    assert wilson_interval(20, 20)[1] == 1.0
    assert wilson_interval(0, 20)[0] == 0.0


@pytest.mark.parametrize(("passed", "total"), [(-1, 5), (6, 5), (0, 0)])
def test_counts_out_of_range_are_refused_with_the_numbers(passed, total):
    with pytest.raises(ValueError, match=f"passed {passed} of {total}"):
        wilson_interval(passed, total)


@given(COUNTS, st.floats(0.01, 0.99))
def test_exact_binomial_p_equals_scipy(counts, rate):
    passed, total = counts
    expected = scipy_stats.binomtest(passed, total, rate, alternative="greater").pvalue
    assert binomial_exact_p(passed, total, rate) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("seed", range(10))
def test_holm_and_benjamini_hochberg_equal_statsmodels(seed):
    rng = np.random.default_rng(seed)
    p_values = np.round(rng.beta(0.4, 1, size=1 + seed), 2).tolist()
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1].tolist())
    assert benjamini_hochberg(p_values) == pytest.approx(multipletests(p_values, method="fdr_bh")[1].tolist())


def test_effective_number_counts_equal_weights_and_ignores_scale():
    assert kish_effective([3, 3, 3, 3]) == pytest.approx(4)
    assert kish_effective([100, 1, 1]) == pytest.approx(102**2 / 10002)
    assert kish_effective([]) == 0


@pytest.mark.parametrize("df", [1.0, 3.7, 40.0])
def test_distributions_equal_scipy(df):
    assert t_quantile(0.95, df) == pytest.approx(scipy_stats.t.ppf(0.95, df))
    assert t_tail(1.3, df) == pytest.approx(scipy_stats.t.sf(1.3, df))
    assert beta_quantile(0.05, df, 2.0) == pytest.approx(scipy_stats.beta.ppf(0.05, df, 2.0))
    assert np.isfinite(t_quantile(0.5, df))
