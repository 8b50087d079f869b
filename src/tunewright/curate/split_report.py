"""What people are told about a split: numbers for the card, warnings, why a split cannot be made. Pure."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from tunewright.core.clusters import effective_number
from tunewright.curate.clustering import Cluster, SplitRow, recorded_side
from tunewright.curate.memory import VaultMemory
from tunewright.errors import EmptySplit
from tunewright.recipe import SplitRules
from tunewright.records import Split

LARGE_CLUSTER_FRACTION = 0.1


@dataclass(frozen=True, slots=True)
class SplitReport:
    """Numbers for the card."""

    num_rows: int
    """Rows given."""
    num_clusters: int
    effective_clusters: float
    """1 / sum of squared shares (Kish)."""
    largest_cluster_rows: int
    largest_cluster: str
    """What holds the largest cluster together, in words; never text of a row."""
    recorded_rows: int
    """Rows an earlier version recorded; they keep their side."""
    joined_rows: int
    """New rows that follow a recorded relative."""
    new_clusters: int
    """Clusters without any recorded relative."""
    new_clusters_held_out: int
    bridging_rows: int
    """Rows rejected because they tie recorded train rows to recorded held-out rows."""
    rows_of: dict[str, int]
    """Side -> rows."""

    @property
    def bridging_fraction(self) -> float:
        """Share of all rows given."""
        return self.bridging_rows / self.num_rows if self.num_rows else 0.0


def report_on(
    rows: Sequence[SplitRow],
    clusters: Sequence[Cluster],
    memory: VaultMemory,
    sides: Sequence[Split | None],
    bridging_rows: int,
) -> SplitReport:
    """Count what the split did."""
    recorded = {place for place, row in enumerate(rows) if memory.side(row.id) is not None}
    new = [cluster for cluster in clusters if recorded_side(cluster, rows, memory) is None]
    following = {place for cluster in clusters for place in cluster.rows} - recorded
    largest = max(clusters, key=lambda cluster: (len(cluster.rows), cluster.key))
    return SplitReport(
        num_rows=len(rows),
        num_clusters=len(clusters),
        effective_clusters=effective_number([c.key for c in clusters for _ in c.rows]),
        largest_cluster_rows=len(largest.rows),
        largest_cluster=_held_together(rows, largest),
        recorded_rows=len(recorded),
        joined_rows=len(following.difference(*(cluster.rows for cluster in new))),
        new_clusters=len(new),
        new_clusters_held_out=sum(any(sides[p] == "held_out" for p in cluster.rows) for cluster in new),
        bridging_rows=bridging_rows,
        rows_of={side: sides.count(side) for side in ("train", "validation", "held_out")},
    )


def warnings_for(report: SplitReport, rules: SplitRules) -> tuple[str, ...]:
    """Say what a person should know before trusting the split."""
    found: list[str] = []
    num_split = sum(report.rows_of.values())
    if report.recorded_rows + report.joined_rows and not report.new_clusters_held_out:
        found.append(
            f"No new cluster reached the held-out set ({report.new_clusters} new clusters in all): it holds "
            "only what earlier versions held out. Add fresh rows to judge later versions on."
        )
    share = report.largest_cluster_rows / num_split
    if share > LARGE_CLUSTER_FRACTION and report.largest_cluster_rows > 1:
        found.append(
            f"One cluster holds {report.largest_cluster_rows} of {num_split} rows ({share:.0%}): "
            f"{report.largest_cluster}. The rows count as {report.effective_clusters:.0f} independent "
            "clusters."
        )
    if report.bridging_rows:
        found.append(
            f"{report.bridging_rows} rows ({report.bridging_fraction:.1%}) were rejected because they tie "
            "recorded train rows to recorded held-out rows."
        )
    held_out = report.rows_of["held_out"] / num_split
    if not rules.held_out / 2 <= held_out <= rules.held_out * 2:
        found.append(
            f"The held-out set has {report.rows_of['held_out']} of {num_split} rows ({held_out:.0%}); "
            f"{rules.held_out:.0%} was asked for. Clusters are never divided and recorded rows never move."
        )
    return tuple(found)


def empty_split(
    rows: Sequence[SplitRow],
    clusters: Sequence[Cluster],
    sides: Sequence[Split | None],
    memory: VaultMemory,
) -> EmptySplit:
    """Make the error that says which side would be empty, why, and what to do."""
    empty = [side for side in ("train", "validation", "held_out") if side not in sides]
    what = (
        f"{' and '.join(empty)} would have no rows ({len(rows)} rows, {len(clusters)} independent clusters)"
    )
    num_split = sum(len(cluster.rows) for cluster in clusters)
    if not num_split:
        return EmptySplit(
            f"{what}; expected rows to split. See `tunewright data rejects` for what was removed."
        )
    largest = max(clusters, key=lambda cluster: (len(cluster.rows), cluster.key))
    together = (
        f"the largest cluster holds {len(largest.rows)} of {num_split} rows: {_held_together(rows, largest)}"
    )
    if all(recorded_side(cluster, rows, memory) for cluster in clusters):
        return EmptySplit(
            f"{what}; every row was recorded earlier or follows a recorded row, and those never move. "
            "Add fresh rows."
        )
    if len(rows) < 3:
        return EmptySplit(
            f"{what}; expected at least 3 rows that differ, one for each side. Equal rows count once: "
            "`tunewright plan` says how many were read. Add rows."
        )
    if len(clusters) < 3:
        return EmptySplit(
            f"{what}; expected at least 3 clusters, one for each side; {together}. Choose a finer `group` "
            "field or none, add rows that differ, or raise `dedup_threshold` if these rows are not alike."
        )
    return EmptySplit(f"{what}; {together}. Change the shares or the embargo under data.split, or add rows.")


def _held_together(rows: Sequence[SplitRow], cluster: Cluster) -> str:
    """Name the group most of a cluster's rows share, or the likeness of their prompts."""
    groups = Counter(group for place in cluster.rows if (group := rows[place].group) is not None)
    if groups:
        group, count = min(groups.items(), key=lambda item: (-item[1], item[0]))
        if count > 1:
            return f"group {group!r} has {count} of them"
    prompts = Counter(rows[place].prompt for place in cluster.rows)
    same = max(prompts.values())
    return f"near-duplicate prompts, {same} of them equal" if same > 1 else "near-duplicate prompts"
