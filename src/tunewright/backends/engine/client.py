"""A running engine as the stages see it: synchronous calls, many requests at once underneath."""

import asyncio
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Annotated, Literal, Self, TypeVar

import aiohttp
import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tunewright.backends.engine.handover import write_adapter
from tunewright.errors import BaseMismatch, EngineFailed
from tunewright.ports import GenerateRequest, Generation
from tunewright.values import Digest, Json

MAX_IN_FLIGHT = 64
ROWS_A_REQUEST = 16
"""Texts scored by one request."""

CONNECT_TIMEOUT_S = 10.0
SILENCE_TIMEOUT_S = 1800.0
"""A long answer behind a long queue may take long; a dead engine closes the connection at once."""

_Result = TypeVar("_Result")


class _Seen(BaseModel):
    """A reply, of which only what is used is looked at."""

    model_config = ConfigDict(extra="ignore", frozen=True)


_Reply = TypeVar("_Reply", bound=_Seen)


class _Message(_Seen):
    content: str


class _Answered(_Seen):
    message: _Message
    finish_reason: Literal["stop", "length"]


class _Usage(_Seen):
    prompt_tokens: int
    completion_tokens: int


class _Resolved(_Seen):
    digest: str
    latency_s: float


class _ChatReply(_Seen):
    choices: Annotated[list[_Answered], Field(min_length=1, max_length=1)]
    usage: _Usage
    tunewright: _Resolved


class _Logprobs(_Seen):
    token_logprobs: list[float | None]


class _Scored(_Seen):
    index: int
    logprobs: _Logprobs


class _ScoreReply(_Seen):
    choices: list[_Scored]
    tunewright: _Resolved


class _Tokens(_Seen):
    tokens: list[int]


class _Problem(_Seen):
    message: str
    code: str | None = None


class _ErrorReply(_Seen):
    error: _Problem


class _Loaded(_Seen):
    status: Literal["loaded"]


def _ignore(done: int) -> None:
    """Report to nobody."""


def _nothing() -> str:
    return ""


