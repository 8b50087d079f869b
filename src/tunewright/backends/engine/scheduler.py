"""Continuous batching: answers join the running batch between two steps, and leave it as soon as they end.

So a long answer never holds up a short one, nor a long prompt the others for longer than its own reading. One
thread runs the decoder; everyone else submits and listens.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tunewright.backends.engine.answer import Answer
from tunewright.backends.engine.batch import Batch, Decoder
from tunewright.errors import RequestRefused

if TYPE_CHECKING:  # the types alone: this file must not need the heavy libraries
    from tunewright.backends.engine.lora import Adapter

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Scoring:
    """Texts to score in one go."""

    texts: Sequence[Sequence[int]]
    adapter: "Adapter | None"
    listener: Callable[[list[list[float]] | str], None]
    """Gets the log-probabilities, or why there are none."""


@dataclass(frozen=True, slots=True)
class Load:
    """How busy the engine is."""

    num_running: int
    num_waiting: int
    num_tokens: int
    """Tokens drawn since the start."""
    is_alive: bool


class Scheduler:
    """Owns the thread that decodes."""

    def __init__(
        self,
        decoder: Decoder,
        *,
        max_rows: int = 32,
        max_waiting: int = 4096,
        prompt_tokens: int = 1024,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare; `start` begins.

        Args:
            decoder: what decodes.
            max_rows: rows in the batch at most.
            max_waiting: answers and scorings that may wait.
            prompt_tokens: prompts joining between two steps hold at most so many tokens, or are one.
            clock: monotonic seconds.
        """
        self._decoder = decoder
        self._max_rows = max_rows
        self._max_waiting = max_waiting
        self._prompt_tokens = prompt_tokens
        self._clock = clock
        self._condition = threading.Condition()
        self._waiting: deque[Answer] = deque()
        self._scorings: deque[Scoring] = deque()
        self._batch = Batch(decoder, clock)
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run, name="decoding", daemon=True)

    def start(self) -> None:
        """Begin to decode."""
        self._thread.start()

    def stop(self) -> None:
        """End after the step that runs; answers in the making fail."""
        with self._condition:
            self._is_stopping = True
            self._condition.notify()
        if self._thread.is_alive():
            self._thread.join()

    def submit(self, *, answers: Sequence[Answer] = (), scorings: Sequence[Scoring] = ()) -> None:
        """Queue answers and texts to score, all or none.

        Raises:
            RequestRefused: too many wait already, or the engine is ending.
        """
        with self._condition:
            if self._is_stopping:
                raise RequestRefused("the engine is stopping; ask again when it runs", 503, "stopping")
            num_waiting = len(self._waiting) + len(self._scorings)
            if num_waiting + len(answers) + len(scorings) > self._max_waiting:
                raise RequestRefused(
                    f"{num_waiting} answers wait already; expected at most {self._max_waiting}. Ask later.",
                    429,
                    "too_many_waiting",
                )
            self._waiting.extend(answers)
            self._scorings.extend(scorings)
            self._condition.notify()

    def load(self) -> Load:
        """Say how busy the engine is; a snapshot."""
        num_waiting = len(self._waiting) + len(self._scorings)
        return Load(len(self._batch), num_waiting, self._batch.num_tokens, self._thread.is_alive())

    def _run(self) -> None:
        try:
            while self._wait_for_work():
                self.turn()
        finally:
            with self._condition:
                self._is_stopping = True
            self._fail_all("the engine stopped")

    def _wait_for_work(self) -> bool:
        with self._condition:
            self._condition.wait_for(
                lambda: self._is_stopping or self._waiting or self._scorings or len(self._batch)
            )
            return not self._is_stopping

    def turn(self) -> None:
        """Do one round: drop what nobody waits for, score one lot, let in and step."""
        self._batch.drop_cancelled()
        if self._scorings:
            self._score(self._scorings.popleft())
        self._batch.step(self._take_coming())

    def _take_coming(self) -> list[Answer]:
        """Take from the queue what fits, first come first served."""
        coming: list[Answer] = []
        num_tokens = 0
        while self._waiting and len(self._batch) + len(coming) < self._max_rows:
            answer = self._waiting[0]
            if answer.is_cancelled:
                self._waiting.popleft().drop(self._clock())
                continue
            num_tokens += len(answer.row.prompt)
            rows = [*(item.row for item in coming), answer.row]
            if (coming and num_tokens > self._prompt_tokens) or not self._decoder.has_room(rows):
                break
            coming.append(self._waiting.popleft())
        return coming

    def _score(self, scoring: Scoring) -> None:
        try:
            scoring.listener(self._decoder.score(scoring.texts, scoring.adapter))
        except RuntimeError as error:  # what torch raises, out of memory included
            logger.exception("could not score %d texts", len(scoring.texts))
            scoring.listener(f"the engine could not score the text: {error!s:.300}")

    def _fail_all(self, reason: str) -> None:
        self._batch.fail_all(reason)
        for answer in self._waiting:
            answer.fail(reason, self._clock())
        for scoring in self._scorings:
            scoring.listener(reason)
        self._waiting.clear()
        self._scorings.clear()
