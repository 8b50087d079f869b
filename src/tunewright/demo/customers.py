"""What the shop's customers ask a live model: new messages with known orders, from a seed of their own."""

import json
import random
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

from tunewright.core.scorer_json import fold_json, parse_json
from tunewright.core.text import canonical_text
from tunewright.demo.shop import Shop
from tunewright.demo.shop_plant import clean
from tunewright.demo.shop_words import ALL_YEAR, SPRING


@dataclass(frozen=True, slots=True)
class Question:
    """A message and the order it means."""

    said: str
    order: str
    """JSON, as the shop's staff would write it."""


def live_questions(shop: Shop, number: int, *, seed: int) -> list[Question]:
    """Draw messages that stand nowhere in the shop's files; the same seed gives the same messages.

    Spring products come up as often as in the second file, so that version 2 has more to say than version 1.
    """
    rng = random.Random(seed)
    seen = {canonical_text(said).casefold() for said in _said_in(chain.from_iterable(shop.lines.values()))}
    products = ALL_YEAR + SPRING * 2
    rows = [clean(rng, products, seen) for _ in range(number)]
    return [Question(row.said, row.answer) for row in rows]


def is_right(order: str, answer: str) -> bool:
    """Judge an answer as the demo's recipe does: equal JSON, options in any order."""
    given, wanted = parse_json(answer), parse_json(order)
    if given is None or wanted is None:
        return False
    folded = [fold_json(one.value, normalise=True, sets=("options",)) for one in (given, wanted)]
    return folded[0] == folded[1]


def _said_in(lines: Iterable[str]) -> list[str]:
    """Read the users' messages of a file's lines; lines that were cut short on purpose say nothing."""
    said: list[str] = []
    for line in lines:
        try:
            turns = json.loads(line)["messages"]
        except json.JSONDecodeError:
            continue
        said += [turn["content"] for turn in turns if turn["role"] == "user"]
    return said
