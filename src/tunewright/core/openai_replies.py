"""Replies in the OpenAI wire format: what the engine found, as JSON objects. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tunewright.errors import RequestRefused

FinishReason = Literal["stop", "length"]

DONE = b"data: [DONE]\n\n"
"""The last event of every stream."""


@dataclass(frozen=True, slots=True)
class Token:
    """One token of an answer, or of a scored text."""

    text: str
    logprob: float | None
    """Natural log; None for the first token of a scored text, which nothing comes before."""
    top: tuple[tuple[str, float], ...] = ()
    """The likeliest tokens at this place and their log-probabilities, best first."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One answer, or the part of it that is new."""

    index: int
    text: str
    finish_reason: FinishReason | None = None
    """None while the answer goes on."""
    tokens: tuple[Token, ...] | None = None
    """None when nobody asked for log-probabilities."""


@dataclass(frozen=True, slots=True)
class Heading:
    """What all replies to one request share."""

    id: str
    is_chat: bool
    created: int
    """Seconds since 1970."""
    model: str
    """As it was asked for."""
    digest: str
    """What it resolved to: an adapter's manifest digest, or `base`."""


def usage(num_prompt_tokens: int, num_tokens: int) -> dict[str, object]:
    """Count the tokens of a request."""
    return {
        "prompt_tokens": num_prompt_tokens,
        "completion_tokens": num_tokens,
        "total_tokens": num_prompt_tokens + num_tokens,
    }


def reply(
    heading: Heading, choices: Sequence[Choice], counted: dict[str, object], *, latency_s: float
) -> dict[str, object]:
    """Write a whole reply; `latency_s` runs from the first step on the prompt to the last token."""
    kind = "chat.completion" if heading.is_chat else "text_completion"
    write = _chat_choice if heading.is_chat else _text_choice
    body = _head(heading, kind) | {"choices": [write(choice) for choice in choices], "usage": counted}
    body["tunewright"] = {"digest": heading.digest, "latency_s": round(latency_s, 6)}
    return body


def chunk(heading: Heading, choice: Choice, *, is_first: bool) -> dict[str, object]:
    """Write one event of a stream."""
    if not heading.is_chat:
        return _head(heading, "text_completion") | {"choices": [_text_choice(choice)]}
    delta: dict[str, object] = {"role": "assistant"} if is_first else {}
    if choice.text or is_first:
        delta["content"] = choice.text
    item: dict[str, object] = {
        "index": choice.index,
        "delta": delta,
        "logprobs": _chat_logprobs(choice.tokens),
        "finish_reason": choice.finish_reason,
    }
    return _head(heading, "chat.completion.chunk") | {"choices": [item]}


def usage_chunk(heading: Heading, counted: dict[str, object]) -> dict[str, object]:
    """Write the event with the counts, which comes before `[DONE]` when it was asked for."""
    kind = "chat.completion.chunk" if heading.is_chat else "text_completion"
    no_choices: list[object] = []
    return _head(heading, kind) | {"choices": no_choices, "usage": counted}


def failure(message: str, *, kind: str, code: str, param: str | None = None) -> dict[str, object]:
    """Write an error in the OpenAI shape."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def refusal(refused: RequestRefused) -> dict[str, object]:
    """Write a refusal in the OpenAI shape."""
    kind = "invalid_request_error" if refused.status < 500 else "server_error"
    return failure(str(refused), kind=kind, code=refused.code, param=refused.param)


def models(names: Sequence[str], created: int) -> dict[str, object]:
    """List the models that can be asked for."""
    return {
        "object": "list",
        "data": [
            {"id": name, "object": "model", "created": created, "owned_by": "tunewright", "root": "base"}
            for name in names
        ],
    }


def _head(heading: Heading, kind: str) -> dict[str, object]:
    return {
        "id": heading.id,
        "object": kind,
        "created": heading.created,
        "model": heading.model,
        "tunewright": {"digest": heading.digest},
    }


def _chat_choice(choice: Choice) -> dict[str, object]:
    return {
        "index": choice.index,
        "message": {"role": "assistant", "content": choice.text},
        "logprobs": _chat_logprobs(choice.tokens),
        "finish_reason": choice.finish_reason,
    }


def _chat_logprobs(tokens: tuple[Token, ...] | None) -> dict[str, object] | None:
    if tokens is None:
        return None
    return {
        "content": [
            _spelled(token.text, token.logprob)
            | {"top_logprobs": [_spelled(text, logprob) for text, logprob in token.top]}
            for token in tokens
        ]
    }


def _spelled(text: str, logprob: float | None) -> dict[str, object]:
    return {"token": text, "logprob": logprob, "bytes": list(text.encode("utf-8", errors="replace"))}


def _text_choice(choice: Choice) -> dict[str, object]:
    return {
        "index": choice.index,
        "text": choice.text,
        "logprobs": _text_logprobs(choice.tokens),
        "finish_reason": choice.finish_reason,
    }


def _text_logprobs(tokens: tuple[Token, ...] | None) -> dict[str, object] | None:
    if tokens is None:
        return None
    offsets: list[int] = []
    end = 0
    for token in tokens:
        offsets.append(end)
        end += len(token.text)
    return {
        "tokens": [token.text for token in tokens],
        "token_logprobs": [token.logprob for token in tokens],
        "top_logprobs": [dict(token.top) if token.top else None for token in tokens],
        "text_offset": offsets,
    }
