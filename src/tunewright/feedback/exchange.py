"""Feedback as files: what an operator imports, and what is exported. Pure; bytes in, bytes out."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from tunewright.errors import UsageError
from tunewright.feedback.attach import Given
from tunewright.records import Feedback, FeedbackKind, TraceText
from tunewright.values import Json

FileFormat = Literal["jsonl", "csv"]

MAX_CELL_CHARS = 131_072
MAX_FILE_BYTES = 256 * 2**20
MAX_LINE_CHARS = 200_000
IMPORTED = ("trace", "kind", "value", "text", "author")
"""Fields of an imported row; trace and kind must be there."""
EXPORTED = (
    "id",
    "at",
    "trace",
    "tenant",
    "author",
    "kind",
    "value",
    "is_bad",
    "edit_distance",
    "consent",
    "source",
    "status",
    "reviewer",
    "reviewed_at",
    "note",
)
THUMBS: Mapping[str, float] = {"up": 1.0, "down": 0.0}
TEXTS = ("prompt", "answer", "text")
"""Fields that are exported when text is asked for."""

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row of an imported file that was left out."""

    line: int
    reason: str
    """One sentence; names fields, never quotes text."""


@dataclass(frozen=True, slots=True)
class GivenRow:
    """A row of an imported file."""

    line: int
    given: Given


def read_rows(data: bytes, form: FileFormat) -> Iterator[GivenRow | BadRow]:
    """Read feedback from a file; a bad row is named and the rest is read on.

    Args:
        data: the whole file, UTF-8.
        form: JSON lines of objects, or CSV with a header. Fields: trace, kind, value, text, author.

    Raises:
        UsageError: the file is too large, or a CSV file has no header with trace and kind.
    """
    if len(data) > MAX_FILE_BYTES:
        raise UsageError(
            f"the file has {len(data):,} bytes; expected {MAX_FILE_BYTES:,} or fewer. Import it in parts."
        )
    rows = _json_rows(data) if form == "jsonl" else _csv_rows(data)
    for line, fields in rows:
        found = fields if isinstance(fields, str) else _given(fields)
        yield BadRow(line, found) if isinstance(found, str) else GivenRow(line, found)


def export_row(prompt: TraceText | None, text: TraceText | None) -> dict[str, Json]:
    """Give the texts of one feedback, where they are still kept."""
    return {
        "prompt": [dict(turn) for turn in prompt.messages] if prompt else None,
        "answer": prompt.text if prompt else None,
        "text": text.text if text else None,
    }


def encode_rows(
    rows: Sequence[tuple[Feedback, Mapping[str, Json]]], form: FileFormat, *, texts: bool
) -> bytes:
    """Write feedback as JSON lines or CSV.

    In CSV a cell that a spreadsheet would run as a formula is led by an apostrophe.

    Args:
        rows: feedback, and what `export_row` gives; ignored without `texts`.
        form: of the file.
        texts: whether prompt, answer and text are columns.
    """
    names = (*EXPORTED, *TEXTS) if texts else EXPORTED
    found = [{**one.to_json(), **(said if texts else {})} for one, said in rows]
    if form == "jsonl":
        lines = [json.dumps({name: row.get(name) for name in names}, ensure_ascii=False) for row in found]
        return "".join(line + "\n" for line in lines).encode("utf-8", errors="replace")
    return _encode_csv(names, found)


def safe_cell(value: Json) -> str:
    """Write a value as a CSV cell that no spreadsheet runs."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    is_formula = isinstance(value, str) and text.lstrip(" ").startswith(_FORMULA_STARTS)
    return f"'{text}" if is_formula else text


def _encode_csv(names: Sequence[str], rows: Iterable[Mapping[str, Json]]) -> bytes:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n", quoting=csv.QUOTE_MINIMAL)
    writer.writerow(names)
    writer.writerows([safe_cell(row.get(name)) for name in names] for row in rows)
    return buffer.getvalue().encode("utf-8", errors="replace")


def _json_rows(data: bytes) -> Iterator[tuple[int, Mapping[str, Json] | str]]:
    """Read (line, object), or (line, what is wrong)."""
    for number, raw in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if raw.strip():
            yield number, _json_row(raw)


def _json_row(raw: bytes) -> Mapping[str, Json] | str:
    if len(raw) > 4 * MAX_LINE_CHARS:
        return "the line is too long"
    try:
        fields: Json = json.loads(raw.decode("utf-8"))
    except UnicodeDecodeError:
        return "the line is not UTF-8"
    except (ValueError, RecursionError):
        return "the line is not JSON"
    return fields if isinstance(fields, dict) else "the line is not a JSON object"


def _csv_rows(data: bytes) -> Iterator[tuple[int, Mapping[str, Json] | str]]:
    """Read (last line of the row, fields), or (line, what is wrong)."""
    text = data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", errors="replace")
    reader = csv.reader(io.StringIO(text, newline=""))
    header: list[str] | None = None
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            yield reader.line_num, f"the row cannot be read ({error})"
            continue
        if cells is None:
            break
        if header is None:
            header = _header(cells)
        elif cells:
            yield reader.line_num, _csv_row(header, cells)
    if header is None:
        _header([])


def _header(cells: Sequence[str]) -> list[str]:
    names = [cell.strip() for cell in cells]
    if not {"trace", "kind"} <= set(names):
        raise UsageError(
            f"the first line of the CSV file names {', '.join(names[:8]) or 'nothing'}; "
            f"expected a header with {', '.join(IMPORTED)} (trace and kind at least)"
        )
    return names


def _csv_row(header: Sequence[str], cells: Sequence[str]) -> Mapping[str, Json] | str:
    if len(cells) != len(header):
        return f"the row has {len(cells)} cells; expected {len(header)}, as the header has"
    longest = max(map(len, cells))
    if longest > MAX_CELL_CHARS:
        return f"a cell has {longest:,} characters; expected {MAX_CELL_CHARS:,} or fewer"
    if any("\ufffd" in cell for cell in cells):
        return "the row is not UTF-8"
    fields: dict[str, Json] = {name: cell for name, cell in zip(header, cells, strict=True) if cell != ""}
    return fields


def _given(fields: Mapping[str, Json]) -> Given | str:
    """Make feedback of a row's fields, or say what is wrong with them."""
    unknown = sorted(set(fields) - set(IMPORTED))
    if unknown:
        return f"unknown field {unknown[0][:40]!r}; expected {', '.join(IMPORTED)}"
    kinds: dict[str, FeedbackKind] = {kind: kind for kind in get_args(FeedbackKind)}
    kind = kinds.get(str(fields.get("kind")))
    if kind is None:
        return f"kind is not one of {', '.join(kinds)}"
    for name in ("trace", "text", "author"):
        if not isinstance(fields.get(name), str | None):
            return f"{name} is not a text"
    if not fields.get("trace"):
        return "trace is missing; expected the id of a trace, tr_..."
    value = _number(fields.get("value"))
    if isinstance(value, str):
        return value
    return Given(
        trace=str(fields["trace"]),
        token="",
        kind=kind,
        value=value,
        text=_text(fields.get("text")),
        author=_text(fields.get("author")),
        source="import",
    )


def _text(value: Json) -> str | None:
    return value if isinstance(value, str) else None


def _number(value: Json) -> float | str | None:
    """Read a value, also `up` and `down`; a sentence when it is none."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return "value is not a number"
    try:
        return THUMBS.get(str(value)) if str(value) in THUMBS else float(value)
    except (ValueError, OverflowError):
        return "value is not a number"
