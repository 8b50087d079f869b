"""Means of clustered items: CR2 standard errors with Satterthwaite degrees of freedom, and the ICC.

Items of one customer, or near-duplicates of each other, are not independent observations. A naive standard
error counts them as if they were.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tunewright.core.stats import kish_effective
from tunewright.core.stats_distributions import normal_quantile, t_quantile


@dataclass(frozen=True, slots=True)
class ClusterMean:
    """A mean over items with an interval that respects clusters."""

    estimate: float
    se: float
    """CR2 standard error."""
    naive_se: float
    """What one would get by taking every item as independent; 0 for one item."""
    df: float
    """Satterthwaite degrees of freedom of `se`."""
    low: float
    high: float
    """Two-sided t interval."""
    n: int
    clusters: int


def cluster_codes(labels: Sequence[str]) -> NDArray[np.int64]:
    """Number cluster labels 0, 1, ... in order of first appearance."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(label, len(numbers)) for label in labels], dtype=np.int64)


def cluster_sizes(clusters: NDArray[np.int64]) -> NDArray[np.float64]:
    """Count the items of each code."""
    return np.bincount(clusters).astype(np.float64)


def cluster_sums(values: NDArray[np.float64], clusters: NDArray[np.int64]) -> NDArray[np.float64]:
    """Add up values by code."""
    return np.bincount(clusters, weights=values).astype(np.float64)


def satterthwaite_df(sizes: NDArray[np.float64]) -> float:
    """Return the degrees of freedom of the CR2 variance of a mean, under equal independent errors.

    Closed form for an intercept-only regression: with shares h of the items,
    1 / df = sum h_g^2 + sum over g != k of u_g u_k, u = h^2 / (1 - h). All sizes 1: n - 1.
    """
    share = sizes / sizes.sum()
    u = share**2 / (1 - share)
    return 1 / float(np.sum(share**2) + np.sum(u) ** 2 - np.sum(u**2))


def mean_cr2(values: NDArray[np.float64], clusters: NDArray[np.int64], *, level: float = 0.95) -> ClusterMean:
    """Average values over items and bound the mean with a cluster-robust t interval.

    The CR2 adjustment of an intercept-only regression has a closed form: cluster g's residual sum is divided
    by sqrt(1 - n_g / n). With clusters of size one this is the ordinary t interval.

    Args:
        values: one value an item, (n,).
        clusters: code of each item's cluster, 0 ... C - 1, every code used, C >= 2.
        level: of the two-sided interval.

    Raises:
        ValueError: fewer than two clusters.

    Source: Bell and McCaffrey (2002), Survey Methodology 28(2), 169-181; Pustejovsky and Tipton (2018),
    J. Bus. Econ. Stat. 36(4), 672-683.
    """
    n, sizes = len(values), cluster_sizes(clusters)
    if len(sizes) < 2:
        raise ValueError(f"{len(sizes)} cluster; expected at least 2 to estimate a standard error")
    mean = float(values.mean())
    residuals = values - mean
    sums = cluster_sums(residuals, clusters)
    se = math.sqrt(float(np.sum(sums**2 / (1 - sizes / n)))) / n
    naive_se = math.sqrt(float(np.sum(residuals**2)) / (n * (n - 1)))
    df = satterthwaite_df(sizes)
    half = t_quantile(0.5 + level / 2, df) * se
    return ClusterMean(mean, se, naive_se, df, mean - half, mean + half, n, len(sizes))


def paired_difference_cr2(
    candidate: NDArray[np.float64],
    other: NDArray[np.float64],
    clusters: NDArray[np.int64],
    *,
    level: float = 0.95,
) -> ClusterMean:
    """Bound the mean of candidate - other over the same items, cluster-robustly."""
    return mean_cr2(candidate - other, clusters, level=level)


def design_effect(mean: ClusterMean, sizes: NDArray[np.float64]) -> float:
    """Return how many clustered items carry the information of one independent item.

    The ratio of the two variances, at least 1 and at most what fully alike clusters would give. When no item
    differs from any other nothing can be estimated, and the upper end is taken.
    """
    worst = float(sizes.sum()) / kish_effective(sizes.tolist())
    if mean.naive_se == 0:
        return worst
    return min(worst, max(1.0, (mean.se / mean.naive_se) ** 2))


def effective_rows(mean: ClusterMean, sizes: NDArray[np.float64], *, level: float) -> float:
    """Return how many independent rows to assume in an interval for a share of clustered rows.

    Rows over the design effect, made smaller by (z / t)^2 for the degrees of freedom the error was estimated
    with. Measured on 10 to 100 unequal clusters of 0/1 values whose losses bunch: one side of a nominal 90 %
    CR2 t interval misses in up to 10 % of samples; a score interval at this many rows, in 3 to 5 %.

    Source: Korn and Graubard (1998), Survey Methodology 24(2), 193-201.
    """
    shrink = normal_quantile(0.5 + level / 2) / t_quantile(0.5 + level / 2, mean.df)
    return mean.n / design_effect(mean, sizes) * shrink**2


def icc(values: NDArray[np.float64], clusters: NDArray[np.int64]) -> float:
    """Estimate the intra-cluster correlation by one-way analysis of variance, clipped to [0, 1].

    0 where it cannot be estimated: all clusters of size one, one cluster, or no variation.

    Source: Donner (1986), Int. Stat. Rev. 54(1), 67-82.
    """
    n, sizes = len(values), cluster_sizes(clusters)
    count = len(sizes)
    if count < 2 or n == count:
        return 0.0
    means = cluster_sums(values, clusters) / sizes
    between = float(np.sum(sizes * (means - values.mean()) ** 2)) / (count - 1)
    within = float(np.sum((values - means[clusters]) ** 2)) / (n - count)
    typical = (n - float(np.sum(sizes**2)) / n) / (count - 1)
    total = between + (typical - 1) * within
    return min(1.0, max(0.0, (between - within) / total)) if total > 0 else 0.0
