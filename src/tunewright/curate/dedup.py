"""Which rows repeat another: exact duplicates, near-duplicates as stars around one kept row, and conflicts.

Pure decisions. Removal needs equal answers; equal or near-equal prompts with different answers are conflicts
and are reported. A row is removed only for one kept row, and only over an edge whose Jaccard was computed
exactly, never because both are linked through a third one.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from tunewright.core.joins import distinct, near_pairs
from tunewright.core.text import Signature, answer_digest, content_id
from tunewright.records import Example
from tunewright.values import Digest, Json

ConflictPolicy = Literal["keep_all", "keep_majority", "quarantine"]

_FOREVER = float("inf")


@dataclass(frozen=True, slots=True, eq=False)
class DedupRow:
    """What deduplication looks at, after masking."""

    id: Digest
    content: Digest
    """`content_id` of all messages; equal for exact duplicates."""
    prompt: Digest
    """`content_id` of everything before the last answer; equal prompts with different answers conflict."""
    answer: Digest
    """`answer_digest`; near-duplicates are removed only where it is equal."""
    signature: Signature
    """Of `prompt_text`."""
    length: int
    """Characters of all messages."""
    quality: float = 0.0
    time: datetime | None = None


@dataclass(frozen=True, slots=True)
class Removal:
    """One row that does not stay, and why."""

    row: int
    """Its position among the rows given."""
    step: Literal["exact_duplicate", "near_duplicate", "conflict"]
    reason: str
    kept: int | None
    """Position of the row it repeats; absent for conflicts. A near-duplicate's kept row stays; an exact
    duplicate's twin stays too, or is itself removed as a near-duplicate."""
    evidence: Mapping[str, Json]
    """`kept` (row id) and `jaccard`, or the numbers of the conflict."""


@dataclass(frozen=True, slots=True)
class ConflictReport:
    """Equal prompts with different answers."""

    num_rows: int
    num_prompts: int
    """Different prompts."""
    conflicting_prompts: int
    conflicting_rows: int
    """Rows of conflicting prompts."""
    consistency_ceiling: float
    """Share of rows that carry the most frequent answer of their prompt: what a perfect model could reach."""
    repeated_rows: int
    """Rows whose prompt occurs more than once."""
    repeated_consistency: float | None
    """The same share among repeated rows; absent where there are none."""
    near_conflicting_pairs: int
    """Pairs of near-duplicate prompts with different answers; nothing is removed for them."""
    groups: tuple[tuple[int, ...], ...]
    """Positions of the rows of each conflicting prompt, largest groups first."""


@dataclass(frozen=True, slots=True)
class DedupResult:
    """What to remove and what to report."""

    removals: tuple[Removal, ...]
    """Sorted by position, one for each removed row."""
    conflicts: ConflictReport


def dedup_row(example: Example, signature: Signature, *, quality: float = 0.0) -> DedupRow:
    """Reduce an example to what deduplication looks at; `signature` is that of its `prompt_text`."""
    return DedupRow(
        id=example.id,
        content=content_id(example.messages),
        prompt=content_id(example.prompt),
        answer=answer_digest(example.messages),
        signature=signature,
        length=sum(len(turn.content) for turn in example.messages),
        quality=quality,
        time=example.time,
    )


def deduplicate(rows: Sequence[DedupRow], *, threshold: float, policy: ConflictPolicy) -> DedupResult:
    """Decide which rows repeat another.

    Conflicts are judged first, on all rows, since how often an answer was given counts; then exact
    duplicates; then near-duplicates among what is left. The kept row is the longest, then of best quality,
    then the oldest (rows without time last), then of the smallest id, then the first.

    Args:
        rows: valid rows, after masking.
        threshold: Jaccard at or above which two prompts are near-duplicates, 0 < threshold <= 1.
        policy: what to do with equal prompts and different answers.
    """
    by_prompt = _positions([row.prompt for row in rows])
    answers = [row.content for row in rows]
    disputed = _conflicting(by_prompt, answers)
    removed = {removal.row: removal for removal in _settle(rows, disputed, policy)}
    for removal in _exact(rows, [row for row in range(len(rows)) if row not in removed]):
        removed[removal.row] = removal
    near = _NearGroups.of(rows, [row for row in range(len(rows)) if row not in removed], threshold)
    for removal in near.stars(rows):
        removed[removal.row] = removal
    report = _report(by_prompt, answers, disputed, near.num_conflicting_pairs(rows))
    return DedupResult(tuple(removed[row] for row in sorted(removed)), report)


def label_consistency(prompts: Sequence[str], answers: Sequence[str]) -> float:
    """Find the share of rows whose answer is the most frequent one of their identical prompt.

    Returns:
        A fraction in (0, 1]; 1.0 for no rows. No model that sees the prompt only can be right more often.
    """
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for prompt, answer in zip(prompts, answers, strict=True):
        counts[prompt][answer] += 1
    return sum(max(given.values()) for given in counts.values()) / len(prompts) if prompts else 1.0


def _priority(row: DedupRow, position: int) -> tuple[float, float, float, str, int]:
    """Sort key; the smallest is kept."""
    time = row.time.timestamp() if row.time else _FOREVER
    return -row.length, -row.quality, time, row.id, position


def _positions(keys: Sequence[Digest]) -> dict[Digest, list[int]]:
    found: defaultdict[Digest, list[int]] = defaultdict(list)
    for position, key in enumerate(keys):
        found[key].append(position)
    return dict(found)


def _conflicting(by_prompt: Mapping[Digest, list[int]], answers: Sequence[Digest]) -> list[list[int]]:
    found = [rows for rows in by_prompt.values() if len({answers[row] for row in rows}) > 1]
    return sorted(found, key=lambda rows: (-len(rows), rows))


