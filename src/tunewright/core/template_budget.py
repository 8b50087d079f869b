"""What one render of a chat template may spend, and what its operators, filters and methods may make.

A check comes before the work: it bounds what would be made from the operands alone. Knows no environment.
"""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import re
import time
from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping, Sized, ValuesView
from types import BuiltinMethodType
from typing import Any, Never

from jinja2.utils import Namespace

from tunewright.errors import TemplateMismatch

MAX_SECONDS = 2.0
"""Processor time of the rendering thread for one render; a chat of 8 MiB takes a tenth of a second."""

FREE_CHARACTERS = 1_000_000
CHARACTERS_FACTOR = 16
"""One value may hold so many characters, and so many times those of the messages."""

WRITTEN_FACTOR = 4
"""A render may write so many times what one value may hold; text that passes a macro is written twice."""

MAX_ITEMS = 20_000_000
"""Entries in all lists that one render makes."""

MAX_NUMBER = 100_000
"""Largest number that a method of text, or a filter that pads or cuts, is given."""

MAX_BITS = 10_000
MAX_DEPTH = 100
MAX_JSON_INDENT = 16
STEPS_A_LOOK = 64
"""The clock is looked at once in so many steps."""

_NUMBERED_FILTERS = ("batch", "center", "indent", "round", "slice", "tojson", "truncate")
_REFUSED_METHODS = ("expandtabs", "to_bytes", "translate")
_VIEWS = (KeysView, ValuesView, ItemsView)
_PERCENT_FIELD = re.compile(r"%(?:\([^)]*\))?[-#0 +]*(\*|\d*)(?:\.(\*|\d*))?")
_BRACE_FIELD = re.compile(r"\{[^{}]*(\{)?")


def refuse(fact: str) -> Never:
    """Raise TemplateMismatch; `fact` says what the template does."""
    raise TemplateMismatch(
        f"the base's chat template {fact}; expected one that lays out the messages and does no other work. "
        "Choose another base, or ask where this template comes from."
    )


class Budget:
    """What one render may still spend; confined to its thread."""

    def __init__(self, num_characters: int) -> None:
        self.limit = FREE_CHARACTERS + CHARACTERS_FACTOR * num_characters
        self._to_write = WRITTEN_FACTOR * self.limit
        self._items = MAX_ITEMS
        self._steps = 0
        self._end_s = time.thread_time() + MAX_SECONDS
        self._known: dict[int, tuple[object, int, int]] = {}
        """Identity of a container -> itself, so that the identity stays its own; its weight; its depth."""

    def step(self) -> None:
        """Count one turn of a loop, call or operator."""
        self._steps += 1
        if self._steps % STEPS_A_LOOK == 0 and time.thread_time() > self._end_s:
            refuse(f"computes for more than {MAX_SECONDS:g} s on one chat")

    def write(self, num_characters: int) -> None:
        """Count text that goes into the result."""
        self._to_write -= num_characters
        if self._to_write < 0:
            refuse(f"writes more than {WRITTEN_FACTOR * self.limit:,} characters for one chat")

    def check(self, size: int) -> None:
        """Bound one value by the size it will have."""
        if size > self.limit:
            refuse(f"makes a value of about {size:,} characters; {self.limit:,} are allowed for this chat")

    def weigh(self, value: object) -> int:
        """Bound a value; return about how many characters it would print."""
        if isinstance(value, str | bytes):
            self.check(len(value))
            return len(value)
        if isinstance(value, int):
            if value.bit_length() > MAX_BITS:
                refuse(f"computes with numbers of more than {MAX_BITS:,} bits")
            return 8
        return self._measure(value)[0]

    def _measure(self, value: object) -> tuple[int, int]:
        """Weigh what holds other values, by way of all that it holds: (weight, depth)."""
        if not isinstance(value, (list, tuple, dict, set, frozenset, Mapping, *_VIEWS)):
            return 8, 0
        known = self._known.get(id(value))
        if known is not None:
            return known[1:]
        weight, depth = 2, 0
        for item in _parts(value):
            seen = self._known.get(id(item))
            if seen is None:
                inner, below = self._new_part(item)
            else:
                _, inner, below = seen
            weight, depth = weight + inner + 2, max(depth, below)
        return self._remember(value, weight, depth + 1)

    def _remember(self, value: Any, weight: int, depth: int) -> tuple[int, int]:  # Any: a container
        self._items -= len(value)
        self.check(weight)
        if self._items < 0 or depth > MAX_DEPTH:
            refuse(f"makes more than {MAX_ITEMS:,} entries, or lists {MAX_DEPTH} deep")
        self._known[id(value)] = (value, weight, depth)
        return weight, depth

    def weigh_sum(self, left: object, right: object, total: object) -> None:
        """Bound `left + right`; lists that grow by one entry a turn need not be looked through again."""
        if not isinstance(total, list | tuple):
            self.weigh(total)
            return
        (one, deep), (other, deeper) = self._measure(left), self._measure(right)
        self._remember(total, one + other, max(deep, deeper))

    def _new_part(self, item: object) -> tuple[int, int]:
        if isinstance(item, str | bytes | int):
            return self.weigh(item), 0
        if isinstance(item, Namespace):
            refuse("keeps a namespace inside another value")
        return self._measure(item)

    def depth(self, value: object) -> int:
        """Say how deep a list of lists goes."""
        return self._measure(value)[1]

    def watch(self, items: Iterable[object], extra: int = 0) -> Iterator[object]:
        """Pass items on while they weigh no more than one value may."""
        total = 0
        for item in items:
            self.step()
            total += self.weigh(item) + extra
            self.check(total)
            yield item


