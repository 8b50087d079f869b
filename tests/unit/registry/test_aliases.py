from datetime import UTC, datetime

import pytest
from tests.fakes import fake_ports
from tests.registry_world import RECIPE, TunedEngine, make_world

from tunewright.errors import (
    AliasConflict,
    BlobMissing,
    GateNotPassed,
    ModelRevoked,
    SignatureInvalid,
    UnknownReference,
    UsageError,
)
from tunewright.registry.aliases import revoke, roll_back, set_alias
from tunewright.registry.asof import alias_as_of, as_of
from tunewright.registry.register import register
from tunewright.registry.waive import waive
from tunewright.values import Ref


@pytest.fixture
def ports(tmp_path):
    return fake_ports(tmp_path, TunedEngine())


@pytest.fixture
def three(ports):
    return [register(RECIPE, make_world(ports, seed=seed).report, ports) for seed in range(3)]


def promote(ports, version, alias="champion", reason="better"):
    return set_alias("shop", alias, target=Ref("shop", version), actor="ann", reason=reason, ports=ports)


def back(ports):
    return roll_back("shop", "champion", actor="ann", reason="errors", ports=ports).target.version


def champion(ports):
    return ports.records.alias("shop", "champion").target


def test_a_model_that_passed_may_become_champion_and_the_ledger_says_who_and_why(ports, three):
    assert promote(ports, 2).target == Ref("shop", 2)
    event = ports.records.events(kind="alias", subject="alias:shop/champion")[-1]
    assert (event.actor, event.detail["reason"], event.detail["from"], event.detail["to"]) == (
        "ann",
        "better",
        "shop@1",
        "shop@2",
    )


def refused(ports, error, match):
    before = champion(ports)
    with pytest.raises(error, match=match):
        promote(ports, 2)
    assert champion(ports) == before


def test_an_unknown_version_is_refused(ports):
    register(RECIPE, make_world(ports).report, ports)
    refused(ports, UnknownReference, "shop@1")


def test_a_record_whose_signature_does_not_fit_is_refused(ports, three):
    ports.records.stored["model"][Ref("shop", 2)] = three[1].model_copy(update={"verdict": "fail"})
    refused(ports, SignatureInvalid, "does not verify")


def test_a_verdict_that_is_no_longer_a_pass_is_refused(ports, three):
    report = ports.records.get("evaluation", three[1].evaluation)
    ports.records.stored["evaluation"][report.ref] = report.model_copy(update={"verdict": "void"})
    refused(ports, GateNotPassed, "verdict void")


def test_missing_files_are_refused(ports, three):
    del ports.blobs.stored[three[1].adapter]
    refused(ports, BlobMissing, three[1].adapter)


def test_a_revoked_model_is_refused(ports, three):
    revoke(Ref("shop", 2), actor="bob", reason="poisoned", ports=ports)
    refused(ports, ModelRevoked, "revoked by bob")


def test_revoking_needs_a_reason(ports, three):
    with pytest.raises(UsageError, match="needs a reason"):
        revoke(Ref("shop", 2), actor="bob", reason=" ", ports=ports)


@pytest.mark.parametrize(
    ("alias", "target", "reason", "match"),
    [
        ("Champion", "shop@1", "why", "is no alias"),
        ("../x", "shop@1", "why", "is no alias"),
        ("champion", "bank@1", "why", "expected a version of shop"),
        ("champion", "shop@1", "", "needs a reason"),
    ],
)
def test_malformed_moves_are_refused(ports, three, alias, target, reason, match):
    with pytest.raises(UsageError, match=match):
        set_alias("shop", alias, target=Ref.parse(target), actor="ann", reason=reason, ports=ports)


def test_a_waived_model_may_be_pointed_to_by_a_person(ports):
    world = make_world(ports, verdict="fail")
    waive(world.report.ref, "pilot", "Ann", ports)
    model = register(RECIPE, world.report, ports)
    assert champion(ports) is None
    assert promote(ports, 1).target == model.ref


def test_of_two_moves_that_saw_the_same_state_one_wins(ports, three):
    honest = ports.records.alias

    def overtaken(name, alias):
        seen = honest(name, alias)
        ports.records.alias = honest
        promote(ports, 2)
        return seen

    ports.records.alias = overtaken
    with pytest.raises(AliasConflict):
        promote(ports, 3)
    assert champion(ports) == Ref("shop", 2)


def test_rolling_back_goes_one_step_at_a_time_and_not_to_and_fro(ports, three):
    promote(ports, 2)
    promote(ports, 3)
    assert [back(ports), back(ports)] == [2, 1]
    with pytest.raises(UnknownReference, match="no earlier version"):
        back(ports)
    assert champion(ports) == Ref("shop", 1)


def test_rolling_back_after_a_new_promotion_returns_to_what_was_served_before_it(ports, three):
    promote(ports, 2)
    assert back(ports) == 1
    promote(ports, 3)
    assert back(ports) == 1


def test_setting_the_same_target_twice_does_not_make_a_roll_back_a_no_op(ports, three):
    promote(ports, 2)
    promote(ports, 2)
    assert back(ports) == 1


def test_rolling_back_passes_over_revoked_versions(ports, three):
    promote(ports, 2)
    promote(ports, 3)
    revoke(Ref("shop", 2), actor="ann", reason="bad", ports=ports)
    assert back(ports) == 1


def test_an_alias_that_was_never_set_cannot_roll_back(ports, three):
    with pytest.raises(UnknownReference, match="shop/blue has no earlier version"):
        roll_back("shop", "blue", actor="ann", reason="errors", ports=ports)


def test_the_past_can_be_asked_for(ports, three):
    times = [ports.clock.now]
    for version in (2, 3):
        ports.clock.tick(3600)
        times.append(ports.clock.now)
        promote(ports, version)
    ports.clock.tick(3600)
    back(ports)
    versions = [alias_as_of("shop", "champion", at, ports.records).target.version for at in times]
    assert versions == [1, 2, 3]
    assert alias_as_of("shop", "champion", ports.clock.now, ports.records).target.version == 2
    assert as_of(datetime(2020, 1, 1, tzinfo=UTC), ports.records) == []
    assert alias_as_of("shop", "champion", datetime(2020, 1, 1, tzinfo=UTC), ports.records).target is None
    assert as_of(ports.clock.now, ports.records) == list(ports.records.aliases())


def test_a_time_without_zone_is_refused(ports):
    with pytest.raises(UsageError, match="no timezone"):
        as_of(datetime(2026, 1, 1), ports.records)  # noqa: DTZ001
