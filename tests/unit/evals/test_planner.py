import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunewright.core.stats import binomial_exact_p
from tunewright.core.stats_paired import mcnemar_exact
from tunewright.evals.planner import (
    cluster_inflation,
    items_to_conclude,
    minimum_detectable,
    plan_gate,
    reach,
    reachable_verdict,
    required_items,
    smallest_passing_count,
)
from tunewright.recipe import GateSection, Requirement


@pytest.mark.parametrize(("margin", "rows"), [(0.05, 371), (0.03, 1030), (0.02, 2318)])
def test_rows_for_a_margin_are_those_of_the_design(margin, rows):
    assert required_items(margin, discordance=0.15) == rows


def test_twenty_looks_cost_a_little_over_twice_the_rows():
    assert required_items(0.03, alpha=0.0025) / required_items(0.03) == pytest.approx(2.15, abs=0.01)


def test_alike_rows_cost_more_by_the_design_effect():
    assert cluster_inflation(0.5, 5) == 3
    assert required_items(0.05, inflation=3) == pytest.approx(3 * 371, abs=2)
    assert cluster_inflation(0.5, 1) == 1


def test_margin_zero_is_refused_because_no_sample_proves_equality():
    with pytest.raises(ValueError, match="no sample proves exact equality"):
        required_items(0.0)


def test_planned_rows_give_the_planned_power_in_a_simulation():
    rng = np.random.default_rng(0)
    n = required_items(0.05, discordance=0.15)
    tables = rng.multinomial(n, [0.075, 0.075, 0.85], size=20_000)
    difference = (tables[:, 0] - tables[:, 1]) / n
    se = np.sqrt((tables[:, 0] + tables[:, 1]) / n - difference**2) / np.sqrt(n)
    assert np.mean(difference - 1.6449 * se > -0.05) == pytest.approx(0.8, abs=0.02)


@given(st.integers(10, 5000), st.floats(0.05, 0.5))
def test_detectable_and_required_are_inverse_where_discordance_is_given(rows, discordance):
    found = minimum_detectable(rows, discordance=discordance)
    if found is not None and found <= discordance:
        assert required_items(found, discordance=discordance) == pytest.approx(rows, abs=1)


def test_a_few_rows_show_a_large_effect_by_the_exact_test_too():
    improvement = minimum_detectable(20, discordance=0.15)
    assert improvement == pytest.approx(0.31, abs=0.01)
    wins = np.random.default_rng(1).binomial(20, improvement, size=5000)
    assert np.mean([mcnemar_exact(int(w), 0, alternative="greater") <= 0.05 for w in wins]) > 0.7


def test_too_few_rows_detect_nothing():
    assert minimum_detectable(5) is None
    assert minimum_detectable(0) is None


def test_a_gap_that_is_not_open_needs_no_number():
    assert items_to_conclude(100, 0.03, 0.0, alpha=0.05, power=0.8) is None
    assert items_to_conclude(100, 0.03, -0.1, alpha=0.05, power=0.8) is None
    assert items_to_conclude(100, 0.001, 0.1, alpha=0.05, power=0.8) == 101


@given(st.integers(1, 3000), st.floats(0.01, 0.99))
def test_the_passing_count_is_the_smallest_that_the_exact_test_accepts(rows, threshold):
    passing = smallest_passing_count(rows, threshold)
    if passing is None:
        assert binomial_exact_p(rows, rows, threshold) > 0.05
    else:
        assert binomial_exact_p(passing, rows, threshold) <= 0.05
        assert passing == 0 or binomial_exact_p(passing - 1, rows, threshold) > 0.05


def test_fifty_rows_can_beat_the_base_but_not_hold_a_margin():
    can = reach(50, 0.03)
    assert can.can_conclude
    assert not can.can_hold_margin
    text = reachable_verdict(50, 0.03, held_out_fraction=0.2)
    assert (
        "can show that the candidate beats another arm, such as the base, if it is better by at least 14"
        in text
    )
    assert "about 1,030 held-out rows" in text
    assert "980 more (about 4,900 more rows in all, 20 % of them held out)" in text
    assert "expect `inconclusive`" in text


def test_enough_rows_are_told_so():
    assert "It can also show `not worse by more than 5 points`" in reachable_verdict(400, 0.05)


def test_under_ten_rows_every_verdict_is_open():
    text = reachable_verdict(6, 0.05)
    assert text.startswith("With 6 held-out rows every verdict is `inconclusive`")
    assert text.endswith("at least 10 independent rows are needed, 4 more.")


def test_margin_zero_is_explained():
    assert "can never show" in reachable_verdict(500, 0.0)


def test_a_gate_without_requirements_is_planned_by_its_defaults():
    planned = dict(plan_gate(GateSection(), 100))
    assert list(planned) == [
        "normalised_match better_than base",
        "normalised_match not_worse_than incumbent",
    ]
    assert "1,030 held-out rows" in planned["normalised_match not_worse_than incumbent"]


def test_a_level_is_planned_by_the_count_that_must_pass():
    gate = GateSection(require=(Requirement(metric="exact", at_least=0.9),))
    assert plan_gate(gate, 200)[0][1] == "For a pass/fail metric at least 188 of 200 rows must pass."
    assert "hold out more rows" in plan_gate(gate, 20)[0][1]
    assert "too few for any conclusion" in plan_gate(GateSection(), 5)[0][1]
