"""Rows of JSONL and CSV files, streamed with a bound on memory: one row at a time, none above 16 MB.

A line that cannot be parsed is a `Rejection`; bytes that are not UTF-8 stop the run.
"""

import csv
import json
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import orjson

from tunewright.curate.problem import Problem
from tunewright.errors import SourceUnreadable
from tunewright.records import Rejection, Source
from tunewright.values import Digest, Json

MAX_ROW_BYTES = 16 * 2**20
BOM = b"\xef\xbb\xbf"
DELIMITERS = ",;\t|"


@dataclass(frozen=True, slots=True)
class RawRow:
    """The fields of one row, as written."""

    source: Source
    fields: Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class TextLine:
    """One line of a file without its end, decoded; absent text means the line was too large to hold."""

    number: int
    text: str | None
    num_bytes: int


def reject(source: Source, reason: str, evidence: Mapping[str, Json] | None = None) -> Rejection:
    """Reject a row that could not be read."""
    return Rejection(source=source, step="read", reason=reason, evidence=dict(evidence or {}))


def read_jsonl_rows(path: Path, name: str, digest: Digest) -> Iterator[RawRow | Rejection]:
    """Stream JSON lines; blank lines are not rows. Raises SourceUnreadable where bytes are not UTF-8."""
    with path.open("rb") as handle:
        for line in read_lines(handle, name):
            source = Source(digest=digest, path=name, line=line.number)
            if line.text is None:
                yield _too_large(source, line.num_bytes)
            elif line.text.strip():
                yield _parse_json(source, line.text)


def read_csv_rows(path: Path, name: str, digest: Digest) -> Iterator[RawRow | Rejection]:
    """Stream CSV records after the header; the header is row 1, blank lines are not rows.

    The delimiter is the one of comma, semicolon, tab and bar that the header has most of.

    Raises:
        SourceUnreadable: bytes that are not UTF-8, or a header that is empty or names a column twice.
    """
    # The module's own limit is 128 kB a field and global; records are bounded here, so ours is only wider.
    csv.field_size_limit(MAX_ROW_BYTES)
    with path.open("rb") as handle:
        lines = _BoundedLines(read_lines(handle, name))
        header, delimiter = _read_header(lines, name)
        for number, record in enumerate(_csv_records(lines, delimiter), start=2):
            source = Source(digest=digest, path=name, line=number)
            if isinstance(record, Problem):
                yield reject(source, record.reason, record.evidence)
            else:
                yield _csv_row(source, header, record)


def read_lines(handle: BinaryIO, name: str) -> Iterator[TextLine]:
    """Stream decoded lines (LF or CRLF, byte order mark stripped), skipping over those above the limit.

    Raises:
        SourceUnreadable: names file, line and byte offset of the first byte that is not UTF-8.
    """
    number = 0
    start = 0
    while data := handle.readline(MAX_ROW_BYTES + 2):
        number += 1
        num_bytes = len(data)
        if num_bytes > MAX_ROW_BYTES and not data.endswith(b"\n"):
            while more := handle.readline(2**20):
                num_bytes += len(more)
                if more.endswith(b"\n"):
                    break
        if num_bytes > MAX_ROW_BYTES:
            yield TextLine(number, None, num_bytes)
        else:
            yield TextLine(number, _decode(data, name, number, start), num_bytes)
        start += num_bytes


def _decode(data: bytes, name: str, number: int, start: int) -> str:
    body = data.removesuffix(b"\n").removesuffix(b"\r")
    if number == 1:
        body = body.removeprefix(BOM)
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as error:
        offset = start + error.start + (len(BOM) if number == 1 and data.startswith(BOM) else 0)
        raise SourceUnreadable(
            f"{name}, line {number}: byte 0x{body[error.start]:02x} at offset {offset} of the file is "
            "not UTF-8; expected UTF-8 text. Convert it, for example: iconv -f WINDOWS-1252 -t UTF-8"
        ) from None  # the decoding error holds the whole line


def _too_large(source: Source, num_bytes: int) -> Rejection:
    return reject(source, "row_too_large", {"bytes": num_bytes, "limit_bytes": MAX_ROW_BYTES})


