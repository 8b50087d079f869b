import pytest
from tests.fakes import fake_ports
from tests.registry_world import RECIPE, TunedEngine, make_world

from tunewright.deploy.canary import Step
from tunewright.deploy.policy import default_policy
from tunewright.deploy.rollout import take_step
from tunewright.errors import ModelRevoked, UsageError
from tunewright.pipeline.rollout_start import begin_rollout, start_with
from tunewright.registry.aliases import revoke, set_alias
from tunewright.registry.load import signed_bytes
from tunewright.registry.register import register
from tunewright.registry.waive import waive
from tunewright.values import Ref

ROLL_BACK = Step("roll_back", "Errors rose.", 0.0, 0)
PROMOTE = Step("promote", "No guardrail is worse.", 1.0, 4)


@pytest.fixture
def ports(tmp_path):
    return fake_ports(tmp_path, TunedEngine())


def a_model(ports, seed):
    return register(RECIPE, make_world(ports, seed=seed).report, ports)


def a_waived_model(ports, seed):
    report = make_world(ports, seed=seed, verdict="fail").report
    waive(report.ref, "we need it", "ann", ports)
    return register(RECIPE, report, ports)


def test_the_first_model_is_champion_and_needs_no_rollout(ports):
    begun = begin_rollout(RECIPE, a_model(ports, 0), ports)
    assert (begun.rollout, begun.state) == (None, None)
    assert begun.next == "shop@1 is the champion: `tunewright serve` answers with it."


def test_a_passing_model_starts_in_shadow_against_the_champion_once(ports):
    a_model(ports, 0)
    model = a_model(ports, 1)
    begun = begin_rollout(RECIPE, model, ports)
    assert begun.rollout is not None and begun.state is not None
    assert (begun.rollout.candidate, begun.rollout.incumbent) == (Ref("shop", 2), Ref("shop", 1))
    assert begun.state.phase == "shadow"
    assert "A running `tunewright serve` moves it on" in begun.next
    assert begin_rollout(RECIPE, model, ports) == begun
    assert len(ports.records.list("rollout")) == 1


def test_a_rolled_back_model_is_not_tried_again_by_itself(ports):
    a_model(ports, 0)
    model = a_model(ports, 1)
    begun = begin_rollout(RECIPE, model, ports)
    take_step(begun.rollout, begun.state, ROLL_BACK, ports, actor="gateway")
    again = begin_rollout(RECIPE, model, ports)
    assert again.rollout == begun.rollout
    assert again.state.phase == "rolled_back"
    assert "was rolled back: Errors rose. Try once more with `tunewright rollout start shop@2`" in again.next
    rollout, _ = start_with(model, default_policy(), ports)
    assert rollout.ref == Ref("shop", 2)


def test_a_promoted_model_says_so_when_it_is_run_again(ports):
    a_model(ports, 0)
    model = a_model(ports, 1)
    begun = begin_rollout(RECIPE, model, ports)
    take_step(begun.rollout, begun.state, PROMOTE, ports, actor="gateway")
    assert begin_rollout(RECIPE, model, ports).next.startswith("Rollout shop@1 promoted shop@2")


def test_while_another_rollout_is_live_the_model_waits_for_an_explicit_start(ports):
    a_model(ports, 0)
    begin_rollout(RECIPE, a_model(ports, 1), ports)
    begun = begin_rollout(RECIPE, a_model(ports, 2), ports)
    assert begun.rollout is None
    assert "rollout shop@1 is in shadow" in begun.next
    assert "`tunewright rollout start shop@3` can follow" in begun.next


def test_a_waived_model_needs_an_explicit_start(ports):
    a_model(ports, 0)
    model = a_waived_model(ports, 1)
    begun = begin_rollout(RECIPE, model, ports)
    assert begun.rollout is None
    assert "waived past the gate. Start one with `tunewright rollout start shop@2`" in begun.next
    assert start_with(model, default_policy(), ports)[1].phase == "shadow"


def test_a_waived_first_model_says_that_there_is_no_champion(ports):
    model = a_waived_model(ports, 0)
    assert "has no champion" in begin_rollout(RECIPE, model, ports).next
    with pytest.raises(UsageError, match=r"models alias shop champion shop@1"):
        start_with(model, default_policy(), ports)


def test_an_older_model_or_a_former_champion_does_not_come_back_by_itself(ports):
    one, two = a_model(ports, 0), a_model(ports, 1)
    set_alias("shop", "champion", target=two.ref, actor="ann", reason="test", ports=ports)
    assert "Bring shop@1 back with" in begin_rollout(RECIPE, one, ports).next
    set_alias("shop", "champion", target=one.ref, actor="ann", reason="test", ports=ports)
    assert "Bring shop@2 back with" in begin_rollout(RECIPE, two, ports).next
    assert not ports.records.list("rollout")


def test_what_must_not_be_served_is_not_started(ports):
    a_model(ports, 0)
    model = a_model(ports, 1)
    revoke(model.ref, actor="ann", reason="leak", ports=ports)
    with pytest.raises(ModelRevoked, match="leak"):
        start_with(model, default_policy(), ports)


def test_a_start_that_is_refused_does_not_fail_the_run(ports):
    a_model(ports, 0)
    model = a_model(ports, 1)
    full = model.model_copy(update={"report": {"method": "full"}})
    resigned = _signed(full, ports)
    begun = begin_rollout(RECIPE, resigned, ports)
    assert begun.rollout is None
    assert begun.next.startswith("No rollout was started: model shop@2 is a full fine-tune")


def _signed(model, ports):
    return model.model_copy(update={"signature": ports.signer.sign(signed_bytes(model))[0]})
