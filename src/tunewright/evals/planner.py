"""How many held-out rows a verdict takes, before and after the look. Pure arithmetic on assumptions.

`discordance` is the share of rows on which exactly one of two arms is right; 15 % is a usual value for two
models of one family. For graded metrics it is the mean squared difference.
"""

import math
from bisect import bisect_left
from dataclasses import dataclass

from tunewright.core.stats_distributions import binomial_tail, normal_quantile
from tunewright.evals.requirements import against, default_requirements, describe
from tunewright.recipe import GateSection, Requirement

MIN_CLUSTERS = 10
"""Independent clusters below which nothing is concluded."""
DEFAULT_DISCORDANCE = 0.15


def _reach(alpha: float, power: float) -> float:
    """Return how many standard errors a difference must have to be found."""
    return normal_quantile(1 - alpha) + normal_quantile(power)


def cluster_inflation(icc: float, cluster_size: float) -> float:
    """Return by what factor alike rows inflate the rows needed: 1 + (m - 1) ICC."""
    return 1 + (cluster_size - 1) * icc


def required_items(
    margin: float,
    *,
    discordance: float = DEFAULT_DISCORDANCE,
    alpha: float = 0.05,
    power: float = 0.8,
    inflation: float = 1.0,
) -> int:
    """Return the rows that show non-inferiority at a margin, when the two arms are truly equal.

    n = (z_{1-alpha} + z_power)^2 x discordance / margin^2 x inflation, rounded to the nearest row. The same
    formula gives the rows that show superiority when the true improvement equals `margin`.

    Args:
        margin: loss that would still be accepted, > 0.
        discordance: share of rows on which the arms differ.
        alpha: one-sided error rate; divide by the number of looks when there are several.
        power: probability of the wanted verdict.
        inflation: see `cluster_inflation`.

    Raises:
        ValueError: the margin is not above 0.

    Source: Connor (1987), Biometrics 43(1), 207-211, in its simplest form.
    """
    if margin <= 0:
        raise ValueError(f"margin {margin}; expected more than 0, since no sample proves exact equality")
    return max(1, round(_reach(alpha, power) ** 2 * discordance / margin**2 * inflation))


def items_to_conclude(n: int, se: float, gap: float, *, alpha: float, power: float) -> int | None:
    """Return the rows a conclusive answer would need, from what an inconclusive look measured.

    The planner's formula with the measured variance: n x se^2 is variance x design effect.

    Args:
        n: rows looked at.
        se: standard error measured on them.
        gap: distance between the difference expected and the value it must exceed.
        alpha: one-sided error rate.
        power: probability of concluding.

    Returns:
        More than n; nothing where the gap is not above 0, because no number of rows would help.
    """
    if gap <= 0:
        return None
    return max(n + 1, math.ceil(n * (_reach(alpha, power) * se / gap) ** 2))


def minimum_detectable(
    num_rows: int,
    *,
    discordance: float = DEFAULT_DISCORDANCE,
    alpha: float = 0.05,
    power: float = 0.8,
    inflation: float = 1.0,
) -> float | None:
    """Return the smallest true improvement that these rows would show; nothing when even 1 would not.

    Arms that differ by d disagree on at least a share d of rows: a large effect brings its own discordance.
    """
    if num_rows < 1:
        return None
    unit = _reach(alpha, power) ** 2 * inflation / num_rows
    improvement = math.sqrt(unit * discordance)
    if improvement > discordance:
        improvement = unit
    return improvement if improvement <= 1 else None


def smallest_passing_count(num_rows: int, threshold: float, *, alpha: float = 0.05) -> int | None:
    """Return how many of the rows must pass to prove a rate above the threshold; None if all would not do."""
    passing = bisect_left(
        range(num_rows + 1), True, key=lambda passed: binomial_tail(passed, num_rows, threshold) <= alpha
    )
    return passing if passing <= num_rows else None


@dataclass(frozen=True, slots=True)
class Reach:
    """Which verdicts a number of held-out rows can give."""

    num_rows: int
    can_conclude: bool
    """Enough rows for any verdict but `inconclusive`."""
    detectable: float | None
    """Smallest improvement over another arm that would be shown."""
    can_hold_margin: bool
    """Whether "not worse by more than the margin" would be shown for an equal candidate."""
    needed_for_margin: int | None
    """Rows that would show it; absent for margin 0."""


def reach(
    num_rows: int,
    margin: float,
    *,
    discordance: float = DEFAULT_DISCORDANCE,
    alpha: float = 0.05,
    power: float = 0.8,
    inflation: float = 1.0,
) -> Reach:
    """Work out what this many held-out rows can show."""
    assumed = {"discordance": discordance, "alpha": alpha, "power": power, "inflation": inflation}
    needed = required_items(margin, **assumed) if margin > 0 else None
    return Reach(
        num_rows=num_rows,
        can_conclude=num_rows / inflation >= MIN_CLUSTERS,
        detectable=minimum_detectable(num_rows, **assumed),
        can_hold_margin=needed is not None and num_rows >= needed,
        needed_for_margin=needed,
    )


