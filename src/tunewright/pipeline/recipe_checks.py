"""What must fit together across the sections of a recipe: scorers, metrics, suites, slices. Pure."""

import difflib
from collections.abc import Iterable, Iterator, Sequence

from tunewright.core.scorers import check_scorer
from tunewright.errors import RecipeError
from tunewright.recipe import GateSection, Recipe

Mistake = tuple[tuple[str | int, ...], str]
"""Where in the recipe, and what is wrong in words."""


def find_mistakes(recipe: Recipe) -> list[Mistake]:
    """Find names that nothing answers to; every section alone is sound already."""
    return [*_scorers(recipe.gate), *_suites(recipe.gate), *_requirements(recipe.gate), *_slices(recipe)]


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Find the known word most like a mistyped one."""
    found = difflib.get_close_matches(word.casefold(), sorted(known), n=1, cutoff=0.6)
    return found[0] if found else None


def _scorers(gate: GateSection) -> Iterator[Mistake]:
    for i, suite in enumerate(gate.suites):
        for j, spec in enumerate(suite.scorers):
            try:
                check_scorer(spec)
            except RecipeError as error:
                yield ("gate", "suites", i, "scorers", j), str(error)


def _suites(gate: GateSection) -> Iterator[Mistake]:
    for i, suite in enumerate(gate.suites):
        if suite.name in [other.name for other in gate.suites[:i]]:
            yield (
                ("gate", "suites", i, "name"),
                f"suite {suite.name!r} is there twice; expected one of each name",
            )
        metrics = [spec.metric for spec in suite.scorers]
        for j, metric in enumerate(metrics):
            if metric in metrics[:j]:
                where = ("gate", "suites", i, "scorers", j)
                yield where, f"metric {metric!r} is there twice in {suite.name!r}; give one a `name`"


def _requirements(gate: GateSection) -> Iterator[Mistake]:
    metrics = {suite.name: [spec.metric for spec in suite.scorers] for suite in gate.suites}
    for i, requirement in enumerate(gate.require):
        if requirement.suite not in metrics:
            yield ("gate", "require", i, "suite"), _unknown("suite", requirement.suite, list(metrics))
        elif requirement.metric not in metrics[requirement.suite]:
            known = metrics[requirement.suite]
            yield ("gate", "require", i, "metric"), _unknown("metric", requirement.metric, known)


def _slices(recipe: Recipe) -> Iterator[Mistake]:
    known = sorted({name for source in recipe.data.sources for name in source.slices})
    for i, name in enumerate(recipe.gate.required_slices):
        if name not in known:
            yield ("gate", "required_slices", i), _unknown("slice", name, known)


def _unknown(kind: str, name: str, known: Sequence[str]) -> str:
    near = nearest(name, known)
    hint = f"did you mean {near!r}? " if near else ""
    return f"unknown {kind} {name!r}; {hint}expected one of: {', '.join(known) or 'none is declared'}"
