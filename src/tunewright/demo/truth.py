"""How much of what was planted in the demo's data did curation find? Pure."""

import random
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tunewright.records.base import Record
from tunewright.records.example import Example, Rejection, Split

Place = tuple[str, int]
"""File name and 1-based line."""

Kind = Literal["junk", "exact_duplicate", "near_duplicate", "pii", "secret", "conflict", "twin"]
KINDS: tuple[Kind, ...] = ("junk", "exact_duplicate", "near_duplicate", "pii", "secret", "conflict", "twin")

_TAG = re.compile(r"<([A-Z][A-Z_]*)_\d+>")
"""How curation masks: <EMAIL_1>."""


class Planted(Record):
    """One row with something wrong that was put there on purpose."""

    file: str
    line: int
    kind: Kind
    detail: str = ""
    """The form of junk, the type of personal data, or `prompt` or `customer` for twins."""
    plant: int
    """Rows with the same number belong together."""
    of: Place | None = None
    """The original of a copy, or the row a conflict contradicts."""

    @property
    def place(self) -> Place:
        """Where the row stands."""
        return self.file, self.line


@dataclass(frozen=True, slots=True)
class Fate:
    """What curation did with one row of the raw files."""

    step: str | None = None
    """The step that rejected it; absent for a kept row."""
    split: Split | None = None
    """The side a kept row went to."""
    masked: frozenset[str] = frozenset()
    """Types of personal data that stand as tags in a kept row, in lower case."""


def read_fates(rejections: Iterable[Rejection], kept: Mapping[Split, Iterable[Example]]) -> dict[Place, Fate]:
    """Collect what became of every row, from a dataset's rejections and the rows of its splits."""
    fates = {
        (row.source.path, row.source.line): Fate(
            split=split,
            masked=frozenset(tag.lower() for turn in row.messages for tag in _TAG.findall(turn.content)),
        )
        for split, rows in kept.items()
        for row in rows
    }
    return fates | {(row.source.path, row.source.line): Fate(step=row.step) for row in rejections}


def planted_recall(truth: Iterable[Planted], fates: Mapping[Place, Fate]) -> dict[str, float]:
    """Measure the share of each kind that curation found.

    junk: not kept. Copies: original and copy were not both kept. conflict: either answer was removed as such.
    pii: its type was masked in that row, or the row dropped for it. secret: not kept, or masked. twin: all
    kept rows of a set are on one side, held-out or trained; sets with fewer than two of them do not count.

    Args:
        truth: what was planted.
        fates: every row that curation read; planted rows of files it did not read are left out, and so are
            rows with personal data that a later step removed.

    Returns:
        Kind -> found / planted, a fraction in [0, 1]; kinds of which nothing was read are left out.
    """
    read = [planted for planted in truth if planted.place in fates]
    results: dict[str, float] = {}
    for kind in KINDS:
        here = [planted for planted in read if planted.kind == kind]
        found = _twins_together(here, fates) if kind == "twin" else _found(here, fates)
        if found:
            results[kind] = sum(found) / len(found)
    return results


def naive_separation(truth: Iterable[Planted], *, held_out: float, seed: int) -> float:
    """Share of twin sets that a random split of rows would tear apart; what splitting by cluster prevents."""
    rng = random.Random(seed)
    sets = _sets([planted for planted in truth if planted.kind == "twin"])
    sides = [{rng.random() < held_out for _ in members} for members in sets if len(members) > 1]
    return sum(len(side) > 1 for side in sides) / len(sides) if sides else 0.0


def _found(planted: Sequence[Planted], fates: Mapping[Place, Fate]) -> list[bool]:
    """One answer a planted row; rows that tell nothing are left out."""
    answers: list[bool] = []
    for row in planted:
        fate = fates[row.place]
        original = fates.get(row.of, Fate()) if row.of else Fate()
        if row.kind != "pii" or fate.step in {None, "pii"}:
            answers.append(_FOUND[row.kind](row, fate, original))
    return answers


def _removed(planted: Planted, fate: Fate, original: Fate) -> bool:
    return fate.step is not None


def _parted(planted: Planted, fate: Fate, original: Fate) -> bool:
    return fate.step is not None or original.step is not None


def _private(planted: Planted, fate: Fate, original: Fate) -> bool:
    return fate.step == "pii" or planted.detail in fate.masked


def _secret(planted: Planted, fate: Fate, original: Fate) -> bool:
    return fate.step is not None or "secret" in fate.masked


def _conflict(planted: Planted, fate: Fate, original: Fate) -> bool:
    return "conflict" in {fate.step, original.step}


_FOUND: Mapping[str, Callable[[Planted, Fate, Fate], bool]] = {
    "junk": _removed,
    "exact_duplicate": _parted,
    "near_duplicate": _parted,
    "pii": _private,
    "secret": _secret,
    "conflict": _conflict,
}


def _twins_together(planted: Sequence[Planted], fates: Mapping[Place, Fate]) -> list[bool]:
    """One answer a set with at least two kept rows."""
    answers: list[bool] = []
    for members in _sets(planted):
        sides = [fates[row.place].split == "held_out" for row in members if fates[row.place].split]
        if len(sides) > 1:
            answers.append(len(set(sides)) == 1)
    return answers


def _sets(planted: Iterable[Planted]) -> list[list[Planted]]:
    sets: dict[int, list[Planted]] = {}
    for row in planted:
        sets.setdefault(row.plant, []).append(row)
    return list(sets.values())
