import pytest
from tests.fakes import fake_ports
from tests.live_world import a_policy, a_state
from tests.registry_world import RECIPE, TunedEngine, make_world

from tunewright.deploy.canary import Step
from tunewright.deploy.rollout import (
    find_rollout,
    head_key,
    history,
    last_state,
    read_state,
    start_rollout,
    step_of,
    take_step,
)
from tunewright.errors import AliasConflict, BaseMismatch, LedgerBroken, UnknownReference, UsageError
from tunewright.records import Baseline
from tunewright.registry.aliases import set_alias
from tunewright.registry.register import register
from tunewright.registry.verify import verify_workspace
from tunewright.values import Ref

BASELINE = Baseline(requests=200, p95_latency_s=1.5, p95_tokens=40.0)
ADVANCE = Step("advance", "200 requests were mirrored.", 0.01, 0, {"mirrored": 200}, BASELINE)
PROMOTE = Step("promote", "No guardrail is worse.", 1.0, 4, {"log_e": 9.5})
HOLD = Step("hold", "The deadline is over.", 0.01, 0)
ROLL_BACK = Step("roll_back", "Errors rose.", 0.0, 0, {"log_e": 7.0})


@pytest.fixture
def ports(tmp_path):
    return fake_ports(tmp_path, TunedEngine())


@pytest.fixture
def models(ports):
    """Three models; the first is champion."""
    return [register(RECIPE, make_world(ports, seed=seed).report, ports) for seed in range(3)]


def begin(models, ports, candidate=1, **policy):
    return start_rollout(models[candidate], models[0], a_policy(**policy), ports)


def go(rollout, state, ports, *steps):
    for step in steps:
        state = take_step(rollout, state, step, ports, actor="gateway")
        ports.clock.tick()
    return state


def champion(ports):
    return ports.records.alias("shop", "champion").target


def test_a_rollout_starts_in_shadow_without_a_share(models, ports):
    rollout, state = begin(models, ports)
    assert (rollout.ref, rollout.candidate, rollout.incumbent) == (
        Ref("shop", 1),
        Ref("shop", 2),
        Ref("shop", 1),
    )
    assert (rollout.candidate_digest, rollout.incumbent_digest) == (models[1].adapter, models[0].adapter)
    assert (state.phase, state.share, state.stage, state.revision) == ("shadow", 0.0, 0, 1)
    assert (state.deadline - ports.clock()).total_seconds() == rollout.policy.deadline_s
    assert read_state(ports.records, "shop") == state
    assert find_rollout(ports.records, rollout.ref) == rollout
    [event] = history(ports.records, rollout.ref)
    assert (event.kind, event.subject, event.detail["action"]) == ("rollout", "rollout:shop@1", "start")
    assert event.detail["candidate"] == "shop@2"
    assert {edge.parent for edge in ports.records.parents("rollout:shop@1")} == {
        "model:shop@1",
        "model:shop@2",
    }


def test_the_state_advances_holds_and_is_promoted_with_the_champion(models, ports):
    rollout, state = begin(models, ports)
    ramp = go(rollout, state, ports, ADVANCE)
    assert (ramp.phase, ramp.share, ramp.stage, ramp.baseline) == ("ramp", 0.01, 0, BASELINE)
    held = go(rollout, ramp, ports, HOLD)
    assert (held.phase, held.share, held.baseline) == ("held", 0.01, BASELINE)
    assert (held.deadline - held.since).total_seconds() == rollout.policy.hold_s
    done = go(rollout, held, ports, PROMOTE)
    assert (done.phase, done.share, done.stage, done.revision) == ("promoted", 1.0, 4, 4)
    assert read_state(ports.records, "shop") == done
    assert champion(ports) == Ref("shop", 2)


def test_every_move_is_one_event_with_its_numbers_and_a_promotion_is_the_aliases_own(models, ports):
    rollout, state = begin(models, ports)
    before = ports.records.tip()
    go(rollout, state, ports, ADVANCE, PROMOTE)
    assert ports.records.tip() == before + 2
    events = history(ports.records, rollout.ref)
    assert [event.kind for event in events] == ["rollout", "rollout", "alias"]
    assert events[2].detail["rollout"] == "shop@1"
    told = [(s["action"], s["from"], s["to"], s["share"], s["numbers"]) for s in map(step_of, events)]
    assert told == [
        ("start", None, "shadow", 0.0, {}),
        ("advance", "shadow", "ramp", 0.01, {"mirrored": 200}),
        ("promote", "ramp", "promoted", 1.0, {"log_e": 9.5}),
    ]
    assert events[1].actor == "gateway"


def test_waiting_changes_nothing(models, ports):
    rollout, state = begin(models, ports)
    before = ports.records.tip()
    assert go(rollout, state, ports, Step("wait", "More units.", 0.0, 0)) == state
    assert ports.records.tip() == before


def test_rolling_back_a_live_rollout_moves_the_head_alone(models, ports):
    rollout, state = begin(models, ports)
    alias = ports.records.alias("shop", "champion")
    state = go(rollout, state, ports, ADVANCE, ROLL_BACK)
    assert (state.phase, state.share, state.reason) == ("rolled_back", 0.0, "Errors rose.")
    assert ports.records.alias("shop", "champion") == alias


