"""Flooding feedback is stopped, and costs bounded memory."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunewright.feedback.limits import Bucket, FeedbackLimits, FeedbackRates, Rate, refill, wait_s


def take(limits: FeedbackLimits, n: int = 1, now_s: float = 0.0, **who: str):
    asked = {"trace": f"tr_{n}", "author": f"au_{n}", "tenant": "acme"} | who
    return limits.take(**asked, now_s=now_s)


def test_a_trace_takes_twenty_words_in_all():
    limits = FeedbackLimits()
    told = [take(limits, n, now_s=n * 3600.0, trace="tr_1") for n in range(21)]
    assert all(one.is_allowed for one in told[:20])
    assert (told[20].is_allowed, told[20].limit, told[20].retry_after_s) == (False, "trace", None)


def test_an_author_says_thirty_things_and_then_one_every_two_seconds():
    limits = FeedbackLimits()
    told = [take(limits, n, author="ann") for n in range(31)]
    assert [one.is_allowed for one in told] == [True] * 30 + [False]
    assert told[30].limit == "author"
    assert told[30].retry_after_s == pytest.approx(2.0)
    assert take(limits, 99, now_s=2.0, author="ann").is_allowed
    assert not take(limits, 100, now_s=2.0, author="ann").is_allowed
    assert take(limits, 101, now_s=2.0, author="ben").is_allowed


def test_a_flood_of_authors_stops_at_the_tenant_and_leaves_others_alone():
    limits = FeedbackLimits()
    told = [take(limits, n) for n in range(1000)]
    assert sum(one.is_allowed for one in told) == 200
    assert {one.limit for one in told[200:]} == {"tenant"}
    assert take(limits, 1, tenant="other").is_allowed


def test_what_is_refused_takes_from_no_bucket():
    rates = FeedbackRates(trace=Rate(1, 0.0), author=Rate(2, 0.0))
    limits = FeedbackLimits(rates)
    assert take(limits, trace="one", author="ann").is_allowed
    assert not take(limits, trace="one", author="ann").is_allowed
    assert take(limits, trace="two", author="ann").is_allowed


def test_memory_is_bounded_and_the_longest_unused_is_forgotten():
    rates = FeedbackRates(tenant=Rate(10**6, 0.0))
    limits = FeedbackLimits(rates, max_buckets=10)
    for n in range(100):
        take(limits, n)
    assert limits.num_buckets() == 21
    take(limits, 99)
    assert limits.num_buckets() == 21


def test_a_clock_that_goes_back_gives_nothing():
    rate = Rate(10, 1.0)
    assert refill(Bucket(3, 100.0), rate, 50.0) == Bucket(3, 100.0)


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(0, 5)), max_size=80))
def test_no_author_says_more_than_burst_and_rate_allow(asks: list[tuple[int, float]]):
    limits, now_s = FeedbackLimits(FeedbackRates(author=Rate(3, 0.5))), 0.0
    taken: dict[int, int] = {}
    for number, (author, passed_s) in enumerate(asks):
        now_s += passed_s
        if take(limits, number, now_s=now_s, author=str(author)).is_allowed:
            taken[author] = taken.get(author, 0) + 1
    assert all(count <= 3 + 0.5 * now_s + 1e-6 for count in taken.values())


def test_waiting_as_told_is_enough():
    rate = Rate(5, 0.25)
    bucket = Bucket(0.2, 7.0)
    wait = wait_s(bucket, rate)
    assert wait is not None
    assert refill(bucket, rate, 7.0 + wait).left >= 1 - 1e-9
