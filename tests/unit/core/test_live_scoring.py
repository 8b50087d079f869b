import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunewright.core.live_scoring import compile_live, live_kinds, scores_live
from tunewright.errors import RecipeError
from tunewright.recipe import ScorerSpec
from tunewright.records import LiveScorer

SCHEMA = {"type": "object", "required": ["item"]}


def live(kind: str, name: str | None = None, **settings: object) -> LiveScorer:
    return LiveScorer.model_validate({"kind": kind, "name": name or kind, "settings": settings})


RULES = compile_live(
    [
        live("json_valid"),
        live("json_schema", schema=SCHEMA),
        live("stop_rate"),
        live("contains", "thanks", text="thank you"),
        live("regex", "short", pattern=".{1,40}", full=True),
    ]
)


def test_each_rule_scores_an_answer_without_a_reference():
    assert RULES.names == ("json_valid", "json_schema", "stop_rate", "thanks", "short")
    assert RULES.score('{"item": "tea"}', "stop", 7) == {
        "json_valid": 1.0,
        "json_schema": 1.0,
        "stop_rate": 1.0,
        "thanks": 0.0,
        "short": 1.0,
    }
    assert RULES.score("Thank  YOU, " + "x" * 40, "length") == {
        "json_valid": 0.0,
        "json_schema": 0.0,
        "stop_rate": 0.0,
        "thanks": 1.0,
        "short": 0.0,
    }


@pytest.mark.parametrize("reason", [None, "error", "content_filter"])
def test_a_rule_that_cannot_judge_an_answer_is_left_out(reason):
    assert "stop_rate" not in RULES.score("{}", reason)


@given(st.text(), st.sampled_from(["stop", "length", None]))
def test_every_score_lies_between_0_and_1_whatever_the_answer(text, reason):
    assert all(0.0 <= score <= 1.0 for score in RULES.score(text, reason).values())


def test_only_scorers_that_judge_the_answer_alone_are_allowed():
    assert live_kinds() == ["contains", "json_schema", "json_valid", "regex", "stop_rate"]
    assert scores_live(ScorerSpec(kind="contains", settings={"text": "x"}))
    assert not scores_live(ScorerSpec(kind="contains"))
    assert not scores_live(ScorerSpec(kind="num_tokens"))


@pytest.mark.parametrize("kind", ["exact_match", "accuracy", "perplexity", "latency", "contains"])
def test_a_scorer_that_needs_a_reference_is_refused_with_those_allowed(kind):
    with pytest.raises(RecipeError, match=f"{kind}.*reference answer.*json_schema, json_valid, regex"):
        compile_live([live(kind)])


def test_an_unknown_or_doubled_rule_is_refused():
    with pytest.raises(RecipeError, match="did you mean 'json_valid'"):
        compile_live([live("json_vald")])
    with pytest.raises(RecipeError, match="needs the setting 'pattern'"):
        compile_live([live("regex")])
    with pytest.raises(RecipeError, match="'json_valid' is there twice"):
        compile_live([live("json_valid"), live("json_valid", extract=True)])
