"""One requirement, answered: align the arms, estimate, compare with what was asked, say it in a sentence."""

import math

from tunewright.evals.estimates import Aligned, Estimate, Precision, align, improvement, reversed_sign, score
from tunewright.evals.planner import MIN_CLUSTERS, items_to_conclude
from tunewright.evals.questions import Bench, Question, Slice
from tunewright.evals.requirements import against, describe
from tunewright.evals.wording import (
    Finding,
    comparison_sentence,
    counted,
    level_sentence,
    percent,
)
from tunewright.recipe import Requirement
from tunewright.records import Check, Verdict

MIN_SLICE_ROWS = 30
"""Rows below which nothing is said about a slice."""
MAX_MISSING = 0.02
"""Share of rows without a value above which nothing is concluded."""
MAX_UNDEFINED = 0.01
"""Share of resamples without a value above which nothing is concluded."""


def answer(bench: Bench, requirement: Requirement, part: Slice | None = None) -> Check:
    """Answer one requirement on all rows or on one slice.

    Args:
        bench: clean rows and what each arm scored on them.
        requirement: its suite and metric exist.
        part: the slice; absent for all rows.

    Returns:
        A required check. `pass` only where the one-sided bound and, for binary metrics, the exact test agree.
    """
    question = Question(bench, requirement, part)
    absent = _absent_arm(question)
    if absent is not None:
        return unanswered(question, absent)
    aligned = align(question.items, question.metric.key, [bench.arms[arm] for arm in question.arms])
    obstacle = _obstacle(question, aligned)
    if obstacle is not None:
        return unanswered(question, obstacle, aligned, _rows_for_clusters(question, aligned))
    try:
        found, null = _oriented(question, aligned, Precision(bench.level))
    except ValueError as error:
        return unanswered(question, str(error), aligned)
    if found.undefined_fraction > MAX_UNDEFINED:
        reason = f"the metric is undefined on {percent(found.undefined_fraction)} of resamples"
        return unanswered(question, reason, aligned)
    return _answered(question, aligned, found, null)


def unanswered(
    question: Question, reason: str, aligned: Aligned | None = None, n_needed: int | None = None
) -> Check:
    """Make an inconclusive check that says why nothing could be concluded."""
    return Check(
        name=question.name,
        metric=question.requirement.metric,
        suite=question.requirement.suite,
        slice=str(question.slice) if question.slice else None,
        kind=question.kind,
        against=against(question.requirement),
        estimate=None,
        low=None,
        high=None,
        margin=question.margin,
        n=aligned.num_rows if aligned else 0,
        clusters=aligned.num_clusters if aligned else 0,
        method="none",
        verdict="inconclusive",
        n_needed=n_needed,
        sentence=f"{question.subject}: nothing is concluded for {describe(question.requirement)}: {reason}.",
    )


def _absent_arm(question: Question) -> str | None:
    for arm in question.arms:
        if arm not in question.bench.arms:
            return f"{arm} was not run ({question.bench.missing_arms.get(arm, 'no reason was recorded')})"
        if not question.bench.arms[arm].values.get(question.metric.key):
            return f"{arm} has no value of {question.metric.key}"
    return None


def _obstacle(question: Question, aligned: Aligned) -> str | None:
    """Say what forbids a conclusion, in the order a person would look for it."""
    if question.slice is not None and aligned.num_items < MIN_SLICE_ROWS:
        return f"{aligned.num_items} rows are too few to say; a required slice needs {MIN_SLICE_ROWS}"
    for arm, missing in zip(question.arms, aligned.missing, strict=True):
        if missing > MAX_MISSING * aligned.num_items:
            share = percent(missing / aligned.num_items)
            return f"{missing} of {aligned.num_items} rows ({share}) have no value for {arm}, above 2 %"
    if aligned.num_clusters < MIN_CLUSTERS:
        found = counted(aligned.num_rows, aligned.num_clusters)
        return f"{found} are too few to say; at least {MIN_CLUSTERS} independent clusters are needed"
    return None


