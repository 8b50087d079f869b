"""Reading every source of a recipe: prepared rows, rejections and counts, and when to stop.

Reads files; decides nothing about single rows (`steps`) or about rows together (`decide`).
"""

import difflib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tunewright.curate.readers import SourceFile, read_rows
from tunewright.curate.seal import by_place
from tunewright.curate.steps import Prepared, RowRules, prepare_row
from tunewright.errors import DataError, EmptySplit, RecipeError, TooManyRejections
from tunewright.ports import Progress
from tunewright.recipe import DataSection
from tunewright.records import Rejection
from tunewright.values import Digest

UNREADABLE_STEPS = ("read", "validate")
"""Rejections of these steps count against `max_rejected_fraction`."""
PROGRESS_ROWS = 1000
DEFAULT_MESSAGES_FIELD = "messages"
"""What a recipe has when it names none; then rows may be of another form."""

NEXT_STEP: Mapping[str, str] = {
    "fields_not_recognised": (
        "Name the fields that hold prompt and answer: prompt_field and completion_field, or messages_field, "
        "beside the source's path. The first line of a CSV file must name its columns."
    ),
    "bad_time": "Write times as ISO 8601 or Unix seconds, or remove `time` from the recipe.",
    "last_turn_not_assistant": "Every chat must end with the assistant's answer: cut the turns after it.",
}
"""Reason -> what to do about it, where that is not to mend the rows."""


@dataclass(frozen=True, slots=True)
class Gathered:
    """What the sources gave, in an order that depends on their content only."""

    rows: tuple[Prepared, ...]
    rejections: tuple[Rejection, ...]
    rows_in: Mapping[tuple[str, Digest], int]
    """(path, file digest) -> rows read."""

    @property
    def num_rows(self) -> int:
        """Rows read from all sources."""
        return sum(self.rows_in.values())


def gather(files: Sequence[SourceFile], rules: RowRules, progress: Progress) -> Gathered:
    """Read and prepare every row of every source.

    Raises:
        SourceUnreadable: a file cannot be decoded, holds no rows, or changed while it was read.
        RecipeError: a field that the recipe names is in no row of its source.
        TooManyRejections: more rows are unreadable or invalid than the recipe allows.
        EmptySplit: not one row is left.
        DataError: every row carries the same label.
    """
    outcomes: list[Prepared | Rejection] = []
    rows_in: dict[tuple[str, Digest], int] = {}
    for file in files:
        found = _prepare_file(file, rules, progress, len(outcomes))
        rows_in[file.name, file.digest] = len(found)
        outcomes += found
    rows = [row for row in outcomes if isinstance(row, Prepared)]
    rejections = [row for row in outcomes if isinstance(row, Rejection)]
    gathered = Gathered(
        rows=tuple(sorted(rows, key=lambda row: by_place(row.example.source))),
        rejections=tuple(sorted(rejections, key=lambda rejection: by_place(rejection.source))),
        rows_in=rows_in,
    )
    check_rejections(gathered, rules.data)
    check_labels(gathered.rows)
    return gathered


def _prepare_file(
    file: SourceFile, rules: RowRules, progress: Progress, num_before: int
) -> list[Prepared | Rejection]:
    fields: Counter[str] = Counter()
    outcomes: list[Prepared | Rejection] = []
    for raw in read_rows(file, rules.data.max_rows):
        if isinstance(raw, Rejection):
            outcomes.append(raw)
        else:
            fields.update(name for name, value in raw.fields.items() if value not in (None, ""))
            outcomes.append(prepare_row(raw, file.spec, rules))
        if len(outcomes) % PROGRESS_ROWS == 0:
            progress.update(num_before + len(outcomes), file.name)
    _check_fields(file, fields)
    return outcomes


def _check_fields(file: SourceFile, found: Counter[str]) -> None:
    """Refuse a field that no row has: a typing mistake in `group` would let groups leak between sides."""
    spec = file.spec
    named = {
        "prompt_field": spec.prompt_field,
        "completion_field": spec.completion_field,
        "messages_field": None if spec.messages_field == DEFAULT_MESSAGES_FIELD else spec.messages_field,
        "group": spec.group,
        "time": spec.time,
    }
    wanted = [*named.items(), *(("slices", name) for name in spec.slices)]
    for key, name in wanted:
        if name and found and name not in found:
            near = difflib.get_close_matches(name, found, n=3, cutoff=0.4) or sorted(found)[:8]
            raise RecipeError(
                f"data.sources {file.name}: {key} names the field {name!r}, which no row has; "
                f"nearest: {', '.join(near)}. Correct the recipe."
            )


def check_rejections(gathered: Gathered, data: DataSection) -> None:
    """Stop when too much of the input is unreadable or invalid, or nothing is left.

    Raises:
        TooManyRejections: names the first three places and reasons.
        EmptySplit: all rows were removed, with counts by reason.
    """
    bad = [one for one in gathered.rejections if one.step in UNREADABLE_STEPS]
    if len(bad) > data.max_rejected_fraction * gathered.num_rows:
        raise TooManyRejections(
            f"{len(bad):,} of {gathered.num_rows:,} rows ({len(bad) / gathered.num_rows:.1%}) are unreadable "
            f"or invalid; data.max_rejected_fraction allows {data.max_rejected_fraction:.1%}. First: "
            f"{'; '.join(map(describe, bad[:3]))}. {_advice(bad)}"
        )
    if not gathered.rows:
        reasons = Counter(f"{one.step}: {one.reason}" for one in gathered.rejections)
        counted = ", ".join(f"{rows:,} {reason}" for reason, rows in reasons.most_common(5))
        raise EmptySplit(
            f"no row is left of {gathered.num_rows:,} ({counted}); expected rows to split. "
            f"First: {'; '.join(map(describe, gathered.rejections[:3]))}. Relax data.quality or data.pii."
        )


def _advice(bad: Sequence[Rejection]) -> str:
    """Say what mends the most frequent reason."""
    [(reason, _)] = Counter(one.reason for one in bad).most_common(1)
    return NEXT_STEP.get(reason, "Mend them, or raise the limit.")


def check_labels(rows: Sequence[Prepared]) -> None:
    """Stop when rows of text and label all carry one label: there is nothing to learn.

    Raises:
        DataError: names the file and the label's field.
    """
    if all(row.form == "label" for row in rows) and len({row.example.answer for row in rows}) == 1:
        first = rows[0]
        raise DataError(
            f"{first.example.source.path}: all {len(rows):,} rows carry the same {first.fields[1]!r}; "
            "expected two labels and more. Add rows of other classes, or name another completion_field."
        )


def describe(rejection: Rejection) -> str:
    """Name a rejection's place and reason, with its numbers."""
    facts = ", ".join(f"{name} {value}" for name, value in rejection.evidence.items())
    place = f"{rejection.source.path}:{rejection.source.line} {rejection.reason}"
    return f"{place} ({facts})" if facts else place
