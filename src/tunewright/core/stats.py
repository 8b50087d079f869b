"""One rate, several p-values, and weights: the statistics that need no pairing and no clusters.

Paired tests are in `stats_paired`, cluster-robust means in `stats_clusters`, the bootstrap in
`stats_bootstrap`.
"""

from collections.abc import Sequence

from tunewright.core.stats_distributions import beta_quantile, binomial_tail, normal_quantile


def two_sided_z(level: float) -> float:
    """Return the normal quantile of a two-sided interval; 1.96 for level .95."""
    return normal_quantile(0.5 + level / 2)


def _check_counts(passed: float, total: float) -> None:
    if not 0 <= passed <= total or total <= 0:
        raise ValueError(f"passed {passed} of {total}; expected 0 <= passed <= total and total > 0")


def wilson_interval(passed: float, total: float, z: float = 1.96) -> tuple[float, float]:
    """Bound a pass rate from a finite sample.

    Args:
        passed: examples that passed, 0 <= passed <= total; fractional for effective sample sizes.
        total: examples scored, > 0.
        z: normal quantile; 1.96 is a two-sided 95 % interval.

    Returns:
        (low, high), fractions in [0, 1].

    Raises:
        ValueError: the counts are out of range.

    Source: Wilson (1927), J. Am. Stat. Assoc. 22(158), 209-212.
    """
    _check_counts(passed, total)
    rate = passed / total
    shrink = 1 + z * z / total
    centre = (rate + z * z / (2 * total)) / shrink
    half = z * (rate * (1 - rate) / total + z * z / (4 * total * total)) ** 0.5 / shrink
    low = 0.0 if passed == 0 else max(0.0, centre - half)
    high = 1.0 if passed == total else min(1.0, centre + half)
    return low, high


def clopper_pearson(passed: int, total: int, level: float = 0.95) -> tuple[float, float]:
    """Bound a pass rate exactly: each side errs at most (1 - level) / 2 at any sample size.

    Source: Clopper and Pearson (1934), Biometrika 26(4), 404-413.
    """
    _check_counts(passed, total)
    tail = (1 - level) / 2
    low = 0.0 if passed == 0 else beta_quantile(tail, passed, total - passed + 1)
    high = 1.0 if passed == total else beta_quantile(1 - tail, passed + 1, total - passed)
    return low, high


def binomial_exact_p(passed: int, total: int, rate: float) -> float:
    """Return the one-sided exact p-value of "the true pass rate is at most `rate`"."""
    _check_counts(passed, total)
    return binomial_tail(passed, total, rate)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values so that claims at level alpha err family-wise at most alpha; input order is kept.

    Source: Holm (1979), Scand. J. Stat. 6(2), 65-70.
    """
    adjusted = [0.0] * len(p_values)
    running = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = running
    return adjusted


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values to control the false-discovery rate of exploratory findings; input order is kept.

    Source: Benjamini and Hochberg (1995), J. R. Stat. Soc. B 57(1), 289-300.
    """
    adjusted = [0.0] * len(p_values)
    running = 1.0
    order = sorted(range(len(p_values)), key=lambda i: p_values[i], reverse=True)
    for position, index in enumerate(order):
        rank = len(p_values) - position
        running = min(running, p_values[index] * len(p_values) / rank)
        adjusted[index] = running
    return adjusted


def kish_effective(weights: Sequence[float]) -> float:
    """Return the number of equal weights that carry as much information: (sum w)^2 / sum w^2; 0 if empty.

    Source: Kish (1965), Survey Sampling, section 11.7.
    """
    squares = sum(weight * weight for weight in weights)
    return sum(weights) ** 2 / squares if squares > 0 else 0.0
