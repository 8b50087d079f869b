"""What a scorer is, and the registry every scorer enters through the `scorer` decorator.

A scorer compares one answer with one reference row and gives numbers; how the numbers of many rows become one
metric is its `kind` and, for aggregates, its `combine` function. The scorers themselves are in `scorer_text`,
`scorer_json`, `scorer_classes` and `scorer_run`; `scorers` imports them all.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from tunewright.errors import DuplicateName
from tunewright.records import Example, Record

Kind = Literal["binary", "graded", "aggregate"]
Value = tuple[float, ...]
Combine = Callable[[NDArray[np.float64]], float]


@dataclass(frozen=True, slots=True)
class Answer:
    """What one arm said to one row, and how it went. A field the arm cannot have is None."""

    text: str
    finish_reason: Literal["stop", "length"] | None = None
    """None where nothing was generated, as in the nearest-example arm."""
    latency_s: float | None = None
    num_tokens: int | None = None
    nll: float | None = None
    """Negative log-likelihood of the reference answer's tokens under the arm's model, summed, in nats."""
    num_reference_tokens: int | None = None


class NoSettings(Record):
    """Settings of a scorer that has none."""


class TextForm(Record):
    """How two texts are folded before they are compared."""

    case_sensitive: bool = False


Settings = TypeVar("Settings", bound=Record)
Result = float | bool | Value | None


@dataclass(frozen=True, slots=True)
class Scorer:
    """One way to score, as registered."""

    name: str
    kind: Kind
    version: int
    """Raised whenever the same answer would be scored differently; part of the scorer's hash."""
    settings: type[Record]
    score: Callable[[Answer, Example, Record], Value | None]
    """Per-item numbers; None where this arm cannot be measured."""
    higher_is_better: bool
    needs_logprobs: bool
    information_only: bool
    """May be reported, never required: it depends on the machine."""
    is_share: bool
    """Values and metric lie between 0 and 1."""
    combine: Callable[[Record], Combine] | None
    """For aggregates: settings -> function of the values (n items, k numbers)."""
    usable: Callable[[Example, Record], bool]
    """Can this reference be scored at all?"""
    resolve: Callable[[Record, Sequence[Example]], Record]
    """Fill in settings that depend on the rows, such as the list of labels."""
    scores_alone: Callable[[Record], bool] | None
    """Can an answer be scored without a reference, with these settings? None: with none."""


SCORERS: dict[str, Scorer] = {}


@dataclass(frozen=True, slots=True)
class Traits:
    """What a scorer declares beside its function; the fields are those of Scorer."""

    kind: Kind
    version: int = 1
    higher_is_better: bool = True
    needs_logprobs: bool = False
    information_only: bool = False
    is_share: bool = True


def always(settings: Record) -> bool:
    """Say that a scorer needs no reference, whatever its settings; for `scores_alone`."""
    return True


def scorer(
    traits: Traits,
    settings: type[Settings],
    *,
    combine: Callable[[Settings], Combine] | None = None,
    usable: Callable[[Example, Settings], bool] | None = None,
    resolve: Callable[[Settings, Sequence[Example]], Settings] | None = None,
    scores_alone: Callable[[Settings], bool] | None = None,
) -> Callable[[Callable[[Answer, Example, Settings], Result]], Callable[[Answer, Example, Settings], Result]]:
    """Register a function under its own name; the arguments are the fields of Scorer.

    Raises:
        DuplicateName: a scorer of this name exists.
    """

    def register(
        function: Callable[[Answer, Example, Settings], Result],
    ) -> Callable[[Answer, Example, Settings], Result]:
        name = function.__name__
        if name in SCORERS:
            raise DuplicateName(f"scorer {name!r} is already registered; choose another name")

        def score(answer: Answer, example: Example, given: Record) -> Value | None:
            return _as_value(function(answer, example, cast(Settings, given)))

        SCORERS[name] = Scorer(
            name=name,
            kind=traits.kind,
            version=traits.version,
            settings=settings,
            score=score,
            higher_is_better=traits.higher_is_better,
            needs_logprobs=traits.needs_logprobs,
            information_only=traits.information_only,
            is_share=traits.is_share,
            # A scorer is only ever called with settings made by its own class.
            combine=cast(Callable[[Record], Combine] | None, combine),
            usable=cast(Callable[[Example, Record], bool], usable or _every_reference),
            resolve=cast(Callable[[Record, Sequence[Example]], Record], resolve or _as_given),
            scores_alone=cast(Callable[[Record], bool] | None, scores_alone),
        )
        return function

    return register


def _as_value(result: Result) -> Value | None:
    if result is None or isinstance(result, tuple):
        return result
    return (float(result),)


def _every_reference(example: Example, settings: Record) -> bool:
    return True


def _as_given(settings: Record, examples: Sequence[Example]) -> Record:
    return settings


def registered() -> Mapping[str, Scorer]:
    """List all scorers by name."""
    return dict(sorted(SCORERS.items()))
