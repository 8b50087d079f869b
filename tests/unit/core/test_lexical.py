"""Lexical retrieval and its threshold."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunewright.core.lexical import LexicalIndex, fit_threshold, lexical_tokens

SCORES = st.lists(st.floats(0, 1), min_size=1, max_size=60)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("twenty-five apples", ["25"]),
        ("two hundred five", ["205"]),
        ("one hundred twenty three thousand", ["123000"]),
        ("two three", ["2", "3"]),
        ("zero", ["0"]),
        ("a thousand times", []),
    ],
)
def test_number_words_become_digits(text: str, numbers: list[str]):
    assert [token for token in lexical_tokens(text) if token.isdigit()] == numbers


@pytest.mark.parametrize(
    ("one", "other"),
    [("cookie", "cookies"), ("puppy", "puppies"), ("run", "running"), ("make", "making"), ("call", "called")],
)
def test_forms_of_a_word_share_a_stem(one: str, other: str):
    assert lexical_tokens(one) == lexical_tokens(other)


def test_the_nearest_text_is_found_across_word_order_and_number_words():
    index = LexicalIndex(["two lattes to go", "three lattes to go", "where is my parcel"])
    assert index.best(["to go: 2 latte"]) == [(0, 1.0)]


def test_different_numbers_halve_a_score():
    index = LexicalIndex(["order 7"], reference=["order 7", "order 9", "order"])
    same, other = index.best(["order 7", "order 9"])
    assert same == (0, 1.0)
    assert other[1] == pytest.approx(0.5 * cosine_without_number(), abs=1e-6)


def cosine_without_number() -> float:
    from math import log

    common, rare = (log(4 / 4) + 1) ** 2, (log(4 / 2) + 1) ** 2
    return common / (common + rare)


def test_words_unknown_to_the_index_lower_the_score():
    index = LexicalIndex(["oat milk"])
    assert index.best(["oat milk parcel"])[0][1] < index.best(["oat milk"])[0][1] == 1.0


def test_nothing_in_common_is_no_match():
    assert LexicalIndex(["a"]).best(["b", ""]) == [(-1, 0.0), (-1, 0.0)]
    assert LexicalIndex([]).best(["b"]) == [(-1, 0.0)]
    assert LexicalIndex([""]).best(["b"]) == [(-1, 0.0)]


def test_the_first_of_equal_texts_is_named():
    assert LexicalIndex(["x", "tea", "tea"]).best(["tea"]) == [(1, 1.0)]


def test_with_a_fixed_reference_a_score_does_not_depend_on_what_else_is_indexed():
    reference = ["one latte", "a tea please", "two mochas to go"]
    small = LexicalIndex(["latte please"], reference=reference)
    large = LexicalIndex(["latte please", "latte", "parcel", "to go"], reference=reference)
    assert small.best(["one latte please"]) == large.best(["one latte please"])


def test_blocks_do_not_change_the_result():
    texts = [f"order {number} latte {number % 3}" for number in range(30)]
    index = LexicalIndex(texts)
    assert index.best(texts, block_cells=64) == index.best(texts)


@given(SCORES, st.floats(0, 0.5))
def test_at_most_the_declared_share_of_clean_scores_exceeds_the_threshold(scores: list[float], fpr: float):
    threshold = fit_threshold(scores, fpr)
    flagged = sum(score > threshold for score in scores)
    assert flagged <= fpr * len(scores)
    assert threshold in scores


def test_without_clean_scores_nothing_is_flagged():
    assert fit_threshold([], 0.01) == 1.0


def test_a_rate_out_of_range_is_refused():
    with pytest.raises(ValueError, match="expected 0 <= fpr < 1"):
        fit_threshold([0.5], 1.0)


@pytest.mark.skipif(
    "TUNEWRIGHT_DATA" not in os.environ, reason="TUNEWRIGHT_DATA names no folder of public data"
)
def test_rephrased_gsm8k_questions_are_found_at_one_percent_false_positives():
    data = Path(os.environ["TUNEWRIGHT_DATA"])
    read = lambda name: [json.loads(line) for line in (data / name).read_text().splitlines()]  # noqa: E731
    items = [row["question"] for row in read("gsm8k/test.jsonl")[:660]]
    clean = [row["question"] for row in read("gsm8k/train.jsonl")[:3000]]
    copies = [row["text"].partition("Answer:")[0] for row in read("rephrased/rephrase_gsm8k_1_660.jsonl")]
    index = LexicalIndex(items)
    scores = [score for _, score in index.best(clean)]
    threshold = fit_threshold(scores[:1500], 0.01)
    assert sum(score > threshold for score in scores[1500:]) / 1500 < 0.025
    assert sum(score > threshold for _, score in index.best(copies)) / 660 > 0.9
