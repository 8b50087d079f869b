"""Lineage both ways: from a model back to lines of raw files, and from a row forward to every model."""

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from tunewright.core.references import get_record, list_records
from tunewright.errors import BlobCorrupt, UnknownReference, UsageError
from tunewright.ports import Blobs, Records
from tunewright.records import DatasetVersion, EvalReport, Harvest, ModelVersion, TrainingRun
from tunewright.values import Digest, Ref, node

FileDigest = Callable[[str], Digest | None]
"""Path as the recipe names it -> SHA-256 of the file now, None when there is no such file."""

_ROW_IDS = TypeAdapter(list[str])
_ID_PREFIX = re.compile(r"[0-9a-f]{6,64}")


@dataclass(frozen=True, slots=True)
class RowLine:
    """One kept row and the raw lines it came from."""

    row: str
    split: str
    cluster: str
    group: str | None
    sources: tuple[tuple[str, str, int], ...]
    """(digest of the raw file, path, line); several when exact duplicates were merged."""


@dataclass(frozen=True, slots=True)
class SourceState:
    """A raw file then and now."""

    path: str
    digest: Digest
    rows_kept: int
    state: Literal["unchanged", "changed", "missing"]
    sentence: str


@dataclass(frozen=True, slots=True)
class ModelExplanation:
    """Everything that went into a model."""

    model: ModelVersion
    run: TrainingRun
    evaluation: EvalReport
    datasets: tuple[DatasetVersion, ...]
    """The dataset trained on, then its ancestors, nearest first."""
    sources: tuple[SourceState, ...]
    rows: tuple[RowLine, ...]
    """Rows of the dataset trained on: train, validation and held-out (ids and lines, never text)."""


@dataclass(frozen=True, slots=True)
class Origin:
    """What was said in production that a row came from."""

    harvest: Ref
    trace: str
    feedback: str


@dataclass(frozen=True, slots=True)
class RowUse:
    """What one dataset version did with a row, and which models saw it."""

    dataset: Ref
    line: RowLine
    runs: tuple[Ref, ...]
    """Runs that trained on it; validation counts as trained."""
    models: tuple[Ref, ...]
    """Registered models of these runs."""
    judged: tuple[Ref, ...]
    """Evaluations that judged on it, when it is held out."""
    origins: tuple[Origin, ...] = ()
    """Feedback it was harvested from, when it came from production."""


def explain_model(ref: Ref, records: Records, blobs: Blobs, file_digest: FileDigest) -> ModelExplanation:
    """Walk from a model to the lines of the raw files it was trained on.

    Raises:
        UnknownReference: no such model.
        BlobMissing, BlobCorrupt: the lineage is damaged.
    """
    model = get_record(records, ModelVersion, ref)
    dataset = get_record(records, DatasetVersion, model.dataset)
    datasets = _with_ancestors(dataset, records)
    states = {
        (source.path, source.digest): source_state(
            source.path, source.digest, source.rows_kept, file_digest(source.path)
        )
        for one in datasets
        for source in one.sources
    }
    return ModelExplanation(
        model=model,
        run=get_record(records, TrainingRun, model.run),
        evaluation=get_record(records, EvalReport, model.evaluation),
        datasets=tuple(datasets),
        sources=tuple(states.values()),
        rows=tuple(read_lineage(blobs.get(dataset.lineage))),
    )


def explain_row(row: str, records: Records, blobs: Blobs) -> list[RowUse]:
    """Walk from a row to every dataset version that holds it and every model that trained on it.

    Args:
        row: `file:line`, or the first six or more characters of a row's id.
        records: the registry.
        blobs: where lineage is stored.

    Raises:
        UsageError: neither form, or the prefix fits several rows.
        UnknownReference: no dataset version holds such a row.
    """
    fits = row_matcher(row)
    found = [
        (dataset, line)
        for dataset in list_records(records, DatasetVersion)
        for line in read_lineage(blobs.get(dataset.lineage))
        if fits(line)
    ]
    ids = sorted({line.row for _, line in found})
    if not found:
        raise UnknownReference(
            f"no dataset version holds row {row}; expected file:line or the start of a row's id. "
            f"If it was removed, `tunewright data why {row}` says why."
        )
    if len(ids) > 1 and ":" not in row:
        raise UsageError(f"{row} fits {len(ids)} rows: {', '.join(i[:12] for i in ids[:5])}; expected one")
    return [_use(dataset, line, records, blobs) for dataset, line in found]


