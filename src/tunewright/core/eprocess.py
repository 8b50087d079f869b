"""Betting e-processes: evidence that may be looked at after every observation.

A gambler starts with 1 and bets a little on "the candidate is worse" before each outcome is seen. If that is
not so, no strategy makes the fortune E exceed 1/alpha, ever, with a chance above alpha. So a test may be
stopped at any time, and looking is free. Scalar and in logs; no rule of any rollout is in here.

Source: Waudby-Smith and Ramdas (2021), arXiv:2010.09686; Ville's inequality as in Howard et al. (2021),
Ann. Statist. 49(2), 1055-1080.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log, log1p
from operator import add
from typing import NamedTuple

BETS = (0.003, 0.01, 0.03, 0.06, 0.12, 0.25, 0.5)
"""Sizes of the bets whose fortunes are averaged: small ones find small harm, large ones great harm soon."""
MAX_LOSS = 0.9
"""Largest part of its fortune that a bet may lose at once."""
_PRECISION = 0.01
ODDS_RATIOS = (0.25, 0.5, 0.8, 1.25, 2.0, 4.0)
"""Distortions of the candidate's odds that the sample-ratio test bets on."""
PRIOR_RATE, PRIOR_WEIGHT, MAX_EXPECTED = 0.05, 20.0, 0.2
"""The incumbent's expected outcome before any is known, its weight in outcomes, and its upper clip."""


@dataclass(frozen=True, slots=True)
class EProcess:
    """Fortunes after a number of observations."""

    wealth: tuple[float, ...] = (0.0,) * len(BETS)
    """Natural log of each bet's fortune."""
    count: int = 0
    """Observations so far."""
    peak: float = 0.0
    """Largest log E ever reached; a threshold once crossed stays crossed."""


NO_EVIDENCE = EProcess()
"""Where a process begins."""
NO_RATIO_EVIDENCE = EProcess(wealth=(0.0,) * len(ODDS_RATIOS))
"""Where a sample-ratio test begins."""


class Bet(NamedTuple):
    """What a process bets on: an observation of mean at most 0 if nothing is to be found."""

    x: float
    bound: float
    """x >= -bound was certain before x was seen; > 0."""


def log_e(process: EProcess) -> float:
    """Natural log of the mean fortune."""
    return _log_mean_exp(process.wealth)


def update(process: EProcess, bet: Bet, *, scale: float) -> EProcess:
    """Play one round: each bet g stakes lambda = min(scale * g, 0.9 / bound).

    Args:
        process: fortunes so far.
        bet: the observation and its bound.
        scale: fixed before the observation is seen; 4 p for a randomised unit, 2 for a pair.
    """
    x, most = bet.x, MAX_LOSS / (bet.bound * scale)
    gains = [log1p(scale * (size if size < most else most) * x) for size in BETS]
    return _after(process, tuple(map(add, process.wealth, gains)))


def update_ratio(process: EProcess, *, is_candidate: bool, p: float) -> EProcess:
    """Play one round of the sample-ratio test: a likelihood ratio against each distorted odds, both ways.

    Args:
        process: begun as NO_RATIO_EVIDENCE.
        is_candidate: the arm of the observed unit.
        p: probability of the candidate arm at assignment, 0 < p < 1.
    """
    gains = [-log1p(p * (ratio - 1)) for ratio in ODDS_RATIOS]
    if is_candidate:
        gains = [gain + log(ratio) for gain, ratio in zip(gains, ODDS_RATIOS, strict=True)]
    return _after(process, tuple(map(add, process.wealth, gains)))


def expected_outcome(num_outcomes: int, total: float) -> float:
    """Mean outcome with the prior, clipped to [0, 0.2]; only lowers variance, never validity."""
    mean = (PRIOR_RATE * PRIOR_WEIGHT + total) / (PRIOR_WEIGHT + num_outcomes)
    return min(max(mean, 0.0), MAX_EXPECTED)


def bet_worse(*, is_candidate: bool, p: float, outcome: float, expected: float, delta: float) -> Bet:
    """Bet that the candidate's mean outcome exceeds the incumbent's by more than delta.

    Args:
        is_candidate: the arm.
        p: probability of the candidate arm at assignment, 0 < p < 1.
        outcome: in [0, 1], 1 is bad.
        expected: the incumbent's mean of the outcomes before this one.
        delta: tolerated difference.
    """
    weight = 1 / p if is_candidate else -1 / (1 - p)
    bound = max(expected / p, (1 - expected) / (1 - p)) + delta
    return Bet(weight * (outcome - expected) - delta, bound)


def bet_not_worse(*, is_candidate: bool, p: float, outcome: float, expected: float, margin: float) -> Bet:
    """Bet that the candidate's mean outcome exceeds the incumbent's by less than the margin: the mirror."""
    weight = 1 / p if is_candidate else -1 / (1 - p)
    bound = max((1 - expected) / p, expected / (1 - p))
    return Bet(margin - weight * (outcome - expected), bound)


def bet_pair_worse(candidate: float, incumbent: float) -> Bet:
    """Bet that the candidate's outcome exceeds the incumbent's on the same request."""
    return Bet(candidate - incumbent, 1.0)


def bet_pair_not_worse(candidate: float, incumbent: float, *, margin: float) -> Bet:
    """Bet that it exceeds the incumbent's by less than the margin (below 1) on average: the mirror."""
    return Bet(margin - (candidate - incumbent), 1.0 - margin)


def rounds_needed(
    process: EProcess, rounds: Sequence[tuple[float, Bet]], *, scale: float, target: float
) -> float | None:
    """Estimate how many more rounds bring log E to a target, if they are like these.

    Args:
        process: fortunes so far.
        rounds: (chance, bet) of all things one round may bring; chances sum to 1.
        scale: as in `update`.
        target: log of the wanted E.

    Returns:
        Rounds until the fortunes, each growing as it would on average, are enough; None when none grows.
    """
    growth = [
        sum(chance * log1p(min(scale * size, MAX_LOSS / bet.bound) * bet.x) for chance, bet in rounds)
        for size in BETS
    ]
    if max(growth) <= 0:
        return None

    def is_enough(num: float) -> bool:
        grown = [fortune + num * rate for fortune, rate in zip(process.wealth, growth, strict=True)]
        return _log_mean_exp(tuple(grown)) >= target

    if is_enough(0.0):
        return 0.0
    low, high = 0.0, 1.0
    while not is_enough(high):
        low, high = high, 2 * high
    while high - low > _PRECISION * high:
        middle = (low + high) / 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high


def _after(process: EProcess, wealth: tuple[float, ...]) -> EProcess:
    peak = process.peak
    if max(wealth) > peak:  # the mean never exceeds the largest, so most rounds need no exponentials
        value = _log_mean_exp(wealth)
        peak = value if value > peak else peak
    return EProcess(wealth, process.count + 1, peak)


def _log_mean_exp(wealth: tuple[float, ...]) -> float:
    top = max(wealth)
    return top + log(sum([exp(fortune - top) for fortune in wealth]) / len(wealth))
