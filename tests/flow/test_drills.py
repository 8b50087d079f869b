"""The drills as a user runs them, smaller; the whole ones, and those that serve, are slow."""

import json
from pathlib import Path

import pytest
from tests.fakes import SilentProgress
from typer.testing import CliRunner

from tunewright.cli.main import cli
from tunewright.drills.leak import LeakPlan, run_leak_drill
from tunewright.drills.leak_data import LeakRows
from tunewright.drills.report import drill_text
from tunewright.settings import Settings, load_settings

SHORT = LeakPlan(rows=LeakRows(routing=40, lookup=40, fresh=30), epochs=14)


def settings(folder: Path) -> Settings:
    environment = {"TUNEWRIGHT_CONFIG": str(folder / "keys"), "TUNEWRIGHT_THREADS": "1"}
    return load_settings(environment, workspace=folder / "ws")


def invoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *words: str) -> dict:
    monkeypatch.setenv("TUNEWRIGHT_CONFIG", str(tmp_path / "keys"))
    monkeypatch.setenv("TUNEWRIGHT_THREADS", "1")
    workspace = tmp_path / "ws"
    shown = CliRunner().invoke(cli, ["drill", *words, "--json", "--workspace", str(workspace)])
    assert shown.exit_code == 0, shown.output
    assert sorted(path.name for path in workspace.iterdir()) == ["reports"], "nothing else is touched"
    return json.loads(shown.stdout)


def test_a_leak_is_void_though_it_shines_and_is_worth_nothing_on_fresh_rows(tmp_path: Path):
    result = run_leak_drill(settings(tmp_path), SilentProgress(), plan=SHORT)
    text = drill_text(result, None)
    assert result.verdict == "void", text
    assert result.unchecked_verdict == "pass", text
    assert result.honest_verdict != "pass"
    assert result.num_registered == 0
    assert len(result.leaked) == result.num_copied
    assert {row.place.partition(":")[0] for row in result.leaked} == {"routing.jsonl", "lookup.jsonl"}
    pure = result.forms["lookup"]
    assert pure.is_shown, text
    assert pure.scores["honest", "offline"].estimate < 0.2
    assert not (tmp_path / "ws").exists(), "the user's workspace is not touched"


@pytest.mark.slow
def test_everything_is_killed_and_nothing_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    found = invoke(tmp_path, monkeypatch, "crash")
    assert found["shown"] is True
    assert found["same_bits"] is True
    assert 0 < found["killed_at_step"] < found["steps"]
    assert (found["rows_lost"], found["failed_requests"], found["traces_lost"]) == (0, 0, 0)


@pytest.mark.slow
def test_a_bad_candidate_falls_by_itself_under_live_traffic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    found = invoke(tmp_path, monkeypatch, "rollback")
    assert found["outcome"] == "rolled_back"
    assert 0 < found["exposed"] <= found["requests"]
    assert found["seconds_to_zero"] < 1
    assert (found["failed_in_flight"], found["failed_requests"]) == (0, 0)
    assert "feedback is worse on the candidate" in found["reason"]


@pytest.mark.slow
def test_the_whole_leak_drill_shows_both_forms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    found = invoke(tmp_path, monkeypatch, "leak")
    assert found["shown"] is True
    assert found["offline_leaky"] >= 0.9
    assert found["fresh_leaky"] <= 0.05
