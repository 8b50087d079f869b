import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from tunewright.core.stats_bootstrap import bca_bootstrap, cluster_weights


def mean(values):
    return float(values[:, 0].mean())


def ratio(values):
    total = values.sum(axis=0)
    return float(total[0] / total[1])


def test_singleton_clusters_come_close_to_scipys_bca():
    values = np.random.default_rng(8).exponential(size=(150, 2)) + 0.5
    found = bca_bootstrap(values, np.arange(150), ratio, level=0.9)
    expected = scipy_stats.bootstrap(
        (values[:, 0], values[:, 1]),
        lambda a, b, axis=-1: a.sum(axis=axis) / b.sum(axis=axis),
        paired=True,
        confidence_level=0.9,
        rng=np.random.default_rng(0),
    ).confidence_interval
    assert found.estimate == ratio(values)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.01)


def test_same_seed_same_interval_and_another_seed_another():
    values = np.random.default_rng(9).normal(size=(40, 1))
    first = bca_bootstrap(values, np.arange(40), mean, replicates=500)
    assert first == bca_bootstrap(values, np.arange(40), mean, replicates=500)
    assert first.low != bca_bootstrap(values, np.arange(40), mean, replicates=500, seed=1).low


def test_whole_clusters_are_drawn_so_copies_do_not_narrow_the_interval():
    values = np.random.default_rng(10).normal(size=(30, 1))
    single = bca_bootstrap(values, np.arange(30), mean, replicates=2000)
    copies = bca_bootstrap(np.repeat(values, 8, axis=0), np.repeat(np.arange(30), 8), mean, replicates=2000)
    assert (copies.low, copies.high) == pytest.approx((single.low, single.high))


def test_every_resample_has_as_many_clusters_as_the_data():
    assert set(cluster_weights(13, 50, seed=0).sum(axis=1).tolist()) == {13}


def test_undefined_resamples_are_left_out_and_counted():
    values = np.array([[1.0]] + [[0.0]] * 19)

    def only_with_a_positive(sample):
        return float(sample.mean()) if sample.sum() > 0 else math.nan

    found = bca_bootstrap(values, np.arange(20), only_with_a_positive, replicates=2000)
    assert found.undefined_fraction == pytest.approx((19 / 20) ** 20, abs=0.05)
    assert math.isfinite(found.low)


def test_a_metric_undefined_on_the_data_is_refused():
    with pytest.raises(ValueError, match="expected a finite number"):
        bca_bootstrap(np.ones((12, 1)), np.arange(12), lambda values: math.nan, replicates=10)


def test_no_variation_gives_a_point():
    found = bca_bootstrap(np.ones((12, 1)), np.arange(12), mean, replicates=50)
    assert (found.low, found.high, found.se) == (1, 1, 0)


def test_coverage_with_fifteen_skewed_clusters_is_close_to_nominal():
    rng = np.random.default_rng(11)
    clusters = np.repeat(np.arange(15), 2)
    runs, covered = 150, 0
    for _ in range(runs):
        shared = rng.exponential(size=15)[clusters]
        values = (shared + 0.3 * rng.normal(size=30))[:, None]
        found = bca_bootstrap(values, clusters, mean, level=0.9, replicates=400)
        covered += found.low <= 1 <= found.high
    assert covered / runs >= 0.82
