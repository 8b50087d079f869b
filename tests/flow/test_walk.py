"""The whole walk on the tiny base: messy rows in, a verdict and a signed model out, and every way back."""

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.fakes import SilentProgress

from tunewright.app import App, open_app
from tunewright.demo.shop import write_shop
from tunewright.errors import GateNotPassed
from tunewright.pipeline.flow import Outcome
from tunewright.pipeline.show import outcome_json, outcome_text
from tunewright.settings import load_settings

RECIPE = """
name: shop
data:
  sources: [{path: orders-1.jsonl, group: customer, time: time, slices: [channel]}]
  max_rows: 160
  max_rejected_fraction: 0.2
train:
  max_steps: 6
  batch_rows: 8
  learning_rate: 3.0e-3
  lora: {rank: 8, alpha: 16}
gate:
  few_shot: 1
  max_new_tokens: 16
  suites:
    - scorers: [{kind: json_valid}, {kind: exact_match}, {kind: perplexity}]
  require:
    - {metric: exact_match, at_least: 0.99}
"""


@dataclass
class Walk:
    app: App
    outcome: Outcome
    progress: SilentProgress
    recipe: Path
    workspace: Path
    data: Path


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walk]:
    folder = tmp_path_factory.mktemp("walk")
    write_shop(folder / "data")
    recipe = folder / "shop.yaml"
    recipe.write_text(RECIPE, encoding="utf-8")
    environment = {"TUNEWRIGHT_CONFIG": str(folder / "keys"), "TUNEWRIGHT_THREADS": "1"}
    settings = load_settings(environment, workspace=folder / "ws", data=folder / "data")
    progress = SilentProgress()
    with open_app(settings, progress) as app:
        outcome, _ = app.run(recipe)
        yield Walk(app, outcome, progress, recipe, folder / "ws", folder / "data")


def test_every_row_is_kept_or_removed_for_a_reason(walk: Walk):
    dataset = walk.outcome.dataset
    assert dataset.rows_in == 160
    assert dataset.rows_in == dataset.rows_kept + sum(dataset.removed.values())
    assert dataset.rows_kept == sum(split.rows for split in dataset.splits.values())


def test_an_untrained_candidate_fails_an_honest_bar_and_is_not_registered(walk: Walk):
    report = walk.outcome.report
    assert report is not None
    assert report.verdict == "fail"
    failed = [check for check in report.checks if check.verdict == "fail"]
    assert [check.name for check in failed] == ["exact_match at_least 0.99"]
    assert walk.outcome.model is None
    with pytest.raises(GateNotPassed, match="verdict fail"):
        walk.app.models.register(str(report.ref), walk.recipe)


def test_the_gate_found_no_contamination_and_equal_tokens(walk: Walk):
    assert walk.outcome.report is not None
    checks = {check.name: check.verdict for check in walk.outcome.report.checks}
    assert checks["contamination"] == "pass"
    assert checks["parity"] == "pass"


def test_the_worker_folder_holds_no_held_out_text(walk: Walk):
    dataset = walk.outcome.dataset
    session = walk.app.ports.vault.open("audit", "test", "test")
    from tunewright.core.rows import load_split

    held_out = load_split(dataset, "held_out", walk.app.ports.blobs, session)
    trained = {e.id for s in ("train", "validation") for e in load_split(dataset, s, walk.app.ports.blobs)}
    assert held_out
    assert not trained & {example.id for example in held_out}
    texts = [example.prompt[-1].content.encode() for example in held_out]
    for path in (walk.workspace / "runs").rglob("*"):
        data = path.read_bytes() if path.is_file() else b""
        assert not any(text in data for text in texts), path


def test_the_report_is_one_file_that_loads_nothing_from_elsewhere(walk: Walk):
    page = (walk.workspace / "reports" / "shop@1-register.html").read_text(encoding="utf-8")
    assert "exact_match at_least 0.99" in page
    assert "<svg" in page
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "")