def _parts(value: Any) -> Iterator[object]:  # Any: a container of whatever the template put in
    if isinstance(value, Mapping):
        yield from value.keys()
        yield from value.values()
    else:
        yield from value


def check_filter(name: str, value: Any, given: tuple[Any, ...], budget: Budget) -> None:
    """Bound what a filter will make, before it makes it."""
    if name in _NUMBERED_FILTERS:
        _check_numbers(given)
    if name == "join" and isinstance(value, Sized):
        budget.check(budget.weigh(value) + len(value) * budget.weigh(given))
    elif name == "replace" and len(given) >= 2:
        _check_replace(str(value), str(given[0]), str(given[1]), budget)
    elif name == "indent":
        width = next((item for item in given if not isinstance(item, bool)), 4)
        budget.check((str(value).count("\n") + 1) * (width if isinstance(width, int) else len(str(width))))
    elif name == "format":
        _check_percent(str(value), given, budget)
    elif name == "tojson":
        if any(budget.weigh(item) > MAX_JSON_INDENT for item in given if isinstance(item, str)):
            refuse(f"indents JSON by more than {MAX_JSON_INDENT} characters")
        numbers = [item for item in given if isinstance(item, int) and not isinstance(item, bool)]
        budget.check(budget.weigh(value) * budget.depth(value) * max([1, *numbers]) // CHARACTERS_FACTOR)
    elif name == "sum" and any(isinstance(item, list | tuple) for item in given):
        refuse("adds up lists")


def bounded_arguments(
    method: BuiltinMethodType, args: tuple[Any, ...], kwargs: Mapping[str, Any], budget: Budget
) -> tuple[Any, ...]:
    """Bound what a method of text or of a number will make; return the arguments, iterators watched."""
    owner = method.__self__
    if not isinstance(owner, str | bytes | int):
        return args
    if method.__name__ in _REFUSED_METHODS:
        refuse(f"calls {method.__name__}, which can make text of any length")
    _check_numbers((*args, *kwargs.values()))
    if method.__name__ == "join" and len(args) == 1 and isinstance(owner, str | bytes):
        if not isinstance(args[0], Sized):
            return (budget.watch(args[0], len(owner)),)
        budget.check(budget.weigh(args[0]) + len(owner) * len(args[0]))
    if method.__name__ == "replace" and len(args) >= 2 and isinstance(owner, str):
        _check_replace(owner, str(args[0]), str(args[1]), budget)
    return args


def _check_numbers(given: Iterable[object]) -> None:
    for item in given:
        if isinstance(item, int) and abs(item) > MAX_NUMBER:
            refuse(f"pads or cuts by {item}; at most {MAX_NUMBER:,} is allowed")


def _check_replace(text: str, old: str, new: str, budget: Budget) -> None:
    budget.check(len(text) + text.count(old) * len(new))


def check_operator(operator: str, left: Any, right: Any, budget: Budget) -> None:
    """Bound what an operator will make. Any: whatever the template computed."""
    weights = budget.weigh(left), budget.weigh(right)
    if operator == "**":
        _check_power(left, right)
    elif operator == "%" and isinstance(left, str):
        _check_percent(left, right, budget)
    elif operator == "*" and not (isinstance(left, int) and isinstance(right, int)):
        for number, weight in ((left, weights[1]), (right, weights[0])):
            if isinstance(number, int):
                budget.check(number * weight)


def _check_power(left: object, right: object) -> None:
    if isinstance(left, int) and isinstance(right, int) and left.bit_length() * right > MAX_BITS:
        refuse(f"computes with numbers of more than {MAX_BITS:,} bits")


def _check_percent(text: str, values: object, budget: Budget) -> None:
    widths = [width for field in _PERCENT_FIELD.findall(text) for width in field]
    _check_fields(text, text.count("%"), widths, budget.weigh(values), budget)


def check_braces(text: str, values: tuple[object, ...], budget: Budget) -> None:
    """Bound what `str.format` will make."""
    if any(_BRACE_FIELD.findall(text.replace("{{", ""))):
        refuse("takes the width of a field from a value")
    widths = re.findall(r"\d+", text)
    _check_fields(text, text.count("{"), widths, budget.weigh(values), budget)


def _check_fields(text: str, num_fields: int, widths: Iterable[str], weight: int, budget: Budget) -> None:
    """Bound a formatted text: every field may print every value, and be padded."""
    if any(width == "*" or len(width) > len(str(MAX_NUMBER)) for width in widths):
        refuse("takes the width of a field from a value, or pads too far")
    padding = sum(int(width) for width in widths if width)
    budget.check(len(text) + num_fields * weight + padding)
