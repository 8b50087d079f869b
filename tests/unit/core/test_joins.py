"""The near-duplicate join: complete, exact, and nothing dropped."""

from itertools import combinations, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunewright.core.joins import NearPair, _compiled, distinct, near_pairs, near_pairs_between
from tunewright.core.text import jaccard, signature

VOCABULARY = ["can", "i", "get", "a", "latte", "mocha", "with", "oat", "milk", "please", "two", "to", "go"]
BASES = st.lists(st.sampled_from(VOCABULARY), max_size=24)
THRESHOLDS = st.sampled_from([0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 1.0])


@st.composite
def alike_texts(draw: st.DrawFn) -> list[str]:
    """Texts around the border of 12 tokens, many of them small changes of each other."""
    texts: list[str] = []
    for words in draw(st.lists(BASES, max_size=6)):
        texts.append(" ".join(words))
        for _ in range(draw(st.integers(0, 3))):
            place = draw(st.integers(0, len(words)))
            changed = [
                *words[:place],
                draw(st.sampled_from(VOCABULARY)),
                *words[place + draw(st.integers(0, 1)) :],
            ]
            texts.append(" ".join(changed))
    return texts


@given(alike_texts(), THRESHOLDS)
@settings(deadline=None, max_examples=200)
def test_join_finds_exactly_the_pairs_of_brute_force(texts: list[str], threshold: float):
    rows = [signature(text) for text in texts]
    expected = [
        NearPair(a, b, score)
        for a, b in combinations(range(len(rows)), 2)
        if (score := jaccard(rows[a], rows[b])) >= threshold
    ]
    assert near_pairs(rows, threshold) == expected


@given(alike_texts(), alike_texts(), THRESHOLDS)
@settings(deadline=None, max_examples=200)
def test_join_between_collections_finds_exactly_the_pairs_of_brute_force(left, right, threshold):
    a, b = [signature(text) for text in left], [signature(text) for text in right]
    expected = [
        NearPair(i, j, score)
        for i, j in product(range(len(a)), range(len(b)))
        if (score := jaccard(a[i], b[j])) >= threshold
    ]
    assert near_pairs_between(a, b, threshold) == expected


def test_a_large_group_of_equal_rows_is_not_dropped():
    rows = [signature("can i get a latte please")] * 200 + [signature("where is my parcel")]
    assert len(near_pairs(rows, 0.8)) == 200 * 199 // 2


def test_more_pairs_than_the_first_buffer_holds_are_kept():
    words = [f"w{number}" for number in range(40)]
    rows = [signature(" ".join([*words, f"x{number}"])) for number in range(80)]
    assert len(near_pairs(rows, 0.8)) == 80 * 79 // 2


def test_a_pair_exactly_at_the_threshold_counts():
    shared = " ".join(f"w{number}" for number in range(12))
    rows = [signature(shared), signature(shared.replace("w11", "v"))]
    exact = jaccard(rows[0], rows[1])
    assert exact == 9 / 11
    assert near_pairs(rows, exact) == [NearPair(0, 1, exact)]


def test_empty_texts_match_nothing():
    rows = [signature(""), signature(""), signature("a")]
    assert near_pairs(rows, 0.1) == []
    assert near_pairs_between(rows, rows[:2], 0.1) == []
    assert near_pairs_between([], rows, 0.5) == []


@pytest.mark.parametrize("threshold", [0.0, -0.1, 1.01])
def test_a_threshold_out_of_range_is_refused(threshold: float):
    with pytest.raises(ValueError, match="expected 0 < threshold <= 1"):
        near_pairs([signature("a"), signature("b")], threshold)


def test_distinct_names_the_first_row_of_each_signature():
    assert distinct([signature(text) for text in ("a", "b", "A!", "b")]) == ([0, 1], [0, 1, 0, 1])


def test_kernels_compile_where_no_cache_can_be_written():
    scope: dict[str, object] = {}
    exec("def double(x):\n    return 2 * x", scope)  # code without a file has no place for a cache
    assert _compiled(scope["double"])(21) == 42
