"""Feedback as given becomes a record, or is refused with the field and what was expected."""

import math
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes import START
from tests.live_world import KEYS, a_trace

from tunewright.errors import RequestRefused
from tunewright.feedback.attach import MAX_EDIT_CHARS, MAX_TEXT_CHARS, Given, attach, clean_text, is_bad
from tunewright.feedback.distance import MAX_COMPARED_CHARS, edit_distance

UNTIL = START + timedelta(days=30)


def said(kind, value=None, text=None, *, answer="a lamp", trace=None, at=START, **given_):
    trace = trace or a_trace(1)
    draft = Given(trace=trace.id, token="t", kind=kind, value=value, text=text, **given_)
    return attach(draft, trace, answer, keys=KEYS, at=at, retain_until=UNTIL)


@pytest.mark.parametrize(
    ("kind", "value", "text", "bad"),
    [
        ("thumb", 1, None, False),
        ("thumb", 0, None, True),
        ("rating", 5, None, False),
        ("rating", 4, None, False),
        ("rating", 3, None, None),
        ("rating", 2, None, True),
        ("rating", 1, None, True),
        ("edit", None, "two lamps", True),
        ("edit", None, " a lamp\n", False),
        ("escalation", None, None, True),
        ("harm", None, "it was rude", True),
        ("comment", None, "hm", None),
    ],
)
def test_each_kind_says_good_bad_or_neither(kind, value, text, bad):
    feedback, _ = said(kind, value, text)
    assert feedback.is_bad is bad


@pytest.mark.parametrize(
    ("kind", "value", "text", "param"),
    [
        ("thumb", None, None, "value"),
        ("thumb", 0.5, None, "value"),
        ("thumb", math.nan, None, "value"),
        ("rating", 0, None, "value"),
        ("rating", 6, None, "value"),
        ("rating", math.inf, None, "value"),
        ("comment", 1, "hm", "value"),
        ("edit", 1, "x", "value"),
        ("harm", 0, None, "value"),
        ("edit", None, None, "text"),
        ("edit", None, " \x00\x1b ", "text"),
        ("comment", None, "", "text"),
        ("edit", None, "x" * (MAX_EDIT_CHARS + 1), "text"),
        ("comment", None, "x" * (MAX_TEXT_CHARS + 1), "text"),
    ],
)
def test_what_is_out_of_range_is_refused_with_the_field(kind, value, text, param):
    with pytest.raises(RequestRefused) as caught:
        said(kind, value, text)
    assert (caught.value.status, caught.value.param) == (422, param)
    assert "expected" in str(caught.value)


def test_an_author_of_any_letters_is_hashed_and_one_without_name_is_the_user():
    named, _ = said("thumb", 1, author="ann@example.org")
    assert len(named.author) == 32
    assert "ann" not in named.to_json()["author"]
    assert said("thumb", 1, author="\ud800\x00")[0].author == a_trace(1).unit
    assert said("thumb", 1)[0].author == a_trace(1).unit
    other = said("thumb", 1, author="ann@example.org", trace=a_trace(2, tenant="other"))[0]
    assert other.author != named.author, "the same name in another tenant is another author"
    with pytest.raises(RequestRefused, match="256"):
        said("thumb", 1, author="a" * 257)


def test_text_is_cleaned_kept_apart_and_expires_with_the_trace():
    feedback, text = said("edit", None, "a\x1b[31m red\r\nlamp\u202e \ud800")
    assert text is not None
    assert text.text == "a[31m red\nlamp"
    assert (text.owner, text.expires_at) == (feedback.id, UNTIL)
    assert feedback.has_text
    assert "red" not in str(feedback.to_json())


def test_without_consent_no_text_is_kept():
    feedback, text = said("edit", None, "two lamps", trace=a_trace(1, consent="none"))
    assert text is None
    assert not feedback.has_text
    assert (feedback.consent, feedback.is_bad) == ("none", True)


def test_consent_is_that_of_the_trace_unless_the_feedback_says_otherwise():
    assert said("edit", None, "x", trace=a_trace(1, consent="train"))[0].consent == "train"
    assert said("edit", None, "x", trace=a_trace(1, consent="train"), consent="review")[0].consent == "review"
    assert said("edit", None, "x", trace=a_trace(1, consent="none"), consent="train")[1] is not None


def test_the_same_word_twice_is_one_and_a_later_one_is_another():
    assert said("thumb", 1)[0] == said("thumb", 1)[0]
    assert said("thumb", 1)[0].id != said("thumb", 0)[0].id
    assert said("thumb", 1)[0].id != said("thumb", 1, at=START + timedelta(seconds=1))[0].id
    imported = [said("thumb", 1, source="import", at=START + timedelta(days=n))[0].id for n in (0, 1)]
    assert imported[0] == imported[1]


def test_an_edit_of_an_answer_that_was_not_kept_counts_as_a_correction():
    feedback, _ = said("edit", None, "two lamps", answer=None)
    assert (feedback.edit_distance, feedback.is_bad) == (None, True)
    assert is_bad("edit", None, None)


def levenshtein(left: str, right: str) -> int:
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, start=1):
        before, row[0] = row[0], i
        for j, b in enumerate(right, start=1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (a != b))
    return row[-1]


@given(st.text("abc ", max_size=12), st.text("abc ", max_size=12))
def test_edit_distance_is_levenshtein_over_the_longer_text(left: str, right: str):
    longer = max(len(left), len(right)) or 1
    assert edit_distance(left, right) == levenshtein(left, right) / longer


def test_edit_distance_of_huge_texts_is_bounded_and_never_too_small():
    left, right = "a" * MAX_EDIT_CHARS, "b" + "ab" * (MAX_EDIT_CHARS // 2 - 1) + "b"
    assert edit_distance(left, right) == 1.0
    assert edit_distance(left, left[:-1] + "b") == 1 / MAX_EDIT_CHARS
    assert edit_distance("x" * MAX_COMPARED_CHARS, "y" * MAX_COMPARED_CHARS) == 1.0


@given(st.text())
def test_clean_text_holds_nothing_unseen_and_is_stable(text: str):
    clean = clean_text(text)
    assert clean == clean_text(clean)
    clean.encode()
    assert not any(ord(char) < 32 and char not in "\n\t" for char in clean)
    assert not set(clean) & set("\u202e\u2066\ufeff\x7f\x9b")
