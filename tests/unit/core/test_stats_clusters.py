import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from tunewright.core.stats_clusters import (
    cluster_codes,
    cluster_sizes,
    design_effect,
    effective_rows,
    icc,
    mean_cr2,
    paired_difference_cr2,
    satterthwaite_df,
)


def textbook_cr2(values, clusters):
    """Bell and McCaffrey's formulas with explicit matrices: variance and Satterthwaite degrees of freedom."""
    n = len(values)
    x = np.ones((n, 1))
    hat = x @ x.T / n
    residuals = values - values.mean()
    variance, columns = 0.0, []
    for code in np.unique(clusters):
        inside = np.flatnonzero(clusters == code)
        block = np.eye(len(inside)) - hat[np.ix_(inside, inside)]
        eigenvalues, vectors = np.linalg.eigh(block)
        adjust = vectors @ np.diag(eigenvalues**-0.5) @ vectors.T
        variance += float((np.ones(len(inside)) @ adjust @ residuals[inside]) ** 2) / n**2
        columns.append((np.eye(n) - hat)[:, inside] @ adjust @ np.ones(len(inside)) / n)
    gram = np.array(columns) @ np.array(columns).T
    return variance, np.trace(gram) ** 2 / np.sum(gram**2)


@given(st.lists(st.integers(1, 7), min_size=2, max_size=12), st.integers(0, 1000))
def test_closed_form_equals_the_matrix_formulas_for_any_cluster_sizes(sizes, seed):
    clusters = np.repeat(np.arange(len(sizes)), sizes)
    values = np.random.default_rng(seed).normal(size=len(clusters))
    variance, df = textbook_cr2(values, clusters)
    found = mean_cr2(values, clusters)
    assert found.se**2 == pytest.approx(variance, rel=1e-9)
    assert found.df == pytest.approx(df, rel=1e-9)


def test_clusters_of_one_give_the_ordinary_t_interval():
    values = np.random.default_rng(1).normal(0.3, 1, 40)
    found = mean_cr2(values, np.arange(40), level=0.9)
    expected = scipy_stats.ttest_1samp(values, 0).confidence_interval(0.9)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.df == pytest.approx(39)
    assert found.se == pytest.approx(found.naive_se)


def test_repeating_every_row_does_not_make_the_estimate_surer():
    rng = np.random.default_rng(2)
    once, other = rng.normal(size=30), rng.normal(size=30)
    single = paired_difference_cr2(once, other, np.arange(30))
    tenfold = paired_difference_cr2(np.repeat(once, 10), np.repeat(other, 10), np.repeat(np.arange(30), 10))
    assert tenfold.se == pytest.approx(single.se)
    assert tenfold.naive_se < single.se / 3
    assert (tenfold.n, tenfold.clusters) == (300, 30)


def test_one_cluster_is_refused_because_it_has_no_error_to_estimate():
    with pytest.raises(ValueError, match="expected at least 2"):
        mean_cr2(np.ones(5), np.zeros(5, dtype=np.int64))


def test_one_dominant_cluster_leaves_few_degrees_of_freedom():
    assert satterthwaite_df(np.array([90.0] + [1.0] * 10)) < 2


@pytest.mark.parametrize("num_clusters", [10, 20])
@pytest.mark.parametrize("correlation", [0.0, 0.5])
def test_cr2_interval_covers_at_least_93_percent_with_few_unequal_clusters(num_clusters, correlation):
    rng = np.random.default_rng(num_clusters)
    sizes = rng.integers(1, 12, num_clusters)
    clusters = np.repeat(np.arange(num_clusters), sizes)
    runs, covered = 3000, 0
    shared = rng.normal(size=(runs, num_clusters))[:, clusters]
    values = np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * rng.normal(size=shared.shape)
    for sample in values:
        found = mean_cr2(sample, clusters)
        covered += found.low <= 0 <= found.high
    assert covered / runs >= 0.93


def test_icc_is_recovered_from_a_simulation_and_zero_where_it_cannot_be_known():
    rng = np.random.default_rng(3)
    clusters = np.repeat(np.arange(500), 4)
    values = np.sqrt(0.3) * rng.normal(size=500)[clusters] + np.sqrt(0.7) * rng.normal(size=2000)
    assert icc(values, clusters) == pytest.approx(0.3, abs=0.05)
    assert icc(rng.normal(size=50), np.arange(50)) == 0
    assert icc(np.ones(20), np.repeat(np.arange(5), 4)) == 0


def test_design_effect_is_bounded_and_assumes_the_worst_when_nothing_varies():
    clusters = np.repeat(np.arange(20), 5)
    sizes = cluster_sizes(clusters)
    alike = np.random.default_rng(4).normal(size=20)[clusters]
    independent = np.random.default_rng(5).normal(size=100)
    assert design_effect(mean_cr2(alike, clusters), sizes) == pytest.approx(5, abs=0.3)
    assert 1 <= design_effect(mean_cr2(independent, clusters), sizes) < 2.5
    assert design_effect(mean_cr2(np.ones(100), clusters), sizes) == pytest.approx(5)


def test_codes_follow_first_appearance():
    assert cluster_codes(["b", "a", "b", "c"]).tolist() == [0, 1, 0, 2]


def test_effective_rows_shrink_with_likeness_and_with_few_clusters():
    rng = np.random.default_rng(6)
    clusters = np.repeat(np.arange(12), 10)
    sizes = cluster_sizes(clusters)
    alike = mean_cr2(rng.integers(0, 2, 12).astype(float)[clusters], clusters)
    many = np.arange(5000)
    independent = mean_cr2(rng.integers(0, 2, 5000).astype(float), many)
    assert effective_rows(alike, sizes, level=0.9) == pytest.approx(12 * (1.6449 / 1.7959) ** 2, rel=1e-3)
    assert effective_rows(independent, cluster_sizes(many), level=0.9) == pytest.approx(5000, rel=0.001)
