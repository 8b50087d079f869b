"""What the engine does for each endpoint: parsed requests in, reply objects out. Knows no HTTP.

Adapters are named by digest and never replaced: loading one that is there is a no-op, unloading takes only
the name away, and answers in the making keep the weights they began with.
"""

import asyncio
import os
import secrets
import time
from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from tunewright.backends.engine import replies
from tunewright.backends.engine.adapters import load_adapter
from tunewright.backends.engine.answer import Answer, Draw, Piece, Row, Sampling
from tunewright.backends.engine.lora import Adapter, Site
from tunewright.backends.engine.replies import Choice, Heading, Token
from tunewright.backends.engine.scheduler import Scheduler, Scoring
from tunewright.backends.engine.text_stream import TextStream
from tunewright.backends.engine.wire import Prompt, TextRequest
from tunewright.core.tokens import ChatTokenizer
from tunewright.errors import RequestRefused

BASE = "base"
"""The name of the base without an adapter."""

MAX_ADAPTERS = 256


@dataclass(frozen=True, slots=True)
class ServedBase:
    """What the endpoints must know of the base."""

    digest: str
    tokenizer: ChatTokenizer
    context_tokens: int
    sites: Mapping[str, Site]
    dtype: torch.dtype


class Service:
    """The engine behind its endpoints; confined to one event loop."""

    def __init__(self, base: ServedBase, scheduler: Scheduler) -> None:
        self.base = base
        self._scheduler = scheduler
        self._adapters: dict[str, Adapter] = {}
        self._loading = asyncio.Lock()

    def health(self) -> dict[str, object]:
        """Say what runs and how busy it is."""
        load = self._scheduler.load()
        return {
            "status": "ok" if load.is_alive else "dead",
            "pid": os.getpid(),
            "base": self.base.digest,
            "context_tokens": self.base.context_tokens,
            "adapters": len(self._adapters),
            "running": load.num_running,
            "waiting": load.num_waiting,
            "tokens": load.num_tokens,
        }

    def models(self) -> dict[str, object]:
        """List the base and the loaded adapters."""
        return replies.models([BASE, *sorted(self._adapters)], int(time.time()))

    async def load(self, digest: str, folder: str) -> dict[str, object]:
        """Load an adapter; answers of others go on. Raises AdapterRefused, BlobCorrupt, BaseMismatch."""
        async with self._loading:
            if digest not in self._adapters:
                if len(self._adapters) >= MAX_ADAPTERS:
                    raise RequestRefused(
                        f"{MAX_ADAPTERS} adapters are loaded, which is the limit; unload one",
                        409,
                        "too_many_adapters",
                    )
                adapter = await asyncio.to_thread(
                    load_adapter, Path(folder), digest, self.base.sites, self.base.dtype
                )
                self._adapters[digest] = adapter
        return {"status": "loaded", "model": digest, "bytes": self._adapters[digest].num_bytes}

    def unload(self, digest: str) -> dict[str, object]:
        """Take an adapter's name away at once; answers in the making finish with it."""
        if digest not in self._adapters:
            raise _unknown_model(digest)
        del self._adapters[digest]
        return {"status": "unloaded", "model": digest}

    def tokenize(self, prompt: Prompt, *, add_generation_prompt: bool) -> dict[str, object]:
        """Give the ids that the model would be fed."""
        ids = self._ids(prompt, add_generation_prompt=add_generation_prompt)
        return {"tokens": list(ids), "count": len(ids), "max_model_len": self.base.context_tokens}

    async def complete(self, request: TextRequest) -> dict[str, object]:
        """Answer or score a whole request."""
        adapter, heading = self._adapter(request.model), _heading(request)
        prompts = self._prompts(request)
        if request.is_scoring:
            return await self._score(request, heading, prompts, adapter)
        with self._answering(request, prompts, adapter) as (num_answers, pieces):
            per_answer: list[list[Piece]] = [[] for _ in range(num_answers)]
            async for index, piece in _until_ended(pieces, num_answers):
                per_answer[index].append(piece)
        choices = [self._choice(index, parts, request) for index, parts in enumerate(per_answer)]
        num_tokens = sum(len(piece.draws) for parts in per_answer for piece in parts)
        counted = replies.usage(sum(map(len, prompts)), num_tokens)
        latency_s = max(parts[-1].latency_s for parts in per_answer)
        return replies.reply(heading, choices, counted, latency_s=latency_s)

    async def stream(self, request: TextRequest) -> AsyncGenerator[dict[str, object]]:
        """Answer a request piece by piece. Raises RequestRefused before the first piece, or when it fails."""
        adapter, heading = self._adapter(request.model), _heading(request)
        prompts = self._prompts(request)
        num_tokens, begun = 0, set[int]()
        with self._answering(request, prompts, adapter) as (num_answers, pieces):
            async for index, piece in _until_ended(pieces, num_answers):
                num_tokens += len(piece.draws)
                choice = self._choice(index, [piece], request)
                yield replies.chunk(heading, choice, is_first=index not in begun)
                begun.add(index)
        if request.wants_usage_chunk:
            yield replies.usage_chunk(heading, replies.usage(sum(map(len, prompts)), num_tokens))

    @contextmanager
    def _answering(
        self, request: TextRequest, prompts: Sequence[tuple[int, ...]], adapter: Adapter | None
    ) -> Generator["tuple[int, asyncio.Queue[tuple[int, Piece]]]"]:
        """Submit the answers to a request; give their number and their news. Leaving cancels them."""
        pieces: asyncio.Queue[tuple[int, Piece]] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def listener(index: int) -> Callable[[Piece], None]:
            return lambda piece: _tell(loop, pieces, (index, piece))

        seed = secrets.randbits(62) if request.seed is None else request.seed
        wanted = [(prompt, choice) for prompt in prompts for choice in range(request.num_choices)]
        answers = [
            Answer(
                self._row(request, prompt, seed + choice, adapter),
                TextStream(self.base.tokenizer.decode, request.stops),
                self.base.tokenizer.eos_ids,
                listener(index),
                is_streaming=request.is_streaming,
            )
            for index, (prompt, choice) in enumerate(wanted)
        ]
        self._scheduler.submit(answers)
        try:
            yield len(answers), pieces
        finally:
            for answer in answers:
                answer.is_cancelled = True

    def _row(self, request: TextRequest, prompt: tuple[int, ...], seed: int, adapter: Adapter | None) -> Row:
        room = self.base.context_tokens - len(prompt)
        asked = room if request.max_tokens is None else request.max_tokens
        sampling = Sampling(request.temperature, request.top_p, seed, request.num_logprobs)
        return Row(prompt, min(asked, room), sampling, adapter)

    async def _score(
        self,
        request: TextRequest,
        heading: Heading,
        prompts: Sequence[tuple[int, ...]],
        adapter: Adapter | None,
    ) -> dict[str, object]:
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        futures: list[asyncio.Future[list[list[float]] | str]] = []
        scorings: list[Scoring] = []
        for prompt in prompts:
            future: asyncio.Future[list[list[float]] | str] = loop.create_future()
            futures.append(future)
            scorings.append(Scoring([prompt], adapter, lambda found, f=future: _resolve(loop, f, found)))
        self._scheduler.submit_scoring(scorings)
        choices: list[Choice] = []
        for index, (prompt, found) in enumerate(zip(prompts, await asyncio.gather(*futures), strict=True)):
            if isinstance(found, str):
                raise RequestRefused(found, 500, "engine_failed")
            tokens = [Token(self._spell(token), value) for token, value in zip(prompt, found[0], strict=True)]
            tokens[0] = Token(tokens[0].text, None)
            choices.append(Choice(index, self.base.tokenizer.decode(prompt), "length", tuple(tokens)))
        counted = replies.usage(sum(map(len, prompts)), 0)
        return replies.reply(heading, choices, counted, latency_s=loop.time() - started_s)

    def _choice(self, index: int, pieces: Sequence[Piece], request: TextRequest) -> Choice:
        last = pieces[-1]
        if last.end in ("failed", "cancelled"):
            raise RequestRefused(last.reason or "the request was cancelled", 500, "engine_failed")
        tokens = None
        if request.num_logprobs is not None:
            tokens = tuple(self._token(draw) for piece in pieces for draw in piece.draws)
        return Choice(index, "".join(piece.text for piece in pieces), last.end, tokens)

    def _token(self, draw: Draw) -> Token:
        top = tuple((self._spell(token), logprob) for token, logprob in draw.top)
        return Token(self._spell(draw.token), draw.logprob, top)

    def _spell(self, token: int) -> str:
        return self.base.tokenizer.decode([token]) or self.base.tokenizer.tokens([token])[0]

    def _adapter(self, model: str) -> Adapter | None:
        if model == BASE:
            return None
        if model not in self._adapters:
            raise _unknown_model(model)
        return self._adapters[model]

    def _prompts(self, request: TextRequest) -> list[tuple[int, ...]]:
        prompts = [self._ids(prompt, add_generation_prompt=True) for prompt in request.prompts]
        longest = self.base.context_tokens if request.is_scoring else self.base.context_tokens - 1
        for prompt in prompts:
            if not prompt:
                raise RequestRefused("a prompt has no token; expected at least one", param="prompt")
            if len(prompt) > longest:
                raise RequestRefused(
                    f"the prompt has {len(prompt)} tokens; this base holds {self.base.context_tokens} "
                    f"with the answer, so expected at most {longest}. Shorten the prompt.",
                    code="context_length_exceeded",
                    param="messages" if request.is_chat else "prompt",
                )
        return prompts

    def _ids(self, prompt: Prompt, *, add_generation_prompt: bool) -> tuple[int, ...]:
        tokenizer = self.base.tokenizer
        if isinstance(prompt, str):
            return tuple(tokenizer.encode_text(prompt))
        ids = tuple(item for item in prompt if isinstance(item, int))
        if ids:
            largest = tokenizer.vocabulary_size - 1
            if max(ids) > largest:
                raise RequestRefused(f"token id {max(ids)} is beyond the vocabulary; expected 0 to {largest}")
            return ids
        turns = [turn for turn in prompt if isinstance(turn, dict)]
        return tuple(tokenizer.encode(turns, add_generation_prompt=add_generation_prompt))


