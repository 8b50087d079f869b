"""Which row goes to train, validation or held-out. One pure decision: memory first, hash (or time) second.

A cluster that touches recorded train rows only joins train; recorded held-out rows only, held-out; both, and
its new rows are rejected as bridges. Only clusters without any recorded relative are assigned:

* by a stable hash of (salt, cluster key): below the share means held-out. Two rules keep small data sets
  usable: a cluster larger than the whole held-out share goes to train, since it would *be* the held-out set;
  and where no cluster falls below the share, the one with the smallest hash is taken. Both depend on hashes
  and sizes only, never on the order of rows.
* or, with `time_split`, the latest clusters, a cluster being as late as its latest row.

Validation is chosen by a second hash among clusters on the train side, so that its share is one of all rows.
"""

import hashlib
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import accumulate

from tunewright.curate.clustering import Cluster, SplitRow, build_clusters, find_touches, recorded_side
from tunewright.curate.memory import VaultMemory
from tunewright.curate.split_report import SplitReport, empty_split, report_on, warnings_for
from tunewright.errors import RecipeError
from tunewright.recipe import SplitRules
from tunewright.records import Split
from tunewright.values import Digest, Json

_OLDEST = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class SplitRejection:
    """A row that goes to no side."""

    row: int
    """Its position among the rows given."""
    reason: str
    """bridges_train_and_held_out | embargo | missing_time."""
    evidence: Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class SplitResult:
    """Where every row goes."""

    sides: tuple[Split | None, ...]
    """By position; None where the row is rejected."""
    clusters: tuple[Digest | None, ...]
    """Key of the row's cluster, by position; None where the row is rejected."""
    rejections: tuple[SplitRejection, ...]
    """Sorted by position."""
    report: SplitReport
    warnings: tuple[str, ...]


def split_rows(
    rows: Sequence[SplitRow], memory: VaultMemory, rules: SplitRules, *, threshold: float
) -> SplitResult:
    """Assign every row to a side.

    Args:
        rows: kept rows, ids unique.
        memory: every row recorded so far; decides before any hash does.
        rules: shares, salt, time.
        threshold: Jaccard at or above which two prompts are near-duplicates.

    Returns:
        Sides, cluster keys, rejections and what to tell people; does not depend on the order of rows.

    Raises:
        RecipeError: the two shares leave nothing for training.
        EmptySplit: train, validation or held-out would have no rows; says why and what to do.
    """
    if rules.held_out + rules.validation >= 1:
        raise RecipeError(
            f"data.split: held_out {rules.held_out} and validation {rules.validation} leave no rows for "
            "training; expected a sum below 1. Lower one of them."
        )
    touches = find_touches(rows, memory, threshold)
    rejected = _without_time(rows, memory, rules)
    clusters = build_clusters(rows, touches, threshold, rejected)
    for reject in (_bridges, _recorded_bridges):
        if found := reject(rows, clusters, memory):
            rejected |= found
            clusters = build_clusters(rows, touches, threshold, rejected)
    held_out = _held_out(rows, clusters, memory, rules)
    rejected |= _embargoed(rows, clusters, held_out, memory, rules)
    validation = _validation(clusters, held_out, rejected, rules)
    sides, keys = _assign(len(rows), clusters, held_out, validation, rejected)
    if not {"train", "validation", "held_out"} <= set(sides):
        raise empty_split(rows, clusters, sides, memory)
    bridging = sum(one.reason == "bridges_train_and_held_out" for one in rejected.values())
    report = report_on(rows, clusters, memory, sides, bridging)
    rejections = tuple(rejected[row] for row in sorted(rejected))
    return SplitResult(sides, keys, rejections, report, warnings_for(report, rules))


