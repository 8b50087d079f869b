"""Scorers for classification: accuracy, macro and micro F1, precision, recall, Matthews correlation.

Each row gives two numbers: the index of its true label and of the predicted one, or -1 for an answer that is
none of the labels. Such an answer is a class of its own that no row truly has: it costs accuracy and recall
and counts in the Matthews correlation, and it is no term of a macro average.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tunewright.core.scorer_base import Answer, Combine, Traits, Value, scorer
from tunewright.core.scorer_json import json_path, parse_json
from tunewright.core.scorer_text import normalise
from tunewright.records import Example, Record

UNKNOWN = -1

Pairs = NDArray[np.float64]
"""(n, 2): true label index, predicted label index or -1."""


class ClassSettings(Record):
    """Where the label stands and which labels there are."""

    labels: tuple[str, ...] = ()
    """All labels; those of the reference answers, sorted, when empty."""
    path: str | None = None
    """Field of a JSON answer that holds the label; the whole answer when absent."""


class AverageSettings(ClassSettings):
    """How the classes' figures become one."""

    average: Literal["macro", "micro"] = "macro"
    positive: str | None = None
    """Report this one label instead of an average."""


@dataclass(frozen=True, slots=True)
class ClassCounts:
    """What each label got right and wrong; index = label, the unknown class left out."""

    hits: NDArray[np.float64]
    predicted: NDArray[np.float64]
    true: NDArray[np.float64]

    @property
    def present(self) -> NDArray[np.bool_]:
        """Labels that occur among the true or the predicted ones."""
        return (self.true + self.predicted) > 0


def count_classes(pairs: Pairs) -> ClassCounts:
    """Count hits, predictions and true rows of every label."""
    true, predicted = pairs[:, 0].astype(np.int64), pairs[:, 1].astype(np.int64)
    size = int(max(true.max(initial=0), predicted.max(initial=0))) + 1
    return ClassCounts(
        hits=np.bincount(true[true == predicted], minlength=size).astype(np.float64),
        predicted=np.bincount(predicted[predicted >= 0], minlength=size).astype(np.float64),
        true=np.bincount(true, minlength=size).astype(np.float64),
    )


def macro_f1_of(pairs: Pairs) -> float:
    """Average F1 over the labels that occur."""
    counts = count_classes(pairs)
    f1 = 2 * counts.hits[counts.present] / (counts.true + counts.predicted)[counts.present]
    return float(f1.mean()) if f1.size else 0.0


def micro_f1_of(pairs: Pairs) -> float:
    """F1 of all decisions together; an answer that is no label is a missed row and no false alarm."""
    counts = count_classes(pairs)
    total = float(counts.true.sum() + counts.predicted.sum())
    return 2 * float(counts.hits.sum()) / total if total else 0.0


def mcc_of(pairs: Pairs) -> float:
    """Matthews correlation for many classes; 0 where it is undefined (one class only).

    Source: Gorodkin (2004), Computational Biology and Chemistry 28(5-6), 367-374.
    """
    true, predicted = pairs[:, 0].astype(np.int64) + 1, pairs[:, 1].astype(np.int64) + 1
    size = int(max(true.max(initial=0), predicted.max(initial=0))) + 1
    of_true = np.bincount(true, minlength=size).astype(np.float64)
    of_predicted = np.bincount(predicted, minlength=size).astype(np.float64)
    n = float(len(pairs))
    covariance = float((true == predicted).sum()) * n - float(of_true @ of_predicted)
    spread = (n * n - float(of_true @ of_true)) * (n * n - float(of_predicted @ of_predicted))
    return covariance / float(np.sqrt(spread)) if spread > 0 else 0.0


def _precision(settings: AverageSettings) -> Combine:
    return _rate(settings, lambda counts: counts.predicted)


def _recall(settings: AverageSettings) -> Combine:
    return _rate(settings, lambda counts: counts.true)


