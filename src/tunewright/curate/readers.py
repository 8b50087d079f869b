"""Raw files to raw rows: finding the files a recipe names, telling their format, streaming them.

A bad row becomes a `Rejection` and never stops the run; a file that is missing, empty or not decodable does.
What the fields of a row mean is decided in `shapes`.
"""

import difflib
import glob
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

from tunewright.curate.readers_parquet import read_parquet_rows
from tunewright.curate.readers_text import RawRow, read_csv_rows, read_jsonl_rows
from tunewright.errors import RecipeError, SourceUnreadable
from tunewright.recipe import SourceSpec
from tunewright.records import Rejection
from tunewright.values import Digest

Format = Literal["jsonl", "csv", "parquet"]

EXTENSIONS: dict[str, Format] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
}
UNREADABLE_STARTS: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xfe", "is UTF-16 text; expected UTF-8. Convert it: iconv -f UTF-16 -t UTF-8"),
    (b"\xfe\xff", "is UTF-16 text; expected UTF-8. Convert it: iconv -f UTF-16 -t UTF-8"),
    (b"\x1f\x8b", "is compressed with gzip; expected plain text. Unpack it with gunzip"),
    (b"\x28\xb5\x2f\xfd", "is compressed with zstandard; expected plain text. Unpack it with unzstd"),
    (b"PK\x03\x04", "is a zip archive or a spreadsheet; expected JSONL, CSV or Parquet. Export it as CSV"),
)
"""How a file starts that cannot be read as it is, and what to tell the user."""

PARQUET_START = b"PAR1"
MAX_NUL_SHARE = 0.2
"""Share of NUL bytes at a file's start above which it is no text; UTF-16 has about a half."""
BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file found for a source of the recipe."""

    spec: SourceSpec
    path: Path
    name: str
    """As the recipe names it; for a glob, relative to the data folder."""
    digest: Digest
    """SHA-256 of the whole file."""
    format: Format
    num_bytes: int
    modified_ns: int


def find_sources(specs: Sequence[SourceSpec], root: Path) -> list[SourceFile]:
    """Find, check and hash every file the recipe names, in the order named; globs are sorted.

    Args:
        specs: the recipe's `data.sources`.
        root: folder that relative paths start from.

    Raises:
        SourceUnreadable: a file is missing, empty, a folder, compressed or in another encoding.
        RecipeError: two sources name the same file, or two files hold the same bytes.
    """
    files: list[SourceFile] = []
    by_digest: dict[Digest, str] = {}
    for spec in specs:
        for name, path in _expand(spec.path, root):
            file = _inspect(spec, name, path)
            if file.digest in by_digest:
                raise RecipeError(
                    f"data.sources: {name} and {by_digest[file.digest]} are the same file, byte for byte; "
                    "expected each file once. Remove one of them."
                )
            by_digest[file.digest] = name
            files.append(file)
    return files


def read_rows(file: SourceFile, max_rows: int | None = None) -> Iterator[RawRow | Rejection]:
    """Stream the rows of one file, in order, holding one row at a time.

    Args:
        file: as found by `find_sources`.
        max_rows: stop after this many rows, bad ones included.

    Raises:
        SourceUnreadable: the text is not UTF-8 (file, line and byte named), the table is damaged, the file
            holds no rows, or it changed since it was hashed.
    """
    readers = {"jsonl": read_jsonl_rows, "csv": read_csv_rows, "parquet": read_parquet_rows}
    num_rows = 0
    for row in islice(readers[file.format](file.path, file.name, file.digest), max_rows):
        num_rows += 1
        yield row
    if num_rows == 0:
        raise SourceUnreadable(f"{file.name} holds no rows; expected at least one. Check the path.")
    stat = file.path.stat()
    if (stat.st_size, stat.st_mtime_ns) != (file.num_bytes, file.modified_ns):
        raise SourceUnreadable(
            f"{file.name} changed while it was being read; expected it to stay as it is. Run again."
        )


def detect_format(path: Path) -> Format:
    """Tell a file's format from its extension, else from its first bytes; CSV where nothing else fits."""
    known = EXTENSIONS.get(path.suffix.lower())
    if known:
        return known
    with path.open("rb") as handle:
        start = handle.read(4096)
    if start.startswith(PARQUET_START):
        return "parquet"
    return "jsonl" if start.removeprefix(BOM).lstrip().startswith(b"{") else "csv"


