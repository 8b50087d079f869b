"""Simulated users: they ask a gateway, rate some answers, correct some, and retry as an OpenAI client does.

Questions and truths are given; everything drawn comes from a seed and the number of the request, so that what
one user does depends on no other's timing.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import aiohttp

from tunewright.drills.gateway_client import (
    Fields,
    Reply,
    Target,
    client_session,
    give_feedback,
    persist,
    wait_until_known,
)
from tunewright.errors import RequestRefused

Judge = Callable[[str, str], bool]
"""(answer, truth) -> whether the user is content."""


@dataclass(frozen=True, slots=True)
class Question:
    """What a user asks, and what would be right."""

    messages: tuple[Mapping[str, str], ...]
    truth: str


@dataclass(frozen=True, slots=True)
class Habits:
    """How users are. Shares lie in [0, 1]."""

    rate: float = 0.5
    """Share of answers that get a thumb."""
    slip: float = 0.0
    """Share of thumbs that point the wrong way."""
    correct: float = 0.0
    """Share of bad answers that the user corrects; the correction is given for training."""
    returning: float = 0.0
    """Share of requests by somebody who has asked before."""
    stream: float = 0.0
    """Share of requests that are streamed."""


@dataclass(frozen=True, slots=True)
class Answered:
    """One request that got its answer."""

    trace: str
    digest: str
    """Of the adapter that answered, or `base`."""
    model: str | None
    """Version that answered."""
    is_right: bool
    retries: int


@dataclass(frozen=True, slots=True)
class Traffic:
    """What simulated users met."""

    answered: tuple[Answered, ...] = ()
    failures: tuple[str, ...] = ()
    """Why a request got no answer, one sentence each."""
    thumbs: int = 0
    corrections: int = 0
    feedback_refused: int = 0
    """Feedback that the gateway did not take, such as by its limits."""

    @property
    def requests(self) -> int:
        """Requests sent, retries not counted."""
        return len(self.answered) + len(self.failures)

    @property
    def retries(self) -> int:
        """Attempts beyond the first, over the answered requests."""
        return sum(one.retries for one in self.answered)

    @property
    def by_digest(self) -> dict[str, int]:
        """Digest -> answers."""
        return dict(Counter(one.digest for one in self.answered))

    @property
    def right_by_digest(self) -> dict[str, float]:
        """Digest -> share of right answers."""
        right = Counter(one.digest for one in self.answered if one.is_right)
        return {digest: right[digest] / number for digest, number in self.by_digest.items()}

    def __add__(self, other: "Traffic") -> "Traffic":
        """Put two stretches of traffic together."""
        return Traffic(
            self.answered + other.answered,
            self.failures + other.failures,
            self.thumbs + other.thumbs,
            self.corrections + other.corrections,
            self.feedback_refused + other.feedback_refused,
        )


@dataclass(slots=True)
class _Tally:
    """What is counted while requests run; confined to one event loop."""

    answered: list[Answered] = field(default_factory=list[Answered])
    failures: list[str] = field(default_factory=list[str])
    thumbs: int = 0
    corrections: int = 0
    feedback_refused: int = 0

    def traffic(self) -> Traffic:
        return Traffic(
            tuple(self.answered), tuple(self.failures), self.thumbs, self.corrections, self.feedback_refused
        )


def never() -> bool:
    """Say that traffic goes on to its end."""
    return False


class SimulatedUsers:
    """A crowd that goes on asking where it stopped."""

    def __init__(
        self, seed: int, questions: Sequence[Question], judge: Judge, habits: Habits | None = None
    ) -> None:
        """Remember who asks what.

        Args:
            seed: of everything drawn.
            questions: asked in this order, over and over.
            judge: says whether an answer is right.
            habits: how users are.
        """
        self._seed = seed
        self._questions = questions
        self._judge = judge
        self._habits = habits or Habits()
        self._next = 0

    def run(
        self, target: Target, count: int, *, concurrency: int = 8, until: Callable[[], bool] = never
    ) -> Traffic:
        """Ask from a process that has no event loop; see `send`."""
        return asyncio.run(self.send(target, count, concurrency=concurrency, until=until))

    async def send(
        self,
        target: Target,
        count: int,
        *,
        concurrency: int = 8,
        until: Callable[[], bool] = never,
        on_answer: Callable[[Answered], None] = lambda answered: None,
    ) -> Traffic:
        """Send requests, so many at a time, each with the feedback that follows it.

        Args:
            target: where to.
            count: requests at most.
            concurrency: users who wait at the same time.
            until: asked before each request; no further one is sent once it holds.
            on_answer: told each answer as it comes.

        Raises:
            EngineFailed: the gateway does not know the key.
        """
        tally = _Tally()
        last = self._next + count
        async with client_session() as session:
            await wait_until_known(session, target)

            async def user() -> None:
                while self._next < last and not until():
                    number, self._next = self._next, self._next + 1
                    answered = await self._one(session, target, number, tally)
                    if answered is not None:
                        on_answer(answered)

            await asyncio.gather(*(user() for _ in range(concurrency)))
        return tally.traffic()

    async def _one(
        self, session: aiohttp.ClientSession, target: Target, number: int, tally: _Tally
    ) -> Answered | None:
        rng = random.Random(f"{self._seed}/{number}")
        question = self._questions[number % len(self._questions)]
        person = rng.randrange(number) if number and rng.random() < self._habits.returning else number
        body = {
            "model": target.model,
            "messages": [dict(turn) for turn in question.messages],
            "max_tokens": target.max_tokens,
            "temperature": 0,
            "user": f"user-{self._seed}-{person}",
            "stream": rng.random() < self._habits.stream,
        }
        try:
            reply, retries = await persist(session, target, body)
        except RequestRefused as refused:
            tally.failures.append(f"request {number}: {refused}")
            return None
        answered = _answered(reply, retries, is_right=self._judge(reply.text, question.truth))
        tally.answered.append(answered)
        token = str(reply.told["feedback_token"])
        for said in self._opinions(rng, answered, question, f"user-{self._seed}-{person}"):
            taken = await give_feedback(session, target, {**said, "trace": answered.trace, "token": token})
            _count(tally, str(said["kind"]), is_taken=taken)
        return answered

    def _opinions(
        self, rng: random.Random, answered: Answered, question: Question, author: str
    ) -> list[Fields]:
        habits, said = self._habits, list[Fields]()
        if rng.random() < habits.rate:
            is_up = answered.is_right != (rng.random() < habits.slip)
            said.append({"kind": "thumb", "value": "up" if is_up else "down", "author": author})
        if rng.random() < habits.correct and not answered.is_right:
            said.append({"kind": "edit", "text": question.truth, "author": author, "consent": "train"})
        return said


def _answered(reply: Reply, retries: int, *, is_right: bool) -> Answered:
    model = reply.told.get("model")
    return Answered(
        trace=str(reply.told["trace"]),
        digest=str(reply.told["digest"]),
        model=None if model is None else str(model),
        is_right=is_right,
        retries=retries,
    )


def _count(tally: _Tally, kind: str, *, is_taken: bool) -> None:
    if not is_taken:
        tally.feedback_refused += 1
    elif kind == "thumb":
        tally.thumbs += 1
    else:
        tally.corrections += 1
