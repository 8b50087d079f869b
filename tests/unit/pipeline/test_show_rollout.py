import pytest
from tests.fakes import fake_ports
from tests.live_world import a_rollout, a_state
from tests.registry_world import RECIPE, TunedEngine, make_world

from tunewright.deploy.keys import first_keys, read_keys
from tunewright.pipeline.flow import Outcome
from tunewright.pipeline.report import render_report
from tunewright.pipeline.rollout_start import begin_rollout
from tunewright.pipeline.show import outcome_json, outcome_text
from tunewright.pipeline.show_rollout import key_json, key_row, rollout_json
from tunewright.registry.register import register


@pytest.fixture
def ports(tmp_path):
    return fake_ports(tmp_path, TunedEngine())


def outcome(ports, seed):
    world = make_world(ports, seed=seed)
    model = register(RECIPE, world.report, ports)
    begun = begin_rollout(RECIPE, model, ports)
    return Outcome(world.dataset, None, world.report, model, begun.rollout, begun.state, begun.next)


def test_a_run_with_a_champion_ends_with_the_rollout_and_what_moves_it(ports):
    outcome(ports, 0)
    second = outcome(ports, 1)
    shown = outcome_json(second)
    assert shown["rollout"]["rollout"] == "shop@1"
    assert (shown["rollout"]["phase"], shown["rollout"]["candidate"]) == ("shadow", "shop@2")
    assert shown["next"] == second.next
    assert "Registered shop@2 (1.0.1). Rollout shop@1 of shop@2 against shop@1 is in shadow" in outcome_text(
        second, None
    )
    page = render_report(second)
    assert "rollout of shop@2 against shop@1" in page
    assert "tunewright rollout status shop" in page


def test_a_run_without_a_champion_says_that_the_model_is_it(ports):
    first = outcome(ports, 0)
    assert outcome_json(first)["rollout"] is None
    assert "Registered shop@1 (1.0.0). shop@1 is the champion" in outcome_text(first, None)
    assert "shop@1 is the champion" in render_report(first)


def test_a_rollout_as_json_is_plain_and_complete():
    shown = rollout_json(a_rollout(), a_state())
    assert list(shown) == [
        "rollout",
        "candidate",
        "incumbent",
        "phase",
        "stage",
        "share",
        "since",
        "deadline",
        "reason",
    ]
    assert (shown["rollout"], shown["since"]) == ("shop@1", "2026-01-02T03:04:05Z")


def test_keys_are_shown_without_secret_or_hash(ports):
    made = first_keys(ports)
    key = read_keys(ports).keys[0]
    assert made[0].secret not in str(key_json(key))
    assert key.sha256 not in str(key_json(key))
    assert key_row(key)[:5] == [key.id, "caller", "default", "review", "in use"]
