"""What the demo ends with: summary.json and one screen of words."""

import resource
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tunewright.demo.live import CanaryDone, FlywheelDone
from tunewright.demo.truth import Planted, naive_separation
from tunewright.drills.crash_result import CrashResult
from tunewright.drills.leak_result import LeakResult
from tunewright.drills.rollback_result import RollbackResult
from tunewright.pipeline.flow import Outcome
from tunewright.records import DatasetVersion
from tunewright.registry.verify import Verification
from tunewright.values import Json

METRIC = "exact"
REPORT = "index.html"
SUMMARY = "summary.json"


@dataclass(frozen=True, slots=True)
class Demo:
    """Everything that a walk through the demo made."""

    truth: Sequence[Planted]
    rounds: tuple[Outcome, ...]
    recall: Mapping[str, float]
    good: CanaryDone
    flywheel: FlywheelDone
    bad: RollbackResult
    leak: LeakResult
    crash: CrashResult
    verification: Verification
    phases: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class DemoSummary:
    """What the demo ends with."""

    values: Mapping[str, Json]
    """Content of summary.json."""
    text: str
    """One screen."""


def summarise(demo: Demo, folder: Path, *, wall_s: float) -> DemoSummary:
    """Put figures and words together."""
    values: dict[str, Json] = {
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "models": [str(one.model.ref) if one.model else None for one in demo.rounds],
        "dataset": _dataset(demo.rounds[-1].dataset, demo),
        "gate": _gate(demo.rounds[-1]),
        "canary_good": _canary_good(demo.good),
        "feedback": _feedback(demo.flywheel),
        "canary_bad": demo.bad.to_json(),
        "leak": demo.leak.to_json(),
        "resume": demo.crash.to_json(),
        "verify": {"ok": demo.verification.ok, "links": demo.verification.links},
        "phases": {name: round(seconds, 1) for name, seconds in demo.phases.items()},
        "wall_seconds": round(wall_s, 1),
        "peak_memory_mb": _peak_memory_mb(),
    }
    return DemoSummary(values, _screen(values, folder))


def retold(values: Mapping[str, Json], verification: Verification, folder: Path) -> DemoSummary:
    """Tell what an earlier run left, with the records verified anew."""
    told: dict[str, Json] = {**values, "verify": {"ok": verification.ok, "links": verification.links}}
    again = f"Made at {values['made_at']} and re-used; `make demo FRESH=1` runs everything again."
    return DemoSummary(told, f"{_screen(told, folder)}\n{again}")


def _dataset(dataset: DatasetVersion, demo: Demo) -> Json:
    return {
        "rows_in": dataset.rows_in,
        "rows_kept": dataset.rows_kept,
        "removed": {reason: count for reason, count in dataset.removed.items()},
        "planted_recall": {kind: round(share, 4) for kind, share in demo.recall.items()},
        "twins_a_random_split_would_separate": round(naive_separation(demo.truth, held_out=0.2, seed=0), 4),
    }


def _gate(outcome: Outcome) -> Json:
    report = outcome.report
    assert report is not None
    found = {arm.arm: arm.metrics[METRIC] for arm in report.arms if METRIC in arm.metrics}
    candidate = found["candidate"]
    numbers: dict[str, Json] = {
        arm: round(found[arm].estimate, 4) if arm in found else None
        for arm in ("base", "few_shot", "nearest_example", "incumbent", "candidate")
    }
    return {
        "metric": METRIC,
        **numbers,
        "low": round(candidate.low, 4),
        "high": round(candidate.high, 4),
        "n": candidate.n,
        "verdict": report.verdict,
    }


def _canary_good(done: CanaryDone) -> Json:
    right = done.traffic.right_by_digest
    rollout = done.rollout
    return {
        "outcome": done.outcome,
        "requests": done.requests,
        "rollout": str(rollout.ref),
        "candidate": str(rollout.candidate),
        "incumbent": str(rollout.incumbent),
        "seconds": round((done.state.since - rollout.started_at).total_seconds(), 1),
        "failed_requests": len(done.traffic.failures),
        "thumbs": done.traffic.thumbs,
        "corrections": done.traffic.corrections,
        "right_incumbent": _rounded(right.get(rollout.incumbent_digest)),
        "right_candidate": _rounded(right.get(rollout.candidate_digest)),
        "reason": done.state.reason,
    }


def _feedback(done: FlywheelDone) -> Json:
    return {
        "approved": done.approved,
        "harvested": done.harvest.rows if done.harvest else 0,
        "left_out": dict(done.harvest.left_out) if done.harvest else {},
        "dataset": str(done.dataset.ref),
        "rows_from_production": done.kept,
    }