def hash_file(path: Path) -> Digest:
    """SHA-256 of a file, streamed."""
    with path.open("rb") as handle:
        return Digest(hashlib.file_digest(handle, "sha256").hexdigest())


def _expand(pattern: str, root: Path) -> list[tuple[str, Path]]:
    """Name every file a path or glob stands for; raises SourceUnreadable when there is none."""
    path = root / Path(pattern).expanduser()
    if _exists(path, pattern):
        return [(pattern, path)]
    if not any(char in pattern for char in "*?["):
        raise SourceUnreadable(_missing(pattern, path))
    found = sorted(Path(match) for match in glob.glob(str(path), recursive=True))
    files = [match for match in found if match.is_file()]
    if not files:
        raise SourceUnreadable(f"no file fits {pattern!r} in {root}; expected at least one. Check --data.")
    return [
        (match.relative_to(root).as_posix() if match.is_relative_to(root) else str(match), match)
        for match in files
    ]


def _exists(path: Path, pattern: str) -> bool:
    try:
        return path.exists()
    except OSError as error:  # such as a name longer than the file system allows
        raise SourceUnreadable(
            f"{pattern[:100]} cannot be looked up ({error.strerror}); expected a path. Check data.sources."
        ) from error


def _missing(pattern: str, path: Path) -> str:
    folder = path.parent
    if path.is_symlink():
        return (
            f"{pattern}: a symbolic link that leads to no file; expected a file. Mend the link in {folder}."
        )
    if not folder.is_dir():
        return f"{pattern}: the folder {folder} does not exist. Check the path, or give --data DIR."
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_file())
    near = difflib.get_close_matches(path.name, names, n=3, cutoff=0.5) or names[:3]
    hint = f"nearest there: {', '.join(near)}" if near else "that folder holds no files"
    return f"{pattern}: no such file in {folder}; {hint}. Check the path, or give --data DIR."


def _inspect(spec: SourceSpec, name: str, path: Path) -> SourceFile:
    """Check and hash one file; raises SourceUnreadable."""
    if path.is_dir():
        raise SourceUnreadable(f"{name} is a folder; expected a file or a glob such as {name}/*.jsonl")
    try:
        with path.open("rb") as handle:
            start = handle.read(4096)
        stat = path.stat()
        digest = hash_file(path)
    except OSError as error:
        raise SourceUnreadable(
            f"{name} cannot be read ({error.strerror}); expected a readable file. Check its permissions."
        ) from error
    _refuse_start(name, start)
    chosen = detect_format(path) if spec.format == "auto" else spec.format
    if chosen == "jsonl" and start.removeprefix(BOM).lstrip().startswith(b"["):
        raise SourceUnreadable(
            f"{name} is one JSON array; expected one JSON object a line. Convert it: jq -c '.[]' {name}"
        )
    if chosen == "csv" and start.removeprefix(BOM).lstrip().startswith(b'{"'):
        raise SourceUnreadable(
            f"{name} holds JSON lines; expected CSV, as it is named. Rename it to .jsonl, or set "
            "`format: jsonl` beside its path in the recipe."
        )
    return SourceFile(spec, path, name, digest, chosen, stat.st_size, stat.st_mtime_ns)


def _refuse_start(name: str, start: bytes) -> None:
    if not start.removeprefix(BOM).strip():
        raise SourceUnreadable(f"{name} is empty; expected at least one row. Check the path.")
    for magic, advice in UNREADABLE_STARTS:
        if start.startswith(magic):
            raise SourceUnreadable(f"{name} {advice}.")
    if start.startswith(PARQUET_START):
        return
    if start.count(0) > len(start) * MAX_NUL_SHARE:
        raise SourceUnreadable(
            f"{name}: {start.count(0) / len(start):.0%} of its first bytes are NUL; expected UTF-8 text. It "
            "is UTF-16 (convert it: iconv -f UTF-16LE -t UTF-8), or not a text file at all."
        )
