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

BETS = (0.003, 0.01, 0.03, 0.06, 0.12, 0.25, 0.5)
"""Sizes of the bets whose fortunes are averaged: small ones find small harm, large ones great harm soon."""
MAX_LOSS = 0.9
"""Largest part of its fortune that a bet may lose at once."""
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


@dataclass(frozen=True, slots=True)
class Bet:
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
    x, cap = bet.x, MAX_LOSS / bet.bound
    wealth = tuple(
        [
            fortune + log1p((scale * size if scale * size < cap else cap) * x)
            for fortune, size in zip(process.wealth, BETS, strict=True)
        ]
    )
    return _after(process, wealth)


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
    return _after(process, tuple(map(sum, zip(process.wealth, gains, strict=True))))


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
        Rounds of the bet that gets there first; None when no bet grows.
    """
    needs: list[float] = []
    for fortune, size in zip(process.wealth, BETS, strict=True):
        growth = sum(
            chance * log1p(min(scale * size, MAX_LOSS / bet.bound) * bet.x) for chance, bet in rounds
        )
        if growth > 0:
            needs.append(max(0.0, target + log(len(BETS)) - fortune) / growth)
    return min(needs, default=None)


def _after(process: EProcess, wealth: tuple[float, ...]) -> EProcess:
    peak = process.peak
    if max(wealth) > peak:  # the mean never exceeds the largest, so most rounds need no exponentials
        peak = max(peak, _log_mean_exp(wealth))
    return EProcess(wealth, process.count + 1, peak)


def _log_mean_exp(wealth: tuple[float, ...]) -> float:
    top = max(wealth)
    return top + log(sum([exp(fortune - top) for fortune in wealth]) / len(wealth))
