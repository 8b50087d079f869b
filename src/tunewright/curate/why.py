"""Answers to "what became of this row": kept and where, or removed by which step and why.

Reads the lineage and rejection blobs of one dataset version. Of a held-out row it says that it is held out,
and no more.
"""

import difflib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePath
from typing import Literal, TypedDict, cast

from tunewright.ports import Blobs
from tunewright.records import DatasetVersion, Rejection
from tunewright.values import Json

MIN_PREFIX = 4
"""Shortest id prefix that is looked up."""
MAX_ANSWERS = 20


class _Lineage(TypedDict):
    """One line of the lineage blob."""

    row: str
    split: str
    cluster: str
    group: str | None
    sources: list[tuple[str, str, int]]


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one line of one raw file."""

    place: str
    """`path:line`, or the reference as typed where nothing was found."""
    row: str | None
    """Row id; absent where the line could not be read or is unknown."""
    outcome: Literal["kept", "removed", "unknown"]
    sentence: str
    """For people; holds no text of the row."""
    detail: Mapping[str, Json] = field(default_factory=dict[str, Json])
    """split and cluster, or step, reason and evidence, or nearest."""


def why(reference: str, dataset: DatasetVersion, blobs: Blobs) -> list[Answer]:
    """Say what became of a row.

    Args:
        reference: `file:line`, where file is the recipe's path or its last part, or a prefix of a row id.
        dataset: the version to look in.
        blobs: where its lineage and rejections are stored.

    Returns:
        One answer for each line that fits, at most 20; exactly one with outcome `unknown` when none does.

    Raises:
        BlobMissing, BlobCorrupt: the stored bytes are damaged.
    """
    book = _Book(dataset, blobs)
    place = re.fullmatch(r"(.+):(\d+)", reference.strip())
    if place:
        return book.at(place.group(1), int(place.group(2)))
    return book.with_id(reference.strip().removeprefix("row:").casefold())


class _Book:
    """The lineage and rejections of one version, read once."""

    def __init__(self, dataset: DatasetVersion, blobs: Blobs) -> None:
        self._dataset = dataset
        self._blobs = blobs

    @cached_property
    def kept(self) -> list[_Lineage]:
        """Every kept row."""
        lines = self._blobs.get(self._dataset.lineage).splitlines()
        return [cast("_Lineage", json.loads(line)) for line in lines]

    @cached_property
    def rejections(self) -> list[Rejection]:
        """Every removed row."""
        lines = self._blobs.get(self._dataset.rejections).splitlines()
        return [Rejection.model_validate_json(line) for line in lines]

    @cached_property
    def kept_by_id(self) -> dict[str, _Lineage]:
        """Kept rows by id."""
        return {row["row"]: row for row in self.kept}

    def at(self, path: str, line: int) -> list[Answer]:
        """Answer for a place in a raw file."""
        names = _matching([source.path for source in self._dataset.sources], path)
        removed = [
            self._removed(rejection)
            for rejection in self.rejections
            if rejection.source.line == line and rejection.source.path in names
        ]
        answered = {answer.place for answer in removed}
        kept = [
            self._kept(row, f"{name}:{number}")
            for row in self.kept
            for _, name, number in row["sources"]
            if number == line and name in names and f"{name}:{number}" not in answered
        ]
        return (kept + removed)[:MAX_ANSWERS] or [self._unknown_place(path, line, names)]

    def with_id(self, prefix: str) -> list[Answer]:
        """Answer for a row id."""
        if len(prefix) < MIN_PREFIX or not re.fullmatch(r"[0-9a-f]+", prefix):
            expected = f"expected file:line, or {MIN_PREFIX} and more hexadecimal digits of a row id"
            return [Answer(prefix, None, "unknown", f"{prefix!r} names no row; {expected}.")]
        kept = [
            self._kept(row, f"{row['sources'][0][1]}:{row['sources'][0][2]}")
            for row in self.kept
            if row["row"].startswith(prefix)
        ]
        removed = [self._removed(one) for one in self.rejections if (one.row or "").startswith(prefix)]
        return (kept + removed)[:MAX_ANSWERS] or [self._unknown_id(prefix)]

    def _kept(self, row: _Lineage, place: str) -> Answer:
        sealed = row["split"] == "held_out"
        detail: dict[str, Json] = {"split": row["split"]}
        sentence = f"{place} is held out in {self._dataset.ref}; no model may train on it."
        if not sealed:
            detail |= {"cluster": row["cluster"], "group": row["group"]}
            sentence = (
                f"{place} is in {row['split']} of {self._dataset.ref}, in cluster {row['cluster'][:12]}."
            )
        others = [f"{name}:{line}" for _, name, line in row["sources"] if f"{name}:{line}" != place]
        if others:
            detail["also"] = [*others]
            sentence += f" It stands for {len(others)} exact duplicates: {', '.join(others[:5])}."
        return Answer(place, row["row"], "kept", sentence, detail)

    def _removed(self, rejection: Rejection) -> Answer:
        place = f"{rejection.source.path}:{rejection.source.line}"
        detail: dict[str, Json] = {
            "step": rejection.step,
            "reason": rejection.reason,
            "evidence": rejection.evidence,
        }
        facts = [f"{key} {value}" for key, value in rejection.evidence.items() if key != "kept"]
        sentence = f"{place} was removed by {rejection.step}: {rejection.reason}"
        sentence += f" ({', '.join(facts)})." if facts else "."
        kept = rejection.evidence.get("kept")
        if isinstance(kept, str):
            where, fate = self._place_of(kept)
            detail["kept_at"] = where
            sentence += f" The row kept instead is {where}, {fate}."
        return Answer(place, rejection.row, "removed", sentence, detail)

    def _place_of(self, row: str) -> tuple[str, str]:
        """Find the first line of the row that another one repeats, and where it ended."""
        lineage = self.kept_by_id.get(row)
        if lineage:
            _, name, line = lineage["sources"][0]
            return f"{name}:{line}", f"in {lineage['split']}"
        later = next((one for one in self.rejections if one.row == row), None)
        if later:
            return f"{later.source.path}:{later.source.line}", f"itself removed later by {later.step}"
        return f"row {row[:12]}", "which this version does not list"

    def _unknown_place(self, path: str, line: int, names: Sequence[str]) -> Answer:
        place = f"{path}:{line}"
        if not names:
            known = [source.path for source in self._dataset.sources]
            near = difflib.get_close_matches(path, known, n=3, cutoff=0.3) or known[:3]
            sentence = f"{self._dataset.ref} was not made from {path!r}; nearest: {', '.join(near)}."
            return Answer(place, None, "unknown", sentence, {"nearest": [*near]})
        lines = self._lines_of(names)
        near_line = min(lines, key=lambda known: (abs(known - line), known))
        sentence = (
            f"{place} is no row of {self._dataset.ref} (blank lines and headers are not); "
            f"the nearest row is line {near_line}, the last is {max(lines)}."
        )
        return Answer(place, None, "unknown", sentence, {"nearest": [f"{names[0]}:{near_line}"]})

    def _lines_of(self, names: Sequence[str]) -> list[int]:
        kept = [line for row in self.kept for _, name, line in row["sources"] if name in names]
        return kept + [one.source.line for one in self.rejections if one.source.path in names]

    def _unknown_id(self, prefix: str) -> Answer:
        known = [*self.kept_by_id, *(one.row for one in self.rejections if one.row)]
        near = sorted(known, key=lambda row: (-_common(row, prefix), row))[:3]
        sentence = (
            f"no row of {self._dataset.ref} has an id beginning with {prefix!r}; "
            f"nearest: {', '.join(row[:12] for row in near)}."
        )
        return Answer(prefix, None, "unknown", sentence, {"nearest": [*near]})


def _matching(known: Sequence[str], path: str) -> list[str]:
    """Find the recipe's paths that a typed path means: the same, else those where one ends with the other."""
    if path in known:
        return [path]
    return [name for name in known if _ends_with(name, path) or _ends_with(path, name)]


def _ends_with(path: str, end: str) -> bool:
    parts, last = PurePath(path).parts, PurePath(end).parts
    return bool(last) and parts[-len(last) :] == last


def _common(left: str, right: str) -> int:
    return next((i for i, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), len(right))
