"""What is seen of one answer on its way to the client, and the one closing of its trace."""

import asyncio
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from aiohttp import web
from pydantic import BaseModel, ConfigDict, ValidationError

from tunewright.errors import RequestRefused
from tunewright.server.engine_calls import INTERRUPTED_CODES
from tunewright.server.metrics import Meters
from tunewright.server.seams import Asked, Caller, Finish, GatewayRuntime, Ticket
from tunewright.values import Json

MAX_TEXT_CHARACTERS = 256 * 1024
"""Of an answer, kept for live scorers and reviewers; the client gets it whole."""

Status = Literal["ok", "error", "cancelled", "interrupted"]


class _Seen(BaseModel):
    """A part of a reply, of which only what is used is looked at."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class _Words(_Seen):
    content: str | None = None


class _Choice(_Seen):
    index: int = 0
    text: str | None = None
    message: _Words | None = None
    delta: _Words | None = None
    finish_reason: str | None = None

    def words(self) -> str:
        """Give the text, wherever this kind of reply has it."""
        said = self.message or self.delta
        return (self.text if said is None else said.content) or ""


class _Usage(_Seen):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Resolved(_Seen):
    digest: str | None = None
    latency_s: float | None = None


class _Problem(_Seen):
    message: str = "the engine failed"
    code: str | int | None = None


class _Reply(_Seen):
    """A whole reply, or one event of a stream."""

    choices: tuple[_Choice, ...] = ()
    usage: _Usage | None = None
    tunewright: _Resolved = _Resolved()
    error: _Problem | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """What the client must be told of a part of a reply."""

    digest: str
    """What answers, as the engine says; as assigned where it does not."""
    latency_s: float | None
    is_usage_only: bool
    """An event that holds the counts and nothing else."""


class Watch:
    """Follows one answer; what is never told counts as the gateway's own failure."""

    def __init__(self, ticket: Ticket) -> None:
        self.ticket = ticket
        self._started_s = time.perf_counter()
        self._ended_s: float | None = None
        self._ttft_s: float | None = None
        self._status: Status = "interrupted"
        self._error: str | None = "gateway_failed"
        self._text: list[str] = []
        self._room = MAX_TEXT_CHARACTERS
        self._digest: str | None = None
        self._finish_reason: str | None = None
        self._usage = _Usage()

    def see(self, fields: Mapping[str, Json]) -> Seen:
        """Take note of a whole reply or of one event. Raises RequestRefused when it is no such thing."""
        try:
            reply = _Reply.model_validate(fields)
        except ValidationError as error:
            raise RequestRefused("the engine's answer has no known form", 502, "engine_failed") from error
        if reply.error is not None:
            raise RequestRefused(reply.error.message, 500, str(reply.error.code or "engine_failed"))
        if self._ttft_s is None:
            self._ttft_s = time.perf_counter() - self._started_s
        for choice in reply.choices:
            if choice.index == 0:
                self._hear(choice)
        self._digest = reply.tunewright.digest or self._digest
        self._usage = reply.usage or self._usage
        return Seen(
            digest=reply.tunewright.digest or self.ticket.trace.digest,
            latency_s=reply.tunewright.latency_s,
            is_usage_only=reply.usage is not None and not reply.choices,
        )

    def _hear(self, choice: _Choice) -> None:
        words = choice.words()[: self._room]
        self._room -= len(words)
        self._text.append(words)
        self._finish_reason = choice.finish_reason or self._finish_reason

    def complete(self) -> None:
        """The engine has said all; whatever the client does now, the answer was given."""
        self._end("ok", None)

    def refuse(self, refused: RequestRefused) -> None:
        """The engine refused, failed or died; a request that it rightly refuses is the caller's doing."""
        if refused.code in INTERRUPTED_CODES:
            self._end("interrupted", refused.code)
        else:
            self._end("cancelled" if refused.status < 500 else "error", refused.code)

    def give_up(self, reason: str) -> None:
        """The client hung up or took nothing any more, or the gateway stops: no evidence about a model."""
        self._end("cancelled", reason)

    def _end(self, status: Status, error: str | None) -> None:
        if self._ended_s is None:
            self._ended_s = time.perf_counter()
            self._status, self._error = status, error

    def to_finish(self) -> Finish:
        """Say how it went."""
        return Finish(
            status=self._status,
            error=self._error,
            text="".join(self._text),
            digest=self._digest,
            finish_reason=self._finish_reason,
            num_prompt_tokens=self._usage.prompt_tokens,
            num_tokens=self._usage.completion_tokens,
            latency_s=(self._ended_s or time.perf_counter()) - self._started_s,
            ttft_s=self._ttft_s if self.ticket.asked.is_stream else None,
        )


@contextmanager
def watched(
    runtime: GatewayRuntime, meters: Meters, asked: Asked, caller: Caller, request: web.Request
) -> Generator[Watch]:
    """Admit a request and watch it; its trace is closed exactly once, however the block is left.

    Raises:
        RequestRefused: not admitted; there is no trace then.
    """
    watch = Watch(runtime.admit(asked, caller))
    meters.begin()
    try:
        yield watch
    except RequestRefused as refused:
        watch.refuse(refused)
        raise
    except ConnectionError:
        watch.give_up("client_gone")
        raise
    except asyncio.CancelledError:
        has_client = request.transport is not None and not request.transport.is_closing()
        watch.give_up("gateway_stopping" if has_client else "client_gone")
        raise
    finally:
        asyncio.get_running_loop().call_soon(_close, runtime, meters, watch.ticket, watch.to_finish())


def _close(runtime: GatewayRuntime, meters: Meters, ticket: Ticket, finish: Finish) -> None:
    """Count and close; called once the reply is written, which need not wait for it."""
    meters.end(ticket.trace, finish)
    runtime.finish(ticket, finish)
