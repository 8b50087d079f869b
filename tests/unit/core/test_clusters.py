"""Connected components."""

from hypothesis import given
from hypothesis import strategies as st

from tunewright.core.clusters import connected, effective_number, links_of_equal

LINKS = st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=20)


def by_spreading(n: int, pairs: list[tuple[int, int]]) -> list[int]:
    labels = list(range(n))
    for _ in range(n):
        for a, b in pairs:
            labels[a] = labels[b] = min(labels[a], labels[b])
    return labels


@given(LINKS)
def test_labels_are_the_smallest_member_of_each_component(pairs: list[tuple[int, int]]):
    assert connected(12, pairs) == by_spreading(12, pairs)


@given(LINKS, st.randoms())
def test_the_order_of_links_does_not_matter(pairs: list[tuple[int, int]], random):
    shuffled = [(b, a) for a, b in pairs]
    random.shuffle(shuffled)
    assert connected(12, shuffled) == connected(12, pairs)


def test_a_long_chain_is_one_component():
    assert set(connected(50_000, ((i, i + 1) for i in range(49_999)))) == {0}


def test_equal_keys_are_linked_and_absent_keys_stay_alone():
    assert connected(5, links_of_equal(["a", None, "a", None, "b"])) == [0, 1, 0, 3, 4]


def test_effective_number_equals_the_number_of_equal_clusters():
    assert effective_number(["a", "a", "b", "b", "c", "c"]) == 3.0
    assert effective_number(["a"] * 9 + ["b"]) < 1.3
    assert effective_number([]) == 0.0
