"""Feedback tokens: nobody speaks about an answer that was not theirs."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes import START

from tunewright.errors import RequestRefused
from tunewright.feedback.tokens import EXPIRED, INVALID, NUM_CHARS, check_token, make_token

KEY = b"k" * 32
TRACE = f"tr_{1:032x}"
LATER = START + timedelta(days=30)


def refusal(token: str, *, key=KEY, trace=TRACE, tenant="acme", now=START) -> RequestRefused:
    with pytest.raises(RequestRefused) as caught:
        check_token(key, token, trace=trace, tenant=tenant, now=now)
    assert caught.value.status == 403
    return caught.value


def test_a_token_is_good_for_its_own_trace_until_it_expires():
    token = make_token(KEY, TRACE, "acme", LATER)
    assert len(token) == NUM_CHARS
    check_token(KEY, token, trace=TRACE, tenant="acme", now=START)
    check_token(KEY, token, trace=TRACE, tenant="acme", now=LATER)
    assert refusal(token, now=LATER + timedelta(seconds=1)).code == EXPIRED


@pytest.mark.parametrize(
    "change", [{"trace": f"tr_{2:032x}"}, {"tenant": "other"}, {"key": b"x" * 32}, {"tenant": ""}]
)
def test_a_token_of_another_trace_tenant_or_workspace_is_refused(change: dict):
    token = make_token(KEY, TRACE, "acme", LATER)
    assert refusal(token, **change).code == INVALID


def test_trace_and_tenant_are_kept_apart():
    token = make_token(KEY, "ab", "c", LATER)
    assert refusal(token, trace="a", tenant="bc").code == INVALID


def test_an_expiry_cannot_be_put_off():
    first, second = make_token(KEY, TRACE, "acme", START), make_token(KEY, TRACE, "acme", LATER)
    assert refusal(second[:11] + first[11:]).code == INVALID


@pytest.mark.parametrize(
    "token", ["", "x", "=" * NUM_CHARS, "é" * NUM_CHARS, "A" * 10**6, "\ud800" * NUM_CHARS]
)
def test_a_malformed_token_of_any_size_is_refused(token: str):
    assert refusal(token).code == INVALID


@given(st.text(max_size=80))
def test_no_text_is_a_token(token: str):
    assert refusal(token).code == INVALID


@given(st.integers(0, NUM_CHARS - 2), st.sampled_from("ABCxyz012-_"))
def test_a_token_with_one_letter_changed_is_refused(place: int, letter: str):
    token = make_token(KEY, TRACE, "acme", LATER)
    if token[place] != letter:
        assert refusal(token[:place] + letter + token[place + 1 :]).code in (INVALID,)


def test_a_refusal_repeats_nothing_of_the_token():
    assert "secret" not in str(refusal("secret" * 9))
