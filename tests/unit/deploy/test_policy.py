import pytest

from tunewright.deploy.policy import live_scorers_of, policy_of
from tunewright.errors import RecipeError
from tunewright.pipeline.recipe_checks import find_mistakes
from tunewright.recipe import (
    DataSection,
    DeploySection,
    GateSection,
    Recipe,
    ScorerSpec,
    SourceSpec,
    SuiteSpec,
)


def a_recipe(*suites: SuiteSpec, **deploy: object) -> Recipe:
    return Recipe(
        name="shop",
        data=DataSection(sources=(SourceSpec(path="x.jsonl"),)),
        gate=GateSection(suites=suites or (SuiteSpec(),)),
        deploy=DeploySection.model_validate(deploy),
    )


def suite(name: str, *kinds: str, **settings: object) -> SuiteSpec:
    return SuiteSpec(
        name=name, scorers=tuple(ScorerSpec.model_validate({"kind": k, "settings": settings}) for k in kinds)
    )


def test_the_policy_copies_every_rule_of_the_recipe():
    policy = policy_of(a_recipe(ramp=(0.05, 1.0), margin=0.02, window_s=2.0, shadow_requests=7))
    for field in DeploySection.model_fields:
        if field != "live_scorers":
            given = a_recipe(ramp=(0.05, 1.0), margin=0.02, window_s=2.0, shadow_requests=7).deploy
            assert policy.to_json()[field] == given.to_json()[field]


def test_without_live_scorers_those_of_the_gate_that_need_no_reference_are_taken():
    recipe = a_recipe(
        suite("held_out", "json_valid", "exact_match", "stop_rate"), suite("more", "json_valid")
    )
    assert [(one.kind, one.name) for one in live_scorers_of(recipe)] == [
        ("json_valid", "json_valid"),
        ("stop_rate", "stop_rate"),
    ]


def test_the_same_metric_with_other_settings_carries_the_suites_name():
    recipe = a_recipe(suite("held_out", "json_valid"), suite("more", "json_valid", extract=True))
    assert [one.name for one in live_scorers_of(recipe)] == ["json_valid", "more.json_valid"]


def test_live_scorers_of_the_recipe_replace_those_of_the_gate():
    recipe = a_recipe(suite("held_out", "json_valid"), live_scorers=[{"kind": "stop_rate", "name": "ends"}])
    assert [(one.kind, one.name) for one in live_scorers_of(recipe)] == [("stop_rate", "ends")]


def test_a_gate_that_compares_with_references_only_gives_no_live_scorer():
    assert live_scorers_of(a_recipe()) == ()


def test_a_live_scorer_that_needs_a_reference_is_a_mistake_in_the_recipe():
    recipe = a_recipe(live_scorers=[{"kind": "json_valid"}, {"kind": "exact_match"}])
    with pytest.raises(RecipeError, match="exact_match"):
        policy_of(recipe)
    [(where, words)] = find_mistakes(recipe)
    assert where == ("deploy", "live_scorers", 1)
    assert "without a reference answer" in words
