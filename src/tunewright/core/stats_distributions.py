# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
"""Quantiles and tails of the distributions the tests need. Plain floats in, plain floats out.

The only file of the statistics that touches scipy, which ships no types.
"""

from statistics import NormalDist

from scipy import special

_NORMAL = NormalDist()


def normal_quantile(probability: float) -> float:
    """Return x with P(Z <= x) = probability; 0 < probability < 1."""
    return _NORMAL.inv_cdf(probability)


def normal_cdf(x: float) -> float:
    """Return P(Z <= x)."""
    return _NORMAL.cdf(x)


def t_quantile(probability: float, df: float) -> float:
    """Return x with P(T <= x) = probability for Student's t; df > 0 may be fractional."""
    return float(special.stdtrit(df, probability))


def t_tail(x: float, df: float) -> float:
    """Return P(T >= x) for Student's t."""
    return float(special.stdtr(df, -x))


def binomial_tail(successes: int, total: int, rate: float) -> float:
    """Return P(X >= successes) for X ~ Binomial(total, rate)."""
    if successes <= 0:
        return 1.0
    return float(special.betainc(successes, total - successes + 1, rate))


def beta_quantile(probability: float, a: float, b: float) -> float:
    """Return x with P(B <= x) = probability for B ~ Beta(a, b)."""
    return float(special.betaincinv(a, b, probability))
