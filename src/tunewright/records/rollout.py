"""A rollout: which candidate takes over from which incumbent, by which rules, and where it stands."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from tunewright.records.base import Record
from tunewright.values import Digest, Json, Ref

Phase = Literal["shadow", "ramp", "held", "promoted", "rolled_back"]
"""shadow: mirrored only; ramp: takes a share; held: keeps its share, waits for a person."""

LIVE_PHASES: tuple[Phase, ...] = ("shadow", "ramp", "held")


class LiveScorer(Record):
    """A rule that scores an answer without a reference, such as {kind: json_valid}."""

    kind: str
    name: str
    settings: dict[str, Json] = Field(default_factory=dict)


class RolloutPolicy(Record):
    """The rules a rollout is decided by, copied from the recipe's `deploy` section when it starts."""

    ramp: tuple[float, ...]
    """Shares of units, ascending, the last one 1.0 (promotion)."""
    margin: float
    """Promotion needs proof that no guardrail is worse by this much (share of bad outcomes)."""
    alpha: float
    """Chance that a rollout without any difference is ever rolled back; split over the guardrails."""
    promote_alpha: float
    """Chance that a guardrail worse by `margin` is ever called not worse."""
    shadow_requests: int
    """Mirrored requests before the ramp begins."""
    min_units: int
    """Observed units a stage needs at least."""
    min_stage_s: float
    window_s: float
    """How long a unit's feedback is waited for."""
    deadline_s: float
    """After so long without a decision the rollout is held."""
    hold_s: float
    """After so long on hold it is rolled back."""
    latency_slack: float
    """Rise of the share of answers slower than the incumbent's p95 that is not yet an alarm."""
    tokens_slack: float
    """The same for answers longer than the incumbent's p95."""
    feedback_required: bool
    """Whether promotion needs the feedback guardrail as well."""
    live_scorers: tuple[LiveScorer, ...] = ()


class Rollout(Record):
    """What was started; where it stands is the head `rollout:<name>`, what happened is in the ledger."""

    ref: Ref
    """Named like the model; versions count rollouts."""
    fingerprint: Digest
    candidate: Ref
    candidate_digest: Digest
    incumbent: Ref
    incumbent_digest: Digest
    salt: str
    """Part of every unit's bucket, so that two rollouts divide units differently."""
    policy: RolloutPolicy
    started_at: datetime


class Baseline(Record):
    """The incumbent's own figures, frozen when the ramp begins."""

    requests: int
    p95_latency_s: float
    p95_tokens: float


class RolloutState(Record):
    """Where a rollout stands; the value of the head `rollout:<name>`."""

    rollout: Ref
    phase: Phase
    stage: int
    """Index into the ramp; 0 in shadow."""
    share: float
    """Share of units the candidate answers now; 0 in shadow and after a roll back, 1 after promotion."""
    revision: int
    since: datetime
    """When this phase and stage began."""
    deadline: datetime
    """When it is held (shadow, ramp) or rolled back (held)."""
    baseline: Baseline | None = None
    reason: str
    """One sentence: why it stands here."""
