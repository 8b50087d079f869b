"""What the rollback drill shows, read from the rollout, its ledger and its traces. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from tunewright.records import RolloutState, Trace
from tunewright.values import Json

Fate = Literal["promoted", "rolled_back", "held"]
MAX_SECONDS_TO_ZERO = 1.0


@dataclass(frozen=True, slots=True)
class Fall:
    """What the traces of a rollout say about its end."""

    exposed: int
    """Units that were answered by the candidate."""
    exposed_requests: int
    seconds_to_zero: float
    """From the decision to the last request that was still given to the candidate; 0 when none was."""
    in_flight: int
    """Requests that the candidate was answering when it was decided."""
    failed_in_flight: int
    """Of these, those that did not end well."""


@dataclass(frozen=True, slots=True)
class RollbackResult:
    """How a bad candidate fell."""

    outcome: Fate
    """held: undecided when the drill's traffic ended."""
    rollout: str
    candidate: str
    incumbent: str
    reason: str
    """Why, in the rollout's words."""
    fall: Fall
    requests: int
    """Requests of simulated users in all."""
    failed_requests: int
    """Requests that got no answer, over the whole drill."""
    gate_verdict: str
    """What the gate had said of the candidate; it was waived."""
    right_incumbent: float | None
    """Share of the incumbent's answers that were right."""
    right_candidate: float | None
    """The same of the candidate's; absent when no user met it."""
    wall_s: float

    @property
    def is_shown(self) -> bool:
        """Whether the candidate fell by itself, at once, and nobody's request failed."""
        return (
            self.outcome == "rolled_back"
            and self.fall.seconds_to_zero < MAX_SECONDS_TO_ZERO
            and self.fall.failed_in_flight == 0
            and self.failed_requests == 0
        )

    def to_json(self) -> dict[str, Json]:
        """Write the figures."""
        fall = self.fall
        return {
            "outcome": self.outcome,
            "exposed": fall.exposed,
            "seconds_to_zero": round(fall.seconds_to_zero, 3),
            "shown": self.is_shown,
            "exposed_requests": fall.exposed_requests,
            "requests": self.requests,
            "in_flight": fall.in_flight,
            "failed_in_flight": fall.failed_in_flight,
            "failed_requests": self.failed_requests,
            "reason": self.reason,
            "rollout": self.rollout,
            "candidate": self.candidate,
            "incumbent": self.incumbent,
            "gate_verdict": self.gate_verdict,
            "right_incumbent": _rounded(self.right_incumbent),
            "right_candidate": _rounded(self.right_candidate),
            "seconds": round(self.wall_s, 1),
        }


def fate_of(state: RolloutState) -> Fate:
    """Say how a rollout ended, as far as it has."""
    if state.phase == "promoted" or state.phase == "rolled_back":
        return state.phase
    return "held"


def fall_of(traces: Sequence[Trace], decided_at: datetime | None) -> Fall:
    """Count who met the candidate, and what was under way when it was taken off.

    Args:
        traces: of the rollout, mirrored ones too.
        decided_at: when it was decided to roll back; None when it never was.
    """
    live = [trace for trace in traces if trace.arm == "candidate" and trace.shadow_of is None]
    exposed = len({trace.unit for trace in live})
    if decided_at is None:
        return Fall(exposed, len(live), 0.0, 0, 0)
    late_s = [(trace.at - decided_at).total_seconds() for trace in live if trace.at > decided_at]
    under_way = [
        trace
        for trace in live
        if trace.at <= decided_at and (trace.closed_at is None or trace.closed_at > decided_at)
    ]
    return Fall(
        exposed=exposed,
        exposed_requests=len(live),
        seconds_to_zero=max(late_s, default=0.0),
        in_flight=len(under_way),
        failed_in_flight=sum(trace.status != "ok" for trace in under_way),
    )


def _rounded(share: float | None) -> float | None:
    return None if share is None else round(share, 4)
