"""What the gate found: arms, checks with intervals, and the verdict."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from tunewright.records.base import Record
from tunewright.records.run import BaseModelRef
from tunewright.values import Digest, Json, Ref

Verdict = Literal["pass", "fail", "inconclusive", "void"]
Arm = Literal["candidate", "base", "few_shot", "nearest_example", "incumbent"]


class Interval(Record):
    """An estimate with its two-sided interval."""

    estimate: float
    low: float
    high: float
    n: int
    """Items scored."""
    clusters: int
    """Independent clusters among them."""
    method: str
    """How the interval was made, such as `wilson`, `cr2`, `mcnemar_exact`."""


class Check(Record):
    """One requirement of the gate, answered."""

    name: str
    """Such as `exact better_than base` or `contamination`."""
    metric: str
    suite: str = "held_out"
    slice: str | None = None
    """`field=value` for a slice; absent for all rows."""
    kind: Literal[
        "at_least", "better_than", "not_worse_than", "contamination", "parity", "pairing", "information"
    ]
    against: Arm | None = None
    required: bool = True
    estimate: float | None
    """The candidate's metric, or the difference candidate - against; absent where nothing was measured."""
    low: float | None
    high: float | None
    margin: float | None = None
    n: int
    clusters: int = 0
    p: float | None = None
    """One-sided p-value of the requirement's null, where the method has one."""
    method: str
    verdict: Verdict
    n_needed: int | None = None
    """Items a conclusive answer would need, for `inconclusive`."""
    sentence: str
    """One sentence a person can read and sign."""


class ArmScores(Record):
    """One arm's metrics."""

    arm: Arm
    model: str
    """`base`, an adapter digest, `few_shot:k=3`, `nearest_example`."""
    metrics: dict[str, Interval]
    """Metric name -> interval over all held-out rows."""


class EvalReport(Record):
    """One look at the held-out set and what followed."""

    ref: Ref
    fingerprint: Digest
    dataset: Ref
    run: Ref | None
    candidate: Digest
    base: BaseModelRef
    held_out: Digest
    """Split digest of the held-out rows judged on."""
    arms: tuple[ArmScores, ...]
    checks: tuple[Check, ...]
    verdict: Verdict
    reasons: tuple[str, ...]
    look: int
    """How often this held-out set had been opened for evaluation, this time included."""
    items: Digest
    """Blob, encrypted: JSON lines {row, arm, suite, output, scores} of every item."""
    report: dict[str, Json] = Field(default_factory=dict)
    """Facts for people: slices, accuracy by nearest-train similarity, consistency ceiling, latency, ..."""
    created_at: datetime
