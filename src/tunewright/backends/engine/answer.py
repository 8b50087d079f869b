"""One answer in the making: what was asked, what was drawn, when it ends. Pure; holds no model."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tunewright.backends.engine.text_stream import TextStream

if TYPE_CHECKING:  # the types alone: this file must not need the heavy libraries
    from tunewright.backends.engine.lora import Adapter


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are drawn."""

    temperature: float = 0.0
    """0 is greedy."""
    top_p: float = 1.0
    seed: int = 0
    num_logprobs: int | None = None
    """None: none; n: the drawn token's and those of the n likeliest."""


@dataclass(frozen=True, slots=True)
class Row:
    """What the decoder must know of an answer."""

    prompt: tuple[int, ...]
    max_tokens: int
    """At least 1; prompt and answer together fit the context."""
    sampling: Sampling
    adapter: "Adapter | None"
    """None is the base."""

    @property
    def num_tokens(self) -> int:
        """Length when the answer is as long as it may be."""
        return len(self.prompt) + self.max_tokens


@dataclass(frozen=True, slots=True)
class Draw:
    """What the decoder drew for one row in one step."""

    token: int
    logprob: float | None = None
    """Natural log at temperature 1, if asked for."""
    top: tuple[tuple[int, float], ...] = ()
    is_finite: bool = True
    """False: the model's output was NaN or infinite, and the token means nothing."""


End = Literal["stop", "length", "failed", "cancelled"]


@dataclass(frozen=True, slots=True)
class Piece:
    """News of an answer, sent from the decoding thread."""

    text: str
    """What is new since the piece before."""
    draws: tuple[Draw, ...]
    """Whose tokens gave that text, or were held back with it."""
    end: End | None = None
    """None: more is to come."""
    reason: str = ""
    """Why it failed."""
    latency_s: float = 0.0
    """From the first step on the prompt to this piece."""


class Answer:
    """Collects draws until the answer ends; confined to the decoding thread once it is submitted.

    The one thing that other threads may do is to set `is_cancelled`.
    """

    def __init__(
        self,
        row: Row,
        text: TextStream,
        end_ids: frozenset[int],
        listener: Callable[[Piece], None],
        *,
        is_streaming: bool,
    ) -> None:
        self.row = row
        self.is_cancelled = False
        self._text = text
        self._end_ids = end_ids
        self._listener = listener
        self._is_streaming = is_streaming
        self._num_tokens = 0
        self._pending_text: list[str] = []
        self._pending_draws: list[Draw] = []
        self._started_s: float | None = None

    def begin(self, now_s: float) -> None:
        """Note when work on the prompt began; `now_s` is of a monotonic clock."""
        self._started_s = now_s

    def take(self, draw: Draw, now_s: float) -> bool:
        """Take the next token; say whether that ended the answer."""
        if not draw.is_finite:
            self.fail(
                "the model gave NaN or infinity; the adapter is damaged or does not fit the base", now_s
            )
            return True
        self._num_tokens += 1
        self._pending_draws.append(draw)
        if draw.token in self._end_ids:
            return self._end("stop", now_s)
        if self._is_streaming or self._text.has_stops:
            self._pending_text.append(self._text.push(draw.token))
        else:
            self._text.defer(draw.token)
        if self._text.is_stopped:
            return self._end("stop", now_s)
        if self._num_tokens >= self.row.max_tokens:
            return self._end("length", now_s)
        if self._is_streaming and self._pending_text[-1]:
            self._send(None, now_s)
        return False

    def fail(self, reason: str, now_s: float) -> None:
        """End with an error that the caller gets to read."""
        self._send("failed", now_s, reason)

    def drop(self, now_s: float) -> None:
        """End because nobody waits for it any more."""
        self._send("cancelled", now_s)

    def _end(self, end: Literal["stop", "length"], now_s: float) -> bool:
        self._pending_text.append(self._text.finish())
        self._send("stop" if self._text.is_stopped else end, now_s)
        return True

    def _send(self, end: End | None, now_s: float, reason: str = "") -> None:
        latency_s = 0.0 if self._started_s is None else now_s - self._started_s
        piece = Piece("".join(self._pending_text), tuple(self._pending_draws), end, reason, latency_s)
        self._pending_text, self._pending_draws = [], []
        self._listener(piece)
