"""What is watched in a rollout, and how one trace answers it: outcomes in [0, 1], 1 is bad.

Missing stays missing: a request that was cut off by its client, a score that was not taken and a rating that
nobody gave are neither good nor bad.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from tunewright.records import Baseline, Feedback, RolloutPolicy, Trace

ERRORS, LATENCY, OUTPUT_TOKENS, FEEDBACK = "errors", "latency", "output_tokens", "feedback"
ENGINE_STOPPED = frozenset({"engine_restarting"})
"""Error codes of a stopped engine."""
SCORE_PREFIX, SHADOW_PREFIX = "score:", "shadow:"


@dataclass(frozen=True, slots=True)
class Guardrail:
    """One outcome that must not get worse."""

    name: str
    stream: Literal["instant", "delayed"]
    """instant: known when the answer is; delayed: after the feedback window."""
    delta: float
    """Rise that is not yet an alarm."""
    margin: float
    """Promotion needs proof that the rise is below this."""
    is_required: bool
    """Whether promotion needs that proof."""
    is_paired: bool
    """Whether mirrored requests are evidence on it before any user is exposed; only where delta is 0."""


def guardrails(policy: RolloutPolicy) -> tuple[Guardrail, ...]:
    """List what is watched under a policy: errors, each live scorer, latency, output tokens, feedback.

    Where a rise (slack) is tolerated, promotion asks for proof below the larger of margin and slack.
    """

    def quality(name: str, *, is_required: bool = True) -> Guardrail:
        stream = "delayed" if name == FEEDBACK else "instant"
        return Guardrail(name, stream, 0.0, policy.margin, is_required, is_paired=stream == "instant")

    def cost(name: str, slack: float) -> Guardrail:
        return Guardrail(name, "instant", slack, max(policy.margin, slack), is_required=True, is_paired=False)

    return (
        quality(ERRORS),
        *(quality(SCORE_PREFIX + scorer.name) for scorer in policy.live_scorers),
        cost(LATENCY, policy.latency_slack),
        cost(OUTPUT_TOKENS, policy.tokens_slack),
        quality(FEEDBACK, is_required=policy.feedback_required),
    )


def error_outcome(trace: Trace) -> float | None:
    """1 for an error, an interruption or an empty answer; None when the client hung up."""
    if trace.status in ("open", "cancelled"):
        return None
    return 1.0 if trace.status != "ok" or trace.is_empty else 0.0


def is_engine_stopped(trace: Trace) -> bool:
    """Say whether the engine was gone: among randomised units that hits both arms alike."""
    return trace.status == "interrupted" or trace.error in ENGINE_STOPPED


def instant_outcomes(
    trace: Trace, rails: Sequence[Guardrail], baseline: Baseline | None
) -> dict[str, float | None]:
    """Judge a closed trace by every instant guardrail.

    Latency and tokens ask "more than the incumbent's p95?" instead of comparing means: a share of 0 or 1
    has a bound, needs no scale, and one very long answer cannot decide. An error has neither.
    """
    is_measured = trace.status == "ok" and baseline is not None
    found: dict[str, float | None] = {}
    for rail in rails:
        if rail.stream != "instant":
            continue
        if rail.name == ERRORS:
            found[ERRORS] = error_outcome(trace)
        elif rail.name == LATENCY:
            latency = trace.latency_s if is_measured else None
            limit = baseline.p95_latency_s if baseline else 0.0
            found[LATENCY] = None if latency is None else float(latency > limit)
        elif rail.name == OUTPUT_TOKENS:
            limit = baseline.p95_tokens if baseline else 0.0
            found[OUTPUT_TOKENS] = float(trace.num_tokens > limit) if is_measured else None
        else:
            score = trace.scores.get(rail.name.removeprefix(SCORE_PREFIX))
            found[rail.name] = None if score is None else 1.0 - min(max(score, 0.0), 1.0)
    return found


def by_trace(feedback: Iterable[Feedback]) -> dict[str, list[Feedback]]:
    """Group feedback by the trace it is about."""
    grouped: dict[str, list[Feedback]] = {}
    for item in feedback:
        grouped.setdefault(item.trace, []).append(item)
    return grouped


def feedback_outcome(trace: str, grouped: Mapping[str, Sequence[Feedback]], until: datetime) -> float | None:
    """Judge a trace by its feedback: 1 when somebody said bad, 0 when only good, None when nobody said.

    Of one author and kind the newest word counts, as it stood when the window ended, so that a replay with
    superseded feedback at hand finds what was found then.
    """
    newest: dict[tuple[str, str], Feedback] = {}
    for item in sorted(grouped.get(trace, ()), key=lambda item: item.at):
        if item.at <= until:
            newest[item.author, item.kind] = item
    words = [item.is_bad for item in newest.values() if item.is_bad is not None]
    return float(any(words)) if words else None