def test_the_screen_after_a_run_says_what_happened_and_what_to_do_next(walk: Walk):
    text = outcome_text(walk.outcome, None)
    assert "160 rows in" in text
    assert "Gate shop@1: FAIL (look 1 at this held-out set)" in text
    assert "tunewright models waive shop@1" in text
    shown = outcome_json(walk.outcome)
    assert shown["dataset"] == "shop@1"
    assert shown["model"] is None


def test_why_answers_for_a_removed_row_and_for_a_kept_one(walk: Walk):
    rejection = walk.app.data.rejects("shop@1")[0]
    [(_, removed)] = walk.app.data.why(f"orders-1.jsonl:{rejection.source.line}", None)
    assert removed.outcome == "removed"
    assert rejection.reason in removed.sentence
    lines = {one.source.line for one in walk.app.data.rejects("shop@1")}
    kept_line = next(line for line in range(1, 161) if line not in lines)
    [(_, kept)] = walk.app.data.why(f"orders-1.jsonl:{kept_line}", "shop@1")
    assert kept.outcome == "kept"


def test_a_second_run_makes_nothing_new(walk: Walk):
    before = len(walk.app.ports.records.events())
    again, _ = walk.app.run(walk.recipe)
    assert again.dataset == walk.outcome.dataset
    assert again.run == walk.outcome.run
    assert again.report == walk.outcome.report
    assert len(walk.app.ports.records.events()) == before


def test_a_waiver_registers_the_model_by_name_and_verification_walks_every_link(walk: Walk):
    assert walk.outcome.report is not None
    walk.app.models.waive(str(walk.outcome.report.ref), "flow test of the waiver", "Ada")
    outcome, _ = walk.app.run(walk.recipe)
    model = outcome.model
    assert model is not None
    assert model.waiver is not None
    assert model.waiver.author == "Ada"
    states = {(state.name, state.alias): state.target for state in walk.app.ports.records.aliases()}
    assert states == {("shop", "candidate"): model.ref}, "a waived model never becomes champion by itself"
    verification = walk.app.models.verify(None)
    assert verification.ok, verification.problems
    assert verification.links == len(walk.app.ports.records.events())


def test_a_model_is_explained_down_to_the_raw_line_and_a_row_up_to_the_model(walk: Walk):
    found = walk.app.models.explain("shop@1")
    row = next(row for row in found.rows if row.split == "train")
    _, path, line = row.sources[0]
    raw = (walk.data / path).read_text(encoding="utf-8").splitlines()[line - 1]
    assert json.loads(raw)["messages"]
    uses = walk.app.models.explain_row(f"{path}:{line}")
    assert [str(model) for use in uses for model in use.models] == ["shop@1"]
    assert all(source.state == "unchanged" for source in found.sources)


def test_base_and_tuned_answer_side_by_side(walk: Walk):
    [row] = walk.app.try_model("shop@1", ["two brass hooks please"])
    assert row.prompt == "two brass hooks please"
    assert row.base.model != row.tuned.model


def test_an_edited_ledger_is_found_and_named(walk: Walk, tmp_path: Path):
    database = tmp_path / "registry.db"
    with sqlite3.connect(walk.workspace / "registry.db") as source, sqlite3.connect(database) as copy:
        source.backup(copy)
        for (name,) in copy.execute("select name from sqlite_master where type = 'trigger'").fetchall():
            copy.execute(f'drop trigger "{name}"')
        copy.execute("update ledger set actor = 'nobody' where seq = 2")
        copy.commit()
    from tunewright.backends.sql_records import open_records
    from tunewright.registry.verify import verify_workspace

    records = open_records(f"sqlite:///{database}")
    found = verify_workspace(records, walk.app.ports.blobs, walk.app.ports.signer)
    records.close()
    assert not found.ok
    assert found.first_broken is not None
    assert "2" in found.first_broken
