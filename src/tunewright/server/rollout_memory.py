"""What the gateway remembers of one live rollout: evidence so far, open traces, and who was assigned what.

Nothing of it is stored: after a restart the trace store's traces give it back.
"""

import asyncio
from collections.abc import Sequence
from datetime import datetime

from tunewright.deploy.assignment import Seen
from tunewright.deploy.evidence import extend, start_evidence
from tunewright.live_ports import Traces
from tunewright.records import Feedback, Rollout, RolloutState, Trace

PRUNE_FROM = 5_000
"""Traces with feedback above which those that no longer count are forgotten."""


class RolloutMemory:
    """One rollout; confined to one event loop."""

    def __init__(self, rollout: Rollout, traces: Sequence[Trace], feedback: Sequence[Feedback]) -> None:
        """Begin with what is stored.

        Args:
            rollout: the rollout.
            traces: all of its traces, by seq.
            feedback: on these, superseded ones included.
        """
        self.rollout = rollout
        self.evidence = start_evidence(rollout)
        self.seen: dict[str, Seen] = {}
        """Unit -> its last assignment by chance, or to the candidate."""
        self._traces: dict[int, Trace] = {}
        self._feedback: dict[str, list[Feedback]] = {}
        for trace in traces:
            self.note(trace)
        for one in feedback:
            self.note_feedback(one)

    def note(self, trace: Trace) -> None:
        """Take note of a trace when it is opened, and again when it is closed."""
        if trace.seq <= self.evidence.upto_seq:
            return
        self._traces[trace.seq] = trace
        is_assigned = trace.shadow_of is None and trace.stage is not None and trace.arm is not None
        if is_assigned and (trace.p is not None or trace.arm == "candidate"):
            assert trace.stage is not None and trace.arm is not None
            self.seen[trace.unit] = Seen(trace.stage, trace.arm)

    def note_feedback(self, feedback: Feedback) -> None:
        """Take note of feedback on one of its traces."""
        self._feedback.setdefault(feedback.trace, []).append(feedback)

    async def extend(self, state: RolloutState, now: datetime) -> None:
        """Take everything that is closed into the evidence; counts in a thread, over what is there now."""
        traces = list(self._traces.values())
        feedback = [one for of_trace in self._feedback.values() for one in of_trace]
        self.evidence = await asyncio.to_thread(extend, self.evidence, traces, feedback, state, now)
        for seq in [trace.seq for trace in traces if trace.seq <= self.evidence.upto_seq]:
            del self._traces[seq]
        if len(self._feedback) > PRUNE_FROM:
            waited = {pending.trace for pending in self.evidence.pending}
            waited |= {trace.id for trace in self._traces.values()}
            self._feedback = {key: value for key, value in self._feedback.items() if key in waited}


def recall(rollout: Rollout, traces: Traces) -> RolloutMemory:
    """Read a rollout's memory back from the trace store; what is still open there, nobody answers any more.

    Raises:
        StorageError: the store cannot be read.
    """
    said = [
        *traces.feedback(rollout=rollout.ref),
        *traces.feedback(rollout=rollout.ref, status="superseded"),
    ]
    stored = [_ended(trace) for trace in traces.of_rollout(rollout.ref)]
    return RolloutMemory(rollout, stored, sorted(said, key=lambda one: one.at))


def _ended(trace: Trace) -> Trace:
    if trace.status != "open":
        return trace
    return trace.model_copy(
        update={"status": "interrupted", "error": "gateway_stopped", "closed_at": trace.at}
    )
