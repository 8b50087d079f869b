"""The append-only ledger and the lineage graph."""

from datetime import datetime

from pydantic import Field

from tunewright.records.base import Record
from tunewright.values import Digest, Json


class EventDraft(Record):
    """An event to append; the store adds its number, its time and its link."""

    kind: str
    """curate, train, look, evaluate, register, waive, approve, alias, deploy, roll_back, erase, ..."""
    actor: str
    subject: str
    """A node, such as `model:support@2`."""
    detail: dict[str, Json] = Field(default_factory=dict)


class LedgerEvent(Record):
    """One link of the chain: hash = SHA-256 of the canonical JSON of all other fields."""

    seq: int = Field(ge=1)
    at: datetime
    kind: str
    actor: str
    subject: str
    detail: dict[str, Json]
    record_digest: Digest | None = None
    """Content digest of the record committed with this event."""
    previous: Digest
    """Hash of the link before; 64 zeros for the first."""
    hash: Digest


class Edge(Record):
    """`parent` went into `child`. Nodes are strings, see `values.node`."""

    parent: str
    child: str
    role: str
    """source, dataset, base, run, evaluation, ..."""
