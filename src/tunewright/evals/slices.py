"""Checks on parts of the rows: required slices bind, all others are information."""

from collections import Counter
from collections.abc import Sequence

from tunewright.core.stats import benjamini_hochberg
from tunewright.evals.checks import MIN_SLICE_ROWS, answer
from tunewright.evals.questions import Bench, Slice
from tunewright.evals.requirements import against
from tunewright.evals.wording import p_value
from tunewright.recipe import Requirement
from tunewright.records import Check

_MAX_NAMED = 8
"""Small slice values named in one sentence."""


def slice_counts(bench: Bench, suite: str, field: str) -> Counter[str]:
    """Count the rows of each value of a slice field."""
    return Counter(item.slices[field] for item in bench.items.get(suite, ()) if field in item.slices)


def required_slice_checks(
    bench: Bench, requirements: Sequence[Requirement], fields: Sequence[str]
) -> tuple[Check, ...]:
    """Ask every not_worse_than requirement of every value of the required fields.

    All must hold, which is an intersection-union test: each at alpha, no correction. A value with fewer than
    30 rows is inconclusive.
    """
    binding = [requirement for requirement in requirements if requirement.not_worse_than is not None]
    if fields and not binding:
        return (_nothing_binds(requirements[0], fields),) if requirements else ()
    return tuple(
        answer(bench, requirement, Slice(field, value))
        for field in fields
        for requirement in binding
        for value in sorted(slice_counts(bench, requirement.suite, field))
    )


def _nothing_binds(requirement: Requirement, fields: Sequence[str]) -> Check:
    names = ", ".join(fields)
    why = "no not_worse_than requirement can be asked of a slice"
    return _information(requirement, f"required slices {names}", f"required slices ({names}): {why}.", 0)


def exploratory_slice_checks(
    bench: Bench, requirements: Sequence[Requirement], required: Sequence[str]
) -> tuple[Check, ...]:
    """Describe slices that bind nothing, by the first comparison that could be made.

    p-values are adjusted by Benjamini and Hochberg over all slices shown; values with fewer than 30 rows are
    named as too small to say.
    """
    primary = next((item for item in requirements if _is_comparable(bench, item)), None)
    if primary is None:
        return ()
    fields = sorted(
        {name for item in bench.items.get(primary.suite, ()) for name in item.slices} - set(required)
    )
    counts = {field: slice_counts(bench, primary.suite, field) for field in fields}
    checks = [
        answer(bench, primary, Slice(field, value))
        for field in fields
        for value, rows in sorted(counts[field].items())
        if rows >= MIN_SLICE_ROWS
    ]
    small = (_too_small(primary, field, counts[field]) for field in fields)
    return (*_as_information(checks), *(check for check in small if check is not None))


def _is_comparable(bench: Bench, requirement: Requirement) -> bool:
    """Say whether a requirement compares arms that were run, by a metric that is a mean."""
    metric = bench.metrics[f"{requirement.suite}/{requirement.metric}"]
    return against(requirement) in bench.arms and metric.combine is None


def _as_information(checks: Sequence[Check]) -> list[Check]:
    tested = [check.p for check in checks if check.p is not None]
    adjusted = iter(benjamini_hochberg(tested))
    return [_informative(check, next(adjusted) if check.p is not None else None) for check in checks]


def _informative(check: Check, q: float | None) -> Check:
    words = "exploratory" if q is None else f"exploratory, false-discovery rate {p_value(q)}"
    sentence = f"{check.sentence.removesuffix('.')} [{words}; not required]."
    return check.model_copy(update={"kind": "information", "required": False, "sentence": sentence})


def _too_small(requirement: Requirement, field: str, counts: Counter[str]) -> Check | None:
    small = sorted(value for value, rows in counts.items() if rows < MIN_SLICE_ROWS)
    if not small:
        return None
    named = ", ".join(small[:_MAX_NAMED])
    more = f" and {len(small) - _MAX_NAMED} more" if len(small) > _MAX_NAMED else ""
    sentence = (
        f"{field}: {len(small)} of {len(counts)} values have fewer than {MIN_SLICE_ROWS} rows: "
        f"too small to say ({named}{more})."
    )
    num_rows = sum(counts[value] for value in small)
    return _information(requirement, f"small slices of {field}", sentence, num_rows)


def _information(requirement: Requirement, name: str, sentence: str, num_rows: int) -> Check:
    return Check(
        name=name,
        metric=requirement.metric,
        suite=requirement.suite,
        kind="information",
        required=False,
        estimate=None,
        low=None,
        high=None,
        n=num_rows,
        method="none",
        verdict="inconclusive",
        sentence=sentence,
    )
