"""BCa bootstrap over whole clusters, for metrics that are no mean of per-item values: F1, perplexity, ..."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tunewright.core.stats_clusters import cluster_sizes
from tunewright.core.stats_distributions import normal_cdf, normal_quantile, t_quantile

Combine = Callable[[NDArray[np.float64]], float]
"""Values (n items, k numbers) -> one number; NaN where it is undefined."""


@dataclass(frozen=True, slots=True)
class BootstrapInterval:
    """What resampling clusters says about a metric."""

    estimate: float
    se: float
    low: float
    high: float
    undefined_fraction: float
    """Share of resamples on which the metric was not a finite number; they are left out."""


def cluster_weights(num_clusters: int, replicates: int, seed: int) -> NDArray[np.int64]:
    """Draw how often each cluster enters each resample, (replicates, clusters)."""
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, num_clusters, size=(replicates, num_clusters))
    cells = (drawn + num_clusters * np.arange(replicates)[:, None]).ravel()
    return np.bincount(cells, minlength=replicates * num_clusters).reshape(replicates, num_clusters)


def _replicates(
    values: NDArray[np.float64], clusters: NDArray[np.int64], combine: Combine, weights: NDArray[np.int64]
) -> NDArray[np.float64]:
    rows = np.arange(len(values))
    drawn = np.empty(len(weights))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        for index in range(len(weights)):
            times: NDArray[np.int64] = weights[index, clusters]
            drawn[index] = combine(values[np.repeat(rows, times)])
    return drawn


def _acceleration(values: NDArray[np.float64], clusters: NDArray[np.int64], combine: Combine) -> float:
    """Return the skewness of the metric's influence, by leaving out one cluster at a time."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        left_out = [combine(values[clusters != code]) for code in range(len(cluster_sizes(clusters)))]
    jackknife = np.array([value for value in left_out if math.isfinite(value)], float)
    if len(jackknife) == 0:
        return 0.0
    pull = jackknife.mean() - jackknife
    square = float(np.sum(pull**2))
    return float(np.sum(pull**3)) / (6 * square**1.5) if square > 0 else 0.0


def _bca_quantiles(
    estimate: float, replicates: NDArray[np.float64], acceleration: float, tail_z: float
) -> tuple[float, float]:
    below = float(np.mean(replicates < estimate)) + 0.5 * float(np.mean(np.equal(replicates, estimate)))
    half_step = 0.5 / len(replicates)
    bias = normal_quantile(min(1 - half_step, max(half_step, below)))

    def level(z: float) -> float:
        stretch = 1 - acceleration * (bias + z)
        return normal_cdf(bias + (bias + z) / stretch) if stretch > 0 else float(z > 0)

    low, high = np.quantile(replicates, [level(-tail_z), level(tail_z)]).tolist()
    return low, high


def bca_bootstrap(
    values: NDArray[np.float64],
    clusters: NDArray[np.int64],
    combine: Combine,
    *,
    level: float = 0.95,
    replicates: int = 10_000,
    seed: int = 0,
) -> BootstrapInterval:
    """Bound any metric by resampling whole clusters, corrected for bias and skewness.

    For the difference of two arms put both arms' numbers side by side in a row and let `combine` subtract.
    The tails use a widened t quantile in place of the normal one, because plain bootstrap intervals are too
    narrow with few clusters.

    Args:
        values: (n items, k numbers).
        clusters: code of each item's cluster, 0 ... C - 1, C >= 2.
        combine: see `Combine`.
        level: of the two-sided interval.
        replicates: resamples.
        seed: of the resampling; the same seed gives the same interval.

    Raises:
        ValueError: fewer than two clusters, or the metric is undefined on the data or on every resample.

    Source: Efron (1987), J. Am. Stat. Assoc. 82(397), 171-185; Hesterberg (2015), Am. Stat. 69(4), 371-386.
    """
    count = len(cluster_sizes(clusters))
    if count < 2:
        raise ValueError(f"{count} cluster; expected at least 2 to resample")
    estimate = combine(values)
    drawn = _replicates(values, clusters, combine, cluster_weights(count, replicates, seed))
    finite = drawn[np.isfinite(drawn)]
    if not math.isfinite(estimate) or len(finite) == 0:
        raise ValueError(f"the metric is {estimate} on the data; expected a finite number")
    tail_z = math.sqrt(count / (count - 1)) * t_quantile(0.5 + level / 2, count - 1)
    low, high = _bca_quantiles(estimate, finite, _acceleration(values, clusters, combine), tail_z)
    undefined = 1 - len(finite) / len(drawn)
    return BootstrapInterval(estimate, float(finite.std()), low, high, undefined)
