"""Canonical form, ids and signatures."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunewright.core.text import (
    answer_digest,
    canonical_messages,
    canonical_text,
    content_id,
    jaccard,
    prompt_text,
    signature,
    signatures,
    text_digest,
    words_of,
)
from tunewright.records import Message

PINNED_WORDS = [6061611616866408348, 7242654425539750584, 9169664808086936504]
WORDS = st.lists(
    st.sampled_from(["a", "tea", "latte", "oat", "2", "please", "to", "go", "über"]), max_size=30
)


def chat(*turns: tuple[str, str]) -> tuple[Message, ...]:
    return tuple(Message(role=role, content=content) for role, content in turns)


def by_strings(a: str, b: str) -> float:
    """Jaccard on shingles kept as strings: what the hashes must agree with."""
    left, right = words_of(a), words_of(b)

    def windows(items, width):
        width = min(width, len(items))
        return {tuple(items[i : i + width]) for i in range(len(items) - width + 1)} if items else set()

    if min(len(left), len(right)) < 12:
        x, y = windows(" ".join(left), 5), windows(" ".join(right), 5)
    else:
        x, y = windows(left, 3), windows(right, 3)
    return len(x & y) / len(x | y) if x and y else 0.0


def test_white_space_is_folded_and_line_breaks_stay():
    assert canonical_text("  a \t b\r\n\r\n  c\u00a0d ") == "a b\nc d"


def test_control_characters_and_byte_order_marks_disappear():
    assert canonical_text("\ufeffa\x00b\x07c\u200bd") == "abcd"


def test_a_lone_surrogate_becomes_a_replacement_character_and_can_be_hashed():
    assert canonical_text("a\ud800b") == "a\ufffdb"
    assert text_digest("a\ud800b") == text_digest("a\ufffdb")


@given(st.text())
def test_canonical_form_is_stable(text: str):
    assert canonical_text(canonical_text(text)) == canonical_text(text)


def test_rows_that_differ_in_form_only_have_one_id():
    composed, decomposed = (
        chat(("user", "café  "), ("assistant", "ok")),
        chat(("user", "cafe\u0301"), ("assistant", "ok")),
    )
    assert content_id(composed) == content_id(decomposed)
    assert canonical_messages(composed) == canonical_messages(decomposed)


def test_a_turn_in_another_role_makes_another_row():
    assert content_id(chat(("user", "a"), ("assistant", "b"))) != content_id(
        chat(("system", "a"), ("assistant", "b"))
    )


def test_a_shared_system_turn_is_no_part_of_the_prompt():
    with_system = chat(("system", "You are a barista. " * 30), ("user", "one tea"), ("assistant", "ok"))
    without = chat(("user", " one  tea"), ("assistant", "ok"))
    assert prompt_text(with_system) == prompt_text(without) == "one tea"


def test_answers_differ_when_an_assistant_or_system_turn_differs():
    base = chat(("user", "a"), ("assistant", "b"))
    assert answer_digest(base) == answer_digest(chat(("user", "other"), ("assistant", "b ")))
    assert answer_digest(base) != answer_digest(chat(("user", "a"), ("assistant", "c")))
    assert answer_digest(base) != answer_digest(chat(("system", "s"), ("user", "a"), ("assistant", "b")))


def test_prompt_joins_all_user_turns():
    turns = chat(("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d"))
    assert prompt_text(turns) == "a\nc"


def test_signature_is_the_same_on_every_machine():
    item = signature("Can I get a latte?")
    assert item.num_tokens == 5
    assert item.words.tolist() == PINNED_WORDS
    assert item.chars.dtype == np.uint64


def test_case_and_punctuation_do_not_count():
    assert signature("One LATTE, please!").key == signature("one latte please").key


def test_texts_of_symbols_only_are_still_told_apart():
    assert jaccard(signature("🙂🙂"), signature("😢😢")) == 0.0
    assert jaccard(signature("???"), signature("???")) == 1.0


def test_an_empty_text_is_like_nothing():
    assert jaccard(signature(""), signature("")) == 0.0


def test_short_pairs_compare_characters_and_long_ones_words():
    long = "could you please tell me where my parcel is now since it is late"
    changed = long.replace("parcel", "parsel")
    words = set(zip(long.split(), long.split()[1:], long.split()[2:], strict=False))
    assert jaccard(signature(long), signature(changed)) == pytest.approx((len(words) - 3) / (len(words) + 3))
    assert jaccard(signature("my parcel"), signature("my parsel")) == pytest.approx(2 / 8)


@given(WORDS, WORDS)
def test_hashed_jaccard_equals_jaccard_of_strings(left: list[str], right: list[str]):
    a, b = " ".join(left), " ".join(right)
    assert jaccard(signature(a), signature(b)) == pytest.approx(by_strings(a, b))
    assert jaccard(signature(a), signature(b)) == jaccard(signature(b), signature(a))


def test_many_texts_have_the_signatures_of_each():
    texts = ["a b", "c", "a b"]
    assert [item.key for item in signatures(texts)] == [signature(text).key for text in texts]
