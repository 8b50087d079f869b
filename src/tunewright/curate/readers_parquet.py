"""Rows of a Parquet file, streamed in batches. Polars is imported on use; commands start without it."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from math import isfinite
from pathlib import Path
from typing import cast

from tunewright.curate.readers_text import MAX_ROW_BYTES, RawRow, reject
from tunewright.errors import SourceUnreadable
from tunewright.records import Rejection, Source
from tunewright.values import Digest, Json

BATCH_ROWS = 4096


def read_parquet_rows(path: Path, name: str, digest: Digest) -> Iterator[RawRow | Rejection]:
    """Stream rows; the first is line 1. Raises SourceUnreadable when the table is damaged."""
    import polars as pl  # 0.13 s: not paid by commands that read no Parquet

    try:
        line = 0
        for frame in pl.scan_parquet(path, glob=False).collect_batches(chunk_size=BATCH_ROWS):
            for fields in frame.iter_rows(named=True):
                line += 1
                yield _row(Source(digest=digest, path=name, line=line), fields)
    except pl.exceptions.PolarsError as error:
        raise SourceUnreadable(
            f"{name} is not a readable Parquet file ({type(error).__name__}); expected an intact table. "
            "Write it again, or export it as JSONL."
        ) from error


def _row(source: Source, fields: Mapping[str, object]) -> RawRow | Rejection:
    values = {key: json_value(value) for key, value in fields.items()}
    num_bytes = sum(_size_bytes(value) for value in values.values())
    if num_bytes > MAX_ROW_BYTES:
        return reject(source, "row_too_large", {"bytes": num_bytes, "limit_bytes": MAX_ROW_BYTES})
    return RawRow(source, values)


def json_value(value: object) -> Json:
    """Turn a table's cell into a JSON value; times become ISO 8601, NaN and unknown kinds become null."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if isfinite(value) else None
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, Mapping):
        struct = cast("Mapping[object, object]", value)
        return {str(key): json_value(item) for key, item in struct.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return [json_value(item) for item in cast("Sequence[object]", value)]
    return None


def _size_bytes(value: Json) -> int:
    if isinstance(value, str):
        return len(value.encode("utf-8", errors="replace"))
    if isinstance(value, list):
        return sum(_size_bytes(item) for item in value)
    if isinstance(value, dict):
        return sum(_size_bytes(item) for item in value.values())
    return 8
