"""What a client is told beside an answer: which version it is, its trace, and the token for feedback.

The arm of a rollout is not told, so that nobody rates the one kindlier than the other.
"""

import orjson

from tunewright.errors import RequestRefused
from tunewright.server.seams import Ticket
from tunewright.server.watch import Seen
from tunewright.values import Json

MODEL_HEADER = "X-Tunewright-Model"
DIGEST_HEADER = "X-Tunewright-Digest"
TRACE_HEADER = "X-Tunewright-Trace"
TOKEN_HEADER = "X-Tunewright-Feedback-Token"


def told_of(ticket: Ticket, seen: Seen) -> dict[str, Json]:
    """Write the field `tunewright` of a whole reply, or of a stream's first event."""
    trace = ticket.trace
    told: dict[str, Json] = {
        "asked": trace.asked,
        "model": None if trace.model is None else str(trace.model),
        "digest": seen.digest,
        "trace": trace.id,
        "feedback_token": ticket.feedback_token,
    }
    if seen.latency_s is not None:
        told["latency_s"] = seen.latency_s
    if ticket.note is not None:
        told["note"] = ticket.note
    return told


def told_headers(ticket: Ticket) -> dict[str, str]:
    """Write the same as headers."""
    trace = ticket.trace
    return {
        MODEL_HEADER: "base" if trace.model is None else str(trace.model),
        DIGEST_HEADER: trace.digest,
        TRACE_HEADER: trace.id,
        TOKEN_HEADER: ticket.feedback_token,
    }


def load_answer(data: bytes) -> dict[str, Json]:
    """Read what the engine sent. Raises RequestRefused when it is no JSON object."""
    try:
        fields: Json = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise RequestRefused("the engine's answer is not JSON", 502, "engine_failed") from error
    if not isinstance(fields, dict):
        raise RequestRefused("the engine's answer is no JSON object", 502, "engine_failed")
    return fields
