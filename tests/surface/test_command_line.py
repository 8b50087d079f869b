"""The command line as a user meets it: real processes, few of them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


def tunewright(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("TUNEWRIGHT_")}
    environment["TUNEWRIGHT_CONFIG"] = str(folder / "keys")
    return subprocess.run(
        [sys.executable, "-m", "tunewright.cli.main", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_help_names_every_command(tmp_path: Path):
    shown = tunewright("--help", folder=tmp_path)
    assert shown.returncode == 0
    for command in (
        "init",
        "plan",
        "advise",
        "run",
        "train",
        "evaluate",
        "register",
        "try",
        "doctor",
        "demo",
    ):
        assert f" {command} " in shown.stdout
    for group in ("data", "runs", "models"):
        assert f" {group} " in shown.stdout


def test_an_unknown_key_names_the_line_and_the_nearest_key(tmp_path: Path):
    (tmp_path / "r.yaml").write_text("name: x\ndata:\n  sorces: []\n", encoding="utf-8")
    shown = tunewright("run", "r.yaml", "--json", folder=tmp_path)
    assert shown.returncode == 2
    assert "sources" in shown.stderr
    assert "3" in shown.stderr
    assert json.loads(shown.stdout)["error"]["type"] == "RecipeError"
    assert not (tmp_path / ".tunewright" / "registry.db").exists(), "nothing is half-made"


def test_a_missing_source_names_the_nearest_file(tmp_path: Path):
    (tmp_path / "orders.jsonl").write_text('{"prompt": "a", "completion": "b"}\n', encoding="utf-8")
    (tmp_path / "r.yaml").write_text("name: x\ndata: {sources: [{path: order.jsonl}]}\n", encoding="utf-8")
    shown = tunewright("plan", "r.yaml", folder=tmp_path)
    assert shown.returncode == 2
    assert "orders.jsonl" in shown.stderr


def test_an_unknown_model_is_an_error_and_not_a_traceback(tmp_path: Path):
    shown = tunewright("models", "show", "support@3", folder=tmp_path)
    assert shown.returncode == 2
    assert "Traceback" not in shown.stderr
    assert "support@3" in shown.stderr


def test_init_drafts_a_recipe_that_plan_accepts(tmp_path: Path):
    rows = [{"prompt": f"say the number {n}", "completion": f"number {n}"} for n in range(60)]
    (tmp_path / "numbers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    drafted = tunewright("init", "numbers.jsonl", folder=tmp_path)
    assert drafted.returncode == 0, drafted.stderr
    [recipe] = tmp_path.glob("*.yaml")
    planned = tunewright("plan", recipe.name, "--json", folder=tmp_path)
    assert planned.returncode == 0, planned.stderr
    assert json.loads(planned.stdout)["rows_in"] == 60


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_workspace_is_named(tmp_path: Path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    shown = tunewright("models", "list", "--workspace", str(closed / "ws"), folder=tmp_path)
    assert shown.returncode == 2
    assert "closed" in shown.stderr
