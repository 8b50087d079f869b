"""Facts for people: slices, nearness to training, label consistency."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from tests.unit.evals.evaluation_world import a_row

from tunewright.core.scorers import bind_scorer
from tunewright.evals.evidence import ArmEvidence, Item, Metric
from tunewright.evals.facts import consistency_ceiling, metric_of, similarity_facts, slice_facts
from tunewright.recipe import ScorerSpec
from tunewright.records import Example

EXACT = Metric("exact", "held_out", "binary")
LARGEST = Metric("largest", "held_out", "aggregate", combine=lambda values: float(values.max()))


def an_arm(values: dict[str, float]) -> ArmEvidence:
    scores = {row: (value,) for row, value in values.items()}
    return ArmEvidence("candidate", "x", {}, {"held_out/exact": scores, "held_out/largest": scores})


def test_figures_are_broken_down_by_slice_with_n_and_a_warning():
    items = [Item(str(i), str(i), "", {"size": "big" if i < 30 else "small"}) for i in range(35)]
    arm = an_arm({str(i): float(i % 2) for i in range(35)})
    facts = slice_facts([EXACT, LARGEST], [arm], {"held_out": items})
    assert facts["held_out/exact"] == {
        "size=big": {"n": 30, "too_small": False, "candidate": 0.5},
        "size=small": {"n": 5, "too_small": True, "candidate": pytest.approx(2 / 5)},
    }
    assert facts["held_out/largest"]["size=small"]["candidate"] == 1.0


def test_figures_are_broken_down_by_nearness_to_training():
    similarity = {"held_out": {"a": 0.0, "b": 0.29, "c": 0.9, "d": 1.0}}
    facts = similarity_facts([EXACT], [an_arm({"a": 0.0, "b": 1.0, "c": 1.0})], similarity)
    assert facts["held_out/exact"] == {
        "0.0-0.3": {"n": 2, "too_small": True, "candidate": 0.5},
        "0.9-1.0": {"n": 2, "too_small": True, "candidate": 1.0},
    }


def test_a_figure_without_values_or_infinite_is_absent():
    assert metric_of(EXACT, []) is None
    assert metric_of(Metric("p", "s", "aggregate", combine=lambda values: np.inf), [(1.0,)]) is None


def test_the_ceiling_is_the_share_of_the_best_constant_answer():
    rows = [a_row("tea", "green"), a_row("tea", "black"), a_row("milk", "cold"), a_row("juice", "Red")]
    scorer = bind_scorer(ScorerSpec(kind="exact_match"), rows)
    weights = {rows[0].id: 3, rows[3].id: 2}  # "green" was said three times, "black" once, "Red" twice
    assert consistency_ceiling([scorer], rows, weights) == {
        "exact_match": {"ceiling": pytest.approx((3 + 2) / 6), "rows": 6, "prompts": 2}
    }


def test_scorers_that_judge_no_text_have_no_ceiling():
    rows = [a_row("tea", "green"), a_row("tea", "black")]
    scorers = [bind_scorer(ScorerSpec(kind=kind), rows) for kind in ("stop_rate", "latency", "mcc")]
    assert consistency_ceiling(scorers, rows, {}) == {}
    assert consistency_ceiling(scorers, rows[:1], {}) == {}


@pytest.mark.skipif("TUNEWRIGHT_DATA" not in os.environ, reason="TUNEWRIGHT_DATA is not set")
def test_customers_of_the_coffee_bar_agree_with_each_other_as_measured_elsewhere():
    path = Path(os.environ["TUNEWRIGHT_DATA"]) / "coffee" / "orders.jsonl"
    turns = [json.loads(line)["messages"] for line in path.read_text("utf-8").splitlines()]
    counted: dict[str, tuple[Example, int]] = {}
    for user, assistant in turns:
        row = a_row(user["content"], assistant["content"])
        counted[row.id] = (row, counted.get(row.id, (row, 0))[1] + 1)
    rows = [row for row, _ in counted.values()]
    raw = ScorerSpec(kind="exact_match", name="raw")
    exact = ScorerSpec(kind="json_equal", name="exact", settings={"sets": ["addons"]})
    ceiling = consistency_ceiling(
        [bind_scorer(raw, rows), bind_scorer(exact, rows)], rows, {i: n for i, (_, n) in counted.items()}
    )
    assert 0.7 < ceiling["raw"]["ceiling"] < ceiling["exact"]["ceiling"] < 0.95
