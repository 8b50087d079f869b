"""A slice of the real job: coffee orders by real customers, when TUNEWRIGHT_DATA names the public data."""

import os
from pathlib import Path

import pytest
from tests.fakes import SilentProgress

from tunewright.app import open_app
from tunewright.settings import load_settings

DATA = os.environ.get("TUNEWRIGHT_DATA", "")

RECIPE = """
name: coffee
data:
  sources: [{path: coffee/orders.jsonl, slices: [scenario]}]
  max_rows: 420
train:
  epochs: 3
  batch_rows: 8
  learning_rate: 3.0e-3
  lora: {rank: 32, alpha: 32}
gate:
  few_shot: 0
  max_new_tokens: 48
  suites:
    - scorers:
        - {kind: json_valid}
        - {kind: json_equal, name: exact, settings: {sets: [addons]}}
  require:
    - {metric: json_valid, better_than: base}
"""


@pytest.mark.skipif(
    not Path(DATA, "coffee", "orders.jsonl").is_file(), reason="TUNEWRIGHT_DATA has no coffee"
)
def test_real_orders_give_a_model_that_passes_a_modest_gate(tmp_path: Path):
    recipe = tmp_path / "coffee.yaml"
    recipe.write_text(RECIPE, encoding="utf-8")
    environment = {"TUNEWRIGHT_CONFIG": str(tmp_path / "keys"), "TUNEWRIGHT_THREADS": "1"}
    settings = load_settings(environment, workspace=tmp_path / "ws", data=Path(DATA))
    with open_app(settings, SilentProgress()) as app:
        outcome, _ = app.run(recipe)
        champion = app.ports.records.alias("coffee", "champion")
    dataset, report = outcome.dataset, outcome.report
    assert dataset.rows_in == 420 == dataset.rows_kept + sum(dataset.removed.values())
    assert dataset.removed["near_duplicate"] > 0
    assert report is not None
    arms = {arm.arm: arm.metrics for arm in report.arms}
    assert arms["candidate"]["json_valid"].estimate > 0.5
    assert arms["candidate"]["json_valid"].estimate > arms["base"]["json_valid"].estimate
    assert report.verdict == "pass", report.reasons
    assert outcome.model is not None
    assert champion.target == outcome.model.ref, "the first model that passes becomes champion"
