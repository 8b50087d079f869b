"""Remove orphan blobs: bytes that a crash left before any record named them. Never a referenced blob."""

import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol, runtime_checkable

from tunewright.errors import IntegrityError
from tunewright.ports import Blobs, Records
from tunewright.values import Digest, canonical_json

MIN_AGE = timedelta(hours=24)
"""Younger blobs may belong to a stage that is still running."""

_DIGEST = re.compile(r"[0-9a-f]{64}")
_HEADS = ("vault",)


@runtime_checkable
class SweepableBlobs(Blobs, Protocol):
    """What a blob store must offer to be swept."""

    def written_at(self, digest: Digest) -> datetime:
        """Say when a blob was stored last, UTC."""
        ...

    def remove(self, digest: Digest) -> None:
        """Delete a blob."""
        ...

    def remove_scratch(self, before: datetime) -> int:
        """Delete temporary files older than a time; returns how many."""
        ...

    def exclusive(self) -> AbstractContextManager[None]:
        """Keep every writer out."""
        ...


@dataclass(frozen=True, slots=True)
class SweepReport:
    """What a sweep did."""

    removed: tuple[Digest, ...]
    num_young: int
    """Orphans younger than a day, left for now."""
    num_referenced: int
    num_scratch: int
    """Temporary files removed."""


def sweep_orphans(records: Records, blobs: SweepableBlobs, now: datetime) -> SweepReport:
    """Remove blobs that no record, event or head names and that are older than a day.

    Whatever looks like a digest anywhere in the database counts as a reference, and so does every file of a
    manifest that is referenced.

    Raises:
        StorageError: the store is read-only.
    """
    with blobs.exclusive():
        keep = referenced(records, blobs)
        orphans = [digest for digest in blobs.digests() if digest not in keep]
        old = tuple(digest for digest in orphans if blobs.written_at(digest) < now - MIN_AGE)
        for digest in old:
            blobs.remove(digest)
        scratch = blobs.remove_scratch(now - MIN_AGE)
    return SweepReport(old, len(orphans) - len(old), len(keep), scratch)


def referenced(records: Records, blobs: Blobs) -> set[Digest]:
    """Collect every stored blob that the database names, directly or through a manifest."""
    raw = records.raw()
    heads = [records.head(key) or "" for key in _HEADS]
    events = [canonical_json(dict(event)).decode("utf-8", "replace") for event in raw.events]
    named = _digests_in([*raw.records.values(), *events, *heads])
    found: set[Digest] = set()
    waiting = [digest for digest in named if blobs.has(digest)]
    while waiting:
        digest = waiting.pop()
        if digest not in found:
            found.add(digest)
            waiting += [inner for inner in _named_by(digest, blobs) if blobs.has(inner)]
    return found


def _digests_in(texts: Sequence[str]) -> set[Digest]:
    return {Digest(match) for text in texts for match in _DIGEST.findall(text)}


def _named_by(digest: Digest, blobs: Blobs) -> set[Digest]:
    """List what a JSON blob, such as a manifest, names; nothing for other or damaged blobs."""
    try:
        data = blobs.get(digest)
    except IntegrityError:
        return set()
    return _digests_in([data.decode("utf-8", "replace")]) if data.startswith(b"{") else set()
