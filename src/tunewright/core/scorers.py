"""Scorers by name: check a recipe's choice, bind it to rows, score answers.

Importing this module registers every scorer that ships; `scorer_base` says what a scorer is.
"""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from tunewright.core import scorer_classes, scorer_json, scorer_run, scorer_text
from tunewright.core.scorer_base import SCORERS, Answer, Combine, Kind, Scorer, Value, registered, scorer
from tunewright.errors import RecipeError
from tunewright.recipe import ScorerSpec
from tunewright.records import Example, Record
from tunewright.values import Digest, digest_json

__all__ = [
    "SCORERS",
    "SHIPPED",
    "Answer",
    "BoundScorer",
    "Combine",
    "Kind",
    "Scorer",
    "Value",
    "bind_scorer",
    "check_scorer",
    "registered",
    "score",
    "scorer",
]

SHIPPED = (scorer_text, scorer_json, scorer_classes, scorer_run)
"""Modules whose scorers are registered by importing this one."""


@dataclass(frozen=True, slots=True)
class BoundScorer:
    """A scorer with its settings, ready for the rows of one suite."""

    metric: str
    scorer: Scorer
    settings: Record
    """Resolved against the rows."""
    digest: Digest
    """Hash of the scorer's name, version and resolved settings."""
    num_unusable: int
    """Rows whose reference this scorer cannot read: all arms score 0 on them, or none is scored."""

    @property
    def combine(self) -> Combine | None:
        """Function of all values, for aggregates."""
        return None if self.scorer.combine is None else self.scorer.combine(self.settings)


def check_scorer(spec: ScorerSpec) -> Record:
    """Validate the name and settings of a recipe's scorer, without rows.

    Raises:
        RecipeError: unknown scorer or setting (names the nearest one), or a wrong value.
    """
    known = _known(spec.kind)
    try:
        return known.settings.model_validate(spec.settings)
    except ValidationError as error:
        raise RecipeError(_explain(spec, known, error)) from error


def bind_scorer(spec: ScorerSpec, examples: Sequence[Example]) -> BoundScorer:
    """Prepare a scorer for rows.

    Raises:
        RecipeError: as `check_scorer`, or the scorer can read none of the references.
    """
    known, given = _known(spec.kind), check_scorer(spec)
    try:
        settings = known.resolve(given, examples)
    except ValueError as error:
        raise RecipeError(f"scorer {spec.metric!r} ({spec.kind}): {error}") from error
    num_unusable = sum(not known.usable(example, settings) for example in examples)
    if examples and num_unusable == len(examples):
        raise RecipeError(
            f"scorer {spec.metric!r} ({spec.kind}) can read none of the {len(examples)} reference answers; "
            "choose a scorer that fits the answers, or check which field is read as the answer."
        )
    identity = {
        "kind": spec.kind,
        "version": known.version,
        "settings": settings.model_dump(mode="json", by_alias=True),
    }
    return BoundScorer(spec.metric, known, settings, digest_json(identity), num_unusable)


def score(bound: BoundScorer, answer: Answer, example: Example) -> Value | None:
    """Score one answer; None where this arm cannot be measured."""
    return bound.scorer.score(answer, example, bound.settings)


def _known(kind: str) -> Scorer:
    if kind not in SCORERS:
        raise RecipeError(f"unknown scorer {kind!r}; {_nearest(kind, SCORERS)}")
    return SCORERS[kind]


def _explain(spec: ScorerSpec, known: Scorer, error: ValidationError) -> str:
    first = min(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
    field = ".".join(str(part) for part in first["loc"])
    fields = {info.alias or name for name, info in known.settings.model_fields.items()}
    where = f"scorer {spec.metric!r} ({spec.kind})"
    if first["type"] == "extra_forbidden":
        return f"{where} has no setting {field!r}; {_nearest(field, fields)}"
    if first["type"] == "missing":
        return f"{where} needs the setting {field!r}; expected `settings: {{{field}: ...}}`"
    said = first["msg"].removeprefix("Value error, ")
    return f"{where}, setting {field!r}: {said}; got {first['input']!r}"


def _nearest(wrong: str, known: Iterable[str]) -> str:
    names = sorted(known)
    near = difflib.get_close_matches(wrong, names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{hint}known: {', '.join(names) or 'none'}"
