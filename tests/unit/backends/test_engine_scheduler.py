"""Continuous batching, on a decoder that counts."""

import threading
from collections.abc import Sequence

import pytest

from tunewright.backends.engine.answer import Answer, Draw, Piece, Row, Sampling
from tunewright.backends.engine.scheduler import Scheduler, Scoring
from tunewright.backends.engine.text_stream import TextStream
from tunewright.errors import RequestRefused

END = 0


class CountingDecoder:
    """Draws, for a row with prompt (n, ...), the tokens n, n-1, ... 1, END; remembers what it was asked."""

    def __init__(self, *, room: int = 100) -> None:
        self.room = room
        self.rows: list[list[int]] = []
        self.joined: list[int] = []
        self.batch_sizes: list[int] = []
        self.broken_at = -1
        self.fails_to_read = False
        self.num_steps = 0

    def has_room(self, rows: Sequence[Row]) -> bool:
        return len(self.rows) + len(rows) <= self.room

    def step(self, coming: Sequence[Row]) -> list[Draw]:
        self.num_steps += 1
        if self.num_steps == self.broken_at or (coming and self.fails_to_read):
            raise RuntimeError("out of memory")
        if coming:
            self.joined.append(len(coming))
        self.rows.extend([row.prompt[0]] for row in coming)
        self.batch_sizes.append(len(self.rows))
        return [self.draw(row) for row in self.rows]

    def draw(self, row: list[int]) -> Draw:
        row[0] -= 1
        return Draw(row[0] + 1, is_finite=row[0] < 900)

    def leave(self, index: int) -> None:
        self.rows[index] = self.rows[-1]
        self.rows.pop()

    def score(self, texts: Sequence[Sequence[int]], adapter: object) -> list[list[float]]:
        if any(token == 13 for text in texts for token in text):
            raise RuntimeError("out of memory")
        return [[-float(token) for token in text] for text in texts]


class Listener:
    """Keeps the news of one answer."""

    def __init__(self) -> None:
        self.pieces: list[Piece] = []
        self.ended = threading.Event()

    def __call__(self, piece: Piece) -> None:
        self.pieces.append(piece)
        if piece.end is not None:
            self.ended.set()

    @property
    def tokens(self) -> list[int]:
        return [draw.token for piece in self.pieces for draw in piece.draws]

    @property
    def end(self) -> str | None:
        return self.pieces[-1].end if self.pieces else None


def spell(ids: Sequence[int]) -> str:
    return "".join(f"{token}," for token in ids)


def an_answer(
    length: int,
    *,
    max_tokens: int = 50,
    prompt_tokens: int = 1,
    stops: tuple[str, ...] = (),
    streaming: bool = False,
) -> tuple[Answer, Listener]:
    listener = Listener()
    row = Row((length, *([1] * (prompt_tokens - 1))), max_tokens, Sampling(), None)
    answer = Answer(row, TextStream(spell, stops), frozenset({END}), listener, is_streaming=streaming)
    return answer, listener


def turns(scheduler: Scheduler, count: int) -> None:
    for _ in range(count):
        scheduler.turn()


def test_an_answer_ends_at_the_end_token_and_its_text_leaves_that_out():
    scheduler = Scheduler(CountingDecoder())
    answer, heard = an_answer(3)
    scheduler.submit(answers=[answer])
    turns(scheduler, 5)
    assert heard.tokens == [3, 2, 1, END]
    assert "".join(piece.text for piece in heard.pieces) == "3,2,1,"
    assert heard.end == "stop"


def test_an_answer_ends_at_its_token_limit():
    scheduler = Scheduler(CountingDecoder())
    answer, heard = an_answer(9, max_tokens=2)
    scheduler.submit(answers=[answer])
    turns(scheduler, 3)
    assert heard.tokens == [9, 8]
    assert heard.end == "length"


def test_a_stop_string_ends_an_answer_and_frees_its_row():
    decoder = CountingDecoder()
    scheduler = Scheduler(decoder)
    answer, heard = an_answer(9, stops=("7,",))
    scheduler.submit(answers=[answer])
    turns(scheduler, 6)
    assert "".join(piece.text for piece in heard.pieces) == "9,8,"
    assert heard.end == "stop"
    assert decoder.rows == []


def test_a_long_answer_does_not_hold_up_a_short_one():
    decoder = CountingDecoder()
    scheduler = Scheduler(decoder)
    long, heard_long = an_answer(500, max_tokens=500)
    short, heard_short = an_answer(2)
    scheduler.submit(answers=[long])
    turns(scheduler, 5)
    scheduler.submit(answers=[short])
    turns(scheduler, 3)
    assert heard_short.end == "stop"
    assert heard_long.end is None
    turns(scheduler, 500)
    assert heard_long.tokens == list(range(500, 0, -1))


def test_rows_keep_their_own_tokens_while_others_come_and_go():
    scheduler = Scheduler(CountingDecoder(), max_rows=3)
    answers = [an_answer(length) for length in (4, 1, 7, 2, 9, 3, 5)]
    scheduler.submit(answers=[answer for answer, _ in answers])
    turns(scheduler, 40)
    for (_, heard), length in zip(answers, (4, 1, 7, 2, 9, 3, 5), strict=True):
        assert heard.tokens == list(range(length, -1, -1))


def test_no_more_rows_run_than_allowed():
    decoder = CountingDecoder()
    scheduler = Scheduler(decoder, max_rows=3)
    scheduler.submit(answers=[an_answer(20)[0] for _ in range(10)])
    turns(scheduler, 30)
    assert max(decoder.batch_sizes) == 3


