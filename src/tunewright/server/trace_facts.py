"""Traces as the gateway writes them: opened at assignment, closed with what came of it. Pure."""

from dataclasses import dataclass
from datetime import datetime

from tunewright.deploy.assignment import Assignment
from tunewright.records import Consent, Rollout, Trace, TraceText
from tunewright.server.routing import Route
from tunewright.server.seams import Asked, Caller, Finish

_CONSENTS: tuple[Consent, ...] = ("none", "review", "train")


@dataclass(frozen=True, slots=True)
class Identity:
    """What tells one request from all others."""

    id: str
    seq: int
    at: datetime
    unit: str
    retain_until: datetime


def open_trace(
    identity: Identity, route: Route, assigned: Assignment | None, *, asked: Asked, caller: Caller
) -> Trace:
    """Open the trace of a request that was just assigned."""
    rollout = route.rollout[0] if route.rollout and assigned else None
    is_candidate = rollout is not None and assigned is not None and assigned.arm == "candidate"
    return Trace(
        id=identity.id,
        seq=identity.seq,
        at=identity.at,
        tenant=caller.tenant,
        unit=identity.unit,
        asked=asked.model,
        name=route.name if route.model else None,
        model=rollout.candidate if rollout and is_candidate else route.model,
        digest=rollout.candidate_digest if rollout and is_candidate else route.digest,
        rollout=rollout.ref if rollout else None,
        stage=assigned.stage if assigned else None,
        arm=assigned.arm if assigned else None,
        p=assigned.p if assigned else None,
        consent=_CONSENTS[min(_CONSENTS.index(asked.consent), _CONSENTS.index(caller.consent))],
        retain_until=identity.retain_until,
        is_stream=asked.is_stream,
    )


def open_mirrored(original: Trace, rollout: Rollout, *, id: str, seq: int, at: datetime) -> Trace:
    """Open the trace of a mirrored request; its answer goes to nobody and its text is not kept."""
    return Trace(
        id=id,
        seq=seq,
        at=at,
        tenant=original.tenant,
        unit=original.unit,
        asked=original.asked,
        name=original.name,
        model=rollout.candidate,
        digest=rollout.candidate_digest,
        rollout=rollout.ref,
        arm="candidate",
        shadow_of=original.id,
        retain_until=original.retain_until,
    )


def close_trace(trace: Trace, finish: Finish, scores: dict[str, float], at: datetime) -> Trace:
    """Close a trace; an answer by another adapter than the one asked for is an error, whatever it says."""
    is_other = finish.digest is not None and finish.digest != trace.digest
    status, error = ("error", "digest_mismatch") if is_other else (finish.status, finish.error)
    return trace.model_copy(
        update={
            "status": status,
            "error": error if status in ("error", "interrupted") else None,
            "is_empty": status == "ok" and not finish.text.strip(),
            "finish_reason": finish.finish_reason,
            "num_prompt_tokens": finish.num_prompt_tokens,
            "num_tokens": finish.num_tokens,
            "latency_s": finish.latency_s,
            "ttft_s": finish.ttft_s,
            "scores": {} if is_other else scores,
            "closed_at": max(at, trace.at),
        }
    )


def text_of(trace: Trace, asked: Asked, finish: Finish) -> TraceText | None:
    """Give the text to keep, as far as consent goes."""
    if trace.consent == "none" or finish.status != "ok":
        return None
    turns = tuple(dict(turn) for turn in asked.messages)
    return TraceText(owner=trace.id, messages=turns, text=finish.text, expires_at=trace.retain_until)
