"""Curves as text, for terminals."""

from collections.abc import Sequence
from itertools import pairwise

_BLOCKS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float], width: int = 60) -> str:
    """Draw values as one line of block characters, lowest to highest; values above `width` are averaged."""
    points = _averaged(values, width)
    if not points:
        return ""
    low, high = min(points), max(points)
    span = high - low
    if span == 0:
        return _BLOCKS[0] * len(points)
    return "".join(_BLOCKS[min(len(_BLOCKS) - 1, int((v - low) / span * len(_BLOCKS)))] for v in points)


def _averaged(values: Sequence[float], width: int) -> list[float]:
    if len(values) <= width:
        return list(values)
    edges = [round(at * len(values) / width) for at in range(width + 1)]
    chunks = [values[start:end] for start, end in pairwise(edges)]
    return [sum(chunk) / len(chunk) for chunk in chunks]
