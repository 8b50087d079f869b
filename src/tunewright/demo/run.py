"""`make demo`: the loop on the shipped tiny base and a generated shop, ending with one screen and a report.

Version 1 is made from the first file of orders and becomes champion; version 2 from both files, gated against
it. Everything lies in one folder: data, workspace, keys, report, summary. A second run re-uses what is made.
"""

import json
import os
import resource
import shutil
import sys
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import as_file, files
from pathlib import Path

from tunewright.app import App, open_app
from tunewright.demo.fates import fates_of
from tunewright.demo.shop import read_truth, write_shop
from tunewright.demo.truth import Planted, naive_separation, planted_recall
from tunewright.pipeline.flow import Outcome
from tunewright.pipeline.plots import bar_chart
from tunewright.pipeline.report import Block, Section, write_report
from tunewright.pipeline.show import outcome_text
from tunewright.ports import Progress
from tunewright.records import DatasetVersion
from tunewright.settings import Settings, load_settings
from tunewright.values import Json

ROUNDS = ("shop-v1.yaml", "shop-v2.yaml")
METRIC = "exact"
SUMMARY, REPORT = "summary.json", "index.html"


@dataclass(frozen=True, slots=True)
class DemoSummary:
    """What the demo ends with."""

    values: Mapping[str, Json]
    """Content of summary.json."""
    text: str
    """One screen."""


def run_demo(folder: Path, progress: Progress, *, fresh: bool) -> DemoSummary:
    """Run or re-use the demo in a folder; `fresh` forgets what was made before."""
    folder = folder.absolute()
    if fresh:
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    before = _read_summary(folder / SUMMARY)
    started_s = time.monotonic()
    phases: dict[str, float] = {}
    with _timed(phases, "data"):
        truth = read_truth(write_shop(folder / "data").truth)
    with open_app(_settings(folder), progress) as app:
        rounds = [_round(app, name, phases) for name in ROUNDS]
        with _timed(phases, "verify"):
            verification = app.models.verify(None)
        recall = planted_recall(truth, fates_of(rounds[-1].dataset, app.ports))
    values: dict[str, Json] = {
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "models": [str(one.model.ref) if one.model else None for one in rounds],
        "dataset": _dataset(rounds[-1].dataset, recall, truth),
        "gate": _gate(rounds[-1]),
        "verify": {"ok": verification.ok, "links": verification.links},
        "phases": {name: round(seconds, 1) for name, seconds in phases.items()},
        "wall_seconds": round(time.monotonic() - started_s, 1),
        "peak_memory_mb": _peak_memory_mb(),
    }
    reused = before is not None and before.get("models") == values["models"]
    if before is not None and reused:
        values = {**before, "verify": values["verify"]}
    _write(folder / SUMMARY, json.dumps(values, indent=2) + "\n")
    write_report(rounds[-1], folder / REPORT, extra=_sections(values, rounds))
    return DemoSummary(values, _text(values, rounds, folder, reused=reused))


def _settings(folder: Path) -> Settings:
    """Keep keys and workspace in the demo's folder, and only the thread count from outside."""
    environment = {"TUNEWRIGHT_CONFIG": str(folder / "keys")}
    threads = os.environ.get("TUNEWRIGHT_THREADS")
    if threads:
        environment["TUNEWRIGHT_THREADS"] = threads
    return load_settings(environment, workspace=folder / "workspace", data=folder / "data")


def _round(app: App, recipe: str, phases: dict[str, float]) -> Outcome:
    name = recipe.removesuffix(".yaml").replace("-", "_")
    with _timed(phases, name), as_file(files("tunewright.demo") / "recipes" / recipe) as path:
        outcome, _ = app.run(path)
    return outcome


def _dataset(dataset: DatasetVersion, recall: Mapping[str, float], truth: Sequence[Planted]) -> Json:
    return {
        "rows_in": dataset.rows_in,
        "rows_kept": dataset.rows_kept,
        "removed": {reason: count for reason, count in dataset.removed.items()},
        "planted_recall": {kind: round(share, 4) for kind, share in recall.items()},
        "twins_a_random_split_would_separate": round(naive_separation(truth, held_out=0.2, seed=0), 4),
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


def _text(values: Mapping[str, Json], rounds: Sequence[Outcome], folder: Path, *, reused: bool) -> str:
    lines = [outcome_text(rounds[-1], None), "", "Planted in the data, and found by curation:"]
    dataset = values["dataset"]
    assert isinstance(dataset, dict) and isinstance(dataset["planted_recall"], dict)
    lines += [
        f"  {kind.replace('_', ' ')}: {float(str(share)):.0%}"
        for kind, share in dataset["planted_recall"].items()
    ]
    lines += [
        "",
        f"Ledger, records, blobs and signatures: {'all verified' if _is_ok(values) else 'BROKEN'}.",
        f"{values['wall_seconds']} s, peak memory {values['peak_memory_mb']} MB.",
        f"Report: {folder / REPORT}",
        f"Summary: {folder / SUMMARY}",
        f"Look closer: tunewright --help; every command takes --workspace {folder / 'workspace'}",
    ]
    if reused:
        lines.append(f"Made at {values['made_at']} and re-used; `make demo FRESH=1` runs everything again.")
    return "\n".join(lines)


def _is_ok(values: Mapping[str, Json]) -> bool:
    verify = values["verify"]
    return isinstance(verify, dict) and verify["ok"] is True


def _sections(values: Mapping[str, Json], rounds: Sequence[Outcome]) -> list[Section]:
    dataset = values["dataset"]
    assert isinstance(dataset, dict) and isinstance(dataset["planted_recall"], dict)
    recall = {kind.replace("_", " "): float(str(share)) for kind, share in dataset["planted_recall"].items()}
    verdicts = [
        [
            str(one.model.ref) if one.model else "not registered",
            one.report.verdict,
            " ".join(one.report.reasons),
        ]
        for one in rounds
        if one.report
    ]
    return [
        Section(
            "What the demo did",
            [
                Block(
                    "text",
                    "Version 1 was made from the first file of orders, version 2 from both. The shop is "
                    "generated and was shaped so that the tiny base can learn it: the figures show that the "
                    "loop works, not what such a model can do on real data.",
                ),
                Block("table", columns=("model", "verdict", "reasons"), rows=verdicts),
                Block(
                    "plot",
                    "Share of planted problems that curation found",
                    svg=bar_chart(recall, unit="share"),
                ),
                Block(
                    "text",
                    "Twins are near-copies and orders of one customer; a random split would separate "
                    f"{float(str(dataset['twins_a_random_split_would_separate'])):.0%} of them.",
                ),
            ],
        )
    ]


@contextmanager
def _timed(phases: dict[str, float], name: str) -> Generator[None]:
    started_s = time.monotonic()
    yield
    phases[name] = time.monotonic() - started_s


def _peak_memory_mb() -> float:
    """Largest resident memory of this process or of any one it started."""
    own, children = (
        resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return round(max(own, children) / unit, 1)


def _read_summary(path: Path) -> dict[str, Json] | None:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _write(path: Path, text: str) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