def _rate(settings: AverageSettings, of: Callable[[ClassCounts], NDArray[np.float64]]) -> Combine:
    def combine(pairs: Pairs) -> float:
        counts = count_classes(pairs)
        hits, total = counts.hits, of(counts)
        if settings.positive is not None:
            index = _label_index(settings)[normalise(settings.positive)]
            chosen = slice(index, index + 1)
            return _ratio(float(hits[chosen].sum()), float(total[chosen].sum()))
        if settings.average == "micro":
            return _ratio(float(hits.sum()), float(total.sum()))
        kept = counts.present
        rates = np.divide(hits[kept], total[kept], out=np.zeros(int(kept.sum())), where=total[kept] > 0)
        return float(rates.mean()) if rates.size else 0.0

    return combine


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _labels_of(settings: ClassSettings, examples: Sequence[Example]) -> ClassSettings:
    if settings.labels:
        return settings
    found = {_label(example.answer, settings.path) for example in examples}
    return settings.model_copy(
        update={"labels": tuple(sorted(label for label in found if label is not None))}
    )


def _labels_and_positive(settings: AverageSettings, examples: Sequence[Example]) -> AverageSettings:
    resolved = _labels_of(settings, examples)
    assert isinstance(resolved, AverageSettings)  # model_copy keeps the class
    if resolved.positive is not None and normalise(resolved.positive) not in _label_index(resolved):
        raise ValueError(f"positive {resolved.positive!r} is none of the labels {list(resolved.labels)[:8]}")
    return resolved


def _has_label(example: Example, settings: ClassSettings) -> bool:
    label = _label(example.answer, settings.path)
    return label is not None and (not settings.labels or label in _label_index(settings))


def _label(text: str, path: str | None) -> str | None:
    """Read the folded label; None when the answer holds none."""
    if path is None:
        return normalise(text)
    parsed = parse_json(text)
    found = json_path(parsed.value, path) if parsed is not None else None
    return None if found is None else normalise(str(found.value))


def _label_index(settings: ClassSettings) -> dict[str, int]:
    return {normalise(label): index for index, label in enumerate(settings.labels)}


def _pair(answer: Answer, example: Example, settings: ClassSettings) -> Value | None:
    index = _label_index(settings)
    true = _label(example.answer, settings.path)
    if true is None or true not in index:
        return None
    predicted = _label(answer.text, settings.path)
    return float(index[true]), float(UNKNOWN if predicted is None else index.get(predicted, UNKNOWN))


@scorer(Traits("binary"), ClassSettings, usable=_has_label, resolve=_labels_of)
def accuracy(answer: Answer, example: Example, settings: ClassSettings) -> bool | None:
    """The answer is the row's label."""
    pair = _pair(answer, example, settings)
    return None if pair is None else pair[0] == pair[1]


@scorer(
    Traits("aggregate"),
    ClassSettings,
    combine=lambda settings: macro_f1_of,
    usable=_has_label,
    resolve=_labels_of,
)
def macro_f1(answer: Answer, example: Example, settings: ClassSettings) -> Value | None:
    """F1 averaged over labels."""
    return _pair(answer, example, settings)


@scorer(
    Traits("aggregate"),
    ClassSettings,
    combine=lambda settings: micro_f1_of,
    usable=_has_label,
    resolve=_labels_of,
)
def micro_f1(answer: Answer, example: Example, settings: ClassSettings) -> Value | None:
    """F1 of all decisions together."""
    return _pair(answer, example, settings)


@scorer(
    Traits("aggregate"), AverageSettings, combine=_precision, usable=_has_label, resolve=_labels_and_positive
)
def precision(answer: Answer, example: Example, settings: AverageSettings) -> Value | None:
    """Share of a label's predictions that are right."""
    return _pair(answer, example, settings)


@scorer(
    Traits("aggregate"), AverageSettings, combine=_recall, usable=_has_label, resolve=_labels_and_positive
)
def recall(answer: Answer, example: Example, settings: AverageSettings) -> Value | None:
    """Share of a label's rows that are found."""
    return _pair(answer, example, settings)


@scorer(
    Traits("aggregate", is_share=False),
    ClassSettings,
    combine=lambda settings: mcc_of,
    usable=_has_label,
    resolve=_labels_of,
)
def mcc(answer: Answer, example: Example, settings: ClassSettings) -> Value | None:
    """Matthews correlation coefficient."""
    return _pair(answer, example, settings)
