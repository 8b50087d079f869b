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
        "harvest",
        "serve",
    ):
        assert f" {command} " in shown.stdout
    for group in ("data", "runs", "models", "traces", "rollout", "keys", "feedback", "drill"):
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


def test_traces_of_a_workspace_that_never_served_are_none_and_not_an_error(tmp_path: Path):
    shown = tunewright("traces", "list", "--json", folder=tmp_path)
    assert (shown.returncode, json.loads(shown.stdout)) == (0, []), shown.stderr
    missing = tunewright("traces", "show", "tr_1", "--text", folder=tmp_path)
    assert missing.returncode == 2
    assert "there is no trace 'tr_1'" in missing.stderr


def test_a_key_is_printed_once_listed_without_its_secret_and_revoked(tmp_path: Path):
    added = tunewright("keys", "add", "--role", "caller", "--tenant", "acme", "--json", folder=tmp_path)
    assert added.returncode == 0, added.stderr
    key = json.loads(added.stdout)
    assert (key["role"], key["tenant"], key["consent"]) == ("caller", "acme", "none")
    assert key["secret"].startswith("tw-")
    revoked = tunewright("keys", "revoke", key["id"], folder=tmp_path)
    assert revoked.returncode == 0, revoked.stderr
    listed = tunewright("keys", "list", "--json", folder=tmp_path)
    [shown] = json.loads(listed.stdout)
    assert shown["id"] == key["id"]
    assert shown["revoked_at"] is not None
    assert key["secret"] not in listed.stdout + revoked.stdout
    assert key["secret"].encode() not in (tmp_path / ".tunewright" / "registry.db").read_bytes()


def test_a_workspace_without_rollouts_says_how_one_starts(tmp_path: Path):
    shown = tunewright("rollout", "status", folder=tmp_path)
    assert shown.returncode == 2
    assert "tunewright rollout start NAME@N" in shown.stderr


def test_feedback_of_a_workspace_that_never_served_is_none_and_bad_rows_are_named(tmp_path: Path):
    shown = tunewright("feedback", "list", "--json", folder=tmp_path)
    assert (shown.returncode, json.loads(shown.stdout)) == (0, []), shown.stderr
    (tmp_path / "given.csv").write_text("trace,kind,value\ntr_1,thumb,up\n", encoding="utf-8")
    imported = tunewright("feedback", "import", "given.csv", "--json", folder=tmp_path)
    assert imported.returncode == 1
    told = json.loads(imported.stdout)
    assert (told["added"], told["bad"][0]["line"]) == (0, 2)
    assert "no trace 'tr_1'" in told["bad"][0]["reason"]
    unknown = tunewright("feedback", "approve", "fb_1", folder=tmp_path)
    assert unknown.returncode == 2
    assert "Traceback" not in unknown.stderr


def test_a_harvest_of_nothing_says_what_is_missing(tmp_path: Path):
    (tmp_path / "orders.jsonl").write_text('{"prompt": "a", "completion": "b"}\n', encoding="utf-8")
    (tmp_path / "r.yaml").write_text("name: x\ndata: {sources: [{path: orders.jsonl}]}\n", encoding="utf-8")
    shown = tunewright("harvest", "r.yaml", folder=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "no feedback is approved yet" in shown.stdout


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_workspace_is_named(tmp_path: Path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    shown = tunewright("models", "list", "--workspace", str(closed / "ws"), folder=tmp_path)
    assert shown.returncode == 2
    assert "closed" in shown.stderr
