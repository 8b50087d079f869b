"""Feedback from files: rows that an operator vouches for, checked and stored as any other feedback."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tunewright.errors import RequestRefused, SourceUnreadable, UnknownReference, UsageError
from tunewright.feedback.attach import Given, attach
from tunewright.feedback.exchange import BadRow, FileFormat, GivenRow, read_rows
from tunewright.live_ports import Live, TraceEntry
from tunewright.ports import Ports
from tunewright.records import EventDraft, Feedback, Trace, TraceText

BATCH_ENTRIES = 500
"""Feedback of an import written in one transaction."""


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did."""

    added: int
    known: int
    """Rows that were imported before."""
    bad: tuple[BadRow, ...]


def import_file(path: Path, ports: Ports, live: Live) -> Imported:
    """Read feedback from a JSONL or CSV file and store it; what is stored already stays as it is.

    Raises:
        SourceUnreadable: the file cannot be read.
        UsageError: it is too large, or its name or header is none that we know.
        StorageError: the trace store cannot be written.
    """
    bad: list[BadRow] = []
    entries: dict[str, list[TraceEntry]] = {}
    known = 0
    for row in read_rows(_read(path), format_of(path)):
        made = _attached(row, ports, live) if isinstance(row, GivenRow) else row
        if isinstance(made, BadRow):
            bad.append(made)
        elif made[0].id in entries or _is_known(made[0].id, live):
            known += 1
        else:
            entries[made[0].id] = [one for one in made if one is not None]
    for batch in _batches([*entries.values()]):
        live.traces.write(batch)
    if entries:
        ports.records.append(
            EventDraft(
                kind="import_feedback",
                actor=ports.actor,
                subject="feedback",
                detail={"added": len(entries), "known": known, "bad": len(bad)},
            )
        )
    return Imported(len(entries), known, tuple(bad))


def format_of(path: Path) -> FileFormat:
    """Tell a file's format from its name. Raises UsageError."""
    formats: dict[str, FileFormat] = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl"}
    found = formats.get(path.suffix.lower())
    if found is None:
        raise UsageError(
            f"{path.name}: its name does not tell the format; expected a name that ends in .jsonl or .csv"
        )
    return found


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SourceUnreadable(
            f"{path} cannot be read ({error.strerror}); expected a JSONL or CSV file of feedback"
        ) from error


def _attached(row: GivenRow, ports: Ports, live: Live) -> tuple[Feedback, TraceText | None] | BadRow:
    """Make the records of an imported row, or say what is wrong with it."""
    given = row.given
    try:
        trace = live.traces.get(given.trace)
        answer = _answer(given, trace, ports, live)
        return attach(given, trace, answer, keys=live.keys, at=ports.clock(), retain_until=trace.retain_until)
    except UnknownReference:
        return BadRow(row.line, f"there is no trace {given.trace[:40]!r}; its time may be over")
    except RequestRefused as error:
        return BadRow(row.line, str(error))


def _answer(given: Given, trace: Trace, ports: Ports, live: Live) -> str | None:
    if given.kind != "edit":
        return None
    found = live.traces.text(trace.id, ports.clock())
    return found.text if found else None


def _is_known(feedback: str, live: Live) -> bool:
    try:
        return live.traces.get_feedback(feedback).id == feedback
    except UnknownReference:
        return False


def _batches(groups: Sequence[Sequence[TraceEntry]]) -> Iterator[list[TraceEntry]]:
    """Put a feedback and its text into one transaction, several to a batch."""
    for start in range(0, len(groups), BATCH_ENTRIES):
        yield [entry for group in groups[start : start + BATCH_ENTRIES] for entry in group]
