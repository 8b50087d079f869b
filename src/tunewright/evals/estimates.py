"""From per-item values to an estimate with an interval: which method fits which metric.

Binary values of independent rows: Wilson (Clopper-Pearson where events are rare), Tango, exact binomial and
McNemar p-values. Clustered or graded values: CR2 with a t interval, never narrower than what the small-sample
methods give at the effective number of rows. Aggregate metrics: BCa bootstrap over whole clusters.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tunewright.core.stats import binomial_exact_p, clopper_pearson, two_sided_z, wilson_interval
from tunewright.core.stats_bootstrap import Combine, bca_bootstrap
from tunewright.core.stats_clusters import (
    ClusterMean,
    cluster_codes,
    cluster_sizes,
    design_effect,
    effective_rows,
    mean_cr2,
)
from tunewright.core.stats_distributions import t_quantile, t_tail
from tunewright.core.stats_paired import adjusted_mean, mcnemar_exact, sign_flip_p, tango_interval, tango_p
from tunewright.evals.evidence import ArmEvidence, Item, Metric

DISPLAY_REPLICATES = 2_000
"""Resamples behind an interval that is only shown; checks use 10,000."""
_RARE = 5
"""Passes or failures below which a rate is bounded exactly."""


@dataclass(frozen=True, slots=True)
class Aligned:
    """Values of arms on the rows that all of them have a value for."""

    values: tuple[NDArray[np.float64], ...]
    """One (n, k) array an arm, rows in the same order."""
    clusters: NDArray[np.int64]
    missing: tuple[int, ...]
    """Items without a value, by arm."""
    num_items: int

    @property
    def num_rows(self) -> int:
        """Rows compared."""
        return len(self.clusters)

    @property
    def num_clusters(self) -> int:
        """Independent clusters among them."""
        return len(cluster_sizes(self.clusters)) if self.num_rows else 0


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number, how sure it is, and how that was found."""

    value: float
    low: float
    high: float
    se: float
    """Standard error, clusters respected; above 0 even where the sample shows no variation."""
    method: str
    p: float | None = None
    """One-sided, of "no better than the null"; absent for bootstrap methods."""
    undefined_fraction: float = 0.0
    """Share of resamples on which the metric could not be computed."""


@dataclass(frozen=True, slots=True)
class Precision:
    """How an interval is to be made."""

    level: float
    """Of the two-sided interval: 1 - 2 alpha."""
    replicates: int = 10_000


def align(items: Sequence[Item], key: str, arms: Sequence[ArmEvidence]) -> Aligned:
    """Put the arms' values of one metric side by side, on the rows where no arm misses one.

    A value that is not a finite number counts as missing.
    """
    tables = [
        {row: value for row, value in arm.values.get(key, {}).items() if all(map(math.isfinite, value))}
        for arm in arms
    ]
    kept = [item for item in items if all(item.row in table for table in tables)]
    missing = tuple(sum(item.row not in table for item in items) for table in tables)
    values = tuple(np.array([table[item.row] for item in kept], dtype=np.float64) for table in tables)
    return Aligned(values, cluster_codes([item.cluster for item in kept]), missing, len(items))


def score(aligned: Aligned, metric: Metric, precision: Precision, *, null: float | None = None) -> Estimate:
    """Estimate one arm's metric, in the metric's own direction.

    Args:
        aligned: one arm, at least two clusters.
        metric: says how values combine and which direction is good.
        precision: of the interval.
        null: the level to beat, for the p-value.

    Raises:
        ValueError: the metric is undefined on these rows.
    """
    if metric.combine is not None:
        return _bootstrap(aligned.values[0], aligned.clusters, metric.combine, precision)
    values = aligned.values[0][:, 0]
    if _is_binary(values):
        if aligned.num_clusters == aligned.num_rows:
            return _independent_rate(values, metric, precision, null)
        return _clustered_rate(aligned, metric, precision, null)
    return _graded_mean(aligned, metric, precision, null)


