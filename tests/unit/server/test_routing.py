from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes import START
from tests.live_world import a_rollout, a_state
from tests.registry_world import a_base

from tunewright.errors import RequestRefused
from tunewright.records import ModelVersion
from tunewright.server.listing import champion_problems, served_models
from tunewright.server.routing import Loaded, View, build_table, choose_base, route, wanted
from tunewright.values import Digest, Ref

A, C = Digest("a" * 64), Digest("c" * 64)
SHOP1, SHOP2, SHOP3 = Ref("shop", 1), Ref("shop", 2), Ref("shop", 3)


def a_model(ref=SHOP1, adapter=A, base=None) -> ModelVersion:
    fields = {
        "ref": ref,
        "fingerprint": Digest("f" * 64),
        "semantic_version": "1.0.0",
        "adapter": adapter,
        "base": base or a_base(),
        "dataset": ref,
        "dataset_digest": Digest("d" * 64),
        "run": ref,
        "evaluation": ref,
        "held_out": Digest("e" * 64),
        "verdict": "pass",
        "signature": "",
        "key_id": "k",
        "created_at": START,
    }
    return ModelVersion.model_validate(fields)


def a_view(**changes) -> View:
    models = {model.ref: model for model in (a_model(), a_model(SHOP2, C))}
    fields = {"models": models, "aliases": {("shop", "champion"): SHOP1, ("shop", "candidate"): SHOP2}}
    return View(**fields | changes)


def loaded(*digests, **changes) -> Loaded:
    return Loaded(a_base(), frozenset(digests), **changes)


def a_table(view=None, held=None, **changes):
    return build_table(view or a_view(), held or loaded(A, C), **changes)


def refused(asked, table=None, *, sees_versions=False) -> RequestRefused:
    with pytest.raises(RequestRefused) as found:
        route(asked, table or a_table(), sees_versions=sees_versions)
    return found.value


@pytest.mark.parametrize(
    "asked, model",
    [("shop", SHOP1), ("shop:champion", SHOP1), ("shop:candidate", SHOP2), ("shop@2", SHOP2), (C, SHOP2)],
)
def test_names_aliases_versions_and_digests_lead_to_the_model(asked, model):
    found = route(asked, a_table(), sees_versions=True)
    assert (found.model, found.digest) == (model, A if model == SHOP1 else C)


def test_a_rollout_applies_to_the_bare_name_only():
    table = a_table(a_view(rollouts={"shop": (a_rollout(), a_state())}))
    assert route("shop", table, sees_versions=True).rollout == (a_rollout(), a_state())
    for asked in ("shop:champion", "shop:candidate", "shop@1", A):
        assert route(asked, table, sees_versions=True).rollout is None


def test_a_halted_rollout_takes_no_request_whatever_the_registry_still_says():
    view = a_view(rollouts={"shop": (a_rollout(), a_state())})
    assert route("shop", a_table(view, halted={a_rollout().ref}), sees_versions=False).rollout is None


def test_a_rollout_that_compares_with_another_champion_does_not_apply():
    aliases = {("shop", "champion"): SHOP2}
    view = a_view(aliases=aliases, rollouts={"shop": (a_rollout(), a_state())})
    assert route("shop", a_table(view), sees_versions=False).rollout is None


@pytest.mark.parametrize("asked", ["shop:candidate", "shop@2", "shop@99", C, "9" * 64])
def test_a_caller_may_not_ask_for_versions_and_does_not_learn_which_exist(asked):
    error = refused(asked)
    assert (error.status, error.code) == (403, "role_too_low")


@pytest.mark.parametrize("asked", ["shpo", "../shop", "shop@0", "shop:", "", "x" * 5000, "shop\n", "SHOP"])
def test_an_unknown_name_is_refused_with_what_may_be_asked_for(asked):
    error = refused(asked)
    assert (error.status, error.code, error.param) == (404, "model_not_found", "model")
    assert "shop" in str(error) and len(str(error)) < 300
    assert "candidate" not in str(error).removeprefix(f"there is no model {asked!r:.100}")


def test_a_viewer_is_told_versions_too():
    assert "shop@2" in str(refused("shop@3", sees_versions=True))


def test_without_a_champion_the_base_answers_and_says_so():
    found = route("shop", a_table(a_view(aliases={})), sees_versions=False)
    assert (found.digest, found.model) == ("base", None)
    assert "no champion" in found.note
    assert "no model has a champion" in route("base", a_table(View()), sees_versions=False).note
    assert route("base", a_table(), sees_versions=False).note is None


def test_a_model_on_another_base_is_not_served_and_the_reason_is_given():
    other = a_model(base=a_base("9"))
    table = a_table(a_view(models={SHOP1: other}))
    assert "was trained on base tiny (999999999999)" in str(refused("shop", table))
    assert champion_problems(table)[1] is False


def test_a_revoked_model_is_never_routed():
    table = a_table(a_view(revoked={A: "revoked by ann on 2026-01-02: leak"}))
    error = refused("shop", table)
    assert (error.status, "leak" in str(error)) == (404, True)


def test_a_champion_that_failed_its_probe_is_not_served_and_keeps_traffic_away():
    table = a_table(held=loaded(C, refused={A: "probe_mismatch: probe 1: token 0"}))
    error = refused("shop", table)
    assert (error.status, error.code) == (503, "model_unavailable")
    problems, keeps_away = champion_problems(table)
    assert keeps_away and "probe_mismatch" in problems[0]


def test_the_champion_so_far_answers_until_its_successor_is_loaded():
    before = a_table(held=loaded(A))
    flipped = a_view(aliases={("shop", "champion"): SHOP2})
    assert a_table(flipped, loaded(A), before=before).champions["shop"] == SHOP1
    assert a_table(flipped, loaded(A, C), before=before).champions["shop"] == SHOP2
    assert a_table(flipped, loaded(A, refused={C: "no"}), before=before).champions["shop"] == SHOP2
    revoked = a_view(aliases={("shop", "champion"): SHOP2}, revoked={A: "revoked"})
    assert a_table(revoked, loaded(A), before=before).champions["shop"] == SHOP2


def test_both_arms_and_former_champions_stay_loaded():
    models = {**a_view().models, SHOP3: a_model(SHOP3, Digest("b" * 64))}
    view = a_view(
        models=models,
        rollouts={"shop": (a_rollout(), a_state())},
        former={SHOP3: START + timedelta(hours=24)},
    )
    assert [model.ref for model in wanted(view, START)] == [SHOP1, SHOP2, SHOP3]
    assert [model.ref for model in wanted(view, START + timedelta(hours=25))] == [SHOP1, SHOP2]


def test_the_base_of_most_champions_is_chosen():
    other = a_model(Ref("a", 1), C, a_base("9"))
    assert choose_base([other, a_model(), a_model(Ref("zoo", 1))]) == a_base()
    assert choose_base([]) is None


def test_callers_see_names_and_viewers_versions_too():
    callers = [one.id for one in served_models(a_table(), sees_versions=False)]
    viewers = [one.id for one in served_models(a_table(), sees_versions=True)]
    assert callers == ["base", "shop"]
    assert viewers == ["base", "shop", "shop:candidate", "shop:champion", "shop@1", "shop@2"]


@given(st.text(max_size=80), st.booleans())
def test_any_text_is_routed_or_refused_in_the_openai_shape(asked, sees_versions):
    try:
        assert route(asked, a_table(), sees_versions=sees_versions).digest in ("base", A, C)
    except RequestRefused as error:
        assert error.status in (403, 404)
