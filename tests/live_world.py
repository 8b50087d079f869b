"""The live half of the loop for tests: a trace store in memory, and builders of its records.

`live(tmp_path)` gives a whole `live_ports.Live`; each `a_*` function makes one valid record, changed by name.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

from tests.fakes import START

from tunewright.errors import StorageError, UnknownReference
from tunewright.live_ports import Live, LiveKeys, TraceEntry
from tunewright.records import (
    Feedback,
    FeedbackKind,
    ReviewStatus,
    Rollout,
    RolloutPolicy,
    RolloutState,
    Trace,
    TraceText,
)
from tunewright.values import Digest, Ref

KEYS = LiveKeys(text=b"t" * 32, token=b"k" * 32, unit=b"u" * 32)
RETENTION = timedelta(days=30)


def live(tmp_path: Path) -> Live:
    """Everything the live half needs, in memory but for the harvest folder."""
    return Live(traces=InMemoryTraces(), keys=KEYS, harvest_dir=tmp_path / "harvest")


def a_trace(seq: int = 1, **changes: object) -> Trace:
    """An answered request of its own user, `seq` seconds after START, outside any rollout."""
    at = START + timedelta(seconds=seq)
    fields = {
        "id": f"tr_{seq:032x}",
        "seq": seq,
        "at": at,
        "tenant": "default",
        "unit": f"{seq:032x}",
        "asked": "shop",
        "name": "shop",
        "model": Ref("shop", 1),
        "digest": "a" * 64,
        "consent": "review",
        "retain_until": at + RETENTION,
        "status": "ok",
        "finish_reason": "stop",
        "num_prompt_tokens": 20,
        "num_tokens": 10,
        "latency_s": 0.2,
        "closed_at": at + timedelta(seconds=0.2),
    }
    return Trace.model_validate(fields | changes)


def an_open_trace(seq: int = 1, **changes: object) -> Trace:
    """A request that is being answered."""
    fields = {"status": "open", "finish_reason": None, "num_prompt_tokens": 0, "num_tokens": 0}
    return a_trace(seq, **{**fields, "latency_s": None, "closed_at": None, **changes})


def a_text(seq: int = 1, **changes: object) -> TraceText:
    """What was said in trace `seq`."""
    fields = {
        "owner": f"tr_{seq:032x}",
        "messages": ({"role": "user", "content": f"question {seq}"},),
        "text": f"answer {seq}",
        "expires_at": START + RETENTION,
    }
    return TraceText.model_validate(fields | changes)


def a_feedback(**changes: object) -> Feedback:
    """A thumb up on the trace of `a_trace()`."""
    fields = {
        "id": f"fb_{1:032x}",
        "at": START + timedelta(seconds=5),
        "trace": f"tr_{1:032x}",
        "tenant": "default",
        "author": f"{1:032x}",
        "kind": "thumb",
        "value": 1.0,
        "is_bad": False,
    }
    return Feedback.model_validate(fields | changes)


def a_policy(**changes: object) -> RolloutPolicy:
    """The recipe's defaults, without live scorers."""
    fields = {
        "ramp": (0.01, 0.05, 0.25, 0.5, 1.0),
        "margin": 0.05,
        "alpha": 0.01,
        "promote_alpha": 0.05,
        "shadow_requests": 200,
        "min_units": 50,
        "min_stage_s": 0.0,
        "window_s": 60.0,
        "deadline_s": 7 * 86400.0,
        "hold_s": 86400.0,
        "latency_slack": 0.05,
        "tokens_slack": 0.05,
        "feedback_required": True,
    }
    return RolloutPolicy.model_validate(fields | changes)


def a_rollout(**changes: object) -> Rollout:
    """`shop@2` (digest of c's) against `shop@1` (digest of a's), started at START."""
    fields = {
        "ref": Ref("shop", 1),
        "fingerprint": Digest("f" * 64),
        "candidate": Ref("shop", 2),
        "candidate_digest": Digest("c" * 64),
        "incumbent": Ref("shop", 1),
        "incumbent_digest": Digest("a" * 64),
        "salt": "5a17",
        "policy": a_policy(),
        "started_at": START,
    }
    return Rollout.model_validate(fields | changes)


def a_state(**changes: object) -> RolloutState:
    """The rollout of `a_rollout()` at the first stage of its ramp."""
    fields = {
        "rollout": Ref("shop", 1),
        "phase": "ramp",
        "stage": 0,
        "share": 0.01,
        "revision": 1,
        "since": START,
        "deadline": START + timedelta(days=7),
        "reason": "200 requests were mirrored",
    }
    return RolloutState.model_validate(fields | changes)


