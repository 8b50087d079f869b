"""Find all pairs of near-duplicates: a complete and exact Jaccard join, no sampling and no sketch.

Prefix filtering: each set is sorted rare-first (by count, then hash; one order for all). Two sets with
Jaccard >= T must share an element within short prefixes of that order, so only prefixes are indexed and every
candidate is verified by counting. Method: Bayardo, Ma, Srikant (WWW 2007); Xiao, Wang, Lin, Yu (WWW 2008).

Equal signatures are collapsed before the join and expanded after it; the result still lists every pair. As
n equal texts have n (n - 1) / 2 pairs, callers that expect thousands of them collapse first (`distinct`).
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportMissingTypeStubs=false

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import NamedTuple, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

from tunewright.core.text import Hashes, Signature

_Ints = NDArray[np.int64]
_Found = list[tuple[int, int, float]]
_F = TypeVar("_F", bound=Callable[..., object])

_LONG = 3
"""Added to the side of a row that pairs by characters with short rows only."""

_SLACK = 1e-9
"""Keeps rounding of threshold x size from losing a pair; verification is exact."""


@dataclass(frozen=True, slots=True, order=True)
class NearPair:
    """Two rows and how alike they are."""

    a: int
    b: int
    jaccard: float


def near_pairs(signatures: Sequence[Signature], threshold: float) -> list[NearPair]:
    """Find every pair within one collection whose Jaccard is at least the threshold.

    Args:
        signatures: rows to compare; empty texts match nothing.
        threshold: smallest Jaccard, 0 < threshold <= 1.

    Returns:
        Pairs with a < b, sorted; all of them.

    Raises:
        ValueError: the threshold is out of range.
    """
    kept, owner = distinct(signatures)
    members = _members(owner, len(kept))
    found = _join([signatures[row] for row in kept], np.zeros(len(kept), np.uint8), threshold)
    pairs = [NearPair(a, b, 1.0) for rows in members for a, b in combinations(rows, 2) if _any(signatures[a])]
    for left, right, score in found:
        rows = product(members[left], members[right])
        pairs.extend(NearPair(min(a, b), max(a, b), score) for a, b in rows)
    return sorted(pairs)


def near_pairs_between(
    left: Sequence[Signature], right: Sequence[Signature], threshold: float
) -> list[NearPair]:
    """Find every pair across two collections whose Jaccard is at least the threshold.

    Returns:
        Pairs sorted; `a` counts in `left`, `b` in `right`; all of them.

    Raises:
        ValueError: the threshold is out of range.
    """
    if not (left and right):
        return []
    kept_left, owner_left = distinct(left)
    kept_right, owner_right = distinct(right)
    rows = [left[row] for row in kept_left] + [right[row] for row in kept_right]
    sides = np.repeat(np.array([1, 2], np.uint8), [len(kept_left), len(kept_right)])
    members_left, members_right = _members(owner_left, len(kept_left)), _members(owner_right, len(kept_right))
    pairs: list[NearPair] = []
    for one, other, score in _join(rows, sides, threshold):
        a, b = min(one, other), max(one, other) - len(kept_left)
        pairs.extend(NearPair(i, j, score) for i, j in product(members_left[a], members_right[b]))
    return sorted(pairs)


def distinct(signatures: Sequence[Signature]) -> tuple[list[int], list[int]]:
    """Collapse equal signatures.

    Returns:
        (first row of each distinct signature, for each row the position of its signature in that list).
    """
    position: dict[bytes, int] = {}
    first: list[int] = []
    owner: list[int] = []
    for row, item in enumerate(signatures):
        place = position.setdefault(item.key, len(first))
        if place == len(first):
            first.append(row)
        owner.append(place)
    return first, owner


def _members(owner: Sequence[int], count: int) -> list[list[int]]:
    members: list[list[int]] = [[] for _ in range(count)]
    for row, place in enumerate(owner):
        members[place].append(row)
    return members


def _any(item: Signature) -> bool:
    return bool(item.chars.size)


def _join(rows: Sequence[Signature], sides: NDArray[np.uint8], threshold: float) -> _Found:
    """Join words among long rows, characters where one row is short; side 0 pairs with 0, side 1 with 2."""
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold {threshold} is out of range; expected 0 < threshold <= 1")
    short = np.fromiter((row.is_short for row in rows), np.bool_, len(rows))
    largest = max((row.chars.size for row, is_short in zip(rows, short, strict=True) if is_short), default=0)
    by_words = [index for index, is_short in enumerate(short) if not is_short]
    by_chars = [i for i, row in enumerate(rows) if short[i] or row.chars.size * threshold <= largest + _SLACK]
    found = _join_sets([rows[i].words for i in by_words], sides[by_words], threshold, by_words)
    classes = sides[by_chars] + np.where(short[by_chars], 0, _LONG).astype(np.uint8)
    return found + _join_sets([rows[i].chars for i in by_chars], classes, threshold, by_chars)


def _join_sets(
    sets: Sequence[Hashes], classes: NDArray[np.uint8], threshold: float, rows: Sequence[int]
) -> _Found:
    """Join sets whose classes may pair; `rows` names them in the result."""
    if len(sets) < 2 or not any(item.size for item in sets):
        return []
    sizes = np.fromiter((item.size for item in sets), np.int64, len(sets))
    order = np.argsort(sizes, kind="stable")
    ascending = [sets[int(place)] for place in order]
    packed = _pack(ascending, sizes[order], classes[order], threshold)
    left, right, scores = _prefix_join(packed, _empty_index(packed), threshold)
    names = np.asarray(rows, np.int64)[order]
    return list(zip(names[left].tolist(), names[right].tolist(), scores.tolist(), strict=True))


class _Sets(NamedTuple):
    """Sets in ascending size, one after the other."""

    sizes: _Ints
    starts: _Ints
    ranks: _Ints
    probed: _Ints
    """Length of each prefix that is looked up; any match has an element there."""
    indexed: _Ints
    """Length of each prefix that later, larger sets can find."""
    classes: NDArray[np.uint8]
    pairing: NDArray[np.bool_]


class _Index(NamedTuple):
    """Rank -> sets whose prefix holds it: `rows[first[rank]:last[rank]]`. Filled by the join."""

    first: _Ints
    last: _Ints
    rows: _Ints
    seen: _Ints
    """For each set the last one that met it."""


def _pack(sets: Sequence[Hashes], sizes: _Ints, classes: NDArray[np.uint8], threshold: float) -> _Sets:
    starts = np.concatenate((np.zeros(1, np.int64), np.cumsum(sizes)))
    probed = _prefix_lengths(sizes, threshold)
    indexed = _prefix_lengths(sizes, 2 * threshold / (1 + threshold))
    return _Sets(sizes, starts, _rare_first(sets, sizes), probed, indexed, classes, _PAIRING)


def _empty_index(sets: _Sets) -> _Index:
    """Set room aside for every indexed prefix element."""
    place = np.arange(sets.ranks.size) - np.repeat(sets.starts[:-1], sets.sizes)
    ranks = sets.ranks[place < np.repeat(sets.indexed, sets.sizes)]
    counts = np.bincount(ranks, minlength=int(sets.ranks.max(initial=-1)) + 1)
    first = np.concatenate((np.zeros(1, np.int64), np.cumsum(counts)))[:-1]
    return _Index(first, first.copy(), np.empty(ranks.size, np.int64), np.full(sets.sizes.size, -1, np.int64))


def _prefix_lengths(sizes: _Ints, share: float) -> _Ints:
    """Elements among which one of any `share` x size common ones must stand."""
    needed = np.maximum(np.ceil(sizes * share - _SLACK), 1).astype(np.int64)
    return np.where(sizes > 0, sizes - needed + 1, 0)


def _rare_first(sets: Sequence[Hashes], sizes: _Ints) -> _Ints:
    """Replace hashes by their place in the rare-first order; each set sorted by it."""
    unique, places, counts = np.unique(np.concatenate(sets), return_inverse=True, return_counts=True)
    rank = np.empty(unique.size, np.int64)
    rank[np.argsort(counts, kind="stable")] = np.arange(unique.size)
    owner = np.repeat(np.arange(sizes.size), sizes) * max(unique.size, 1)
    return np.sort(owner + rank[places]) - owner


def _pairing() -> NDArray[np.bool_]:
    """Which classes pair: by side, and never two long rows in the join by characters."""
    sides = np.array([[1, 0, 0], [0, 0, 1], [0, 1, 0]], np.bool_)
    return np.block([[sides, sides], [sides, np.zeros_like(sides)]])


_PAIRING = _pairing()


def _compiled(function: _F) -> _F:
    """Compile with a cache on disk, or without one where no folder is writable."""
    try:
        return cast(_F, numba.njit(cache=True, nogil=True)(function))
    except RuntimeError:  # numba: no locator available
        return cast(_F, numba.njit(nogil=True)(function))


@_compiled
def _jaccard(sets: _Sets, a: int, b: int, threshold: float) -> float:
    """Compare two sets by merging; -1.0 as soon as the threshold is out of reach."""
    left, left_end, right, right_end = sets.starts[a], sets.starts[a + 1], sets.starts[b], sets.starts[b + 1]
    total = left_end - left + right_end - right
    needed = threshold / (1 + threshold) * total - 1e-9
    common = 0
    while left < left_end and right < right_end:
        if common + min(left_end - left, right_end - right) < needed:
            return -1.0
        if sets.ranks[left] == sets.ranks[right]:
            common += 1
            left += 1
            right += 1
        elif sets.ranks[left] < sets.ranks[right]:
            left += 1
        else:
            right += 1
    return common / (total - common)


@_compiled
def _candidates(sets: _Sets, index: _Index, row: int, least: float, found: _Ints) -> int:
    """Write into `found` every indexed set of `least` elements or more that shares a prefix element."""
    count = 0
    for place in range(sets.starts[row], sets.starts[row] + sets.probed[row]):
        rank = sets.ranks[place]
        first, last = index.first[rank], index.last[rank]
        while first < last and sets.sizes[index.rows[first]] < least:
            first += 1  # sets only grow: what is too small now stays too small
        index.first[rank] = first
        for entry in range(first, last):
            other = index.rows[entry]
            if index.seen[other] != row and sets.pairing[sets.classes[row], sets.classes[other]]:
                index.seen[other] = row
                found[count] = other
                count += 1
    return count


@_compiled
def _prefix_join(sets: _Sets, index: _Index, threshold: float) -> tuple[_Ints, _Ints, NDArray[np.float64]]:
    """Join sets in ascending size: each looks among those before it, then joins the index."""
    found = np.empty(sets.sizes.size, np.int64)
    left, right, scores = np.empty(1024, np.int64), np.empty(1024, np.int64), np.empty(1024, np.float64)
    count = 0
    for row in range(sets.sizes.size):
        least = threshold * sets.sizes[row] - 1e-9
        for place in range(_candidates(sets, index, row, least, found)):
            score = _jaccard(sets, row, found[place], threshold)
            if score < threshold:
                continue
            if count == left.size:
                left, right = np.append(left, left), np.append(right, right)
                scores = np.append(scores, scores)
            left[count], right[count], scores[count] = row, found[place], score
            count += 1
        for place in range(sets.starts[row], sets.starts[row] + sets.indexed[row]):
            index.rows[index.last[sets.ranks[place]]] = row
            index.last[sets.ranks[place]] += 1
    return left[:count], right[:count], scores[:count]
