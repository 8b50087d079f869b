"""`tunewright init FILE`: read the first rows of a data file and write a recipe for it."""

import os
from itertools import islice
from pathlib import Path

from tunewright.curate.gather import describe
from tunewright.curate.readers import find_sources, read_rows
from tunewright.errors import SourceUnreadable, UsageError
from tunewright.pipeline.detect import detect
from tunewright.pipeline.draft import DraftFile, recipe_name, write_recipe
from tunewright.recipe import SourceSpec
from tunewright.records import Rejection

MAX_ROWS_READ = 20_000

_SAYS_NOTHING = {"train", "training", "data", "dataset", "examples", "rows", "test", "all"}


def draft_recipe(path: Path, *, folder: Path | None = None) -> str:
    """Draft a recipe for a data file, as YAML with a reason beside each choice.

    Args:
        path: JSONL, CSV or Parquet.
        folder: where the recipe will stand, from which it names the file; the file's own folder when absent.

    Raises:
        SourceUnreadable: the file is missing, empty, not decodable, or no fields look like prompt and answer.
    """
    file = find_sources([SourceSpec(path=path.name)], path.absolute().parent)[0]
    rows = list(islice(read_rows(file), MAX_ROWS_READ + 1))
    is_whole = len(rows) <= MAX_ROWS_READ
    readable = [row.fields for row in rows[:MAX_ROWS_READ] if not isinstance(row, Rejection)]
    if not readable:
        first = next(row for row in rows if isinstance(row, Rejection))
        raise SourceUnreadable(
            f"{path}: none of the first {len(rows):,} rows can be read; the first: {describe(first)}. "
            "Expected one JSON object a line, or a table with a header. Mend the file, or rename "
            "it to what it holds."
        )
    found = detect(readable)
    if found is None:
        names = dict.fromkeys(name for row in readable for name in row)
        raise SourceUnreadable(
            f"{path}: no prompt and answer were found in the first {len(rows):,} rows (fields: "
            f"{', '.join(map(repr, names)) or 'none'}); expected `messages`, or two text fields. Write a "
            "recipe by hand and name them: prompt_field, completion_field."
        )
    relative = os.path.relpath(path.absolute(), folder.absolute() if folder else path.absolute().parent)
    return write_recipe(
        DraftFile(
            name=recipe_name(_title(path)),
            path=Path(relative).as_posix(),
            format=file.format,
            is_whole=is_whole,
            num_unreadable=min(len(rows), MAX_ROWS_READ) - len(readable),
        ),
        found,
    )


def write_draft(file: Path, output: Path | None, *, force: bool) -> Path:
    """Draft a recipe and write it, to `<name>.yaml` in the current folder unless told otherwise.

    Raises:
        UsageError: the recipe exists and `force` is not set, or its folder does not.
        SourceUnreadable: as `draft_recipe`.
    """
    path = output or Path(f"{recipe_name(_title(file))}.yaml")
    if path.exists() and not force:
        raise UsageError(f"{path} exists; expected a new file. Choose another with --output, or give --force")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"the folder of {path} does not exist; expected an existing folder")
    text = draft_recipe(file, folder=path.absolute().parent)
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"cannot write {path} ({error.strerror}); expected a file name in a writable folder. Choose "
            "another with --output"
        ) from error
    return path


def _title(path: Path) -> str:
    """Take the file's name, or its folder's where the file's says nothing."""
    return path.absolute().parent.name if path.stem.casefold() in _SAYS_NOTHING else path.stem
