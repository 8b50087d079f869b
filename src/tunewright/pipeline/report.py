"""The HTML report of a run: one self-contained file with words, tables and plots.

Pure but for `write_report` and `write_page`.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from jinja2 import Environment, PackageLoader, Template, select_autoescape

from tunewright.pipeline.flow import Outcome
from tunewright.pipeline.plots import IntervalRow, Series, bar_chart, interval_chart, line_chart
from tunewright.records import Check, DatasetVersion, EvalReport, TrainingRun
from tunewright.values import Json


@dataclass(frozen=True, slots=True)
class Block:
    """One piece of a section; which fields are set depends on `kind`."""

    kind: str
    """text | verdict | list | plot | table | code."""
    text: str = ""
    verdict: str = ""
    svg: str = ""
    items: Sequence[str] = ()
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and what stands below it."""

    title: str
    blocks: Sequence[Block]


def write_report(outcome: Outcome, path: Path, *, extra: Sequence[Section] = ()) -> Path:
    """Write the page of a walk atomically and return its path."""
    return write_page(render_report(outcome, extra=extra), path)


def write_page(page: str, path: Path) -> Path:
    """Write a page atomically and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(page, encoding="utf-8")
    temporary.replace(path)
    return path


def render_page(title: str, lead: str, sections: Sequence[Section]) -> str:
    """Render a page that is one file and loads nothing."""
    return _template().render(title=title, lead=lead, sections=sections)


def render_report(outcome: Outcome, *, extra: Sequence[Section] = ()) -> str:
    """Render the page for one walk through the factory."""
    sections: list[Section] = []
    if outcome.report is not None:
        sections.append(gate_section(outcome.report))
    sections.append(dataset_section(outcome.dataset))
    if outcome.run is not None:
        sections.append(training_section(outcome.run))
    if outcome.report is not None:
        sections += facts_section(outcome.report)
    sections.append(lineage_section(outcome))
    name = outcome.dataset.ref.name
    return render_page(f"{name}: {_headline(outcome)}", _lead(outcome), [*extra, *sections])


@cache
def _template() -> Template:
    loader = PackageLoader("tunewright.pipeline")
    return Environment(loader=loader, autoescape=select_autoescape()).get_template("report.html")


def _headline(outcome: Outcome) -> str:
    if outcome.report is None:
        return "not judged yet"
    if outcome.model is None:
        return f"{outcome.report.verdict}, not registered"
    return f"{outcome.report.verdict}, registered as {outcome.model.ref}"


def _lead(outcome: Outcome) -> str:
    dataset = outcome.dataset
    held_out = dataset.splits["held_out"].rows
    words = f"{dataset.rows_in:,} rows came in, {dataset.rows_kept:,} were kept, {held_out:,} are held out."
    if outcome.report is not None:
        words += f" This is look {outcome.report.look} at the held-out set."
    return f"{words} {outcome.next}".rstrip()


def dataset_section(dataset: DatasetVersion) -> Section:
    """What came in, what was removed and why, and the split."""
    removed = dict(sorted(dataset.removed.items(), key=lambda pair: -pair[1]))
    flow = {"rows in": dataset.rows_in, **{f"removed: {k}": v for k, v in removed.items()}}
    flow["kept"] = dataset.rows_kept
    splits = [
        [name.replace("_", "-"), f"{info.rows:,}", f"{info.rows / max(1, dataset.rows_kept):.1%}"]
        for name, info in dataset.splits.items()
    ]
    blocks = [
        Block("plot", "Rows", svg=bar_chart(flow, unit="rows")),
        Block("table", "Splits", columns=("split", "rows", "share of kept"), rows=splits),
        Block(
            "text",
            f"{dataset.num_clusters:,} clusters (rows joined by group or near-duplication; "
            f"effective number {dataset.effective_clusters:,.1f}) went to one side whole.",
        ),
    ]
    if dataset.warnings:
        blocks.append(Block("list", items=dataset.warnings))
    if len(dataset.sources) > 1:
        rows = [[s.path, f"{s.rows_in:,}", f"{s.rows_kept:,}"] for s in dataset.sources]
        blocks.append(Block("table", "Sources", columns=("file", "rows in", "rows kept"), rows=rows))
    return Section(f"Dataset {dataset.ref}", blocks)


def training_section(run: TrainingRun) -> Section:
    """Curves, settings and the proofs made before step 1."""
    train = Series("train loss", [(m.step, m.train_loss) for m in run.metrics])
    evals = Series("validation loss", [(m.step, m.eval_loss) for m in run.metrics if m.eval_loss is not None])
    facts = {
        "base": run.base.name,
        "method": run.method,
        "best step": f"{run.best_step} ({run.stopped.replace('_', ' ')})",
        "tokens trained": f"{run.num_tokens:,}",
        "time": f"{run.wall_s:.0f} s ({run.num_tokens / max(run.wall_s, 1e-9):,.0f} tokens/s)",
        "peak memory": f"{run.peak_memory_bytes / 2**20:,.0f} MiB",
    }
    checks = [[check.name, "pass" if check.passed else "fail", check.detail] for check in run.self_checks]
    return Section(
        f"Training {run.ref}",
        [
            Block(
                "plot",
                "Loss",
                svg=line_chart([train, evals], x_label="optimiser step", y_label="nats a token"),
            ),
            Block("table", columns=("fact", "value"), rows=[list(pair) for pair in facts.items()]),
            Block("table", "Proofs at job start", columns=("proof", "result", "numbers"), rows=checks),
            Block("table", "Settings", columns=("setting", "value"), rows=_facts(run.settings)),
        ],
    )


def gate_section(report: EvalReport) -> Section:
    """The verdict page."""
    arms = [
        [arm.arm.replace("_", " "), name, f"{i.estimate:.3f}", f"{i.low:.3f} to {i.high:.3f}", str(i.n)]
        for arm in report.arms
        for name, i in arm.metrics.items()
    ]
    return Section(
        f"Gate {report.ref}",
        [
            Block("verdict", " ".join(report.reasons), verdict=report.verdict),
            Block("plot", "Comparisons with intervals", svg=_comparisons(report.checks)),
            Block(
                "table",
                "Checks",
                columns=("check", "verdict", "required", "what was found"),
                rows=[[c.name, c.verdict, "yes" if c.required else "no", c.sentence] for c in report.checks],
            ),
            Block("table", "Arms", columns=("arm", "metric", "estimate", "interval", "n"), rows=arms),
        ],
    )


def _comparisons(checks: Sequence[Check]) -> str:
    rows = [
        IntervalRow(
            c.name,
            c.estimate,
            c.low,
            c.high,
            c.verdict if c.required else "information",
        )
        for c in checks
        if c.kind in ("better_than", "not_worse_than")
        and c.estimate is not None
        and c.low is not None
        and c.high is not None
    ]
    return interval_chart(rows, x_label="candidate minus the other arm")


def facts_section(report: EvalReport) -> list[Section]:
    """Everything else the evaluation noted, as nested tables."""
    if not report.report:
        return []
    blocks: list[Block] = []
    plain = {k: v for k, v in report.report.items() if not isinstance(v, (dict, list))}
    if plain:
        blocks.append(Block("table", columns=("fact", "value"), rows=_facts(plain)))
    for name, value in report.report.items():
        if isinstance(value, dict):
            blocks.append(Block("table", name.replace("_", " "), columns=("", "value"), rows=_facts(value)))
        elif isinstance(value, list):
            blocks.append(Block("list", items=[_show(item) for item in value]))
    return [Section("Further findings", blocks)]


def lineage_section(outcome: Outcome) -> Section:
    """References, digests, and what to type next."""
    rows = [["dataset", str(outcome.dataset.ref), outcome.dataset.digest]]
    if outcome.rollout is not None:
        pair = f"{outcome.rollout.candidate} against {outcome.rollout.incumbent}"
        rows.append([f"rollout of {pair}", str(outcome.rollout.ref), outcome.rollout.candidate_digest])
    if outcome.run is not None:
        rows.append(["candidate", str(outcome.run.ref), outcome.run.candidate])
        rows.append(["base", outcome.run.base.name, outcome.run.base.digest])
    if outcome.report is not None:
        rows.append(["held-out set", str(outcome.report.dataset), outcome.report.held_out])
    return Section(
        "Lineage",
        [
            Block("table", columns=("what", "reference", "digest"), rows=rows),
            Block("code", items=_next_commands(outcome)),
        ],
    )


def _next_commands(outcome: Outcome) -> list[str]:
    model = outcome.model
    commands = [f"tunewright data rejects {outcome.dataset.ref}"]
    if model is not None:
        commands += [
            f"tunewright models explain {model.ref}",
            f"tunewright models verify {model.ref}",
            f"tunewright try {model.ref}",
            "tunewright serve",
        ]
    if outcome.rollout is not None:
        commands.append(f"tunewright rollout status {outcome.rollout.ref.name}")
    return commands


def _facts(values: Mapping[str, Json]) -> list[list[str]]:
    return [[name.replace("_", " "), _show(value)] for name, value in values.items()]


def _show(value: Json) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_show(item)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(_show(item) for item in value)
    return "-" if value is None else str(value)