def _settle(rows: Sequence[DedupRow], disputed: Sequence[list[int]], policy: ConflictPolicy) -> list[Removal]:
    """Remove what the policy says; a tied majority goes to the oldest answer, then the smallest digest."""
    removals: list[Removal] = []
    for group in disputed if policy != "keep_all" else ():
        counts = Counter(rows[row].content for row in group)
        kept = min(counts, key=lambda answer: (-counts[answer], _oldest(rows, group, answer), answer))
        for row in group:
            mine = rows[row].content
            if policy == "keep_majority" and mine == kept:
                continue
            reason = "conflict" if policy == "quarantine" else "conflict_minority"
            numbers: dict[str, Json] = {"same_answer": counts[mine], "same_prompt": len(group)}
            removals.append(Removal(row, "conflict", reason, None, numbers))
    return removals


def _oldest(rows: Sequence[DedupRow], group: Sequence[int], answer: Digest) -> float:
    times = (rows[row].time for row in group if rows[row].content == answer)
    return min((time.timestamp() for time in times if time), default=_FOREVER)


def _exact(rows: Sequence[DedupRow], left: Sequence[int]) -> list[Removal]:
    removals: list[Removal] = []
    for group in _positions([rows[row].content for row in left]).values():
        members = sorted((left[place] for place in group), key=lambda row: _priority(rows[row], row))
        kept = members[0]
        evidence: dict[str, Json] = {"kept": rows[kept].id, "jaccard": 1.0}
        removals += [
            Removal(row, "exact_duplicate", "exact_duplicate", kept, evidence) for row in members[1:]
        ]
    return removals


@dataclass(frozen=True, slots=True)
class _NearGroups:
    """Rows by equal signature, and which groups are near: thousands of equal rows stay one node."""

    groups: tuple[tuple[int, ...], ...]
    near: Mapping[int, Mapping[int, float]]
    """Group -> near group -> Jaccard; each group with a non-empty text is near itself."""

    @classmethod
    def of(cls, rows: Sequence[DedupRow], left: Sequence[int], threshold: float) -> "_NearGroups":
        first, owner = distinct([rows[row].signature for row in left])
        groups: list[list[int]] = [[] for _ in first]
        for row, group in zip(left, owner, strict=True):
            groups[group].append(row)
        signatures = [rows[left[place]].signature for place in first]
        near: dict[int, dict[int, float]] = {
            group: {group: 1.0} if item.chars.size else {} for group, item in enumerate(signatures)
        }
        for pair in near_pairs(signatures, threshold):
            near[pair.a][pair.b] = near[pair.b][pair.a] = pair.jaccard
        return cls(tuple(tuple(group) for group in groups), near)

    def stars(self, rows: Sequence[DedupRow]) -> list[Removal]:
        """Walk from best to worst row; each row still there takes away its near rows with the same answer."""
        group_of = {row: group for group, members in enumerate(self.groups) for row in members}
        waiting: dict[tuple[int, Digest], set[int]] = defaultdict(set)
        for row, group in group_of.items():
            waiting[group, rows[row].answer].add(row)
        removals: list[Removal] = []
        for row in sorted(group_of, key=lambda row: _priority(rows[row], row)):
            key = group_of[row], rows[row].answer
            if row not in waiting[key]:
                continue
            waiting[key].discard(row)
            for group, jaccard in self.near[group_of[row]].items():
                evidence: dict[str, Json] = {"kept": rows[row].id, "jaccard": round(jaccard, 6)}
                near = waiting.pop((group, rows[row].answer), set())
                removals += [Removal(one, "near_duplicate", "near_duplicate", row, evidence) for one in near]
        return removals

    def num_conflicting_pairs(self, rows: Sequence[DedupRow]) -> int:
        """Count pairs of rows with near but not identical prompts and different answers."""
        given = [Counter((rows[row].prompt, rows[row].answer) for row in group) for group in self.groups]
        pairs = [(a, b) for a, near in self.near.items() for b in near if a <= b]
        return sum(_differing(given[a], given[b], same=a == b) for a, b in pairs)


def _differing(
    left: Counter[tuple[Digest, Digest]], right: Counter[tuple[Digest, Digest]], *, same: bool
) -> int:
    pairs = sum(
        one * other
        for (prompt, answer), one in left.items()
        for (near_prompt, near_answer), other in right.items()
        if prompt != near_prompt and answer != near_answer
    )
    return pairs // 2 if same else pairs


def _report(
    by_prompt: Mapping[Digest, list[int]],
    answers: Sequence[Digest],
    disputed: Sequence[list[int]],
    near_conflicting_pairs: int,
) -> ConflictReport:
    agreeing = {
        prompt: max(Counter(answers[row] for row in rows).values()) for prompt, rows in by_prompt.items()
    }
    repeated = [prompt for prompt, rows in by_prompt.items() if len(rows) > 1]
    repeated_rows = sum(len(by_prompt[prompt]) for prompt in repeated)
    return ConflictReport(
        num_rows=len(answers),
        num_prompts=len(by_prompt),
        conflicting_prompts=len(disputed),
        conflicting_rows=sum(len(rows) for rows in disputed),
        consistency_ceiling=sum(agreeing.values()) / len(answers) if answers else 1.0,
        repeated_rows=repeated_rows,
        repeated_consistency=(
            sum(agreeing[prompt] for prompt in repeated) / repeated_rows if repeated_rows else None
        ),
        near_conflicting_pairs=near_conflicting_pairs,
        groups=tuple(tuple(rows) for rows in disputed),
    )