def _rounded(share: float | None) -> float | None:
    return None if share is None else round(share, 4)


def _screen(values: Mapping[str, Json], folder: Path) -> str:
    lines = [
        ("Data", _data_line(_part(values, "dataset"))),
        ("Gate", _gate_line(_part(values, "gate"))),
        ("Canary", _canary_line(_part(values, "canary_good"))),
        ("Feedback", _feedback_line(_part(values, "feedback"))),
        ("Bad one", _bad_line(_part(values, "canary_bad"))),
        ("Leak", _leak_line(_part(values, "leak"))),
        ("Crash", _crash_line(_part(values, "resume"))),
        ("Verify", _verify_line(_part(values, "verify"))),
    ]
    return "\n".join(
        [
            *(f"{name:<10}{line}" for name, line in lines),
            "",
            f"{values['wall_seconds']} s, peak memory {values['peak_memory_mb']} MB.",
            f"Report: {folder / REPORT}",
            f"Summary: {folder / SUMMARY}",
            f"Serve it yourself: TUNEWRIGHT_CONFIG={folder / 'keys'} tunewright serve "
            f"--workspace {folder / 'workspace'}",
        ]
    )


def _data_line(dataset: Mapping[str, Json]) -> str:
    shares = _part(dataset, "planted_recall").items()
    recall = ", ".join(f"{kind.replace('_', ' ')} {_percent(share)}" for kind, share in shares)
    return f"{dataset['rows_in']} rows in, {dataset['rows_kept']} kept. Planted mistakes found: {recall}."


def _gate_line(gate: Mapping[str, Json]) -> str:
    others = ("incumbent", "base", "few_shot", "nearest_example")
    beside = ", ".join(f"{arm.replace('_', ' ')} {_percent(gate[arm])}" for arm in others)
    return (
        f"{gate['verdict']}: {gate['metric']} {_percent(gate['candidate'])} ({_percent(gate['low'])} to "
        f"{_percent(gate['high'])}, n = {gate['n']}); {beside}."
    )


def _canary_line(good: Mapping[str, Json]) -> str:
    return (
        f"{good['candidate']} against {good['incumbent']}: {_words(good['outcome'])} after "
        f"{good['requests']} requests, {_short(good['reason'])}."
    )


def _feedback_line(feedback: Mapping[str, Json]) -> str:
    return (
        f"{feedback['approved']} corrections approved, {feedback['harvested']} harvested; "
        f"{feedback['rows_from_production']} rows of dataset {feedback['dataset']} come from production."
    )


def _bad_line(bad: Mapping[str, Json]) -> str:
    return (
        f"{bad['candidate']}, waived past the gate: {_words(bad['outcome'])} after {bad['exposed']} exposed "
        f"users, {bad['seconds_to_zero']} s from decision to zero traffic, {bad['failed_in_flight']} failed "
        f"requests; {_short(bad['reason'])}."
    )


def _leak_line(leak: Mapping[str, Json]) -> str:
    return (
        f"verdict {leak['verdict']}. Trained on its own test: {_percent(leak['offline_leaky'])} offline, "
        f"{_percent(leak['fresh_leaky'])} on fresh rows (base {_percent(leak['fresh_base'])}); without the "
        f"check the gate would have said {leak['without_the_check']}."
    )


def _crash_line(resume: Mapping[str, Json]) -> str:
    bits = "same bits" if resume["same_bits"] is True else "OTHER BITS"
    return (
        f"{bits} after kill -9 and resume; {resume['rows_lost']} rows lost; engine killed under load: "
        f"{resume['failed_requests']} failed requests, {resume['client_retries']} retries."
    )


def _verify_line(verify: Mapping[str, Json]) -> str:
    found = "all verified" if verify["ok"] is True else "BROKEN"
    return f"{verify['links']} ledger events, with records, blobs and signatures: {found}."


def _part(values: Mapping[str, Json], name: str) -> Mapping[str, Json]:
    part = values[name]
    assert isinstance(part, dict), f"{name} holds fields"
    return part


def _percent(share: Json) -> str:
    return "none" if share is None else f"{float(str(share)):.0%}"


def _short(reason: Json) -> str:
    """Cut a reason before its figures; the report and `rollout status` hold them."""
    return str(reason).partition(":")[0].partition(" (")[0]


def _words(outcome: Json) -> str:
    return str(outcome).replace("_", " ")


def _peak_memory_mb() -> float:
    """Largest resident memory of this process or of any one it started."""
    own, children = (
        resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return round(max(own, children) / unit, 1)