def _heading(request: TextRequest) -> Heading:
    name = ("chatcmpl-" if request.is_chat else "cmpl-") + secrets.token_hex(12)
    return Heading(name, request.is_chat, int(time.time()), request.model, digest=request.model)


def _unknown_model(model: str) -> RequestRefused:
    return RequestRefused(
        f"no model {model!r:.100}; expected `{BASE}` or the digest of a loaded adapter, see GET /v1/models",
        404,
        "model_not_found",
        "model",
    )


async def _until_ended(
    pieces: "asyncio.Queue[tuple[int, Piece]]", num_answers: int
) -> AsyncGenerator[tuple[int, Piece]]:
    """Yield pieces as they come, until every answer has ended."""
    while num_answers:
        index, piece = await pieces.get()
        if piece.end is not None:
            num_answers -= 1
        yield index, piece


def _tell(
    loop: asyncio.AbstractEventLoop, pieces: "asyncio.Queue[tuple[int, Piece]]", news: tuple[int, Piece]
) -> None:
    """Put news into a queue from another thread."""
    loop.call_soon_threadsafe(pieces.put_nowait, news)


def _resolve(
    loop: asyncio.AbstractEventLoop,
    future: "asyncio.Future[list[list[float]] | str]",
    found: list[list[float]] | str,
) -> None:
    """Set a future's result from another thread, unless nobody waits any more."""
    loop.call_soon_threadsafe(lambda: None if future.done() else future.set_result(found))