def row_matcher(row: str) -> Callable[[RowLine], bool]:
    """Make the test whether a lineage line is the row meant. Raises UsageError."""
    path, _, number = row.rpartition(":")
    if path and number.isdecimal():
        line = int(number)
        return lambda found: any(n == line and _same_path(p, path) for _, p, n in found.sources)
    if _ID_PREFIX.fullmatch(row):
        return lambda found: found.row.startswith(row)
    raise UsageError(
        f"{row!r} is no row; expected file:line, such as orders.jsonl:412, or six or more characters of an id"
    )


def read_lineage(data: bytes) -> Iterator[RowLine]:
    """Read a lineage blob, row by row. Raises BlobCorrupt, naming the line."""
    for number, text in enumerate(data.splitlines(), start=1):
        try:
            fields = json.loads(text)
            group = fields.get("group")
            yield RowLine(
                row=str(fields["row"]),
                split=str(fields["split"]),
                cluster=str(fields["cluster"]),
                group=None if group is None else str(group),
                sources=tuple((str(d), str(p), int(n)) for d, p, n in fields["sources"]),
            )
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise BlobCorrupt(
                f"line {number} of a lineage blob is not {{row, split, cluster, group, sources}}: {error}. "
                "Curate again."
            ) from error


def source_state(path: str, recorded: Digest, rows_kept: int, found: Digest | None) -> SourceState:
    """Compare a raw file as it was read with what lies there now."""
    if found is None:
        sentence = f"{path} is missing; its lines cannot be shown (it had digest {recorded[:12]})"
        return SourceState(path, recorded, rows_kept, "missing", sentence)
    if found != recorded:
        sentence = (
            f"{path} has changed since it was read ({recorded[:12]} then, {found[:12]} now); lines may differ"
        )
        return SourceState(path, recorded, rows_kept, "changed", sentence)
    return SourceState(path, recorded, rows_kept, "unchanged", f"{path} is unchanged ({recorded[:12]})")


def digest_in(folder: Path) -> FileDigest:
    """Make the callable that hashes raw files below a folder, in pieces."""

    def file_digest(path: str) -> Digest | None:
        try:
            with (folder / path).open("rb") as file:
                return Digest(hashlib.file_digest(file, "sha256").hexdigest())
        except OSError:
            return None

    return file_digest


def _with_ancestors(dataset: DatasetVersion, records: Records) -> list[DatasetVersion]:
    found = {dataset.ref: dataset}
    waiting = list(dataset.parents)
    while waiting:
        ref = waiting.pop(0)
        if ref not in found:
            found[ref] = get_record(records, DatasetVersion, ref)
            waiting += found[ref].parents
    return list(found.values())


def _use(dataset: DatasetVersion, line: RowLine, records: Records, blobs: Blobs) -> RowUse:
    runs = [run for run in list_records(records, TrainingRun) if run.dataset == dataset.ref]
    trained = tuple(run.ref for run in runs if line.row in _trained_rows(run, blobs))
    models = tuple(model.ref for model in list_records(records, ModelVersion) if model.run in trained)
    reports = list_records(records, EvalReport) if line.split == "held_out" else []
    judged = tuple(report.ref for report in reports if report.dataset == dataset.ref)
    return RowUse(dataset.ref, line, trained, models, judged, tuple(_origins(line, records, blobs)))


def _origins(line: RowLine, records: Records, blobs: Blobs) -> Iterator[Origin]:
    """Walk from the lines of harvested files to the feedback and traces behind them."""
    for digest, _, number in line.sources:
        for edge in records.parents(node("source", digest)):
            kind, _, name = edge.parent.partition(":")
            if kind == "harvest":
                yield _origin(get_record(records, Harvest, Ref.parse(name)), number, blobs)


def _origin(harvest: Harvest, number: int, blobs: Blobs) -> Origin:
    try:
        fields = json.loads(blobs.get(harvest.blob).splitlines()[number - 1])
        return Origin(harvest.ref, str(fields["trace"]), str(fields["feedback"]))
    except (ValueError, IndexError, KeyError, TypeError) as error:
        raise BlobCorrupt(
            f"line {number} of harvest {harvest.ref} is not {{trace, feedback, ...}}: {error}. "
            "Run `tunewright models verify`."
        ) from error


def _trained_rows(run: TrainingRun, blobs: Blobs) -> list[str]:
    try:
        return _ROW_IDS.validate_json(blobs.get(run.trained_rows))
    except ValidationError as error:
        raise BlobCorrupt(
            f"trained rows of run {run.ref} are not a JSON list of ids: {error.errors()[0]['msg']}. "
            "Train again."
        ) from error


def _same_path(recorded: str, asked: str) -> bool:
    """Match a path as typed: the same, or one of them the end of the other."""
    return recorded == asked or recorded.endswith(f"/{asked}") or asked.endswith(f"/{recorded}")
