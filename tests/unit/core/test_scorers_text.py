"""Text scorers, case by case."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunewright.core.scorer_text import last_number, normalise, squad_tokens
from tunewright.core.scorers import Answer, bind_scorer, score
from tunewright.errors import RecipeError
from tunewright.recipe import ScorerSpec
from tunewright.records import Example, Message, Source
from tunewright.values import Digest


def scored(kind: str, said: str, reference: str, **settings: object) -> float:
    messages = (Message(role="user", content="q"), Message(role="assistant", content=reference))
    source = Source(digest=Digest("0" * 64), path="rows.jsonl", line=1)
    example = Example(id=Digest("a" * 64), messages=messages, source=source)
    bound = bind_scorer(ScorerSpec.model_validate({"kind": kind, "settings": settings}), [example])
    value = score(bound, Answer(said), example)
    assert value is not None
    return value[0]


@pytest.mark.parametrize(
    ("text", "reference", "exact", "folded"),
    [
        ("Paris", "Paris", 1, 1),
        (" Paris\n", "Paris", 1, 1),
        ("the  paris!", "Paris", 0, 1),
        ("U.S.", "US", 0, 1),
        ("1,000 cups", "1000 cups", 0, 1),
        ("1.5 cups", "15 cups", 0, 0),
        ("-3", "3", 0, 0),
        ("10-20", "1020", 0, 0),
        ("", "the", 0, 0),
        ("a", "the", 0, 0),
        ("ｃａｆé", "café", 0, 1),
    ],
)
def test_exact_and_normalised_match_differ_where_they_should(text, reference, exact, folded):
    assert scored("exact_match", text, reference) == exact
    assert scored("normalised_match", text, reference) == folded


@given(st.text(max_size=40))
def test_normalising_twice_changes_nothing_and_case_never_matters(text):
    once = normalise(text)
    assert normalise(once) == once or not text.isascii()
    assert normalise(text.upper().lower()) == normalise(text.lower()) or not text.isascii()


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("5 + 3 = 8.", 8),
        ("#### 1,234", 1234),
        ("It costs $5.50", 5.5),
        ("-7", -7),
        ("from 10-20", 20),
        ("x = -3", -3),
        ("2e3 grams", 2000),
        (".5", 0.5),
        ("10kg", 10),
        ("room A10", None),
        ("none", None),
    ],
)
def test_the_last_number_is_found(text, number):
    assert last_number(text) == number


def test_numeric_respects_both_tolerances():
    assert scored("numeric", "about 101", "100") == 0
    assert scored("numeric", "about 101", "100", absolute=1.0) == 1
    assert scored("numeric", "about 101", "100", relative=0.01) == 1
    assert scored("numeric", "1e999", "5") == 0


def test_contains_looks_for_the_reference_or_a_fixed_text():
    assert scored("contains", "I would say  PARIS.", "Paris") == 1
    assert scored("contains", "I would say PARIS.", "Paris", case_sensitive=True) == 0
    assert scored("contains", "Sorry, no", "Paris", text="sorry") == 1


def test_regex_searches_or_matches_whole():
    assert scored("regex", "order 12 placed", "x", pattern=r"\d+") == 1
    assert scored("regex", "order 12 placed", "x", pattern=r"\d+", full=True) == 0
    with pytest.raises(RecipeError, match="not a regular expression"):
        scored("regex", "x", "x", pattern="(")


def test_token_f1_counts_shared_words_like_squad():
    assert squad_tokens("The well-known cat's a hat.") == ["wellknown", "cats", "hat"]
    assert scored("token_f1", "the cat sat", "a cat sat down") == pytest.approx(2 * 2 / (2 + 3))
    assert scored("token_f1", "", "cat") == 0
    assert scored("token_f1", "cat cat", "cat") == pytest.approx(2 / 3)
