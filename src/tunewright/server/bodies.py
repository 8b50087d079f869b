"""Request bodies: read within bounds of size and time, checked, and taken apart."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from aiohttp import web
from multidict import CIMultiDictProxy

from tunewright.core import openai_wire as wire
from tunewright.errors import RequestRefused
from tunewright.records import Consent
from tunewright.server.seams import Asked
from tunewright.values import Json

CompletionPath = Literal["/v1/chat/completions", "/v1/completions"]

CONSENT_HEADER = "X-Tunewright-Consent"
SESSION_HEADER = "X-Session-Id"
MAX_UNIT_CHARACTERS = 256
_CONSENTS: tuple[Consent, ...] = get_args(Consent)  # ascending: none, review, train


@dataclass(frozen=True, slots=True)
class Completion:
    """A completion request that is valid on the wire."""

    asked: Asked
    request: wire.TextRequest
    fields: dict[str, Json]
    """The body's own fields, to be forwarded with another model name."""


async def read_body(request: web.Request, timeout_s: float) -> bytes:
    """Read a whole body.

    Raises:
        RequestRefused: 413 too large (from its announced length where there is one), 415 compressed, 408 too
            slow.
    """
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise RequestRefused("the body is compressed; expected it as it is", 415, "compressed_body")
    if (request.content_length or 0) > wire.MAX_BODY_BYTES:
        raise _too_large()
    if not request.body_exists:
        return b""
    try:
        if request.content.is_eof():  # it came with its head, as most do
            return await request.read()
        async with asyncio.timeout(timeout_s):
            return await request.read()
    except TimeoutError as error:
        message = f"the body did not arrive within {timeout_s:g} s; send it again"
        raise RequestRefused(message, 408, "body_too_slow") from error
    except web.HTTPRequestEntityTooLarge as error:
        raise _too_large() from error
    except web.HTTPException:
        raise
    except web.RequestPayloadError as error:
        raise RequestRefused("the body is not framed as its headers say") from error


def _too_large() -> RequestRefused:
    return RequestRefused(
        f"the body is too large; expected at most {wire.MAX_BODY_BYTES} bytes", 413, "body_too_large"
    )


def read_completion(
    path: CompletionPath, body: bytes, headers: CIMultiDictProxy[str], allowed: Consent
) -> Completion:
    """Check a completion request and say what assignment needs of it. Raises RequestRefused.

    Args:
        path: where it was posted.
        body: as it came.
        headers: may name a session and lower the consent.
        allowed: consent of the caller's key.
    """
    request = wire.parse_chat(body) if path == "/v1/chat/completions" else wire.parse_text(body)
    fields = load_object(body)
    consent = lower_consent(headers.getall(CONSENT_HEADER, []), allowed)
    messages = _turns(request)
    asked = Asked(
        model=request.model,
        unit=_unit(fields.get("user"), headers.getall(SESSION_HEADER, [])),
        consent="none" if request.is_scoring or not messages else consent,
        is_stream=request.is_streaming,
        messages=messages,
        body=body,
        path=path,
    )
    return Completion(asked, request, fields)


def load_object(body: bytes) -> dict[str, Json]:
    """Read a JSON object in which no key is written twice. Raises RequestRefused."""
    try:
        loaded = json.loads(body, object_pairs_hook=_once_each)
    except (ValueError, RecursionError) as error:
        raise RequestRefused("the body is not JSON; expected one JSON object in UTF-8") from error
    if not isinstance(loaded, dict):
        raise RequestRefused("the body is JSON but no object; expected one JSON object")
    return loaded  # pyright: ignore[reportUnknownVariableType]  # json.loads says Any


def _once_each(pairs: Sequence[tuple[str, Json]]) -> dict[str, Json]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in found if keys.count(key) > 1)
        raise RequestRefused(f"field {twice[:80]!r} is written twice; expected it once", param=twice[:80])
    return found


def lower_consent(asked: Sequence[str], allowed: Consent) -> Consent:
    """Apply the consent header: it may lower what the key allows, never raise it. Raises RequestRefused."""
    if not asked:
        return allowed
    for rank, consent in enumerate(_CONSENTS):
        if list(asked) == [consent]:
            return consent if rank < _CONSENTS.index(allowed) else allowed
    raise RequestRefused(
        f"header {CONSENT_HEADER} must be one of {', '.join(_CONSENTS)}, given once", param=CONSENT_HEADER
    )


def _unit(user: Json, sessions: Sequence[str]) -> str | None:
    """Take the end user, else the session, else nobody."""
    if isinstance(user, str) and user:
        return user
    if not sessions or not sessions[0]:
        return None
    session = sessions[0]
    if len(sessions) > 1 or len(session) > MAX_UNIT_CHARACTERS or not session.isprintable():
        raise RequestRefused(
            f"header {SESSION_HEADER} must be given once, with at most {MAX_UNIT_CHARACTERS} printable "
            "characters",
            param=SESSION_HEADER,
        )
    return session


def _turns(request: wire.TextRequest) -> tuple[Mapping[str, str], ...]:
    """Write the first prompt as turns; none for token ids, which hold no text."""
    first = request.prompts[0]
    if isinstance(first, str):
        return ({"role": "user", "content": first},)
    return tuple(turn for turn in first if isinstance(turn, dict))
