"""Lineage in words and as JSON. Pure."""

from collections import Counter
from collections.abc import Sequence

from tunewright.registry.explain import ModelExplanation, RowUse
from tunewright.values import Json


def model_text(found: ModelExplanation, limit: int) -> str:
    """Tell what went into a model, down to the first raw lines."""
    model, run, report = found.model, found.run, found.evaluation
    counts = Counter(row.split for row in found.rows)
    lines = [
        f"Model {model.ref} ({model.semantic_version}), adapter {model.adapter[:12]} on {model.base.name}",
        f"  judged by evaluation {report.ref}: {report.verdict} (look {report.look} at the held-out set)",
        f"  trained by run {run.ref}: {run.method}, seed {run.seed}, {run.num_tokens:,} tokens",
        f"  on dataset {model.dataset}: "
        + ", ".join(f"{count:,} {split.replace('_', '-')}" for split, count in sorted(counts.items())),
        *[f"  ancestor: dataset {dataset.ref}" for dataset in found.datasets[1:]],
        "  raw files:",
        *[f"    {source.sentence}; {source.rows_kept:,} rows kept" for source in found.sources],
        "  training rows and the lines they come from:",
    ]
    trained = [row for row in found.rows if row.split != "held_out"]
    lines += [
        f"    {row.row[:12]} {row.split}: " + ", ".join(f"{path}:{line}" for _, path, line in row.sources)
        for row in trained[:limit]
    ]
    if len(trained) > limit:
        lines.append(f"    ... {len(trained) - limit:,} more; --limit or --json shows them")
    return "\n".join(lines)


def model_json(found: ModelExplanation) -> dict[str, Json]:
    """Give everything that went into a model."""
    return {
        "model": str(found.model.ref),
        "adapter": found.model.adapter,
        "base": found.model.base.model_dump(mode="json"),
        "run": str(found.run.ref),
        "evaluation": str(found.evaluation.ref),
        "datasets": [str(dataset.ref) for dataset in found.datasets],
        "sources": [
            {"path": s.path, "digest": s.digest, "rows_kept": s.rows_kept, "state": s.state}
            for s in found.sources
        ],
        "rows": [
            {
                "row": row.row,
                "split": row.split,
                "sources": [{"digest": d, "path": p, "line": n} for d, p, n in row.sources],
            }
            for row in found.rows
        ],
    }


def row_text(row: str, uses: Sequence[RowUse]) -> str:
    """Tell which datasets hold a row and which models trained on it."""
    lines = [f"Row {row} (id {uses[0].line.row[:12]})"]
    for use in uses:
        places = ", ".join(f"{path}:{line}" for _, path, line in use.line.sources)
        lines.append(f"  dataset {use.dataset}: {use.line.split.replace('_', '-')}, from {places}")
        lines += [
            f"    from production: feedback {one.feedback} on trace {one.trace}, harvested in {one.harvest}"
            for one in use.origins
        ]
        lines += [f"    trained on by run {run}" for run in use.runs]
        lines += [f"    in model {model}" for model in use.models]
        lines += [f"    judged on by evaluation {report}" for report in use.judged]
    if not any(use.models for use in uses):
        lines.append("  No registered model was trained on it.")
    return "\n".join(lines)


def row_json(uses: Sequence[RowUse]) -> list[Json]:
    """Give every use of a row."""
    return [
        {
            "dataset": str(use.dataset),
            "row": use.line.row,
            "split": use.line.split,
            "runs": [str(run) for run in use.runs],
            "models": [str(model) for model in use.models],
            "evaluations": [str(report) for report in use.judged],
            "origins": [
                {"harvest": str(one.harvest), "trace": one.trace, "feedback": one.feedback}
                for one in use.origins
            ],
        }
        for use in uses
    ]
