"""The queue of feedback that waits for a reviewer, and the reviewer's decision.

The queue is pure: what matters most first, with a uniform sample mixed in, the only part of it that an
unbiased estimate can be made from. A decision is one ledger event and one line in the trace store.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tunewright.core.keyed import keyed_hash
from tunewright.errors import UsageError
from tunewright.live_ports import LiveKeys, Traces
from tunewright.ports import Ports
from tunewright.records import EventDraft, Feedback
from tunewright.values import node

Decision = Literal["approved", "rejected"]

REVIEW_EVENT = "review"
SAMPLE_FRACTION = 0.1
SAMPLE_EVERY = 10
"""Every so many places of the queue belong to the sample, as long as it lasts."""
MAX_NOTE_CHARS = 1_000
MAX_REVIEWER_CHARS = 256


@dataclass(frozen=True, slots=True)
class Queued:
    """One place in the queue."""

    feedback: Feedback
    is_sample: bool
    """Drawn uniformly, whatever it says."""


def review_queue(pending: Sequence[Feedback], *, seed: str = "0") -> list[Queued]:
    """Put feedback in the order it should be reviewed in.

    Escalations, harm reports and edits come first, then what else calls an answer bad, then the rest; the
    oldest first among equals. A tenth, chosen by a seeded hash of the id and so the same from day to day, is
    marked and mixed in at every tenth place.
    """
    ordered = sorted(pending, key=lambda one: (_rank(one), one.at, one.id))
    ranked = [Queued(one, False) for one in ordered if not _is_sampled(one.id, seed)]
    sample = [
        Queued(one, True)
        for one in sorted(pending, key=lambda one: (one.at, one.id))
        if _is_sampled(one.id, seed)
    ]
    queue: list[Queued] = []
    while ranked or sample:
        queue += ranked[: SAMPLE_EVERY - 1] + sample[:1]
        ranked, sample = ranked[SAMPLE_EVERY - 1 :], sample[1:]
    return queue


def decide(
    found: Feedback, decision: Decision, *, reviewer: str, note: str, ports: Ports, traces: Traces
) -> Feedback:
    """Record a decision: the ledger first, so that no approval exists that the ledger does not tell of.

    The note stays in the trace store, since it may quote a user; the ledger holds no text.

    Raises:
        UnknownReference, StorageError: from the store.
    """
    ports.records.append(
        EventDraft(
            kind=REVIEW_EVENT,
            actor=ports.actor,
            subject=node("feedback", found.id),
            detail={
                "decision": decision,
                "kind": found.kind,
                "trace": found.trace,
                "reviewer": reviewer,
            },
        )
    )
    return traces.review(found.id, decision, reviewer=reviewer, note=note, at=ports.clock())


def check_review(found: Feedback, reviewer: str, note: str, keys: LiveKeys) -> None:
    """Refuse a decision that must not count.

    Raises:
        UsageError: the reviewer wrote the feedback, it is superseded, or a text is empty or too long.
    """
    if not reviewer.strip() or len(reviewer) > MAX_REVIEWER_CHARS:
        raise UsageError(
            f"the reviewer's name has {len(reviewer.strip())} characters; expected 1 to "
            f"{MAX_REVIEWER_CHARS}. Name one with --reviewer."
        )
    if len(note) > MAX_NOTE_CHARS:
        raise UsageError(f"the note has {len(note):,} characters; expected {MAX_NOTE_CHARS:,} or fewer")
    if found.status == "superseded":
        raise UsageError(
            f"{found.id} is superseded: its author said something newer of the same kind on {found.trace}. "
            "`tunewright feedback list` shows the newer one; review that."
        )
    if keyed_hash(keys.unit, found.tenant, reviewer.strip()) == found.author:
        raise UsageError(
            f"{reviewer} is the author of {found.id}; expected somebody else to review it. "
            "Name the reviewer with --reviewer."
        )


def _rank(one: Feedback) -> int:
    if one.kind in ("escalation", "harm", "edit"):
        return 0
    return 1 if one.is_bad else 2


def _is_sampled(feedback: str, seed: str) -> bool:
    digest = hashlib.sha256(f"review sample {seed} {feedback}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < SAMPLE_FRACTION * 2**64
