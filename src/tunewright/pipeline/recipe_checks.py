"""What must fit together across the sections of a recipe: scorers, metrics, suites, slices. Pure."""

import difflib
from collections.abc import Iterable, Iterator, Sequence

from tunewright.core.live_scoring import compile_live
from tunewright.core.scorers import SCORERS, check_scorer
from tunewright.curate.pii import make_scanner
from tunewright.errors import RecipeError
from tunewright.recipe import GateSection, Recipe
from tunewright.records import LiveScorer

Mistake = tuple[tuple[str | int, ...], str]
"""Where in the recipe, and what is wrong in words."""


def find_mistakes(recipe: Recipe) -> list[Mistake]:
    """Find names that nothing answers to; every section alone is sound already."""
    return [
        *_personal_data(recipe),
        *_times(recipe),
        *_scorers(recipe.gate),
        *_suites(recipe.gate),
        *_requirements(recipe.gate),
        *_slices(recipe),
        *_live_scorers(recipe),
    ]


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
        else:
            suite = next(one for one in gate.suites if one.name == requirement.suite)
            kind = next(spec.kind for spec in suite.scorers if spec.metric == requirement.metric)
            yield from _levels(gate, i, kind)


def _levels(gate: GateSection, i: int, kind: str) -> Iterator[Mistake]:
    """Find numbers and arms that no candidate could ever meet, or that none could miss."""
    requirement = gate.require[i]
    if gate.few_shot == 0 and "few_shot" in (requirement.better_than, requirement.not_worse_than):
        where = "better_than" if requirement.better_than else "not_worse_than"
        yield (
            ("gate", "require", i, where),
            "compares with few_shot, but `few_shot: 0` switches that arm off; expected few_shot of 1 or more",
        )
    if kind not in SCORERS or not SCORERS[kind].is_share:
        return
    least = requirement.at_least
    if least is not None and not 0 <= least < 1:
        percent = f"; for {least:g} % write {least / 100:g}" if 1 < least <= 100 else ""
        yield (
            ("gate", "require", i, "at_least"),
            f"found {least:g}, but {requirement.metric!r} lies between 0 and 1, and 1 cannot be proven from "
            f"a sample; expected 0 or more and less than 1{percent}",
        )
    if requirement.not_worse_than and requirement.margin >= 1:
        yield (
            ("gate", "require", i, "margin"),
            f"found {requirement.margin:g}, which every candidate meets; expected less than 1, such as 0.03 "
            "for 3 points",
        )


def _personal_data(recipe: Recipe) -> Iterator[Mistake]:
    try:
        make_scanner(recipe.data.pii)
    except RecipeError as error:
        yield ("data", "pii"), str(error)


def _times(recipe: Recipe) -> Iterator[Mistake]:
    """Find a split by time that has no times, and an embargo that nothing starts."""
    split = recipe.data.split
    if split.embargo_s is not None and not split.time_split:
        yield ("data", "split", "embargo_s"), "works with `time_split: true` only; expected both, or neither"
    for i, source in enumerate(recipe.data.sources if split.time_split else ()):
        if source.time is None:
            yield (
                ("data", "sources", i),
                "`time_split: true` needs the time of every row; expected `time: FIELD` beside the path",
            )


def _slices(recipe: Recipe) -> Iterator[Mistake]:
    known = sorted({name for source in recipe.data.sources for name in source.slices})
    for i, name in enumerate(recipe.gate.required_slices):
        if name not in known:
            yield ("gate", "required_slices", i), _unknown("slice", name, known)


def _live_scorers(recipe: Recipe) -> Iterator[Mistake]:
    """Find rules of live traffic that nothing answers to, or that would need a reference answer."""
    given = recipe.deploy.live_scorers
    live = [LiveScorer(kind=one.kind, name=one.metric, settings=one.settings) for one in given]
    for i in range(len(live)):
        try:
            compile_live(live[: i + 1])
        except RecipeError as error:
            yield ("deploy", "live_scorers", i), str(error)
            return


def _unknown(kind: str, name: str, known: Sequence[str]) -> str:
    near = nearest(name, known)
    hint = f"did you mean {near!r}? " if near else ""
    return f"unknown {kind} {name!r}; {hint}expected one of: {', '.join(known) or 'none is declared'}"
