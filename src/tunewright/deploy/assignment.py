"""Who answers a unit, and with which probability: sticky, monotone in the share, pure.

A unit is an end user, else a session, else a request. The probability is that of the candidate arm given all
that was known of the unit before; without chance there is no evidence and no probability.
"""

import hashlib
from dataclasses import dataclass

from tunewright.records import Rollout, RolloutArm, RolloutState
from tunewright.values import Ref

_BITS = 53
"""As many as a float holds, so that a bucket never rounds up to 1."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A unit's last randomised observation in this rollout."""

    stage: int
    arm: RolloutArm


@dataclass(frozen=True, slots=True)
class Assignment:
    """Which arm answers a unit now."""

    arm: RolloutArm
    stage: int | None
    """Index into the ramp; absent outside a ramp."""
    p: float | None
    """Probability of the candidate arm, 0 < p < 1; absent: the request is no evidence."""


def bucket(salt: str, rollout: Ref, unit: str) -> float:
    """Map a unit to [0, 1) by SHA-256; the candidate answers units whose bucket is below the share."""
    head = hashlib.sha256(f"{salt}:{rollout}:{unit}".encode()).digest()[:8]
    return (int.from_bytes(head, "big") >> (64 - _BITS)) / 2**_BITS


def assign(rollout: Rollout, state: RolloutState, unit: str, seen: Seen | None) -> Assignment:
    """Assign a unit to an arm.

    Args:
        rollout: its salt and ramp.
        state: its phase, stage and share now; on hold the share stays and evidence still counts.
        unit: keyed hash of the unit.
        seen: the last assignment of this unit in this rollout that had a probability, or that put it on the
            candidate; None when it was never assigned by chance.
    """
    if state.phase not in ("ramp", "held"):
        return Assignment("candidate" if state.phase == "promoted" else "incumbent", None, None)
    if state.share <= 0:
        return Assignment("incumbent", None, None)
    is_candidate = bucket(rollout.salt, rollout.ref, unit) < state.share
    p = _probability(rollout.policy.ramp, state, seen)
    return Assignment("candidate" if is_candidate else "incumbent", state.stage, p)


def _probability(ramp: tuple[float, ...], state: RolloutState, seen: Seen | None) -> float | None:
    """First seen: the share. An incumbent's unit of an earlier stage: what was added, of what was left."""
    if seen is None:
        p = state.share
    elif seen.arm == "candidate" or seen.stage >= state.stage:
        return None
    else:
        before = ramp[seen.stage]
        p = (state.share - before) / (1 - before)
    return p if 0 < p < 1 else None