def reachable_verdict(
    num_held_out: int,
    margin: float,
    discordance: float = DEFAULT_DISCORDANCE,
    *,
    alpha: float = 0.05,
    power: float = 0.8,
    held_out_fraction: float | None = None,
) -> str:
    """Say in plain words which verdict so many held-out rows can give, and how many more are needed.

    Args:
        num_held_out: held-out rows, or independent clusters among them.
        margin: of the non-inferiority requirement.
        discordance: share of rows on which two arms differ.
        alpha: one-sided error rate.
        power: probability of the wanted verdict.
        held_out_fraction: share of all rows that is held out; with it, missing rows are said in all rows too.
    """
    can = reach(num_held_out, margin, discordance=discordance, alpha=alpha, power=power)
    if not can.can_conclude:
        more = _more(MIN_CLUSTERS - num_held_out, held_out_fraction)
        return (
            f"With {num_held_out} held-out rows every verdict is `inconclusive`: at least {MIN_CLUSTERS} "
            f"independent rows are needed, {more}."
        )
    beats = _superiority_words(can, power, "another arm, such as the base,")
    return f"{beats} {_margin_words(can, margin, discordance, held_out_fraction)}"


def _superiority_words(can: Reach, power: float, other: str) -> str:
    start = f"With {can.num_rows} held-out rows the gate"
    if can.detectable is None:
        return f"{start} cannot show that the candidate beats {other}, however large the improvement."
    return (
        f"{start} can show that the candidate beats {other} if it is better by at least "
        f"{100 * can.detectable:.0f} points (found in {100 * power:.0f} % of cases)."
    )


def _margin_words(can: Reach, margin: float, discordance: float, held_out_fraction: float | None) -> str:
    claim = f"`not worse by more than {100 * margin:g} points`"
    if can.needed_for_margin is None:
        return f"It can never show {claim}, because no sample proves exact equality: set a margin above 0."
    assumption = f"where two arms differ on {100 * discordance:g} % of rows"
    if can.can_hold_margin:
        return f"It can also show {claim} {assumption} (needed: {can.needed_for_margin:,})."
    more = _more(can.needed_for_margin - can.num_rows, held_out_fraction)
    return (
        f"It cannot reliably show {claim}: this takes about {can.needed_for_margin:,} held-out rows "
        f"{assumption}, {more}. Until then expect `inconclusive` on it, unless the candidate is "
        "clearly better."
    )


def _more(held_out: int, held_out_fraction: float | None) -> str:
    if held_out_fraction is None:
        return f"{held_out:,} more"
    total = math.ceil(held_out / held_out_fraction)
    share = f"{100 * held_out_fraction:g} % of them held out"
    return f"{held_out:,} more (about {total:,} more rows in all, {share})"


def plan_gate(
    gate: GateSection,
    num_held_out: int,
    *,
    discordance: float = DEFAULT_DISCORDANCE,
    held_out_fraction: float | None = None,
) -> tuple[tuple[str, str], ...]:
    """Say for each requirement, before anything is trained, what so many held-out rows can show.

    Args:
        gate: the recipe's gate.
        num_held_out: held-out rows expected.
        discordance: share of rows on which two arms differ.
        held_out_fraction: share of all rows that is held out; with it, missing rows are said in all rows too.

    Returns:
        Pairs of the requirement's name and one sentence, in the order of the recipe.
    """
    first = gate.suites[0]
    requirements = gate.require or default_requirements(first.scorers[0].metric, first.name)
    return tuple(
        (describe(requirement), _planned(requirement, gate, num_held_out, discordance, held_out_fraction))
        for requirement in requirements
    )


def _planned(
    requirement: Requirement,
    gate: GateSection,
    num_rows: int,
    discordance: float,
    held_out_fraction: float | None,
) -> str:
    if requirement.at_least is not None:
        return _planned_level(requirement.at_least, gate, num_rows)
    can = reach(num_rows, requirement.margin, discordance=discordance, alpha=gate.alpha, power=gate.power)
    if not can.can_conclude:
        more = _more(MIN_CLUSTERS - num_rows, held_out_fraction)
        return f"{num_rows} rows are too few for any conclusion; at least {MIN_CLUSTERS} are needed, {more}."
    if requirement.better_than is not None:
        return _superiority_words(can, gate.power, _other(requirement))
    return _margin_words(can, requirement.margin, discordance, held_out_fraction)


def _other(requirement: Requirement) -> str:
    return f"the arm {against(requirement)}"


def _planned_level(threshold: float, gate: GateSection, num_rows: int) -> str:
    if not 0 < threshold < 1:
        return "Only a rate between 0 and 1 can be planned for; the interval found at the gate decides."
    passing = smallest_passing_count(num_rows, threshold, alpha=gate.alpha)
    if passing is None:
        return (
            f"Even if all {num_rows} rows pass, a rate above {threshold:g} is not shown: hold out more rows."
        )
    return f"For a pass/fail metric at least {passing} of {num_rows} rows must pass."