def improvement(aligned: Aligned, metric: Metric, precision: Precision, *, null: float) -> Estimate:
    """Estimate by how much the first arm is better than the second; positive is better for every metric.

    Args:
        aligned: two arms, at least two clusters.
        metric: says how values combine and which direction is good.
        precision: of the interval.
        null: the improvement to exceed: 0, or -margin.

    Raises:
        ValueError: the metric is undefined on these rows.
    """
    sign = 1.0 if metric.higher_is_better else -1.0
    first, second = aligned.values
    if metric.combine is not None:
        combine, width = metric.combine, first.shape[1]
        both = np.concatenate([first, second], axis=1)
        return _bootstrap(
            both,
            aligned.clusters,
            lambda v: sign * (combine(v[:, :width]) - combine(v[:, width:])),
            precision,
        )
    gain = sign * (first[:, 0] - second[:, 0])
    if _is_binary(first) and _is_binary(second):
        if aligned.num_clusters == aligned.num_rows:
            return _independent_difference(gain, precision, null)
        return _clustered_difference(gain, aligned.clusters, precision, null)
    return _graded_difference(gain, aligned, precision, null)


def reversed_sign(estimate: Estimate) -> Estimate:
    """Mirror an estimate at zero."""
    return replace(estimate, value=0.0 - estimate.value, low=0.0 - estimate.high, high=0.0 - estimate.low)


def _is_binary(values: NDArray[np.float64]) -> bool:
    return bool(np.all((values == 0) | (values == 1)))


def _is_rate(values: NDArray[np.float64]) -> bool:
    return bool(np.all((values >= 0) & (values <= 1)))


def _said(method: str, precision: Precision) -> str:
    return f"{method}, two-sided {100 * precision.level:g} %"


def _cr2_words(mean: ClusterMean) -> str:
    return f"cr2 (se {mean.se:.4f}, naive {mean.naive_se:.4f}, df {mean.df:.1f})"


def _independent_rate(
    values: NDArray[np.float64], metric: Metric, precision: Precision, null: float | None
) -> Estimate:
    n, passed = len(values), int(values.sum())
    is_rare = min(passed, n - passed) < _RARE
    low, high = (
        clopper_pearson(passed, n, precision.level)
        if is_rare
        else wilson_interval(passed, n, two_sided_z(precision.level))
    )
    p = None
    if null is not None and 0 <= null <= 1:
        wanted = (passed, n, null) if metric.higher_is_better else (n - passed, n, 1 - null)
        p = binomial_exact_p(*wanted)
    se = adjusted_mean(passed / n, passed / n, n, (0.0, 1.0)).se
    method = "clopper_pearson" if is_rare else "wilson"
    return Estimate(passed / n, low, high, se, _said(f"{method}, exact binomial p", precision), p)


def _t_p(mean: ClusterMean, metric: Metric, null: float | None) -> float | None:
    """Return the p-value of "no better than null", or nothing where no variation was seen."""
    if null is None or mean.se == 0:
        return None
    distance = mean.estimate - null if metric.higher_is_better else null - mean.estimate
    return t_tail(distance / mean.se, mean.df)


def _clustered_rate(aligned: Aligned, metric: Metric, precision: Precision, null: float | None) -> Estimate:
    values = aligned.values[0][:, 0]
    mean = mean_cr2(values, aligned.clusters, level=precision.level)
    effective = effective_rows(mean, cluster_sizes(aligned.clusters), level=precision.level)
    floor = wilson_interval(mean.estimate * effective, effective, two_sided_z(precision.level))
    low, high = max(0.0, min(mean.low, floor[0])), min(1.0, max(mean.high, floor[1]))
    se = max(mean.se, adjusted_mean(mean.estimate, mean.estimate, effective, (0.0, 1.0)).se)
    method = _said(f"{_cr2_words(mean)}, not narrower than wilson at {effective:.0f} rows", precision)
    return Estimate(mean.estimate, low, high, se, method, _t_p(mean, metric, null))


def _graded_mean(aligned: Aligned, metric: Metric, precision: Precision, null: float | None) -> Estimate:
    values = aligned.values[0][:, 0]
    mean = mean_cr2(values, aligned.clusters, level=precision.level)
    p = _t_p(mean, metric, null)
    if not _is_rate(values):
        return Estimate(mean.estimate, mean.low, mean.high, mean.se, _said(_cr2_words(mean), precision), p)
    low, high, se = _with_pseudo_items(values, mean, aligned.clusters, precision, (0.0, 1.0))
    method = _said(f"{_cr2_words(mean)} with two pseudo-rows", precision)
    return Estimate(mean.estimate, max(0.0, low), min(1.0, high), se, method, p)


