"""What production gives back: traces of answered requests and the feedback on them."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from tunewright.records.base import Record
from tunewright.values import Digest, Ref

RolloutArm = Literal["incumbent", "candidate"]
Consent = Literal["none", "review", "train"]
"""none: no text is kept; review: text is kept encrypted for reviewers; train: it may become training data."""

TraceStatus = Literal["open", "ok", "error", "cancelled", "interrupted"]
"""cancelled: the client hung up; interrupted: gateway or engine died under it."""

FeedbackKind = Literal["thumb", "rating", "edit", "escalation", "harm", "comment"]
ReviewStatus = Literal["pending", "approved", "rejected", "superseded"]
"""superseded: the same author said something newer of the same kind on the same trace."""


class Trace(Record):
    """One request: who answered, as what, with which probability, and how it went. Holds no text."""

    id: str = Field(pattern=r"^tr_[0-9a-f]{32}$")
    seq: int
    """Order of assignment; never used twice in a workspace."""
    at: datetime
    tenant: str
    unit: str
    """Keyed hash of the end user, else of the session, else of the request; 32 hexadecimal characters."""
    asked: str
    """Model as it was asked for, such as `shop`."""
    name: str | None = None
    """Model name whose alias answered; absent for the base."""
    model: Ref | None = None
    """Version that answered; absent for the base."""
    digest: str
    """Adapter digest that answers, or `base`."""
    rollout: Ref | None = None
    stage: int | None = None
    """Index into the ramp when it was assigned; absent outside a ramp."""
    arm: RolloutArm | None = None
    p: float | None = None
    """Probability of the candidate arm at assignment, given what was known of the unit.

    Absent: this request is no evidence."""
    shadow_of: str | None = None
    """Trace that was mirrored; a mirrored answer is never shown to a user."""
    consent: Consent = "none"
    retain_until: datetime
    """When text and trace are removed."""
    is_stream: bool = False
    status: TraceStatus = "open"
    error: str | None = None
    """Error code, for `error` and `interrupted`."""
    is_empty: bool = False
    """The answer holds no text."""
    finish_reason: str | None = None
    num_prompt_tokens: int = 0
    num_tokens: int = 0
    latency_s: float | None = None
    """From assignment to the last byte from the engine."""
    ttft_s: float | None = None
    """To the first byte of the answer."""
    scores: dict[str, float] = Field(default_factory=dict)
    """Live scorer -> score in [0, 1], 1 is good."""
    closed_at: datetime | None = None


class TraceText(Record):
    """What was said; stored encrypted and removed at `expires_at`."""

    owner: str
    """Trace or feedback id."""
    messages: tuple[dict[str, str], ...] = ()
    """The prompt's turns; empty for feedback."""
    text: str
    """The answer, or the text of an edit or a comment."""
    expires_at: datetime


class Feedback(Record):
    """One person's word on one trace; the newest of a (trace, author, kind) counts. Holds no text."""

    id: str = Field(pattern=r"^fb_[0-9a-f]{32}$")
    at: datetime
    trace: str
    tenant: str
    author: str
    """Keyed hash, 32 hexadecimal characters."""
    kind: FeedbackKind
    value: float | None = None
    """thumb: 1 up, 0 down; rating: 1 to 5; absent for the other kinds."""
    is_bad: bool | None = None
    """Whether it says that the answer was bad; absent for a comment, which says nothing countable."""
    edit_distance: float | None = None
    """Of an edit: Levenshtein distance to the answer, divided by the longer text's length."""
    has_text: bool = False
    consent: Consent = "review"
    source: Literal["api", "import"] = "api"
    status: ReviewStatus = "pending"
    reviewer: str | None = None
    reviewed_at: datetime | None = None
    note: str | None = None
    """Why the reviewer decided so."""


class Harvest(Record):
    """Approved corrections that became a source of the next dataset version."""

    ref: Ref
    """Named like the recipe."""
    fingerprint: Digest
    blob: Digest
    """The source file: JSON lines {messages, user, time, trace, feedback}."""
    rows: int
    left_out: dict[str, int]
    """Reason -> feedback not harvested, such as `author_cap`."""
    feedback: tuple[str, ...]
    """Ids that were harvested."""
    reviewers: dict[str, int]
    """Reviewer -> rows approved."""
    created_at: datetime
