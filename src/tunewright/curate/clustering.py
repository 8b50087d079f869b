"""Which rows belong together before a split, and what the vault's memory knows of them. Pure.

Two rows belong together if they share a group, the exact prompt, or a verified near-duplicate prompt; so do
rows linked through others. A recorded row is recognised in the same three ways, and by its id.
"""

from collections import defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from tunewright.core.clusters import connected, links_of_equal
from tunewright.core.joins import distinct, near_pairs, near_pairs_between
from tunewright.core.text import Signature, prompt_text, text_digest
from tunewright.curate.memory import Remembered, Side, VaultMemory
from tunewright.records import Example
from tunewright.values import Digest, digest_json

Touches = Mapping[Side, Digest]
"""For each side that knows a row or cluster, the smallest id of a recorded row that matches."""


@dataclass(frozen=True, slots=True, eq=False)
class SplitRow:
    """What the split looks at, after deduplication."""

    id: Digest
    prompt: Digest
    """`text_digest` of the prompt."""
    group: str | None
    signature: Signature
    """Of the prompt."""
    time: datetime | None = None

    def remember(self, side: Side) -> Remembered:
        """Make what the vault keeps of this row."""
        return Remembered(self.id, side, self.prompt, group_digest(self.group), self.signature)


@dataclass(frozen=True, slots=True, eq=False)
class Cluster:
    """Rows that go to one side whole."""

    key: Digest
    """Smallest prompt digest in it; does not depend on the order of rows."""
    rows: tuple[int, ...]
    """Positions, ascending."""
    touches: Touches


def split_row(example: Example, signature: Signature) -> SplitRow:
    """Reduce an example to what the split looks at; `signature` is that of its `prompt_text`."""
    prompt = text_digest(prompt_text(example.messages))
    return SplitRow(example.id, prompt, example.group, signature, example.time)


def group_digest(group: str | None) -> Digest | None:
    """Hash a group key, so that the vault keeps no customer's name."""
    return None if group is None else digest_json(["group", group])


def find_links(rows: Sequence[SplitRow], threshold: float) -> list[tuple[int, int]]:
    """Link rows that belong together; enough links to connect them all, not every pair."""
    links = links_of_equal([row.group for row in rows]) + links_of_equal([row.prompt for row in rows])
    first, owner = distinct([row.signature for row in rows])
    same = [None if not rows[first[place]].signature.chars.size else place for place in owner]
    near = near_pairs([rows[row].signature for row in first], threshold)
    return links + links_of_equal(same) + [(first[pair.a], first[pair.b]) for pair in near]


def find_touches(rows: Sequence[SplitRow], memory: VaultMemory, threshold: float) -> list[Touches]:
    """Say for each row which sides of the memory know it, and by which recorded row."""
    by_key: defaultdict[tuple[str, str], dict[Side, Digest]] = defaultdict(dict)
    for known in memory.rows:  # sorted by id: the first is the smallest
        for kind, value in (("id", known.id), ("prompt", known.prompt), ("group", known.group)):
            if value is not None:
                by_key[kind, value].setdefault(known.side, known.id)
    near = _near_touches(rows, memory, threshold)
    found: list[Touches] = []
    for place, row in enumerate(rows):
        keys = (("id", row.id), ("prompt", row.prompt), ("group", group_digest(row.group) or ""))
        found.append(_merged([*(by_key.get(key, {}) for key in keys), *near[place]]))
    return found


def build_clusters(
    rows: Sequence[SplitRow],
    touches: Sequence[Touches],
    threshold: float,
    without: Container[int] = (),
) -> list[Cluster]:
    """Join rows that belong together, as if the rows `without` were not there. Sorted by key."""
    kept = [place for place in range(len(rows)) if place not in without]
    links = find_links([rows[place] for place in kept], threshold)
    members: defaultdict[int, list[int]] = defaultdict(list)
    for place, label in zip(kept, connected(len(kept), links), strict=True):
        members[label].append(place)
    clusters = [
        Cluster(
            min(rows[place].prompt for place in group), tuple(group), _merged([touches[i] for i in group])
        )
        for group in members.values()
    ]
    return sorted(clusters, key=lambda cluster: cluster.key)


def recorded_side(cluster: Cluster, rows: Sequence[SplitRow], memory: VaultMemory) -> Side | None:
    """Say where the memory puts a cluster: by its recorded rows, else by what it touches; None if new."""
    for place in cluster.rows:
        if side := memory.side(rows[place].id):
            return side
    return next(iter(cluster.touches.keys()), None)


def _near_touches(rows: Sequence[SplitRow], memory: VaultMemory, threshold: float) -> list[list[Touches]]:
    """List for each row what the near-duplicates of its prompt in the memory touch."""
    known = memory.rows
    first_known, owner_known = distinct([row.signature for row in known])
    sides: list[dict[Side, Digest]] = [{} for _ in first_known]
    for row, place in zip(known, owner_known, strict=True):
        sides[place].setdefault(row.side, row.id)
    first, owner = distinct([row.signature for row in rows])
    near: list[list[Touches]] = [[] for _ in first]
    mine, theirs = [rows[row].signature for row in first], [known[row].signature for row in first_known]
    for pair in near_pairs_between(mine, theirs, threshold):
        near[pair.a].append(sides[pair.b])
    return [near[place] for place in owner]


def _merged(touches: Iterable[Touches]) -> Touches:
    merged: dict[Side, Digest] = {}
    for touch in touches:
        for side, row in touch.items():
            merged[side] = min(row, merged.get(side, row))
    return merged