def hash_fraction(purpose: str, salt: str, key: str) -> float:
    """Map a key to [0, 1), evenly and equally on every machine."""
    digest = hashlib.sha256(f"{purpose}\n{salt}\n{key}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


_Rejected = dict[int, SplitRejection]


def _without_time(rows: Sequence[SplitRow], memory: VaultMemory, rules: SplitRules) -> _Rejected:
    if not rules.time_split:
        return {}
    new = (place for place, row in enumerate(rows) if row.time is None and memory.side(row.id) is None)
    return {place: SplitRejection(place, "missing_time", {}) for place in new}


def _bridges(rows: Sequence[SplitRow], clusters: Sequence[Cluster], memory: VaultMemory) -> _Rejected:
    """Reject new rows whose cluster touches both sides."""
    torn = [cluster for cluster in clusters if len(cluster.touches) == 2]
    return {
        place: SplitRejection(place, "bridges_train_and_held_out", {**cluster.touches})
        for cluster in torn
        for place in cluster.rows
        if memory.side(rows[place].id) is None
    }


def _recorded_bridges(
    rows: Sequence[SplitRow], clusters: Sequence[Cluster], memory: VaultMemory
) -> _Rejected:
    """Leave recorded train rows out that now belong together with recorded held-out rows.

    This happens only when the rules have changed since, such as a lower threshold or a group field.
    """
    found: _Rejected = {}
    for cluster in clusters:
        held_out = [rows[place].id for place in cluster.rows if memory.side(rows[place].id) == "held_out"]
        trained = [place for place in cluster.rows if memory.side(rows[place].id) == "train"]
        if held_out:
            evidence: dict[str, Json] = {"recorded": "train", "held_out": min(held_out)}
            found |= {p: SplitRejection(p, "bridges_train_and_held_out", evidence) for p in trained}
    return found


def _held_out(
    rows: Sequence[SplitRow], clusters: Sequence[Cluster], memory: VaultMemory, rules: SplitRules
) -> frozenset[Digest]:
    """Name the held-out clusters: what the memory says, and a share of those it does not know."""
    sides = {cluster.key: recorded_side(cluster, rows, memory) for cluster in clusters}
    recorded = frozenset(key for key, side in sides.items() if side == "held_out")
    new = [cluster for cluster in clusters if sides[cluster.key] is None]
    num_rows = sum(len(cluster.rows) for cluster in new)
    sizes = {cluster.key: len(cluster.rows) for cluster in new}
    reserve = max(0, 2 - sum(side == "train" for side in sides.values()))
    fitting = _fitting(sizes, rules.held_out * num_rows)
    if rules.time_split:
        times = {cluster.key: _cluster_time(rows, cluster) for cluster in new}
        latest = sorted(fitting, key=lambda key: (times[key], key), reverse=True)
        chosen = _until(latest, sizes, rules.held_out * num_rows)
    else:
        chosen = _below(fitting, "held_out", rules.salt, rules.held_out, at_least=0 if recorded else 1)
    return recorded | frozenset(chosen[: max(0, len(new) - reserve)])


def _validation(
    clusters: Sequence[Cluster], held_out: Container[Digest], rejected: Container[int], rules: SplitRules
) -> frozenset[Digest]:
    """Name the validation clusters among those on the train side that still have rows."""
    left = {c.key: sum(row not in rejected for row in c.rows) for c in clusters if c.key not in held_out}
    sizes = {key: size for key, size in left.items() if size}
    fitting = _fitting(sizes, rules.validation / (1 - rules.held_out) * sum(sizes.values()))
    share = rules.validation / (1 - rules.held_out)
    return frozenset(_below(fitting, "validation", rules.salt, share, at_least=1)[: max(0, len(sizes) - 1)])


def _fitting(sizes: Mapping[Digest, int], num_rows: float) -> list[Digest]:
    """Name the clusters that are not larger than what is asked for; the smallest ones if none is."""
    most = max(num_rows, min(sizes.values(), default=0))
    return [key for key, size in sizes.items() if size <= most]


def _below(keys: Sequence[Digest], purpose: str, salt: str, share: float, *, at_least: int) -> list[Digest]:
    """Take keys whose hash is below the share, smallest hash first, and `at_least` so many."""
    ranked = sorted((hash_fraction(purpose, salt, key), key) for key in keys)
    count = max(at_least, sum(fraction < share for fraction, _ in ranked))
    return [key for _, key in ranked[:count]]


def _until(keys: Sequence[Digest], sizes: Mapping[Digest, int], num_rows: float) -> list[Digest]:
    """Take keys from the front until they hold so many rows."""
    before = accumulate((sizes[key] for key in keys), initial=0)
    return [key for key, rows in zip(keys, before, strict=False) if rows < num_rows]


def _cluster_time(rows: Sequence[SplitRow], cluster: Cluster) -> datetime:
    return max(rows[place].time or _OLDEST for place in cluster.rows)


def _embargoed(
    rows: Sequence[SplitRow],
    clusters: Sequence[Cluster],
    held_out: Container[Digest],
    memory: VaultMemory,
    rules: SplitRules,
) -> _Rejected:
    """Reject new rows on the train side that are later than the embargo before the first held-out time."""
    new = [c for c in clusters if c.key in held_out and recorded_side(c, rows, memory) is None]
    if not rules.time_split or not new:
        return {}
    first = min(_cluster_time(rows, cluster) for cluster in new)
    limit = first - timedelta(seconds=rules.embargo_s or 0)
    evidence: dict[str, Json] = {"first_held_out": first.isoformat(), "embargo_s": rules.embargo_s or 0}
    return {
        place: SplitRejection(place, "embargo", evidence)
        for cluster in clusters
        if cluster.key not in held_out
        for place in cluster.rows
        if (rows[place].time or _OLDEST) > limit and memory.side(rows[place].id) is None
    }


def _assign(
    num_rows: int,
    clusters: Sequence[Cluster],
    held_out: Container[Digest],
    validation: Container[Digest],
    rejected: Container[int],
) -> tuple[tuple[Split | None, ...], tuple[Digest | None, ...]]:
    sides: list[Split | None] = [None] * num_rows
    keys: list[Digest | None] = [None] * num_rows
    for cluster in clusters:
        side = "held_out" if cluster.key in held_out else "train"
        side = "validation" if cluster.key in validation else side
        for place in cluster.rows:
            if place not in rejected:
                sides[place], keys[place] = side, cluster.key
    return tuple(sides), tuple(keys)
