"""What compares rows with each other, in order: duplicates and conflicts, split, decontamination. Pure.

Prepared rows and the vault's memory go in; kept rows with their sides, rejections, the memory after, and the
facts for the card come out. The same rows give the same answer in whatever order they are given.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tunewright.core.text import prompt_text, signatures
from tunewright.curate.clustering import SplitRow, split_row
from tunewright.curate.decontaminate import Decontamination, PlacedRow, decontaminate, nearest_scores
from tunewright.curate.dedup import ConflictReport, DedupResult, dedup_row, deduplicate
from tunewright.curate.memory import VaultMemory
from tunewright.curate.seal import KeptRow, by_place
from tunewright.curate.split import SplitResult, split_rows
from tunewright.curate.split_report import SplitReport
from tunewright.errors import EmptySplit
from tunewright.recipe import DataSection
from tunewright.records import Example, Rejection, Source, Split
from tunewright.values import Digest, Json

MEMORY_REASONS = frozenset({"bridges_train_and_held_out"})
"""Reasons of the split that come from what the vault remembers."""


@dataclass(frozen=True, slots=True)
class Findings:
    """What the decisions measured."""

    conflicts: ConflictReport
    split: SplitReport
    contamination: Decontamination


@dataclass(frozen=True, slots=True)
class Decided:
    """What becomes of every prepared row."""

    kept: tuple[KeptRow, ...]
    """Sorted by row id."""
    rejections: tuple[Rejection, ...]
    """Of the steps in this module."""
    neighbours: Mapping[Digest, float]
    """Held-out row -> best lexical score over trained rows, ancestors' included."""
    memory: VaultMemory
    """Before, and the kept rows."""
    findings: Findings
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A row with what is compared."""

    example: Example
    text: str
    split_row: SplitRow
    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True)
class _Placed:
    """A candidate with its side."""

    candidate: _Candidate
    split: Split
    cluster: Digest


def decide_rows(
    examples: Sequence[Example],
    data: DataSection,
    memory: VaultMemory,
    ancestors: Sequence[Example] = (),
) -> Decided:
    """Decide what becomes of every row that passed the steps of its own.

    Args:
        examples: masked rows.
        data: the recipe's rules.
        memory: what the vault remembers.
        ancestors: rows that earlier versions trained on; each held-out row is compared with them too.

    Raises:
        EmptySplit: a side would have no rows.
        HeldOutLeak: a row would stand on both sides, or change its side.
    """
    candidates, deduped, rejections = _distinct(examples, data)
    placed, split, split_rejections = _split(candidates, data, memory)
    contamination = _decontaminate(placed, data)
    kept, quarantined = _quarantine(placed, contamination)
    return Decided(
        kept=tuple(sorted((_kept_row(row) for row in kept), key=lambda row: row.example.id)),
        rejections=(*rejections, *split_rejections, *quarantined),
        neighbours=_with_ancestors(contamination.neighbours, kept, ancestors),
        memory=memory.add(
            row.candidate.split_row.remember("held_out" if row.split == "held_out" else "train")
            for row in kept
        ),
        findings=Findings(deduped.conflicts, split.report, contamination),
        warnings=(*split.warnings, *_over_cap(contamination)),
    )


def _distinct(
    examples: Sequence[Example], data: DataSection
) -> tuple[list[_Candidate], DedupResult, list[Rejection]]:
    """Leave duplicates and, if the rules say so, conflicts out."""
    ordered = sorted(examples, key=lambda example: by_place(example.source))
    texts = [prompt_text(example.messages) for example in ordered]
    found = signatures(texts)
    deduped = deduplicate(
        [dedup_row(example, found[place]) for place, example in enumerate(ordered)],
        threshold=data.dedup_threshold,
        policy=data.conflicts,
    )
    sources = _sources(ordered, deduped)
    removed = {removal.row for removal in deduped.removals}
    candidates = [
        _Candidate(example, texts[place], split_row(example, found[place]), sources[place])
        for place, example in enumerate(ordered)
        if place not in removed
    ]
    unique, same_id = _unique_ids(candidates)
    return unique, deduped, [*_duplicates(ordered, deduped), *same_id]


def _sources(ordered: Sequence[Example], deduped: DedupResult) -> list[tuple[Source, ...]]:
    """List every line a row stands for: its own and those of its exact duplicates."""
    absorbed: defaultdict[int, list[Source]] = defaultdict(list)
    for removal in deduped.removals:
        if removal.step == "exact_duplicate" and removal.kept is not None:
            absorbed[removal.kept].append(ordered[removal.row].source)
    return [(example.source, *absorbed[place]) for place, example in enumerate(ordered)]


def _duplicates(ordered: Sequence[Example], deduped: DedupResult) -> list[Rejection]:
    rejections: list[Rejection] = []
    for removal in deduped.removals:
        evidence = dict(removal.evidence)
        if removal.kept is not None:
            kept = ordered[removal.kept].source
            evidence |= {"kept_path": kept.path, "kept_line": kept.line}
        rejections.append(_rejection(ordered[removal.row], removal.step, removal.reason, evidence))
    return rejections


def _unique_ids(candidates: Sequence[_Candidate]) -> tuple[list[_Candidate], list[Rejection]]:
    """Keep one row of each id: masking can make rows differ that were equal as read."""
    first: dict[Digest, _Candidate] = {}
    rejections: list[Rejection] = []
    for candidate in candidates:
        known = first.setdefault(candidate.example.id, candidate)
        if known is not candidate:
            evidence: dict[str, Json] = {"kept": known.example.id, "jaccard": 1.0}
            rejections.append(_rejection(candidate.example, "exact_duplicate", "exact_duplicate", evidence))
    return list(first.values()), rejections


def _split(
    candidates: Sequence[_Candidate], data: DataSection, memory: VaultMemory
) -> tuple[list[_Placed], SplitResult, list[Rejection]]:
    rows = [candidate.split_row for candidate in candidates]
    result = split_rows(rows, memory, data.split, threshold=data.dedup_threshold)
    placed = [
        _Placed(candidate, side, cluster)
        for candidate, side, cluster in zip(candidates, result.sides, result.clusters, strict=True)
        if side is not None and cluster is not None
    ]
    rejections = [
        _rejection(
            candidates[one.row].example,
            "memory" if one.reason in MEMORY_REASONS else "split",
            one.reason,
            one.evidence,
        )
        for one in result.rejections
    ]
    return placed, result, rejections


def _decontaminate(placed: Sequence[_Placed], data: DataSection) -> Decontamination:
    return decontaminate(
        [_placed_row(row) for row in placed if row.split != "held_out"],
        [_placed_row(row) for row in placed if row.split == "held_out"],
        near_threshold=data.dedup_threshold,
        fpr=data.contamination_fpr,
    )


def _placed_row(row: _Placed) -> PlacedRow:
    mine = row.candidate.split_row
    return PlacedRow(mine.id, row.candidate.text, mine.prompt, mine.signature, row.cluster)


def _quarantine(
    placed: Sequence[_Placed], contamination: Decontamination
) -> tuple[list[_Placed], list[Rejection]]:
    """Take quarantined train rows out. Raises EmptySplit when that empties a side."""
    trained = [row for row in placed if row.split != "held_out"]
    gone = {trained[one.row].candidate.example.id: one for one in contamination.quarantined}
    kept = [row for row in placed if row.candidate.example.id not in gone]
    rejections = [
        _rejection(
            trained[one.row].candidate.example,
            "decontaminate",
            "lexical_match",
            {"held_out": one.held_out, "score": one.score, "threshold": contamination.threshold},
        )
        for one in contamination.quarantined
    ]
    for side in ("train", "validation"):
        if not any(row.split == side for row in kept):
            raise EmptySplit(
                f"{side} has no rows after {len(gone)} rows like held-out rows were put aside; expected at "
                "least one. Add rows that differ, or lower data.contamination_fpr."
            )
    return kept, rejections


def _with_ancestors(
    neighbours: Mapping[Digest, float], kept: Sequence[_Placed], ancestors: Sequence[Example]
) -> dict[Digest, float]:
    """Raise each held-out row's best score to that over rows only ancestors trained on."""
    mine = {row.candidate.example.id for row in kept}
    others = [example for example in ancestors if example.id not in mine]
    if not others:
        return dict(neighbours)
    texts = [prompt_text(example.messages) for example in others]
    rows = [
        PlacedRow(example.id, text, Digest(""), found, Digest(""))
        for example, text, found in zip(others, texts, signatures(texts), strict=True)
    ]
    held_out = [_placed_row(row) for row in kept if row.split == "held_out"]
    scores = nearest_scores(rows, held_out)
    return {row: max(score, scores[row]) for row, score in neighbours.items()}


def _over_cap(contamination: Decontamination) -> tuple[str, ...]:
    if not contamination.num_over_cap:
        return ()
    return (
        f"{contamination.num_hits} train rows resemble held-out rows more than chance allows; "
        f"{contamination.num_over_cap} of them stay in train, since only a capped share is put aside. "
        "Look at `tunewright data rejects` for reason lexical_match.",
    )


def _kept_row(row: _Placed) -> KeptRow:
    return KeptRow(row.candidate.example, row.split, row.cluster, row.candidate.sources)


def _rejection(example: Example, step: str, reason: str, evidence: Mapping[str, Json]) -> Rejection:
    return Rejection(source=example.source, row=example.id, step=step, reason=reason, evidence=dict(evidence))
