"""What the HTTP side of the gateway needs from its runtime; `runtime.Runtime` implements it.

HTTP (`gateway`, `completions`, `feedback_endpoint`, ...) parses, checks keys, streams and counts; the runtime
knows models, rollouts, traces and the engine. Everything here is confined to one event loop.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from tunewright.records import Consent, Feedback, Rollout, RolloutState, Trace
from tunewright.values import Ref

Role = Literal["caller", "viewer", "trainer", "approver", "operator", "admin"]


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever a request's API key belongs to."""

    key_id: str
    role: Role
    tenant: str
    consent: Consent
    """What the key's owner has agreed with the end users; a request may lower it, feedback may raise it."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What assignment needs of a completion request."""

    model: str
    unit: str | None
    """End user or session as given; None: the request is its own unit."""
    consent: Consent
    is_stream: bool
    messages: tuple[Mapping[str, str], ...]
    """The prompt, for the trace's text; a text completion is one user turn."""
    body: bytes
    """The request as it came, valid by `core.openai_wire`; mirrored to a shadow as it is."""
    path: Literal["/v1/chat/completions", "/v1/completions"]


@dataclass(frozen=True, slots=True)
class Ticket:
    """A request that was assigned; give it back with `finish`, whatever happens."""

    trace: Trace
    asked: Asked
    feedback_token: str
    note: str | None
    """Said to the user beside the answer, such as that no champion exists and the base answers."""


@dataclass(frozen=True, slots=True)
class Finish:
    """How a request went."""

    status: Literal["ok", "error", "cancelled", "interrupted"]
    error: str | None = None
    text: str = ""
    """The first choice's text."""
    digest: str | None = None
    """What the engine says answered; another than asked for is a kill switch."""
    finish_reason: str | None = None
    num_prompt_tokens: int = 0
    num_tokens: int = 0
    latency_s: float = 0.0
    ttft_s: float | None = None


@dataclass(frozen=True, slots=True)
class Upstream:
    """Where the engine listens now."""

    url: str
    token: str


@dataclass(frozen=True, slots=True)
class ServedModel:
    """One line of GET /v1/models."""

    id: str
    digest: str
    model: Ref | None
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether traffic may come, and what is wrong."""

    is_ready: bool
    problems: tuple[str, ...] = ()
    """Also what does not keep traffic away, such as a trace store that cannot be written."""


@dataclass(frozen=True, slots=True)
class FeedbackDraft:
    """A parsed POST /v1/feedback."""

    trace: str
    token: str
    kind: Literal["thumb", "rating", "edit", "escalation", "harm", "comment"]
    value: float | None
    text: str | None
    author: str | None
    consent: Consent | None


@dataclass(frozen=True, slots=True)
class Counts:
    """Figures for /metrics that the runtime knows."""

    traces_waiting: int = 0
    traces_lost: int = 0
    engine_restarts: int = 0
    adapters_resident: int = 0
    shadow_running: int = 0
    rollouts: tuple[tuple[Rollout, RolloutState], ...] = ()
    log_e: Mapping[tuple[str, str, str], float] = field(default_factory=dict[tuple[str, str, str], float])
    """(rollout, guardrail, `rollback` or `promote`) -> natural log of the e-value."""


class GatewayRuntime(Protocol):
    """What HTTP asks of the runtime. Methods without `async` answer from memory, at once."""

    def caller(self, secret: str) -> Caller | None:
        """Say whose key this is; None for an unknown or revoked one. Compares in constant time."""
        ...

    def models(self, caller: Caller) -> Sequence[ServedModel]:
        """List what a caller may ask for."""
        ...

    def admit(self, asked: Asked, caller: Caller) -> Ticket:
        """Route and assign a request, and open its trace.

        Raises RequestRefused: 404 model_not_found (names what there is), 403, 503 when not ready.
        """
        ...

    async def upstream(self, digest: str) -> Upstream:
        """Say where the engine is that holds this adapter (or `base`); waits while it restarts.

        Raises RequestRefused (503, with code engine_restarting) after a bounded wait.
        """
        ...

    def engine_failed(self, upstream: Upstream) -> None:
        """Tell that a connection to the engine broke; the runtime looks whether it is still alive."""
        ...

    def finish(self, ticket: Ticket, finish: Finish) -> None:
        """Close the trace: score it, queue it for the store, mirror it to a shadow where there is one."""
        ...

    async def give_feedback(self, draft: FeedbackDraft, caller: Caller) -> Feedback:
        """Check the token and store feedback.

        Raises RequestRefused: 404 (no such trace, or another tenant's: same answer), 403 forged or expired
        token, 422 value out of range, 429 too many, 503 store cannot be written.
        """
        ...

    def readiness(self) -> Readiness:
        """Say whether traffic may come."""
        ...

    def counts(self) -> Counts:
        """Read figures for /metrics."""
        ...
