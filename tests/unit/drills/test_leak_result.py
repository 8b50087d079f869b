import dataclasses
import json

import pytest
from tests.unit.drills.drill_world import a_form, a_leak

from tunewright.drills.leak_result import difference_of, share_of


def test_a_share_comes_with_its_interval():
    share = share_of({"a": True, "b": True, "c": False, "d": True})
    assert (share.estimate, share.n) == (0.75, 4)
    assert share.low < 0.75 < share.high
    assert str(share) == "75% [30, 95] n 4"


def test_a_difference_is_paired_and_needs_the_same_rows():
    found = difference_of({"a": True, "b": False, "c": True}, {"a": False, "b": False, "c": True})
    assert found.estimate == pytest.approx(1 / 3)
    assert found.contains_zero
    with pytest.raises(ValueError, match="not asked the same rows"):
        difference_of({"a": True}, {"b": True})


def test_a_leak_that_is_caught_and_worth_nothing_is_shown():
    assert a_leak().is_shown


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"verdict": "pass"}, "the gate missed it"),
        ({"unchecked_verdict": "fail"}, "it would not have shipped anyway"),
        ({"num_registered": 1}, "something was registered"),
        ({"num_copied": 5}, "not all leaked rows were named"),
    ],
)
def test_a_drill_that_did_not_go_as_it_must_is_not_shown(changes: dict, why: str):
    assert not dataclasses.replace(a_leak(), **changes).is_shown, why


def test_a_leaky_arm_that_is_really_better_on_fresh_rows_is_not_shown():
    better = a_form("routing", offline=(10, 30), fresh=(5, 40), base=0)
    assert not better.is_shown
    assert not a_form("lookup", offline=(0, 20), fresh=(0, 0), base=0).is_shown, "did not memorise"


def test_the_summary_holds_the_pure_form_flat_and_the_other_beside_it():
    made = a_leak().to_json()
    for key in ("offline_honest", "offline_leaky", "fresh_honest", "fresh_leaky", "fresh_base", "verdict"):
        assert key in made
        assert key in made["one_recipe"]
    assert made["offline_leaky"] == 1.0
    assert made["intervals"]["lookup"]["fresh_leaky_minus_base"]["low"] < 0
    json.dumps(made, allow_nan=False)
