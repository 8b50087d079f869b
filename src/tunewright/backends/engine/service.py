"""What the engine does for each endpoint: parsed requests in, reply objects out. Knows no HTTP."""

import asyncio
import os
import secrets
import time
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tunewright.backends.engine.adapter_store import BASE, AdapterStore
from tunewright.backends.engine.answer import Answer, Draw, Piece, Row, Sampling
from tunewright.backends.engine.lora import Adapter
from tunewright.backends.engine.prompts import encode, prompts_of, spell
from tunewright.backends.engine.scheduler import Scheduler, Scoring
from tunewright.backends.engine.text_stream import TextStream
from tunewright.core import openai_replies as replies
from tunewright.core.openai_replies import Choice, Heading, Token
from tunewright.core.openai_wire import Prompt, TextRequest
from tunewright.core.tokens import ChatTokenizer
from tunewright.errors import RequestRefused

_Found = list[list[float]] | str
"""Log-probabilities, or why there are none."""


@dataclass(frozen=True, slots=True)
class ServedBase:
    """What the endpoints must know of the base."""

    digest: str
    tokenizer: ChatTokenizer
    context_tokens: int


class Service:
    """The engine behind its endpoints; confined to one event loop."""

    def __init__(self, base: ServedBase, adapters: AdapterStore, scheduler: Scheduler) -> None:
        self._base = base
        self._adapters = adapters
        self._scheduler = scheduler

    def health(self) -> dict[str, object]:
        """Say what runs and how busy it is."""
        load = self._scheduler.load()
        return {
            "status": "ok" if load.is_alive else "dead",
            "pid": os.getpid(),
            "base": self._base.digest,
            "context_tokens": self._base.context_tokens,
            "adapters": len(self._adapters.names),
            "running": load.num_running,
            "waiting": load.num_waiting,
            "tokens": load.num_tokens,
        }

    def models(self) -> dict[str, object]:
        """List the base and the loaded adapters."""
        return replies.models([BASE, *self._adapters.names], int(time.time()))

    async def load(self, digest: str, folder: str) -> dict[str, object]:
        """Load an adapter; answers of others go on. Raises what `AdapterStore.load` raises."""
        adapter = await self._adapters.load(digest, Path(folder))
        return {"status": "loaded", "model": digest, "bytes": adapter.num_bytes}

    def unload(self, digest: str) -> dict[str, object]:
        """Take an adapter's name away at once; answers in the making finish with it."""
        self._adapters.unload(digest)
        return {"status": "unloaded", "model": digest}

    def tokenize(self, prompt: Prompt, *, add_generation_prompt: bool) -> dict[str, object]:
        """Give the ids that the model would be fed."""
        ids = encode(prompt, self._base.tokenizer, add_generation_prompt=add_generation_prompt)
        return {"tokens": list(ids), "count": len(ids), "max_model_len": self._base.context_tokens}

    async def complete(self, request: TextRequest) -> dict[str, object]:
        """Answer or score a whole request."""
        adapter, heading = self._adapters.find(request.model), _heading(request)
        prompts = prompts_of(request, self._base.tokenizer, self._base.context_tokens)
        if request.is_scoring:
            return await self._score(heading, prompts, adapter)
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
        adapter, heading = self._adapters.find(request.model), _heading(request)
        prompts = prompts_of(request, self._base.tokenizer, self._base.context_tokens)
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
                TextStream(self._base.tokenizer.decode, request.stops),
                self._base.tokenizer.eos_ids,
                listener(index),
                is_streaming=request.is_streaming,
            )
            for index, (prompt, choice) in enumerate(wanted)
        ]
        self._scheduler.submit(answers=answers)
        try:
            yield len(answers), pieces
        finally:
            for answer in answers:
                answer.is_cancelled = True

    def _row(self, request: TextRequest, prompt: tuple[int, ...], seed: int, adapter: Adapter | None) -> Row:
        room = self._base.context_tokens - len(prompt)
        asked = room if request.max_tokens is None else request.max_tokens
        sampling = Sampling(request.temperature, request.top_p, seed, request.num_logprobs)
        return Row(prompt, min(asked, room), sampling, adapter)

    async def _score(
        self, heading: Heading, prompts: Sequence[tuple[int, ...]], adapter: Adapter | None
    ) -> dict[str, object]:
        loop, tokenizer = asyncio.get_running_loop(), self._base.tokenizer
        started_s = loop.time()
        futures: list[asyncio.Future[_Found]] = [loop.create_future() for _ in prompts]
        scorings = [
            Scoring([prompt], adapter, _resolver(loop, future))
            for prompt, future in zip(prompts, futures, strict=True)
        ]
        self._scheduler.submit(scorings=scorings)
        choices: list[Choice] = []
        for index, (prompt, found) in enumerate(zip(prompts, await asyncio.gather(*futures), strict=True)):
            if isinstance(found, str):
                raise RequestRefused(found, 500, "engine_failed")
            texts = [spell(token, tokenizer) for token in prompt]
            tokens = (Token(texts[0], None), *map(Token, texts[1:], found[0][1:]))
            choices.append(Choice(index, tokenizer.decode(prompt), "length", tokens))
        counted = replies.usage(sum(map(len, prompts)), 0)
        return replies.reply(heading, choices, counted, latency_s=loop.time() - started_s)

    def _choice(self, index: int, pieces: Sequence[Piece], request: TextRequest) -> Choice:
        """Put the pieces of an answer together. Raises RequestRefused when it failed."""
        last = pieces[-1]
        if last.end in ("failed", "cancelled"):
            raise RequestRefused(last.reason or "the request was cancelled", 500, "engine_failed")
        draws = [draw for piece in pieces for draw in piece.draws]
        asked = request.num_logprobs is not None
        tokens = tuple(_token(draw, self._base.tokenizer) for draw in draws) if asked else None
        return Choice(index, "".join(piece.text for piece in pieces), last.end, tokens)


def _token(draw: Draw, tokenizer: ChatTokenizer) -> Token:
    top = tuple((spell(token, tokenizer), logprob) for token, logprob in draw.top)
    return Token(spell(draw.token, tokenizer), draw.logprob, top)


def _heading(request: TextRequest) -> Heading:
    name = ("chatcmpl-" if request.is_chat else "cmpl-") + secrets.token_hex(12)
    return Heading(name, request.is_chat, int(time.time()), request.model, digest=request.model)


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


def _resolver(loop: asyncio.AbstractEventLoop, future: "asyncio.Future[_Found]") -> Callable[[_Found], None]:
    """Make what sets a future's result from another thread, unless nobody waits any more."""

    def settle(found: _Found) -> None:
        if not future.done():
            future.set_result(found)

    return lambda found: _settle_soon(loop, settle, found)


def _settle_soon(loop: asyncio.AbstractEventLoop, settle: Callable[[_Found], None], found: _Found) -> None:
    loop.call_soon_threadsafe(settle, found)