class InMemoryTraces:
    """Implements `live_ports.Traces`; set `broken` to make every write fail as a full disk does."""

    def __init__(self) -> None:
        self.broken: StorageError | None = None
        self.traces: dict[str, Trace] = {}
        self.texts: dict[str, TraceText] = {}
        self.all_feedback: dict[str, Feedback] = {}
        self._rollouts: dict[str, Ref | None] = {}
        self._newest_word: dict[tuple[str, str, str], str] = {}
        self._reviews: dict[str, list[Feedback]] = {}
        self._owners: dict[int, str] = {}
        self._last_seq = 0

    def write(self, entries: Sequence[TraceEntry]) -> None:
        self._check()
        traces = [entry for entry in entries if isinstance(entry, Trace)]
        self._refuse_used_seq(traces)
        for trace in traces:
            self.traces[trace.id] = trace
            self._owners[trace.seq] = trace.id
            self._last_seq = max(self._last_seq, trace.seq)
        for entry in entries:
            if isinstance(entry, TraceText):
                self.texts[entry.owner] = entry
            elif isinstance(entry, Feedback) and entry.id not in self.all_feedback:
                self._take(entry)

    def last_seq(self) -> int:
        return self._last_seq

    def get(self, trace: str) -> Trace:
        if trace not in self.traces:
            raise UnknownReference(f"there is no trace {trace}; its time may be over")
        return self.traces[trace]

    def text(self, owner: str, now: datetime) -> TraceText | None:
        found = self.texts.get(owner)
        return found if found is not None and now < found.expires_at else None

    def of_rollout(self, rollout: Ref, *, after_seq: int = 0) -> Sequence[Trace]:
        found = [t for t in self.traces.values() if t.rollout == rollout and t.seq > after_seq]
        return sorted(found, key=lambda trace: trace.seq)

    def newest(self, *, limit: int = 50, tenant: str | None = None) -> Sequence[Trace]:
        found = [t for t in self.traces.values() if tenant in (None, t.tenant)]
        return sorted(found, key=lambda trace: -trace.seq)[:limit]

    def feedback(
        self,
        *,
        status: ReviewStatus | None = None,
        kind: FeedbackKind | None = None,
        trace: str | None = None,
        rollout: Ref | None = None,
        limit: int | None = None,
    ) -> Sequence[Feedback]:
        found = [
            one
            for one in self.all_feedback.values()
            if (one.status == status if status else one.status != "superseded")
            and kind in (None, one.kind)
            and trace in (None, one.trace)
            and rollout in (None, self._rollouts[one.id])
        ]
        return found if limit is None else found[:limit]

    def get_feedback(self, feedback: str) -> Feedback:
        if feedback in self.all_feedback:
            return self.all_feedback[feedback]
        found = [one for one in self.all_feedback.values() if feedback and one.id.startswith(feedback)]
        if len(found) != 1:
            raise UnknownReference(f"{len(found)} feedback begin with {feedback!r}; expected one")
        return found[0]

    def review(
        self,
        feedback: str,
        decision: Literal["approved", "rejected"],
        *,
        reviewer: str,
        note: str,
        at: datetime,
    ) -> Feedback:
        self._check()
        found = self.get_feedback(feedback)
        if found.status == "superseded":
            raise UnknownReference(f"feedback {found.id} is superseded; review the newer one")
        changes = {"status": decision, "reviewer": reviewer, "note": note, "reviewed_at": at}
        reviewed = found.model_copy(update=changes)
        self.all_feedback[found.id] = reviewed
        self._reviews.setdefault(found.id, []).append(reviewed)
        return reviewed

    def reviews(self, feedback: str) -> Sequence[Feedback]:
        return list(self._reviews.get(feedback, []))

    def interrupt_open(self, at: datetime) -> int:
        self._check()
        found = [trace for trace in self.traces.values() if trace.status == "open"]
        for trace in found:
            changes = {"status": "interrupted", "error": "gateway_stopped", "closed_at": max(at, trace.at)}
            self.traces[trace.id] = trace.model_copy(update=changes)
        return len(found)

    def expire(self, now: datetime) -> int:
        self._check()
        gone = {trace.id for trace in self.traces.values() if trace.retain_until <= now}
        gone |= {one.id for one in self.all_feedback.values() if one.trace in gone}
        over = [t.owner for t in self.texts.values() if t.expires_at <= now or t.owner in gone]
        for owner in over:
            del self.texts[owner]
        for one in gone:
            self.traces.pop(one, None)
            self._reviews.pop(one, None)
            over_too = self.all_feedback.pop(one, None)
            if over_too is not None:
                self._newest_word.pop((over_too.trace, over_too.author, over_too.kind), None)
        return len(over)

    def close(self) -> None:
        """Nothing to release."""

    def _check(self) -> None:
        if self.broken is not None:
            raise self.broken

    def _refuse_used_seq(self, traces: Sequence[Trace]) -> None:
        fresh: dict[int, str] = {}
        for trace in traces:
            if fresh.setdefault(trace.seq, self._owners.get(trace.seq, trace.id)) != trace.id:
                raise StorageError(f"sequence number {trace.seq} was used by another trace")

    def _take(self, newer: Feedback) -> None:
        word = (newer.trace, newer.author, newer.kind)
        if word in self._newest_word:
            older = self.all_feedback[self._newest_word[word]]
            self.all_feedback[older.id] = older.model_copy(update={"status": "superseded"})
        self._newest_word[word] = newer.id
        self.all_feedback[newer.id] = newer
        trace = self.traces.get(newer.trace)
        self._rollouts[newer.id] = trace.rollout if trace else None
