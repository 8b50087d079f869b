import pytest
from tests.fakes import fake_ports
from tests.live_world import a_trace, live
from tests.registry_world import RECIPE, TunedEngine, make_world

from tunewright.deploy.canary import Step
from tunewright.errors import AliasConflict, ModelRevoked, UnknownReference, UsageError
from tunewright.pipeline.model_verbs import ModelVerbs
from tunewright.pipeline.rollout_follow import QUIET_S, describe, follow_rollout
from tunewright.pipeline.rollout_verbs import RolloutVerbs
from tunewright.pipeline.show_rollout import rollout_row, status_json_of, status_text
from tunewright.records import EventDraft
from tunewright.registry.aliases import set_alias
from tunewright.registry.register import register
from tunewright.values import Ref

ADVANCE = Step("advance", "200 requests were mirrored.", 0.01, 0, {"mirrored": 200})
PROMOTE = Step("promote", "No guardrail is worse.", 1.0, 4, {"log_e": 9.5})
ROLL_BACK = Step("roll_back", "Errors rose.", 0.0, 0)
RULES = """
name: shop
data: {sources: [{path: orders.jsonl}]}
deploy: {ramp: [0.2, 1.0], margin: 0.07, live_scorers: [{kind: json_valid}]}
"""


@pytest.fixture
def ports(tmp_path):
    ports = fake_ports(tmp_path, TunedEngine())
    for seed in range(3):
        register(RECIPE, make_world(ports, seed=seed).report, ports)
    return ports


@pytest.fixture
def world(tmp_path):
    return live(tmp_path)


@pytest.fixture
def verbs(ports, world):
    return RolloutVerbs(ports, lambda: world, find_in(ports))


def find_in(ports):
    def find(kind, name):
        return ports.records.get(kind, Ref.parse(name)) if "@" in name else ports.records.latest(kind, name)

    return find


def champion(ports):
    return ports.records.alias("shop", "champion").target


def test_a_start_takes_the_recipes_rules_and_without_one_those_of_the_last_rollout(verbs, tmp_path):
    path = tmp_path / "shop.yaml"
    path.write_text(RULES, encoding="utf-8")
    rollout, state = verbs.start("shop@2", path)
    assert (rollout.policy.ramp, rollout.policy.margin) == ((0.2, 1.0), 0.07)
    assert [one.kind for one in rollout.policy.live_scorers] == ["json_valid"]
    verbs.take(rollout, state, ROLL_BACK)
    again, _ = verbs.start("shop@3")
    assert (again.candidate, again.policy) == (Ref("shop", 3), rollout.policy)


def test_a_start_without_any_rules_uses_the_defaults(verbs):
    assert verbs.start("shop")[0].policy.ramp == (0.01, 0.05, 0.25, 0.5, 1.0)


def test_active_lists_live_rollouts_and_all_lists_ended_ones_too(verbs):
    assert verbs.active() == verbs.all() == []
    first = verbs.start("shop@2")
    assert verbs.active() == verbs.all() == [first]
    ended = verbs.take(*first, ROLL_BACK)
    assert (verbs.active(), verbs.all()) == ([], [(first[0], ended)])


def test_a_person_promotes_over_the_evidence_and_the_ledger_says_so(verbs, ports):
    verbs.start("shop@2")
    state = verbs.promote("shop", " the fair starts tomorrow ")
    assert (state.phase, champion(ports)) == ("promoted", Ref("shop", 2))
    event = ports.records.events()[-1]
    assert (event.actor, event.detail["reason"]) == ("tester", "the fair starts tomorrow")
    assert event.detail["step"]["numbers"] == {"by_hand": True}


@pytest.mark.parametrize("verb", ["promote", "roll_back", "hold"])
def test_a_person_must_say_why(verbs, ports, verb):
    verbs.start("shop@2")
    act = {"promote": verbs.promote, "roll_back": verbs.roll_back, "hold": verbs.hold}[verb]
    with pytest.raises(UsageError, match="rollout shop@1: expected a reason"):
        act("shop", "  ")
    assert verbs.active()[0][1].revision == 1


def test_a_person_rolls_back_before_and_after_promotion(verbs, ports):
    verbs.start("shop@2")
    assert verbs.roll_back("shop", "complaints").phase == "rolled_back"
    with pytest.raises(UsageError, match=r"cannot be rolled back\. complaints\."):
        verbs.roll_back("shop", "again")
    verbs.start("shop@2")
    verbs.promote("shop", "test")
    assert verbs.roll_back("shop", "complaints").phase == "rolled_back"
    assert champion(ports) == Ref("shop", 1)


def test_a_held_rollout_resumes_where_it_stood(verbs):
    with pytest.raises(UnknownReference, match="rollout"):
        verbs.resume("shop", "go")
    rollout, state = verbs.start("shop@2")
    with pytest.raises(UsageError, match="is not held"):
        verbs.resume("shop", "go")
    ramp = verbs.take(rollout, state, ADVANCE)
    assert verbs.hold("shop", "holiday").share == ramp.share
    resumed = verbs.resume("shop", "back")
    assert (resumed.phase, resumed.share, resumed.stage) == ("ramp", ramp.share, ramp.stage)
    verbs.roll_back("shop", "x")
    verbs.start("shop@2")
    verbs.hold("shop", "holiday")
    assert verbs.resume("shop", "back").phase == "shadow"


