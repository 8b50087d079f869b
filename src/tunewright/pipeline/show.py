"""Words and JSON for records: what a person reads after a command, and what a program does. Pure."""

from collections.abc import Mapping
from pathlib import Path

from tunewright.pipeline.flow import Outcome
from tunewright.pipeline.show_rollout import rollout_json
from tunewright.records import Check, DatasetVersion, EvalReport, ModelVersion, TrainingRun
from tunewright.train.curves import sparkline
from tunewright.values import Json

_MARKS = {"pass": "ok", "fail": "no", "inconclusive": "??", "void": "!!"}


def outcome_json(outcome: Outcome) -> dict[str, Json]:
    """What `run --json` prints; references as name@n."""
    report = outcome.report
    return {
        "dataset": str(outcome.dataset.ref),
        "run": str(outcome.run.ref) if outcome.run else None,
        "verdict": {"verdict": report.verdict, "checks": [_check_json(c) for c in report.checks]}
        if report
        else None,
        "model": str(outcome.model.ref) if outcome.model else None,
        "rollout": rollout_json(outcome.rollout, outcome.rollout_state)
        if outcome.rollout and outcome.rollout_state
        else None,
        "next": outcome.next or None,
    }


def _check_json(check: Check) -> dict[str, Json]:
    return {
        "name": check.name,
        "metric": check.metric,
        "estimate": check.estimate,
        "low": check.low,
        "high": check.high,
        "n": check.n,
        "verdict": check.verdict,
        "required": check.required,
        "slice": check.slice,
        "margin": check.margin,
        "sentence": check.sentence,
    }


def outcome_text(outcome: Outcome, report_path: Path | None) -> str:
    """One screen: data, training, verdict, model, what to do next."""
    parts = [dataset_text(outcome.dataset)]
    if outcome.run:
        parts.append(run_text(outcome.run))
    if outcome.report:
        parts.append(verdict_text(outcome.report))
    parts.append(_ending(outcome))
    if report_path:
        parts.append(f"Report: {report_path}")
    return "\n\n".join(parts)


def _ending(outcome: Outcome) -> str:
    if outcome.model:
        return f"Registered {outcome.model.ref} ({outcome.model.semantic_version}). {outcome.next}".rstrip()
    if outcome.report:
        return (
            f"Not registered. Mend the data or the recipe and run again, or take responsibility:\n"
            f'  tunewright models waive {outcome.report.ref} --reason "..."'
        )
    return "Not judged yet: tunewright evaluate goes on from here."


def dataset_text(dataset: DatasetVersion) -> str:
    """Counts of a dataset version, sums closed."""
    removed = sorted(dataset.removed.items(), key=lambda pair: -pair[1])
    lines = [
        f"Dataset {dataset.ref}: {dataset.rows_in:,} rows in = {dataset.rows_kept:,} kept"
        + "".join(f" + {count:,} {reason}" for reason, count in removed),
        "  split: "
        + ", ".join(f"{info.rows:,} {name.replace('_', '-')}" for name, info in dataset.splits.items())
        + f"; {dataset.num_clusters:,} clusters, whole on one side",
    ]
    lines += [f"  note: {warning}" for warning in dataset.warnings]
    return "\n".join(lines)


def run_text(run: TrainingRun) -> str:
    """Loss curve and facts of a run."""
    evals = [m.eval_loss for m in run.metrics if m.eval_loss is not None]
    lines = [
        f"Run {run.ref}: {run.method} on {run.base.name}, {run.num_tokens:,} tokens in {run.wall_s:.0f} s "
        f"({run.num_tokens / max(run.wall_s, 1e-9):,.0f} tokens/s), "
        f"peak memory {run.peak_memory_bytes / 2**20:,.0f} MiB",
        f"  train loss      {sparkline([m.train_loss for m in run.metrics])} "
        f"{run.metrics[0].train_loss:.3f} -> {run.metrics[-1].train_loss:.3f}",
    ]
    if evals:
        lines.append(
            f"  validation loss {sparkline(evals)} {evals[0]:.3f} -> {min(evals):.3f} "
            f"(best at step {run.best_step}, {run.stopped.replace('_', ' ')})"
        )
    passed = [check.name for check in run.self_checks if check.passed]
    lines.append(f"  proofs at start: {', '.join(passed) or 'none'}")
    return "\n".join(lines)


def verdict_text(report: EvalReport) -> str:
    """The verdict as a page a person would sign."""
    lines = [f"Gate {report.ref}: {report.verdict.upper()} (look {report.look} at this held-out set)"]
    lines += [f"  {reason}" for reason in report.reasons]
    for check in report.checks:
        mark = _MARKS[check.verdict] if check.required else "  "
        lines.append(f"  [{mark}] {check.sentence}")
    return "\n".join(lines)


def model_row(model: ModelVersion, aliases: Mapping[str, list[str]]) -> list[str]:
    """One line of `models list`."""
    return [
        str(model.ref),
        model.semantic_version,
        ", ".join(aliases.get(str(model.ref), [])),
        model.verdict if model.waiver is None else f"{model.verdict}, waived by {model.waiver.author}",
        str(model.dataset),
        model.base.name,
        f"{model.created_at:%Y-%m-%d %H:%M}",
    ]