def _independent_difference(gain: NDArray[np.float64], precision: Precision, null: float) -> Estimate:
    n, wins, losses = len(gain), int(np.sum(gain > 0)), int(np.sum(gain < 0))
    low, high = tango_interval(wins, losses, n, two_sided_z(precision.level))
    exact = null == 0
    p = mcnemar_exact(wins, losses, alternative="greater") if exact else tango_p(wins, losses, n, null)
    se = adjusted_mean((wins - losses) / n, (wins + losses) / n, n, (-1.0, 1.0)).se
    method = _said("mcnemar_exact p, tango interval" if exact else "tango", precision)
    return Estimate((wins - losses) / n, low, high, se, method, p)


def _difference_p(
    gain: NDArray[np.float64], mean: ClusterMean, clusters: NDArray[np.int64], null: float
) -> float | None:
    if null == 0:
        return sign_flip_p(gain, clusters)
    return t_tail((mean.estimate - null) / mean.se, mean.df) if mean.se > 0 else None


def _clustered_difference(
    gain: NDArray[np.float64], clusters: NDArray[np.int64], precision: Precision, null: float
) -> Estimate:
    mean = mean_cr2(gain, clusters, level=precision.level)
    effective = effective_rows(mean, cluster_sizes(clusters), level=precision.level)
    scale = effective / len(gain)
    wins, losses = scale * float(np.sum(gain > 0)), scale * float(np.sum(gain < 0))
    floor = tango_interval(wins, losses, effective, two_sided_z(precision.level))
    se = max(mean.se, adjusted_mean(mean.estimate, float(np.mean(gain**2)), effective, (-1.0, 1.0)).se)
    method = _said(f"{_cr2_words(mean)}, not narrower than tango at {effective:.0f} rows", precision)
    low, high = max(-1.0, min(mean.low, floor[0])), min(1.0, max(mean.high, floor[1]))
    return Estimate(mean.estimate, low, high, se, method, _difference_p(gain, mean, clusters, null))


def _with_pseudo_items(
    values: NDArray[np.float64],
    mean: ClusterMean,
    clusters: NDArray[np.int64],
    precision: Precision,
    pseudo: tuple[float, float],
) -> tuple[float, float, float]:
    """Return (low, high, se): the CR2 interval, widened to what two more rows at the extremes would give."""
    effective = len(values) / design_effect(mean, cluster_sizes(clusters))
    adjusted = adjusted_mean(mean.estimate, float(np.mean(values**2)), effective, pseudo)
    half = t_quantile(0.5 + precision.level / 2, mean.df) * adjusted.se
    low, high = adjusted.estimate - half, adjusted.estimate + half
    return min(mean.low, low), max(mean.high, high), max(mean.se, adjusted.se)


def _graded_difference(
    gain: NDArray[np.float64], aligned: Aligned, precision: Precision, null: float
) -> Estimate:
    mean = mean_cr2(gain, aligned.clusters, level=precision.level)
    both = np.concatenate([values[:, 0] for values in aligned.values])
    largest = float(np.abs(gain).max())
    reach = 1.0 if _is_rate(both) else largest or float(both.max() - both.min())
    low, high, se = _with_pseudo_items(gain, mean, aligned.clusters, precision, (-reach, reach))
    method = _said(f"{_cr2_words(mean)} with two pseudo-rows", precision)
    return Estimate(mean.estimate, low, high, se, method, _difference_p(gain, mean, aligned.clusters, null))


def _bootstrap(
    values: NDArray[np.float64], clusters: NDArray[np.int64], combine: Combine, precision: Precision
) -> Estimate:
    found = bca_bootstrap(values, clusters, combine, level=precision.level, replicates=precision.replicates)
    method = _said(f"bca cluster bootstrap ({precision.replicates:,} resamples)", precision)
    return Estimate(
        found.estimate,
        found.low,
        found.high,
        found.se,
        method,
        undefined_fraction=found.undefined_fraction,
    )