def test_a_revoked_candidate_cannot_be_promoted(verbs, ports):
    rollout, state = verbs.start("shop@2")
    ports.records.append(a_revocation(ports, rollout))
    with pytest.raises(ModelRevoked, match="leak"):
        verbs.promote("shop", "please")
    ended = verbs.take(rollout, state, PROMOTE)
    assert ended.phase == "rolled_back"
    assert "must not be served: model shop@2 is revoked" in ended.reason
    assert champion(ports) == Ref("shop", 1)


def a_revocation(ports, rollout):
    detail = {"adapter": rollout.candidate_digest, "reason": "leak"}
    return EventDraft(kind="revoke", actor="ann", subject="model:shop@2", detail=detail)


def test_a_promotion_after_the_champion_was_moved_by_hand_becomes_a_roll_back(verbs, ports):
    rollout, state = verbs.start("shop@2")
    set_alias("shop", "champion", target=Ref("shop", 3), actor="ann", reason="x", ports=ports)
    ended = verbs.take(rollout, state, PROMOTE)
    assert (ended.phase, champion(ports)) == ("rolled_back", Ref("shop", 3))
    assert ended.reason == "champion was moved to shop@3 by hand while the rollout was live."


def test_the_gateway_loses_a_race_against_a_person(verbs):
    rollout, state = verbs.start("shop@2")
    verbs.roll_back("shop", "complaints")
    with pytest.raises(AliasConflict, match="because: complaints"):
        verbs.take(rollout, state, ADVANCE)


def test_revoking_a_model_ends_its_rollout_and_names_the_aliases_left(verbs, ports):
    verbs.start("shop@2")
    models = ModelVerbs(ports, find_in(ports))
    other = models.revoke("shop@3", "not needed")
    assert (other.ended, other.aliases) == (None, ("candidate",))
    found = models.revoke("shop@2", "leak")
    assert found.ended is not None
    assert (found.ended.phase, found.ended.reason) == ("rolled_back", "Model shop@2 was revoked: leak")


def test_moving_the_champion_by_hand_ends_the_live_rollout(verbs, ports):
    verbs.start("shop@2")
    ModelVerbs(ports, find_in(ports)).move_alias("champion", "shop@3", name="shop", reason="better")
    [(_, state)] = verbs.all()
    assert state.reason == "The champion was moved to shop@3 by hand: better"


def test_a_store_that_cannot_be_swept_says_so(ports):
    with pytest.raises(UsageError, match="cannot be swept"):
        ModelVerbs(ports, find_in(ports)).sweep()


def test_status_finds_the_live_one_the_newest_or_the_one_named(verbs):
    with pytest.raises(UnknownReference, match="no rollout"):
        verbs.status()
    first = verbs.start("shop@2")
    verbs.take(*first, ROLL_BACK)
    verbs.start("shop@3")
    assert verbs.status().rollout.candidate == Ref("shop", 3)
    assert verbs.status("shop").state.phase == "shadow"
    ended = verbs.status("shop@1")
    assert (ended.rollout, ended.state.phase, len(ended.history)) == (first[0], "rolled_back", 2)
    with pytest.raises(UsageError, match="rollout shop@1 has ended; expected the newest one of shop, shop@2"):
        verbs.promote("shop@1", "please")
    with pytest.raises(UnknownReference):
        verbs.status("bank")


def test_status_reads_what_the_traces_tell(verbs, world):
    rollout, _ = verbs.start("shop@2")
    shadow = {"rollout": rollout.ref, "arm": "candidate", "digest": rollout.candidate_digest}
    world.traces.write([a_trace(1, rollout=rollout.ref, arm="incumbent", stage=0)])
    world.traces.write([a_trace(2, shadow_of=f"tr_{1:032x}", **shadow)])
    found = verbs.status()
    text, shown = status_text(found), status_json_of(found)
    assert text.startswith(found.sentences[0])
    assert "shop@2" in found.sentences[0]
    assert "start -> shadow, by tester" in text
    assert any("200" in sentence for sentence in found.sentences)
    assert (shown["phase"], shown["sentences"]) == ("shadow", list(found.sentences))
    assert shown["history"][0]["action"] == "start"
    assert "heads" not in shown["history"][0]
    assert rollout_row(found.rollout, found.state)[:5] == ["shop@1", "shop@2", "shop@1", "in shadow", "0%"]


def test_following_says_each_change_and_ends_when_it_is_decided(verbs, ports, world):
    rollout, state = verbs.start("shop@2")
    steps, said, states = [ADVANCE, PROMOTE], [], [state]

    def sleep(seconds):
        if len(said) == len(states) and steps:
            states.append(verbs.take(rollout, states[-1], steps.pop(0)))

    end = follow_rollout(rollout.ref, ports, lambda: world, say=said.append, sleep=sleep)
    assert end == states[-1]
    assert said == [describe(one) for one in states]
    assert said[1] == "rollout shop@1 is on the ramp at 1% of users: 200 requests were mirrored."


def test_following_says_that_a_gateway_must_run_when_nothing_moves(verbs, ports, world):
    rollout, state = verbs.start("shop@2")
    said, slept = [], []

    def sleep(seconds):
        slept.append(seconds)
        if sum(slept) > 3 * QUIET_S:
            verbs.take(rollout, state, Step("hold", "The deadline is over.", 0.0, 0))

    end = follow_rollout(rollout.ref, ports, lambda: world, say=said.append, sleep=sleep)
    assert end.phase == "held"
    assert len(said) == 3
    assert "`tunewright serve` must be running" in said[1]
