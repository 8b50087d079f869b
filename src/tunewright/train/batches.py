"""Which rows are trained in which step, and how a step's rows are packed. Pure, the same on every machine."""

import hashlib
import math
from collections.abc import Iterable, Sequence


def shuffled(row_ids: Sequence[str], seed: int, epoch: int) -> list[int]:
    """Order rows for one epoch by a hash of seed, epoch and id; depends on no library's generator."""
    keys = [hashlib.sha256(f"{seed}/{epoch}/{row}".encode()).digest() for row in row_ids]
    return sorted(range(len(row_ids)), key=lambda index: (keys[index], index))


def plan_steps(
    row_ids: Sequence[str], *, seed: int, epochs: float, batch_rows: int, max_steps: int | None = None
) -> list[list[int]]:
    """Lay out the whole training: each epoch shuffled anew, cut into batches, the last one maybe smaller.

    Returns:
        One list of row indices an optimiser step.
    """
    num_rows = math.ceil(epochs * len(row_ids))
    order: list[int] = []
    for epoch in range(math.ceil(epochs)):
        order += shuffled(row_ids, seed, epoch)
    starts = range(0, num_rows, batch_rows)
    steps = [order[start : min(start + batch_rows, num_rows)] for start in starts]
    return steps[:max_steps]


def pack(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Pack rows into as few micro-batches as best-fit decreasing finds.

    Args:
        lengths: tokens of each row, > 0.
        capacity: tokens a micro-batch holds; a longer row gets one of its own.

    Returns:
        Indices into `lengths`, one list a micro-batch, each sorted.

    Source: Johnson (1973), near-optimal bin packing algorithms.
    """
    bins: list[list[int]] = []
    room: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        fitting = [at for at, free in enumerate(room) if free >= lengths[index]]
        if fitting:
            best = min(fitting, key=lambda at: (room[at], at))
        else:
            best = len(bins)
            bins.append([])
            room.append(capacity)
        bins[best].append(index)
        room[best] -= lengths[index]
    return [sorted(each) for each in bins]


def fill_fraction(packed: Sequence[Sequence[int]], lengths: Sequence[int], capacity: int) -> float:
    """Say how full the micro-batches are, the last of a step left out when there are several."""
    full = packed[:-1] if len(packed) > 1 else packed
    used = [min(sum(lengths[index] for index in each), capacity) for each in full]
    return sum(used) / (capacity * len(used)) if used else 1.0


class OrderDigest:
    """Hashes row ids in the order in which they are trained, repeats included, one id a line."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def update(self, row_ids: Iterable[str]) -> None:
        """Add the rows of one step."""
        for row in row_ids:
            self._hash.update(row.encode() + b"\n")

    def hexdigest(self) -> str:
        """SHA-256 of everything so far."""
        return self._hash.hexdigest()
