"""A dataset version: what went in, what was kept, what was removed and why, and the sealed splits."""

from datetime import datetime

from pydantic import Field

from tunewright.records.base import Record
from tunewright.records.example import Split
from tunewright.values import Digest, Json, Ref


class SourceCount(Record):
    """What one source file gave."""

    path: str
    digest: Digest
    rows_in: int
    rows_kept: int
    removed: dict[str, int]
    """Reason -> rows; rows_in = rows_kept + sum(removed.values())."""


class SplitInfo(Record):
    """One side of the split."""

    rows: int
    digest: Digest
    """Merkle root of the row ids."""
    blob: Digest
    """JSON lines of Example; encrypted for held_out."""


class DatasetVersion(Record):
    """A curated, immutable dataset; `digest` covers what was kept, removed and split, by plaintext."""

    ref: Ref
    digest: Digest
    fingerprint: Digest
    parents: tuple[Ref, ...] = ()
    sources: tuple[SourceCount, ...]
    rows_in: int
    rows_kept: int
    removed: dict[str, int]
    splits: dict[Split, SplitInfo]
    num_clusters: int
    effective_clusters: float
    """1 / sum of squared cluster shares (Kish)."""
    rejections: Digest
    """Blob: JSON lines of Rejection, sorted by source and line."""
    lineage: Digest
    """Blob: JSON lines {row, split, cluster, group, sources: [[digest, path, line], ...]} of every kept row.

    Held-out rows are listed too: ids and lines, never text."""
    neighbours: Digest
    """Blob, encrypted: JSON object held-out row id -> best lexical score over train and validation."""
    vault_before: Digest
    """Digest of the vault memory the split was decided with."""
    vault_after: Digest
    report: dict[str, Json] = Field(default_factory=dict)
    """Facts for the card: conflicts, pii counts by type, quarantine, bridging share, lengths, ..."""
    warnings: tuple[str, ...] = ()
    created_at: datetime