def _rows_for_clusters(question: Question, aligned: Aligned) -> int | None:
    """Say how many rows would lift the obstacle, where rows would."""
    if question.slice is not None and aligned.num_items < MIN_SLICE_ROWS:
        return MIN_SLICE_ROWS
    if 0 < aligned.num_clusters < MIN_CLUSTERS:
        return math.ceil(aligned.num_rows / aligned.num_clusters * MIN_CLUSTERS)
    return None


def _oriented(question: Question, aligned: Aligned, precision: Precision) -> tuple[Estimate, float]:
    """Return the estimate and the value to exceed, turned so that more is better."""
    if question.kind != "at_least":
        return improvement(aligned, question.metric, precision, null=question.null), question.null
    found = score(aligned, question.metric, precision, null=question.null)
    if question.metric.higher_is_better:
        return found, question.null
    return reversed_sign(found), -question.null


def three_way(found: Estimate, null: float, alpha: float, *, may_equal: bool = False) -> Verdict:
    """Compare an interval with what must be exceeded: the burden of proof is on the candidate.

    Args:
        found: turned so that more is better.
        null: what must be exceeded.
        alpha: one-sided; a p-value, where there is one, must not be above it.
        may_equal: whether reaching `null` exactly is good enough.
    """
    is_shown = found.low > null or (may_equal and found.low == null)
    if is_shown and (found.p is None or found.p <= alpha):
        return "pass"
    is_refuted = found.high < null or (null == 0 and not may_equal and found.high == 0)
    return "fail" if is_refuted else "inconclusive"


def _gap(question: Question, found: Estimate, null: float) -> float:
    """Return the distance planned for: the effect seen, and for non-inferiority at best equality."""
    expected = min(found.value, 0.0) if question.kind == "not_worse_than" else found.value
    return expected - null


def _answered(question: Question, aligned: Aligned, found: Estimate, null: float) -> Check:
    bench = question.bench
    verdict = three_way(found, null, bench.alpha, may_equal=question.kind == "at_least")
    needed = None
    if verdict == "inconclusive":
        gap = _gap(question, found, null)
        needed = items_to_conclude(aligned.num_rows, found.se, gap, alpha=bench.alpha, power=bench.power)
    natural = found if question.sign > 0 else reversed_sign(found)
    finding = _finding(question, aligned, natural, verdict, needed)
    sentence = level_sentence(finding) if question.kind == "at_least" else comparison_sentence(finding)
    return _check(question, finding, sentence)


def _arm_values(question: Question, aligned: Aligned) -> tuple[float, ...]:
    """Compute each arm's metric on the rows compared."""
    combine = question.metric.combine
    if combine is None:
        return tuple(float(values[:, 0].mean()) for values in aligned.values)
    return tuple(combine(values) for values in aligned.values)


def _finding(
    question: Question, aligned: Aligned, natural: Estimate, verdict: Verdict, n_needed: int | None
) -> Finding:
    values = _arm_values(question, aligned)
    return Finding(
        subject=question.subject,
        verdict=verdict,
        found=natural,
        level=question.bench.level,
        n=aligned.num_rows,
        clusters=aligned.num_clusters,
        candidate=values[0],
        other=values[1] if len(values) > 1 else None,
        other_name=question.arms[-1],
        bound=question.null if question.kind == "at_least" else question.sign * question.null,
        is_above=question.metric.higher_is_better,
        margin=question.margin,
        n_needed=n_needed,
    )


def _check(question: Question, finding: Finding, sentence: str) -> Check:
    found = finding.found
    return Check(
        name=question.name,
        metric=question.requirement.metric,
        suite=question.requirement.suite,
        slice=str(question.slice) if question.slice else None,
        kind=question.kind,
        against=against(question.requirement),
        estimate=found.value,
        low=found.low,
        high=found.high,
        margin=question.margin,
        n=finding.n,
        clusters=finding.clusters,
        p=found.p,
        method=found.method,
        verdict=finding.verdict,
        n_needed=finding.n_needed,
        sentence=sentence,
    )
