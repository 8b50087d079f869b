"""Parity through the wire: equal tokens, equal log-probabilities."""

import json
from collections.abc import Mapping, Sequence

import pytest
from tests.fakes import FakeBases, FakeEngine

from tunewright.core.tokens import ChatTokenizer, token_row
from tunewright.errors import BlobCorrupt, EvaluationError
from tunewright.evals.parity import (
    EDGE_CASES,
    ReferenceRow,
    check_parity,
    choose_rows,
    compare_tokens,
    largest_difference,
    read_reference,
)
from tunewright.records import Example, Message, Source
from tunewright.values import Digest, digest_bytes

TOKENIZER = ChatTokenizer.from_base(FakeBases().resolve("tiny"))


class TinyEngine(FakeEngine):
    """Tokenises as the trainer does."""

    def tokenize(self, messages: Sequence[Mapping[str, str]], *, add_generation_prompt: bool) -> list[int]:
        return TOKENIZER.encode(messages, add_generation_prompt=add_generation_prompt)


class AnotherTemplate(TinyEngine):
    """Adds a space to every user turn, as a subtly wrong template would."""

    def tokenize(self, messages: Sequence[Mapping[str, str]], *, add_generation_prompt: bool) -> list[int]:
        spaced = [{**turn, "content": turn["content"] + " "} for turn in messages]
        return super().tokenize(spaced, add_generation_prompt=add_generation_prompt)


def a_row(question: str, answer: str = "fine") -> Example:
    turns = (Message(role="user", content=question), Message(role="assistant", content=answer))
    source = Source(digest=Digest("0" * 64), path="rows.jsonl", line=1)
    return Example(id=digest_bytes(question.encode()), messages=turns, source=source)


ROWS = {row.id: row for row in (a_row("one tea"), a_row("two lattes with milk"), a_row("nothing"))}
STORED = [token_row(TOKENIZER, row.id, row.messages, max_tokens=64) for row in ROWS.values()]


def test_equal_tokens_pass_for_rows_and_every_edge_case():
    num_compared, different = compare_tokens(TinyEngine(), TOKENIZER, STORED, ROWS)
    assert different == ()
    assert num_compared == len(STORED) + len(EDGE_CASES)


def test_a_template_that_adds_a_space_is_named_row_by_row():
    _, different = compare_tokens(AnotherTemplate(), TOKENIZER, STORED, ROWS)
    assert {row.row for row in STORED} <= set(different)
    assert "edge case: emoji" in different


def test_a_row_cut_to_length_is_compared_by_what_was_kept():
    long = a_row("word " * 60)
    cut = token_row(TOKENIZER, long.id, long.messages, max_tokens=32)
    assert compare_tokens(TinyEngine(), TOKENIZER, [cut], {long.id: long})[1] == ()
    changed = token_row(TOKENIZER, long.id, a_row("other " * 60).messages, max_tokens=32)
    assert compare_tokens(TinyEngine(), TOKENIZER, [changed], {long.id: long})[1] == (long.id,)


def test_the_largest_difference_of_any_token_counts():
    rows = [ReferenceRow("a", (1, 5, 9), (0.0, -1.0, -1.25)), ReferenceRow("b", (1, 5), (0.0, -1.0))]
    assert largest_difference(FakeEngine(), "base", rows) == pytest.approx(0.25)
    parity = check_parity(FakeEngine(), "base", (3, ()), rows, "fp32")
    assert parity.max_logprob_difference == pytest.approx(0.25)
    assert parity.tolerance == 1e-3
    assert check_parity(FakeEngine(), "base", (3, ()), rows, "bf16").tolerance == 1e-1


def test_without_the_trainer_s_figures_no_difference_is_claimed():
    assert check_parity(FakeEngine(), "base", (3, ("x",)), [], "fp32").max_logprob_difference is None


def test_a_missing_log_probability_is_an_error_not_a_pass():
    class Short(FakeEngine):
        def logprobs(self, rows: Sequence[Sequence[int]], model: str) -> list[list[float]]:
            return [[0.0] for _ in rows]

    with pytest.raises(EvaluationError, match="gave 1 log-probabilities for 2 tokens"):
        largest_difference(Short(), "base", [ReferenceRow("b", (1, 5), (0.0, -1.0))])


def test_the_reference_is_read_from_the_candidate_s_files():
    rows = [{"row": "a", "ids": [1, 2], "logprobs": [0.0, -0.5]}]
    tree = {"parity.json": json.dumps({"rows": rows}).encode()}
    assert read_reference(tree) == [ReferenceRow("a", (1, 2), (0.0, -0.5))]
    assert read_reference({}) == []
    with pytest.raises(BlobCorrupt, match=r"parity\.json of the candidate does not parse"):
        read_reference({"parity.json": b"{"})


def test_the_same_rows_are_chosen_whatever_their_order():
    assert choose_rows(STORED, 2) == choose_rows(STORED[::-1], 2)
