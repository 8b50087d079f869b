"""Assignment: monotone, with the probability that was really drawn from."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.live_world import a_policy, a_rollout, a_state

from tunewright.deploy.assignment import Seen, assign, bucket
from tunewright.values import Ref

ROLLOUT = a_rollout(policy=a_policy(ramp=(0.05, 0.25, 0.5, 1.0)))
SHARES = (0.05, 0.25, 0.5)


@given(unit=st.text(), salt=st.text(max_size=8))
def test_a_bucket_lies_in_the_unit_interval_and_stays(unit: str, salt: str):
    place = bucket(salt, Ref("shop", 1), unit)
    assert 0 <= place < 1
    assert place == bucket(salt, Ref("shop", 1), unit)


def test_buckets_are_uniform_and_differ_between_rollouts_and_salts():
    places = [bucket("s", Ref("shop", 1), f"u{number}") for number in range(4_000)]
    assert sum(place < 0.25 for place in places) / 4_000 == pytest.approx(0.25, abs=0.03)
    assert bucket("s", Ref("shop", 1), "u") != bucket("s", Ref("shop", 2), "u")
    assert bucket("s", Ref("shop", 1), "u") != bucket("t", Ref("shop", 1), "u")


@given(unit=st.text(min_size=1))
def test_nobody_flips_back_while_the_share_rises(unit: str):
    arms = [
        assign(ROLLOUT, a_state(stage=stage, share=share), unit, None).arm
        for stage, share in enumerate(SHARES)
    ]
    assert arms == sorted(arms, key=["incumbent", "candidate"].index)


def test_a_unit_seen_for_the_first_time_has_the_share_as_probability():
    assert assign(ROLLOUT, a_state(stage=1, share=0.25), "u", None).p == 0.25


@pytest.mark.parametrize(("last", "expected"), [(0, (0.5 - 0.05) / 0.95), (1, (0.5 - 0.25) / 0.75)])
def test_an_incumbents_unit_counts_again_with_what_was_added_of_what_was_left(last: int, expected: float):
    state = a_state(stage=2, share=0.5)
    assert assign(ROLLOUT, state, "u", Seen(last, "incumbent")).p == pytest.approx(expected)


@pytest.mark.parametrize("seen", [Seen(0, "candidate"), Seen(2, "candidate"), Seen(2, "incumbent")], ids=str)
def test_a_unit_whose_arm_is_certain_is_no_evidence(seen: Seen):
    assert assign(ROLLOUT, a_state(stage=2, share=0.5), "u", seen).p is None


def test_the_conditional_probability_is_what_returning_units_really_meet():
    first, second = a_state(stage=0, share=0.05), a_state(stage=1, share=0.25)
    units = [f"u{number}" for number in range(6_000)]
    stayed = [unit for unit in units if assign(ROLLOUT, first, unit, None).arm == "incumbent"]
    again = [assign(ROLLOUT, second, unit, Seen(0, "incumbent")) for unit in stayed]
    share = sum(one.arm == "candidate" for one in again) / len(again)
    assert again[0].p is not None
    assert share == pytest.approx(again[0].p, abs=0.02)


def test_on_hold_the_share_stays_and_evidence_still_counts():
    assert assign(ROLLOUT, a_state(phase="held", stage=1, share=0.25), "u", None).p == 0.25


@pytest.mark.parametrize(
    ("phase", "share", "arm"),
    [
        ("shadow", 0.0, "incumbent"),
        ("held", 0.0, "incumbent"),
        ("rolled_back", 0.0, "incumbent"),
        ("promoted", 1.0, "candidate"),
    ],
)
def test_outside_a_ramp_everybody_has_the_same_arm_and_nothing_is_drawn(phase: str, share: float, arm: str):
    found = assign(ROLLOUT, a_state(phase=phase, share=share), "u", None)
    assert (found.arm, found.stage, found.p) == (arm, None, None)