def _parse_json(source: Source, text: str) -> RawRow | Rejection:
    if "\x00" in text:
        return reject(source, "nul_bytes", {"column": text.index("\x00") + 1})
    try:
        value: Json = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        reason = "not_a_number" if _holds_nan(text) else "broken_json"
        return reject(source, reason, {"column": error.colno})
    if not isinstance(value, dict):
        return reject(source, "not_an_object", {"found": type(value).__name__})
    return RawRow(source, value)


def _holds_nan(text: str) -> bool:
    """Say whether a line is JSON but for NaN or Infinity, which JSON does not have."""
    found: list[str] = []
    try:
        json.loads(text, parse_constant=found.append)
    except (ValueError, RecursionError):
        return False
    return bool(found)


class _RowTooLarge(Exception):
    """One record of a CSV file is above the limit."""


class _BoundedLines:
    """Feeds a csv reader line by line; raises _RowTooLarge before a record grows without bound."""

    def __init__(self, lines: Iterator[TextLine]) -> None:
        self._lines = lines
        self._record: list[TextLine] = []
        self._again: deque[TextLine] = deque()
        self.record_bytes = 0

    def begin_record(self) -> None:
        """Forget the lines of the record before."""
        self._record = []
        self.record_bytes = 0

    def give_back(self) -> None:
        """Read all lines of this record but the first again: a stray quote swallowed them."""
        self._again.extendleft(reversed(self._record[1:]))

    def skip_record(self) -> None:
        """Skip to the end of the quoted field that made this record too large."""
        num_quotes = sum(line.text.count('"') for line in self._record if line.text)
        while num_quotes % 2 and (line := self._next_line()):
            num_quotes += line.text.count('"') if line.text else 0

    def __iter__(self) -> "_BoundedLines":
        return self

    def __next__(self) -> str:
        line = self._next_line()
        if line is None:
            raise StopIteration
        self._record.append(line)
        self.record_bytes += line.num_bytes
        if line.text is None or self.record_bytes > MAX_ROW_BYTES:
            raise _RowTooLarge
        return line.text + "\n"

    def _next_line(self) -> TextLine | None:
        return self._again.popleft() if self._again else next(self._lines, None)


def _read_header(lines: _BoundedLines, name: str) -> tuple[list[str], str]:
    """Read column names and the delimiter; raises SourceUnreadable."""
    try:
        line = next(lines)
        delimiter = max(DELIMITERS, key=line.count)
        header = [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter, strict=True))]
    except (StopIteration, _RowTooLarge, csv.Error) as error:
        raise SourceUnreadable(f"{name}, line 1 is no CSV header; expected column names.") from error
    repeated = sorted({cell for cell in header if header.count(cell) > 1})
    if repeated or not any(header):
        found = f"column {repeated[0]!r} twice" if repeated else "no column"
        raise SourceUnreadable(f"{name}, line 1 names {found}; expected a header of distinct column names.")
    return header, delimiter


def _csv_records(lines: _BoundedLines, delimiter: str) -> Iterator[list[str] | Problem]:
    """Stream the cells of each record; after a broken record, go on with the next line."""
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        lines.begin_record()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except _RowTooLarge:
            yield Problem("row_too_large", {"bytes": lines.record_bytes, "limit_bytes": MAX_ROW_BYTES})
            lines.skip_record()
            reader = csv.reader(lines, delimiter=delimiter, strict=True)
        except csv.Error:
            yield Problem("broken_csv")
            lines.give_back()
            reader = csv.reader(lines, delimiter=delimiter, strict=True)
        else:
            if any(cell.strip() for cell in cells):
                yield cells


def _csv_row(source: Source, header: list[str], cells: list[str]) -> RawRow | Rejection:
    if len(cells) != len(header):
        evidence: dict[str, Json] = {"expected": len(header), "found": len(cells)}
        return reject(source, "wrong_number_of_fields", evidence)
    if any("\x00" in cell for cell in cells):
        return reject(source, "nul_bytes")
    return RawRow(source, dict(zip(header, cells, strict=True)))
