"""Classification scorers against scikit-learn, and the unknown class."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score, matthews_corrcoef, precision_score, recall_score

from tunewright.core.scorer_classes import macro_f1_of, mcc_of, micro_f1_of
from tunewright.core.scorers import Answer, bind_scorer, score
from tunewright.errors import RecipeError
from tunewright.recipe import ScorerSpec
from tunewright.records import Example, Message, Source
from tunewright.values import Digest

LABELS = ["card lost", "Refund", "top_up"]


def an_example(answer: str) -> Example:
    messages = (Message(role="user", content="q"), Message(role="assistant", content=answer))
    source = Source(digest=Digest("0" * 64), path="rows.jsonl", line=1)
    return Example(id=Digest("a" * 64), messages=messages, source=source)


def bound(kind: str, answers: list[str], **settings: object):
    spec = ScorerSpec.model_validate({"kind": kind, "settings": settings})
    return bind_scorer(spec, [an_example(answer) for answer in answers])


def values(kind: str, predicted: list[str], true: list[str], **settings: object) -> np.ndarray:
    ready = bound(kind, true, **settings)
    found = [score(ready, Answer(p), an_example(t)) for p, t in zip(predicted, true, strict=True)]
    return np.array(found, dtype=np.float64)


pairs = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30)


@given(pairs)
def test_figures_equal_scikit_learn_when_every_answer_is_a_label(drawn):
    true, predicted = [t for t, _ in drawn], [p for _, p in drawn]
    array = np.array(drawn, dtype=np.float64)
    assert macro_f1_of(array) == pytest.approx(f1_score(true, predicted, average="macro", zero_division=0))
    assert micro_f1_of(array) == pytest.approx(f1_score(true, predicted, average="micro", zero_division=0))
    expected = matthews_corrcoef(true, predicted) if len(set(true + predicted)) > 1 else 0.0
    assert mcc_of(array) == pytest.approx(expected, abs=1e-9)


@given(pairs)
def test_precision_and_recall_equal_scikit_learn(drawn):
    names = ["w", "x", "y", "z"]
    true, predicted = [names[t] for t, _ in drawn], [names[p] for _, p in drawn]
    for kind, oracle in (("precision", precision_score), ("recall", recall_score)):
        array = values(kind, predicted, true, labels=names)
        combine = bound(kind, true, labels=names).combine
        assert combine is not None
        assert combine(array) == pytest.approx(oracle(true, predicted, average="macro", zero_division=0))
        one = bound(kind, true, labels=names, positive="x").combine
        assert one is not None
        expected = oracle(true, predicted, labels=["x"], average="macro", zero_division=0)
        assert one(array) == pytest.approx(expected)


def test_an_answer_that_is_no_label_is_a_miss_of_its_own_class():
    array = values("macro_f1", ["refund", "I don't know", "top_up."], ["Refund", "card lost", "top_up"])
    assert array[1, 1] == -1
    assert macro_f1_of(array) == pytest.approx(2 / 3)
    assert micro_f1_of(array) == pytest.approx(2 * 2 / (3 + 2))
    assert mcc_of(array) == pytest.approx(
        matthews_corrcoef(["Refund", "card", "top_up"], ["Refund", "??", "top_up"])
    )


def test_accuracy_folds_case_and_punctuation():
    assert values("accuracy", ["CARD LOST.", "refund?", "other"], LABELS).ravel().tolist() == [1, 1, 0]


def test_labels_may_stand_in_a_json_field():
    true = ['{"intent": "refund"}', '{"intent": "top_up"}']
    array = values("macro_f1", ['{"intent": "Refund"}', "refund"], true, path="intent")
    assert array.tolist() == [[0.0, 0.0], [1.0, -1.0]]


def test_a_reference_outside_the_given_labels_is_missing_not_wrong():
    ready = bound("accuracy", ["refund", "misspelt"], labels=["refund", "top_up"])
    assert ready.num_unusable == 1
    assert score(ready, Answer("misspelt"), an_example("misspelt")) is None


def test_a_positive_label_that_never_occurs_is_a_recipe_error():
    with pytest.raises(RecipeError, match="positive 'fraud' is none of the labels"):
        bound("recall", ["refund", "top_up"], positive="fraud")
