"""Sentences of the verdict: what a person reads and signs. Numbers are rounded; decisions are not."""

from dataclasses import dataclass

from tunewright.evals.estimates import Estimate
from tunewright.records import Verdict


def number(value: float) -> str:
    """Write a number with two or three decimals, and never a false zero."""
    value += 0.0  # turns -0.0 into 0.0
    if value != 0 and abs(value) < 0.0005:
        return f"{value:.1g}"
    if abs(value) >= 10:
        return f"{value:.2f}"
    text = f"{value:.3f}"
    return text[:-1] if text.endswith("0") else text


def p_value(p: float) -> str:
    """Write a p-value with its relation: `= 0.013`, or `< 0.0001`."""
    return "< 0.0001" if p < 0.0001 else f"= {p:.2g}"


def percent(fraction: float) -> str:
    """Write a fraction as `12.5 %`."""
    return f"{100 * fraction:.3g} %"


def counted(n: int, clusters: int) -> str:
    """Write how many rows, and how many independent clusters where these are fewer."""
    return f"n = {n:,} rows" if clusters in (0, n) else f"n = {n:,} rows in {clusters:,} clusters"


def listed(rows: tuple[str, ...], most: int = 3) -> str:
    """Name the first few rows by a prefix of their id."""
    shown = ", ".join(row[:12] for row in rows[:most])
    return shown if len(rows) <= most else f"{shown} and {len(rows) - most:,} more"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a sentence about one comparison needs to know."""

    subject: str
    """Metric, with its slice where there is one."""
    verdict: Verdict
    found: Estimate
    """Natural sign: candidate, or candidate - other."""
    level: float
    n: int
    clusters: int
    candidate: float
    other: float | None
    """The other arm's value; absent for at_least."""
    other_name: str
    bound: float
    """The value to exceed, natural sign: 0, the margin's edge, or the level asked for."""
    is_above: bool
    """Whether the candidate must stay above `bound`; below for metrics where less is better."""
    margin: float | None
    """Of non-inferiority; absent elsewhere."""
    n_needed: int | None


def comparison_sentence(finding: Finding) -> str:
    """State a better_than or not_worse_than finding."""
    return f"{finding.subject}: {_claim(finding)} ({_numbers(finding)}{_exact_p(finding)}){_needed(finding)}."


def level_sentence(finding: Finding) -> str:
    """State an at_least finding."""
    direction = "at least" if finding.is_above else "at most"
    words = {
        "pass": f"candidate {number(finding.candidate)} is shown to be {direction}",
        "fail": f"candidate {number(finding.candidate)} is not {direction}",
        "inconclusive": f"it is not shown that candidate {number(finding.candidate)} is {direction}",
    }
    claim = f"{words[finding.verdict]} {number(finding.bound)}"
    text = f"{finding.subject}: {claim} ({_numbers(finding)}{_exact_p(finding)}){_needed(finding)}"
    if finding.verdict == "inconclusive" and finding.bound in (0.0, 1.0):
        text += f"; no number of rows can prove exactly {finding.bound:g}"
    return f"{text}."


def _claim(finding: Finding) -> str:
    candidate, other = number(finding.candidate), number(finding.other or 0.0)
    arms = f"candidate {candidate}", f"{finding.other_name} {other}"
    size = number(abs(finding.found.value))
    if finding.margin is None:
        return {
            "pass": f"{arms[0]} beats {arms[1]} by {size}",
            "fail": f"{arms[0]} does not beat {arms[1]}: difference {number(finding.found.value)}",
            "inconclusive": f"it is not shown that {arms[0]} beats {arms[1]}: "
            f"difference {number(finding.found.value)}",
        }[finding.verdict]
    limit = f"by more than {number(finding.margin)}: difference {number(finding.found.value)}"
    return {
        "pass": f"{arms[0]} is not worse than {arms[1]} {limit}",
        "fail": f"{arms[0]} is worse than {arms[1]} {limit}",
        "inconclusive": f"it is not shown that {arms[0]} is not worse than {arms[1]} {limit}",
    }[finding.verdict]


def _numbers(finding: Finding) -> str:
    found = finding.found
    sign = (">" if finding.is_above else "<") + ("=" if finding.other is None else "")
    return (
        f"{100 * finding.level:g} % interval {number(found.low)} to {number(found.high)}; "
        f"{counted(finding.n, finding.clusters)}; needed {sign} {finding.bound + 0.0:g}"
    )


def _exact_p(finding: Finding) -> str:
    p = finding.found.p
    if p is None or finding.margin is not None:
        return ""
    return f"; one-sided p {p_value(p)}"


def _needed(finding: Finding) -> str:
    if finding.verdict != "inconclusive":
        return ""
    if finding.n_needed is not None:
        return f"; about {finding.n_needed:,} rows would be needed"
    return "; more rows would not help if the result stays as it is"