def test_a_row_waits_until_the_cache_has_room_for_it():
    decoder = CountingDecoder(room=2)
    scheduler = Scheduler(decoder)
    answers = [an_answer(length) for length in (3, 30, 4)]
    scheduler.submit(answers=[answer for answer, _ in answers])
    scheduler.turn()
    assert decoder.joined == [2]
    turns(scheduler, 10)
    assert decoder.joined == [2, 1]
    assert answers[2][1].end == "stop"


def test_prompts_join_in_lots_so_that_running_rows_are_not_held_up_for_long():
    decoder = CountingDecoder()
    scheduler = Scheduler(decoder, prompt_tokens=100)
    scheduler.submit(answers=[an_answer(20, prompt_tokens=60)[0] for _ in range(3)])
    scheduler.submit(answers=[an_answer(20, prompt_tokens=400)[0]])
    turns(scheduler, 4)
    assert decoder.joined == [1, 1, 1, 1]


def test_a_streaming_answer_tells_every_token_and_another_only_the_whole():
    scheduler = Scheduler(CountingDecoder())
    (streaming, heard_parts), (whole, heard_whole) = an_answer(3, streaming=True), an_answer(3)
    scheduler.submit(answers=[streaming, whole])
    turns(scheduler, 5)
    assert [piece.text for piece in heard_parts.pieces] == ["3,", "2,", "1,", ""]
    assert [piece.text for piece in heard_whole.pieces] == ["3,2,1,"]


def test_a_cancelled_answer_leaves_the_batch_and_the_queue():
    decoder = CountingDecoder()
    scheduler = Scheduler(decoder, max_rows=1)
    (running, heard_running), (waiting, heard_waiting) = an_answer(50), an_answer(50)
    scheduler.submit(answers=[running, waiting])
    turns(scheduler, 2)
    waiting.is_cancelled = running.is_cancelled = True
    turns(scheduler, 2)
    assert (heard_running.end, heard_waiting.end) == ("cancelled", "cancelled")
    assert decoder.rows == []


def test_a_row_with_nan_fails_alone():
    scheduler = Scheduler(CountingDecoder())
    (broken, heard_broken), (sound, heard_sound) = an_answer(1000), an_answer(3)
    scheduler.submit(answers=[broken, sound])
    turns(scheduler, 5)
    assert heard_broken.end == "failed"
    assert "NaN" in heard_broken.pieces[-1].reason
    assert heard_sound.end == "stop"


def test_a_failed_step_fails_its_rows_with_the_reason_and_the_engine_goes_on():
    decoder = CountingDecoder()
    decoder.broken_at = 2
    scheduler = Scheduler(decoder)
    (first, heard_first), (later, heard_later) = an_answer(9), an_answer(2)
    scheduler.submit(answers=[first])
    turns(scheduler, 2)
    assert heard_first.end == "failed"
    assert "out of memory" in heard_first.pieces[-1].reason
    scheduler.submit(answers=[later])
    turns(scheduler, 4)
    assert heard_later.end == "stop"


def test_a_prompt_that_cannot_be_read_fails_alone():
    decoder = CountingDecoder()
    scheduler = Scheduler(decoder)
    (sound, heard_sound), (broken, heard_broken) = an_answer(3), an_answer(9)
    scheduler.submit(answers=[sound])
    scheduler.turn()
    decoder.fails_to_read = True
    scheduler.submit(answers=[broken])
    turns(scheduler, 4)
    assert heard_broken.end == "failed"
    assert heard_sound.tokens == [3, 2, 1, END]
    assert scheduler.load().num_running == 0


def test_scoring_goes_on_beside_answers_and_reports_failure_in_words():
    scheduler = Scheduler(CountingDecoder())
    answer, heard = an_answer(5)
    found: list[list[list[float]] | str] = []
    scheduler.submit(answers=[answer])
    scheduler.submit(scorings=[Scoring([[1, 2]], None, found.append), Scoring([[13]], None, found.append)])
    turns(scheduler, 7)
    assert heard.end == "stop"
    assert found[0] == [[-1.0, -2.0]]
    assert "out of memory" in str(found[1])


def test_latency_runs_from_the_first_step_and_not_from_the_queue():
    now = [0.0]
    scheduler = Scheduler(CountingDecoder(), max_rows=1, clock=lambda: now[0])
    (first, _), (second, heard) = an_answer(3), an_answer(1)
    scheduler.submit(answers=[first, second])
    for _ in range(10):
        scheduler.turn()
        now[0] += 1.0
    assert heard.end == "stop"
    assert heard.pieces[-1].latency_s <= 1.0


def test_a_full_queue_is_refused_whole():
    scheduler = Scheduler(CountingDecoder(), max_waiting=2)
    with pytest.raises(RequestRefused, match="at most 2") as caught:
        scheduler.submit(answers=[an_answer(1)[0] for _ in range(3)])
    assert caught.value.status == 429
    assert scheduler.load().num_waiting == 0


def test_its_own_thread_answers_and_stopping_fails_what_is_left():
    scheduler = Scheduler(CountingDecoder())
    scheduler.start()
    answer, heard = an_answer(30)
    scheduler.submit(answers=[answer])
    assert heard.ended.wait(5)
    endless, heard_endless = an_answer(800, max_tokens=10**9)
    scheduler.submit(answers=[endless])
    scheduler.stop()
    assert heard_endless.ended.wait(5)
    assert not scheduler.load().is_alive
    with pytest.raises(RequestRefused, match="stopping"):
        scheduler.submit(answers=[an_answer(1)[0]])
