"""Connected components by union-find, and how evenly rows spread over them."""

from collections import Counter
from collections.abc import Iterable, Sequence


def connected(n: int, pairs: Iterable[tuple[int, int]]) -> list[int]:
    """Label the connected components of n items.

    Args:
        n: items 0 .. n-1.
        pairs: links; their order and repeats do not matter.

    Returns:
        For each item the smallest item of its component.
    """
    parent = list(range(n))
    for a, b in pairs:
        left, right = _root(parent, a), _root(parent, b)
        if left != right:
            parent[max(left, right)] = min(left, right)
    return [_root(parent, item) for item in range(n)]


def links_of_equal(keys: Sequence[object]) -> list[tuple[int, int]]:
    """Link every item to the first with an equal key; items whose key is None stay alone."""
    first: dict[object, int] = {}
    links: list[tuple[int, int]] = []
    for item, key in enumerate(keys):
        if key is None:
            continue
        if key in first:
            links.append((first[key], item))
        else:
            first[key] = item
    return links


def effective_number(labels: Sequence[object]) -> float:
    """Count clusters by Kish: 1 / sum of squared shares; equals their number if all are of one size.

    Returns:
        0.0 for no items.
    """
    total = len(labels)
    if not total:
        return 0.0
    return total * total / sum(count * count for count in Counter(labels).values())


def _root(parent: list[int], item: int) -> int:
    """Find the component's smallest item, halving the path on the way."""
    while parent[item] != item:
        parent[item] = parent[parent[item]]
        item = parent[item]
    return item
