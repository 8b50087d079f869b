"""A dataset card: what went in, what came out and why, as plain data and as Markdown. Holds no row text."""

from collections.abc import Mapping, Sequence

from tunewright.records import DatasetVersion
from tunewright.values import Json


def card_facts(dataset: DatasetVersion) -> dict[str, Json]:
    """Collect the facts of a dataset version for people and pages."""
    return {
        "ref": str(dataset.ref),
        "digest": dataset.digest,
        "created_at": dataset.created_at.isoformat(),
        "parents": [str(parent) for parent in dataset.parents],
        "rows_in": dataset.rows_in,
        "rows_kept": dataset.rows_kept,
        "removed": dict(dataset.removed),
        "splits": {
            split: {"rows": info.rows, "digest": info.digest, "sealed": split == "held_out"}
            for split, info in dataset.splits.items()
        },
        "clusters": {"number": dataset.num_clusters, "effective": round(dataset.effective_clusters, 1)},
        "sources": [
            {
                "path": source.path,
                "digest": source.digest,
                "rows_in": source.rows_in,
                "rows_kept": source.rows_kept,
                "removed": dict(source.removed),
            }
            for source in dataset.sources
        ],
        "warnings": [*dataset.warnings],
        "report": dict(dataset.report),
    }


def dataset_card(dataset: DatasetVersion) -> str:
    """Write the card of a dataset version as Markdown."""
    lines = [
        f"# Dataset {dataset.ref}",
        "",
        f"Digest `{dataset.digest}`, made {dataset.created_at:%Y-%m-%d}.",
    ]
    if dataset.parents:
        lines += ["", f"Follows {', '.join(map(str, dataset.parents))}."]
    lines += ["", f"{dataset.rows_in:,} rows in = {dataset.rows_kept:,} kept"]
    lines[-1] += "".join(f" + {rows:,} {reason}" for reason, rows in dataset.removed.items()) + "."
    lines += _table(
        "Splits",
        ("split", "rows", "Merkle root of row ids"),
        [
            (split + (" (sealed)" if split == "held_out" else ""), f"{info.rows:,}", f"`{info.digest[:16]}`")
            for split, info in dataset.splits.items()
        ],
    )
    lines += [
        "",
        f"{dataset.num_clusters:,} clusters, counting as {dataset.effective_clusters:,.0f} independent ones.",
    ]
    lines += _table(
        "Sources",
        ("file", "rows in", "kept", "removed", "SHA-256"),
        [
            (
                source.path,
                f"{source.rows_in:,}",
                f"{source.rows_kept:,}",
                ", ".join(f"{rows:,} {reason}" for reason, rows in source.removed.items()) or "none",
                f"`{source.digest[:16]}`",
            )
            for source in dataset.sources
        ],
    )
    if dataset.warnings:
        lines += ["", "## Warnings", "", *(f"* {warning}" for warning in dataset.warnings)]
    facts = [(name, _in_words(value)) for name, value in _flat(dataset.report)]
    return "\n".join([*lines, *_table("Facts", ("fact", "value"), facts)]) + "\n"


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    if not rows:
        return []
    lines = [" | ".join(head), " | ".join("---" for _ in head)]
    lines += [" | ".join(cell.replace("|", "\\|") for cell in row) for row in rows]
    return ["", f"## {title}", "", *(f"| {line} |" for line in lines)]


def _flat(report: Mapping[str, Json], prefix: str = "") -> list[tuple[str, Json]]:
    """Spread nested facts over dotted names."""
    found: list[tuple[str, Json]] = []
    for name, value in report.items():
        if isinstance(value, dict) and value:
            found += _flat(value, f"{prefix}{name}.")
        else:
            found.append((f"{prefix}{name}", value))
    return found


def _in_words(value: Json) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(_in_words(item) for item in value[:10]) + (" ..." if len(value) > 10 else "")
    return "none" if value is None or value == {} else str(value)
