"""What the live half of the loop needs from the world, as protocols: traces, their keys, harvested files."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, Protocol

from tunewright.records import Feedback, FeedbackKind, ReviewStatus, Trace, TraceText
from tunewright.values import Ref

TraceEntry = Trace | TraceText | Feedback
"""What the one writer of the trace store writes: a trace (opened, or again when closed), text, feedback."""


class Traces(Protocol):
    """Traces, their encrypted text and the feedback on them, in a database apart from the registry.

    One process serves and writes; others may read and review at the same time. Text is encrypted at rest and
    gone after its time.
    """

    def write(self, entries: Sequence[TraceEntry]) -> None:
        """Write all entries in one transaction, in order.

        A trace of a known id replaces what is stored of it. Feedback supersedes what the same author said
        before of the same kind on the same trace; the history stays. Raises StorageError: nothing is written.
        """
        ...

    def last_seq(self) -> int:
        """Read the highest sequence number ever written; 0 when there is none."""
        ...

    def get(self, trace: str) -> Trace:
        """Read one trace. Raises UnknownReference."""
        ...

    def text(self, owner: str, now: datetime) -> TraceText | None:
        """Read the text of a trace or of a feedback; None when none was kept or its time is over."""
        ...

    def of_rollout(self, rollout: Ref, *, after_seq: int = 0) -> Sequence[Trace]:
        """Read a rollout's traces (mirrored ones too) beyond a sequence number, in order of assignment."""
        ...

    def newest(self, *, limit: int = 50, tenant: str | None = None) -> Sequence[Trace]:
        """Read the newest traces, newest first."""
        ...

    def feedback(
        self,
        *,
        status: ReviewStatus | None = None,
        kind: FeedbackKind | None = None,
        trace: str | None = None,
        rollout: Ref | None = None,
        limit: int | None = None,
    ) -> Sequence[Feedback]:
        """Read feedback, oldest first; superseded only when asked for."""
        ...

    def get_feedback(self, feedback: str) -> Feedback:
        """Read one feedback by id, or by a prefix that only it has. Raises UnknownReference."""
        ...

    def review(
        self,
        feedback: str,
        decision: Literal["approved", "rejected"],
        *,
        reviewer: str,
        note: str,
        at: datetime,
    ) -> Feedback:
        """Record a reviewer's decision; the newest counts. Raises UnknownReference, StorageError."""
        ...

    def reviews(self, feedback: str) -> Sequence[Feedback]:
        """Read a feedback as it was after each decision on it, oldest first."""
        ...

    def interrupt_open(self, at: datetime) -> int:
        """Mark every open trace as interrupted (after a crash of the gateway); returns their number."""
        ...

    def expire(self, now: datetime) -> int:
        """Remove text and traces whose time is over; returns the number of texts removed."""
        ...

    def close(self) -> None:
        """Release the database."""
        ...


@dataclass(frozen=True, slots=True)
class LiveKeys:
    """Keys of a workspace's live side, derived from one secret outside the workspace."""

    text: bytes
    """Encrypts trace text (AES-256-GCM)."""
    token: bytes
    """Signs feedback tokens (HMAC-SHA256)."""
    unit: bytes
    """Hashes users and authors (HMAC-SHA256)."""


@dataclass(frozen=True, slots=True)
class Live:
    """What the live half of the loop needs beyond `Ports`."""

    traces: Traces
    keys: LiveKeys
    harvest_dir: Path
    """Where harvested sources lie as files."""
