"""The demo's screen says what summary.json holds, and a second run says that it tells an old story."""

import json
from pathlib import Path

from tests.fakes import SilentProgress

from tunewright.demo.run import run_demo
from tunewright.demo.summary import retold
from tunewright.registry.verify import Verification

VALUES = {
    "made_at": "2026-11-20T14:00:00+00:00",
    "models": ["shop@1", "shop@2"],
    "dataset": {
        "rows_in": 10, "rows_kept": 8, "removed": {"junk": 2}, "planted_recall": {"near_duplicate": 1.0},
    },
    "gate": {
        "metric": "exact", "base": 0.0, "few_shot": None, "nearest_example": 0.05, "incumbent": 0.6,
        "candidate": 0.82, "low": 0.77, "high": 0.87, "n": 201, "verdict": "pass",
    },
    "canary_good": {
        "candidate": "shop@2", "incumbent": "shop@1", "outcome": "promoted", "requests": 900,
        "reason": "not worse by 0.05 on every guardrail after 500 units (each e-value at least 20): errors",
    },
    "feedback": {"approved": 5, "harvested": 4, "rows_from_production": 3, "dataset": "shop@3"},
    "canary_bad": {
        "candidate": "shop@3", "outcome": "rolled_back", "exposed": 9, "seconds_to_zero": 0.12,
        "failed_in_flight": 0, "reason": "feedback is worse on the candidate: 8 of 9",
    },
    "leak": {
        "verdict": "void", "offline_leaky": 1.0, "fresh_leaky": 0.0, "fresh_base": 0.0,
        "without_the_check": "pass",
    },
    "resume": {"same_bits": True, "rows_lost": 0, "failed_requests": 0, "client_retries": 6},
    "verify": {"ok": True, "links": 87},
    "phases": {},
    "wall_seconds": 300.0,
    "peak_memory_mb": 700.0,
}  # fmt: skip


def a_verification(**changes) -> Verification:
    fields = {"ok": True, "links": 90, "first_broken": None, "problems": (), "newest_hash": "a", "proves": ()}
    return Verification(**(fields | changes))


def test_a_second_run_tells_the_stored_figures_and_when_they_were_made():
    summary = retold(VALUES, a_verification(), Path("/demo"))
    assert (
        "promoted after 900 requests, not worse by 0.05 on every guardrail after 500 units." in summary.text
    )
    assert "rolled back after 9 exposed users, 0.12 s from decision to zero traffic" in summary.text
    assert "few shot none" in summary.text
    assert "Made at 2026-11-20T14:00:00+00:00 and re-used" in summary.text
    assert summary.values["verify"] == {"ok": True, "links": 90}


def test_a_second_run_does_not_hide_that_records_broke_since():
    summary = retold(VALUES, a_verification(ok=False), Path("/demo"))
    assert "BROKEN" in summary.text


def test_a_finished_demo_is_not_walked_again(tmp_path):
    (tmp_path / "summary.json").write_text(json.dumps(VALUES), encoding="utf-8")
    progress = SilentProgress()
    summary = run_demo(tmp_path, progress, fresh=False)
    assert "re-used" in summary.text
    assert progress.started == []


def test_other_bits_after_a_resume_are_shouted():
    values = {**VALUES, "resume": {**VALUES["resume"], "same_bits": False}}
    assert "OTHER BITS" in retold(values, a_verification(), Path("/demo")).text