class EngineClient:
    """Implements ports.Engine over HTTP. Calls block; do not call from within a running event loop."""

    def __init__(
        self,
        url: str,
        token: str,
        *,
        max_in_flight: int = MAX_IN_FLIGHT,
        diagnose: Callable[[], str] = _nothing,
        scratch: Path | None = None,
    ) -> None:
        """Remember where the engine is; nothing is sent.

        Args:
            url: such as http://127.0.0.1:8123, without a slash at the end.
            token: the bearer token.
            max_in_flight: requests sent before the first of them is answered.
            diagnose: says what is known of the engine's process, for error messages.
            scratch: a folder that somebody removes even if this process is killed; adapter files go there.
        """
        self.url = url
        self.token = token
        self.adapter_folder: Path | None = None
        """Where adapter files are handed over; none before the first."""
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        self._max_in_flight = max_in_flight
        self._diagnose = diagnose
        self._scratch = scratch

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove the files that adapters were handed over in."""
        if self.adapter_folder is not None:
            shutil.rmtree(self.adapter_folder, ignore_errors=True)
            self.adapter_folder = None

    def load_adapter(self, digest: Digest, files: Mapping[str, bytes]) -> None:
        """Load verified adapter bytes under their digest. Raises BaseMismatch, EngineFailed."""
        folder = self._materialise(digest, files)
        self._ask("/v1/load_lora_adapter", {"lora_name": digest, "lora_path": str(folder)}, _Loaded)

    def generate(
        self, requests: Sequence[GenerateRequest], *, on_done: Callable[[int], None] = _ignore
    ) -> list[Generation]:
        """Answer all requests, in order; calls on_done with the number finished.

        Raises:
            EngineFailed: one of them was refused or failed; the others are given up.
        """
        return self._many([lambda post, item=item: _generate(post, item) for item in requests], on_done)

    def logprobs(self, rows: Sequence[Sequence[int]], model: str) -> list[list[float]]:
        """Natural-log probability of each token given those before it; the first entry is 0.0."""
        parts = [rows[at : at + ROWS_A_REQUEST] for at in range(0, len(rows), ROWS_A_REQUEST)]
        found = self._many([lambda post, part=part: _score(post, part, model) for part in parts], _ignore)
        return [row for part in found for row in part]

    def tokenize(self, messages: Sequence[Mapping[str, str]], *, add_generation_prompt: bool) -> list[int]:
        """Token ids the engine would feed for these messages."""
        body: dict[str, Json] = {
            "messages": [dict(message) for message in messages],
            "add_generation_prompt": add_generation_prompt,
        }
        return self._ask("/tokenize", body, _Tokens).tokens

    def _materialise(self, digest: Digest, files: Mapping[str, bytes]) -> Path:
        """Write an adapter into a folder that only this user can read, and that ends with this client."""
        if self.adapter_folder is None:
            self.adapter_folder = Path(tempfile.mkdtemp(prefix="tunewright-adapters-", dir=self._scratch))
        return write_adapter(self.adapter_folder, digest, files)

    def _ask(self, path: str, body: dict[str, Json], shape: type[_Reply]) -> _Reply:
        return self._many([lambda post: post(path, body, shape)], _ignore)[0]

    def _many(
        self, calls: Sequence[Callable[["_Post"], Awaitable[_Result]]], on_done: Callable[[int], None]
    ) -> list[_Result]:
        return asyncio.run(self._run(calls, on_done))

    async def _run(
        self, calls: Sequence[Callable[["_Post"], Awaitable[_Result]]], on_done: Callable[[int], None]
    ) -> list[_Result]:
        """Make all calls, a bounded number at a time; the first failure ends the rest."""
        timeout = aiohttp.ClientTimeout(None, sock_connect=CONNECT_TIMEOUT_S, sock_read=SILENCE_TIMEOUT_S)
        slots, num_done = asyncio.Semaphore(self._max_in_flight), 0
        async with aiohttp.ClientSession(
            headers=self._headers, timeout=timeout, connector=aiohttp.TCPConnector(limit=0), trust_env=False
        ) as session:
            post = _Post(session, self.url, self._diagnose)

            async def one(call: Callable[["_Post"], Awaitable[_Result]]) -> _Result:
                nonlocal num_done
                async with slots:
                    result = await call(post)
                num_done += 1
                on_done(num_done)
                return result

            tasks = [asyncio.ensure_future(one(call)) for call in calls]
            try:
                return await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)


class _Post:
    """Sends one request and reads its reply, or raises what it means."""

    def __init__(self, session: aiohttp.ClientSession, url: str, diagnose: Callable[[], str]) -> None:
        self._session = session
        self._url = url
        self._diagnose = diagnose

    async def __call__(self, path: str, body: Mapping[str, Json], shape: type[_Reply]) -> _Reply:
        try:
            async with self._session.post(self._url + path, data=orjson.dumps(body)) as response:
                data, status = await response.read(), response.status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise EngineFailed(
                f"no answer to {path}: {error or type(error).__name__}. {self._diagnose()}".rstrip()
            ) from error
        try:
            if status != 200:
                _refuse(path, status, _ErrorReply.model_validate_json(data).error)
            return shape.model_validate_json(data)
        except ValidationError as error:
            raise EngineFailed(
                f"the engine's reply to {path} (status {status}) has an unexpected form: {data[:300]!r}"
            ) from error


def _refuse(path: str, status: int, problem: _Problem) -> None:
    if problem.code == "base_mismatch":
        raise BaseMismatch(problem.message)
    raise EngineFailed(f"the engine refused {path} ({status} {problem.code}): {problem.message}")


async def _generate(post: _Post, request: GenerateRequest) -> Generation:
    body: dict[str, Json] = {
        "model": request.model,
        "messages": [dict(message) for message in request.messages],
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
        "seed": request.seed,
    }
    reply = await post("/v1/chat/completions", body, _ChatReply)
    return Generation(
        text=reply.choices[0].message.content,
        num_prompt_tokens=reply.usage.prompt_tokens,
        num_tokens=reply.usage.completion_tokens,
        finish_reason=reply.choices[0].finish_reason,
        latency_s=reply.tunewright.latency_s,
        model=reply.tunewright.digest,
    )


async def _score(post: _Post, rows: Sequence[Sequence[int]], model: str) -> list[list[float]]:
    body: dict[str, Json] = {
        "model": model,
        "prompt": [list(row) for row in rows],
        "echo": True,
        "logprobs": 1,
        "max_tokens": 0,
    }
    reply = await post("/v1/completions", body, _ScoreReply)
    by_index = {choice.index: choice.logprobs.token_logprobs for choice in reply.choices}
    return [[0.0 if value is None else value for value in by_index[index]] for index in range(len(rows))]
