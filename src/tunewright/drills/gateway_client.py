"""One client of a gateway: asks, streamed or not, tries again as OpenAI clients do, and gives feedback."""

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import aiohttp

from tunewright.errors import EngineFailed, RequestRefused

RETRIED = frozenset({429, 500, 502, 503, 504})
"""Statuses that clients try again, as the OpenAI client does."""

_CONNECT_S = 10.0
_ANSWER_S = 120.0
_LONGEST_PAUSE_S = 2.0
_LOOK_S = 0.05

Fields = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Target:
    """Where and as whom to ask."""

    url: str
    """Such as http://127.0.0.1:8080."""
    key: str
    """API key's secret."""
    model: str
    max_tokens: int = 32
    attempts: int = 8
    """Times a request is tried before it counts as failed."""
    first_pause_s: float = 0.2
    """Before the second attempt; doubles up to 2 s."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer."""

    text: str
    told: Fields
    """Field `tunewright`: trace, digest, model, feedback_token, ..."""


def client_session() -> aiohttp.ClientSession:
    """Open the connections of a crowd."""
    timeout = aiohttp.ClientTimeout(total=_ANSWER_S, sock_connect=_CONNECT_S)
    return aiohttp.ClientSession(timeout=timeout)


async def wait_until_known(session: aiohttp.ClientSession, target: Target, limit_s: float = 30.0) -> None:
    """Wait until the gateway knows a key that was just made.

    Raises:
        EngineFailed: it does not within the limit, or cannot be reached.
    """
    deadline_s = time.monotonic() + limit_s
    while True:
        try:
            async with session.get(f"{target.url}/v1/models", headers=_headers(target)) as response:
                if response.status == 200:
                    return
                found = f"answers {response.status} to the key"
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            found = f"cannot be reached ({type(error).__name__})"
        if time.monotonic() > deadline_s:
            raise EngineFailed(
                f"the gateway at {target.url} {found} after {limit_s:g} s; expected it to let the key in "
                "within one second. Does it run, and does it serve this workspace?"
            )
        await asyncio.sleep(_LOOK_S)


async def persist(session: aiohttp.ClientSession, target: Target, body: Fields) -> tuple[Reply, int]:
    """Ask until there is an answer.

    Returns:
        The answer, and the number of attempts before the one that got it.

    Raises:
        RequestRefused: the request is wrong, or there was no answer in all attempts.
    """
    pause_s, reason = target.first_pause_s, "it was never tried"
    for attempt in range(target.attempts):
        try:
            return await _ask(session, target, body), attempt
        except RequestRefused as refused:
            if refused.status not in RETRIED:
                raise
            reason = str(refused)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            reason = f"{type(error).__name__}: {error}"
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
    raise RequestRefused(
        f"no answer in {target.attempts} attempts; the last said: {reason}", 503, "no_answer"
    )


async def give_feedback(session: aiohttp.ClientSession, target: Target, feedback: Fields) -> bool:
    """Give feedback once; says whether it was taken."""
    try:
        url = f"{target.url}/v1/feedback"
        async with session.post(url, json=feedback, headers=_headers(target)) as response:
            return response.status == 200
    except (aiohttp.ClientError, TimeoutError, OSError):
        return False


async def _ask(session: aiohttp.ClientSession, target: Target, body: Fields) -> Reply:
    url = f"{target.url}/v1/chat/completions"
    async with session.post(url, json=body, headers=_headers(target)) as response:
        if response.status != 200:
            said = (await response.text())[:200]
            raise RequestRefused(f"status {response.status}: {said}", response.status)
        if body.get("stream"):
            return await _read_stream(response)
        fields = cast("Fields", await response.json())
    return Reply(_content(fields, "message"), cast("Fields", fields["tunewright"]))


async def _read_stream(response: aiohttp.ClientResponse) -> Reply:
    """Put the pieces of a stream together. Raises RequestRefused (503) when it ends without `[DONE]`."""
    told: Fields | None = None
    parts: list[str] = []
    async for line in response.content:
        if not line.startswith(b"data:"):
            continue
        data = line[5:].strip()
        if data == b"[DONE]" and told is not None:
            return Reply("".join(parts), told)
        event = cast("Fields", json.loads(data))
        if "error" in event:
            raise RequestRefused(f"the stream broke off: {event['error']}", 503, "stream_broken")
        told = told or cast("Fields", event["tunewright"])
        parts.append(_content(event, "delta"))
    raise RequestRefused("the stream ended before [DONE]", 503, "stream_broken")


def _content(fields: Fields, part: str) -> str:
    choices = cast("Sequence[Mapping[str, Mapping[str, str | None]]]", fields.get("choices") or ())
    return (choices[0][part].get("content") or "") if choices else ""


def _headers(target: Target) -> dict[str, str]:
    return {"Authorization": f"Bearer {target.key}"}
