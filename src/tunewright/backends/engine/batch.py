"""The answers that are being decoded: they come, step and leave. Confined to the decoding thread."""

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from tunewright.backends.engine.answer import Answer, Draw, Row

if TYPE_CHECKING:  # the types alone: this file must not need the heavy libraries
    from tunewright.backends.engine.lora import Adapter

logger = logging.getLogger(__name__)


class Decoder(Protocol):
    """What decodes. Rows are numbered 0 to B-1."""

    def has_room(self, rows: Sequence[Row]) -> bool:
        """Say whether these rows can join; true for one row when none runs."""
        ...

    def step(self, coming: Sequence[Row]) -> list[Draw]:
        """Add rows after the last, and draw the next token of every row; if it raises, nothing changed."""
        ...

    def leave(self, index: int) -> None:
        """Drop a row; the last one takes its number."""
        ...

    def score(self, texts: Sequence[Sequence[int]], adapter: "Adapter | None") -> list[list[float]]:
        """Teacher-forced log-probability of each token."""
        ...


class Batch:
    """The running answers, in the order of the decoder's rows."""

    def __init__(self, decoder: Decoder, clock: Callable[[], float]) -> None:
        self.num_tokens = 0
        """Tokens drawn so far."""
        self._decoder = decoder
        self._clock = clock
        self._answers: list[Answer] = []

    def __len__(self) -> int:
        return len(self._answers)

    def step(self, coming: Sequence[Answer]) -> None:
        """Let new answers in, and give every answer its next token."""
        if not self._answers and not coming:
            return
        now_s = self._clock()
        for answer in coming:
            answer.begin(now_s)
        try:
            draws = self._decoder.step([answer.row for answer in coming])
        except RuntimeError as error:  # what torch raises, out of memory included
            logger.exception("could not step %d rows and %d new ones", len(self._answers), len(coming))
            self._give_up(coming, f"the engine could not go on: {error!s:.300}")
            return
        self._answers.extend(coming)
        self._deliver(draws)

    def drop_cancelled(self) -> None:
        """Take out answers that nobody waits for."""
        cancelled = [index for index, answer in enumerate(self._answers) if answer.is_cancelled]
        for answer in self._remove(cancelled):
            answer.drop(self._clock())

    def fail_all(self, reason: str) -> None:
        """End every answer with an error."""
        for answer in self._remove(range(len(self._answers))):
            answer.fail(reason, self._clock())

    def _give_up(self, coming: Sequence[Answer], reason: str) -> None:
        """Fail the new answers, which may be why; without new ones, all."""
        if not coming:
            self.fail_all(reason)
        for answer in coming:
            answer.fail(reason, self._clock())

    def _deliver(self, draws: Sequence[Draw]) -> None:
        now_s = self._clock()
        self.num_tokens += len(draws)
        ended = [index for index, draw in enumerate(draws) if self._answers[index].take(draw, now_s)]
        self._remove(ended)

    def _remove(self, indexes: Sequence[int]) -> list[Answer]:
        """Take rows out, the last first, so that no number that is still to come changes."""
        removed: list[Answer] = []
        for index in sorted(indexes, reverse=True):
            self._decoder.leave(index)
            removed.append(self._answers[index])
            self._answers[index] = self._answers[-1]
            self._answers.pop()
        return removed
