"""Which requirements a gate has, with names checked against what was measured."""

import difflib
from collections.abc import Iterable, Mapping, Sequence

from tunewright.errors import RecipeError
from tunewright.evals.evidence import Item, Metric
from tunewright.recipe import GateSection, Requirement
from tunewright.records import Arm


def against(requirement: Requirement) -> Arm | None:
    """Name the arm a requirement compares with; absent for at_least."""
    return requirement.better_than or requirement.not_worse_than


def describe(requirement: Requirement) -> str:
    """Name a requirement as people do, such as `exact not_worse_than incumbent`."""
    prefix = "" if requirement.suite == "held_out" else f"{requirement.suite}/"
    if requirement.at_least is not None:
        return f"{prefix}{requirement.metric} at_least {requirement.at_least:g}"
    verb = "better_than" if requirement.better_than else "not_worse_than"
    return f"{prefix}{requirement.metric} {verb} {against(requirement)}"


def default_requirements(metric: str, suite: str) -> tuple[Requirement, ...]:
    """Ask what a recipe without requirements asks: better than the base, not worse than the incumbent."""
    return (
        Requirement(metric=metric, suite=suite, better_than="base"),
        Requirement(metric=metric, suite=suite, not_worse_than="incumbent"),
    )


def effective_requirements(gate: GateSection, metrics: Sequence[Metric]) -> tuple[Requirement, ...]:
    """Return the recipe's requirements, or the default ones on the first metric of the first suite.

    Raises:
        RecipeError: a requirement names a metric that no suite measures; the message names the nearest one.
    """
    if not metrics:
        raise RecipeError("gate: no metric was measured; expected at least one scorer in gate.suites")
    if not gate.require:
        first = gate.suites[0].name if gate.suites else metrics[0].suite
        metric = next((metric for metric in metrics if metric.suite == first), metrics[0])
        return default_requirements(metric.name, metric.suite)
    known = [metric.key for metric in metrics]
    for requirement in gate.require:
        key = f"{requirement.suite}/{requirement.metric}"
        if key not in known:
            raise RecipeError(
                f"gate.require: no metric {key!r}; {_nearest(key, known)}. "
                "Correct metric or suite in the requirement, or add a scorer of that name."
            )
    return gate.require


def require_known_slices(gate: GateSection, items: Mapping[str, tuple[Item, ...]]) -> None:
    """Refuse a required slice field that no row carries.

    Raises:
        RecipeError: names the nearest known field.
    """
    known = sorted({field for suite in items.values() for item in suite for field in item.slices})
    for field in gate.required_slices:
        if field not in known:
            raise RecipeError(
                f"gate.required_slices: no row has a slice {field!r}; {_nearest(field, known)}. "
                "Correct the name, or list the field under data.sources[].slices."
            )


def _nearest(name: str, known: Iterable[str]) -> str:
    names = sorted(known)
    if not names:
        return "there are none"
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    return f"the nearest known one is {close[0]!r}" if close else f"known are {', '.join(names)}"
