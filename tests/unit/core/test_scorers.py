"""The registry and the recipe's view of scorers."""

import numpy as np
import pytest

from tunewright.core.scorer_base import NoSettings, Traits, scorer
from tunewright.core.scorers import SCORERS, Answer, bind_scorer, check_scorer, score
from tunewright.errors import DuplicateName, RecipeError
from tunewright.recipe import ScorerSpec
from tunewright.records import Example, Message, Source
from tunewright.values import Digest

SOURCE = Source(digest=Digest("0" * 64), path="rows.jsonl", line=1)


def an_example(answer: str) -> Example:
    messages = (Message(role="user", content="q"), Message(role="assistant", content=answer))
    return Example(id=Digest("a" * 64), messages=messages, source=SOURCE)


def scored(kind: str, text: str, reference: str, **settings: object) -> object:
    example = an_example(reference)
    bound = bind_scorer(ScorerSpec.model_validate({"kind": kind, "settings": settings}), [example])
    value = score(bound, Answer(text), example)
    return value[0] if value is not None and len(value) == 1 else value


def test_every_scorer_the_documentation_names_is_registered():
    assert set(SCORERS) >= {
        "exact_match", "normalised_match", "contains", "regex", "numeric", "json_valid", "json_schema",
        "json_field", "json_equal", "key_f1", "token_f1", "accuracy", "macro_f1", "micro_f1", "precision",
        "recall", "mcc", "perplexity", "stop_rate", "latency", "num_tokens",
    }  # fmt: skip


def test_a_second_scorer_of_the_same_name_is_refused():
    with pytest.raises(DuplicateName, match="'exact_match' is already registered"):

        @scorer(Traits("binary"), NoSettings)
        def exact_match(answer: Answer, example: Example, settings: NoSettings) -> bool:
            return True


def test_an_unknown_scorer_names_the_nearest():
    with pytest.raises(RecipeError, match="unknown scorer 'exact_mach'; did you mean 'exact_match'"):
        check_scorer(ScorerSpec(kind="exact_mach"))


def test_an_unknown_setting_names_the_nearest():
    with pytest.raises(RecipeError, match="has no setting 'pth'; did you mean 'path'"):
        check_scorer(ScorerSpec(kind="json_field", settings={"pth": "item"}))


def test_a_wrong_value_names_scorer_setting_and_value():
    with pytest.raises(RecipeError, match=r"'close' \(numeric\), setting 'absolute'.*got -1"):
        check_scorer(ScorerSpec(kind="numeric", name="close", settings={"absolute": -1}))


def test_a_scorer_that_can_read_no_reference_is_refused_before_anything_runs():
    rows = [an_example("two coffees"), an_example("tea")]
    with pytest.raises(RecipeError, match="can read none of the 2 reference answers"):
        bind_scorer(ScorerSpec(kind="json_equal"), rows)


def test_a_few_unreadable_references_are_counted_and_score_zero():
    bound = bind_scorer(ScorerSpec(kind="json_equal"), [an_example("{}"), an_example("{broken")])
    assert bound.num_unusable == 1
    assert score(bound, Answer("{broken"), an_example("{broken")) == (0.0,)


def test_the_hash_covers_settings_and_resolved_labels():
    base = bind_scorer(ScorerSpec(kind="json_field", settings={"path": "a"}), [an_example("{}")])
    named = bind_scorer(ScorerSpec(kind="json_field", name="x", settings={"path": "a"}), [an_example("{}")])
    other = bind_scorer(ScorerSpec(kind="json_field", settings={"path": "b"}), [an_example("{}")])
    few = bind_scorer(ScorerSpec(kind="accuracy"), [an_example("x")])
    more = bind_scorer(ScorerSpec(kind="accuracy"), [an_example("x"), an_example("y")])
    assert base.digest == named.digest
    assert len({base.digest, other.digest, few.digest, more.digest}) == 4


def test_an_arm_without_generation_has_no_stop_rate_latency_or_perplexity():
    example = an_example("x")
    for kind in ("stop_rate", "latency", "num_tokens", "perplexity"):
        bound = bind_scorer(ScorerSpec(kind=kind), [example])
        assert score(bound, Answer("x"), example) is None


def test_perplexity_is_the_exponential_of_the_mean_nats_a_token():

    bound = bind_scorer(ScorerSpec(kind="perplexity"), [an_example("x")])
    value = score(bound, Answer("", nll=6.0, num_reference_tokens=3), an_example("x"))
    assert value == (6.0, 3.0)
    assert bound.combine is not None
    assert bound.combine(np.array([[6.0, 3.0], [0.0, 3.0]])) == pytest.approx(np.exp(1.0))
    assert not bound.scorer.higher_is_better