def test_rolling_back_after_promotion_gives_the_champion_back(models, ports):
    rollout, state = begin(models, ports)
    state = go(rollout, state, ports, PROMOTE, ROLL_BACK)
    assert state.phase == "rolled_back"
    assert champion(ports) == Ref("shop", 1)
    assert history(ports.records, rollout.ref)[-1].detail["action"] == "roll_back"


def test_a_step_from_a_stale_state_loses_and_changes_nothing(models, ports):
    rollout, state = begin(models, ports)
    go(rollout, state, ports, ROLL_BACK)
    before = ports.records.tip()
    for step in (ADVANCE, PROMOTE, ROLL_BACK):
        with pytest.raises(AliasConflict, match="was moved by another process first: shop@1 is rolled back"):
            take_step(rollout, state, step, ports, actor="gateway")
    assert (ports.records.tip(), champion(ports)) == (before, Ref("shop", 1))


def test_a_promotion_is_refused_after_somebody_moved_the_champion_by_hand(models, ports):
    rollout, state = begin(models, ports)
    set_alias("shop", "champion", target=Ref("shop", 3), actor="ann", reason="test", ports=ports)
    with pytest.raises(AliasConflict, match=r"points to shop@3, and not to shop@1.*rollout rollback shop"):
        take_step(rollout, state, PROMOTE, ports, actor="gateway")
    assert (champion(ports), read_state(ports.records, "shop")) == (Ref("shop", 3), state)


@pytest.mark.parametrize(
    ("end", "then", "words"),
    [
        (ROLL_BACK, PROMOTE, "is rolled back and cannot be promoted. Errors rose."),
        (ROLL_BACK, ROLL_BACK, "is rolled back and cannot be rolled back"),
        (PROMOTE, ADVANCE, "is promoted and cannot be advanced"),
        (PROMOTE, PROMOTE, "is promoted and cannot be promoted"),
        (HOLD, HOLD, "is held and cannot be held"),
    ],
)
def test_what_has_ended_cannot_be_moved_on(models, ports, end, then, words):
    rollout, state = begin(models, ports)
    state = go(rollout, state, ports, end)
    with pytest.raises(UsageError, match=words):
        take_step(rollout, state, then, ports, actor="ann")


def test_a_second_start_names_the_live_rollout(models, ports):
    begin(models, ports)
    with pytest.raises(UsageError, match=r"rollout shop@1 of shop@2 against shop@1 is in shadow"):
        begin(models, ports, candidate=2)
    assert len(ports.records.list("rollout")) == 1


def test_another_rollout_can_follow_and_the_ended_one_keeps_its_state(models, ports):
    first, state = begin(models, ports)
    ended = go(first, state, ports, ROLL_BACK)
    second, fresh = begin(models, ports)
    assert (second.ref, second.candidate) == (Ref("shop", 2), Ref("shop", 2))
    assert second.salt != first.salt, "two rollouts divide users differently"
    assert last_state(ports.records, first.ref) == ended
    assert read_state(ports.records, "shop") == last_state(ports.records, second.ref) == fresh


def test_a_start_that_lost_a_race_leaves_nothing_and_names_the_live_one(models, ports):
    def interfere():
        ports.records.before_commit = lambda: None
        begin(models, ports, candidate=2)

    ports.records.before_commit = interfere
    with pytest.raises(UsageError, match="rollout shop@1 of shop@3 against shop@1 is in shadow"):
        begin(models, ports, candidate=1)
    assert [one.candidate for one in ports.records.list("rollout")] == [Ref("shop", 3)]


def test_what_one_engine_cannot_serve_is_refused(models, ports):
    other = models[1].base.model_copy(update={"digest": "9" * 64})
    with pytest.raises(BaseMismatch, match="expected one base"):
        start_rollout(models[1].model_copy(update={"base": other}), models[0], a_policy(), ports)
    full = models[1].model_copy(update={"report": {"method": "full"}})
    with pytest.raises(BaseMismatch, match="full fine-tune"):
        start_rollout(full, models[0], a_policy(), ports)
    with pytest.raises(UsageError, match="is the champion already"):
        start_rollout(models[0], models[0], a_policy(), ports)
    renamed = models[1].model_copy(update={"ref": Ref("bank", 1)})
    with pytest.raises(UsageError, match="two versions of one name"):
        start_rollout(renamed, models[0], a_policy(), ports)
    assert not ports.records.list("rollout")


def test_absent_and_damaged_states_are_told_apart(models, ports):
    assert read_state(ports.records, "shop") is None
    with pytest.raises(UnknownReference, match="rollout shop@1"):
        last_state(ports.records, Ref("shop", 1))
    ports.records.heads[head_key("shop")] = "{}"
    with pytest.raises(LedgerBroken, match="head 'rollout:shop' holds no state"):
        read_state(ports.records, "shop")


def test_a_whole_rollout_leaves_a_ledger_that_verifies(models, ports):
    rollout, state = begin(models, ports)
    go(rollout, state, ports, ADVANCE, HOLD, PROMOTE, ROLL_BACK)
    assert verify_workspace(ports.records, ports.blobs, ports.signer).problems == ()
    ports.records.heads[head_key("shop")] = a_state().model_dump_json()
    assert "head 'rollout:shop' is" in verify_workspace(ports.records, ports.blobs, ports.signer).problems[0]
