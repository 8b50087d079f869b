"""POST /v1/feedback: one person's word on one answer, checked for its form and handed to the runtime."""

from typing import Annotated, Literal

import orjson
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tunewright.core.json_bounds import refuse_wide_objects
from tunewright.errors import RequestRefused
from tunewright.records import Consent, FeedbackKind
from tunewright.server.bodies import load_object, read_body
from tunewright.server.front_desk import FrontDesk
from tunewright.server.seams import Caller, FeedbackDraft
from tunewright.server.telling import TOKEN_HEADER

MAX_TEXT_BYTES = 64 * 1024
MAX_TOKEN_CHARACTERS = 4096
_THUMBS = {"up": 1.0, "down": 0.0, 1.0: 1.0, 0.0: 0.0}


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    trace: Annotated[str, Field(min_length=1, max_length=64)]
    token: Annotated[str, Field(min_length=1, max_length=MAX_TOKEN_CHARACTERS)] | None = None
    kind: FeedbackKind
    value: Literal["up", "down"] | float | None = None
    text: str | None = None
    author: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    consent: Consent | None = None


async def give_feedback(request: web.Request, desk: FrontDesk, caller: Caller) -> web.Response:
    """Store feedback; reply with its id and review status."""
    with desk.slot():
        body = await read_body(request, desk.options.body_timeout_s)
        draft = parse_feedback(body, request.headers.get(TOKEN_HEADER))
        feedback = await desk.runtime.give_feedback(draft, caller)
    desk.meters.hear(feedback.kind)
    reply = orjson.dumps({"id": feedback.id, "status": feedback.status})
    return web.Response(body=reply, content_type="application/json")


def parse_feedback(body: bytes, token_header: str | None) -> FeedbackDraft:
    """Read the body of POST /v1/feedback.

    Args:
        body: as it came.
        token_header: the token, where it did not come in the body.

    Raises:
        RequestRefused: 400 wrong form; 403 no token; 413 a long text; 422 a value of another kind.
    """
    refuse_wide_objects(body)
    try:
        given = _Body.model_validate_json(body)
    except ValidationError as error:
        raise _refusal(error) from error
    load_object(body)  # refuses fields written twice
    token = given.token or token_header
    if not token or len(token) > MAX_TOKEN_CHARACTERS or not token.isascii():
        raise RequestRefused(
            f"no feedback token; expected `token`, or the header {TOKEN_HEADER}, as it came with the answer",
            403,
            "feedback_token_missing",
            "token",
        )
    return FeedbackDraft(
        trace=given.trace,
        token=token,
        kind=given.kind,
        value=_value(given),
        text=_text(given),
        author=given.author,
        consent=given.consent,
    )


def _value(given: _Body) -> float | None:
    value = given.value
    if given.kind == "thumb":
        if value not in _THUMBS:
            raise _wrong("value", "a thumb needs a value: `up` or `down` (or 1 or 0)")
        return _THUMBS[value]
    if given.kind == "rating":
        if not isinstance(value, float | int) or not 1 <= value <= 5:
            raise _wrong("value", "a rating needs a value from 1 to 5")
        return float(value)
    if value is not None:
        raise _wrong("value", f"feedback of kind {given.kind} has no value; leave it out")
    return None


def _text(given: _Body) -> str | None:
    if given.kind in ("edit", "comment") and not (given.text or "").strip():
        raise _wrong("text", f"feedback of kind {given.kind} needs a text")
    if given.text is not None and len(given.text.encode()) > MAX_TEXT_BYTES:
        raise RequestRefused(
            f"text is too long; expected at most {MAX_TEXT_BYTES} bytes", 413, "text_too_long", "text"
        )
    return given.text


def _wrong(field: str, expected: str) -> RequestRefused:
    return RequestRefused(expected, 422, "invalid_value", field)


def _refusal(error: ValidationError) -> RequestRefused:
    """Name the first field that is wrong; quotes nothing of what was written in it."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    field = str(first["loc"][0])[:80] if first["loc"] else None
    if first["type"] == "extra_forbidden":
        known = ", ".join(sorted(_Body.model_fields))
        return RequestRefused(f"unknown field {field!r}; expected only {known}", 400, "unknown_field", field)
    return RequestRefused(f"{field or 'the body'}: {first['msg']}", param=field)
