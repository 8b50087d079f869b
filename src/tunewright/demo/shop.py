"""The demo's data: orders of a small shop, messy on purpose, made from a seed.

Version 1 of the demo reads the first file, version 2 both. What was planted where stands in a file of its own
that no recipe reads. Customers, keys and card numbers are made up.
"""

import json
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

from tunewright.demo.shop_plant import (
    JUNK,
    Planned,
    clean,
    contradict,
    exact_copy,
    junk,
    leaked,
    near_copy,
    personal,
    twin_customer,
    twin_prompts,
)
from tunewright.demo.shop_private import PII_TYPES
from tunewright.demo.shop_words import ALL_YEAR, SPRING, Product
from tunewright.demo.truth import Place, Planted

SEED = 20261120
FIRST, SECOND, TRUTH = "orders-1.jsonl", "orders-2.jsonl", "truth.jsonl"

_STARTS = {FIRST: datetime(2026, 1, 5, 8, tzinfo=UTC), SECOND: datetime(2026, 3, 2, 8, tzinfo=UTC)}
_ASSORTMENT = {FIRST: ALL_YEAR, SECOND: ALL_YEAR + SPRING * 2}


@dataclass(frozen=True, slots=True)
class Plan:
    """How many of each kind go into one file."""

    clean: int
    junk: tuple[int, ...]
    """In the order of JUNK."""
    exact: int
    near: int
    pii_each: int
    """Rows for every type of personal data."""
    secrets: int
    conflicts: int
    twin_sets: int
    customers: int


PLANS = {
    FIRST: Plan(
        clean=400, junk=(7, 8, 8, 7, 7, 3), exact=35, near=40, pii_each=8, secrets=12, conflicts=12,
        twin_sets=20, customers=20,
    ),
    SECOND: Plan(
        clean=330, junk=(5, 7, 7, 5, 6, 3), exact=30, near=36, pii_each=6, secrets=10, conflicts=10,
        twin_sets=14, customers=16,
    ),
}  # fmt: skip
SHARED_TWINS = 10
"""Sets of twins of which one row stands in the first file and the others in the second."""
SHARED_CUSTOMERS = 10
"""Customers who ordered in both files."""


@dataclass(frozen=True, slots=True)
class Shop:
    """The data, in memory."""

    lines: dict[str, tuple[str, ...]]
    """File name -> JSON lines, one of them cut short here and there."""
    truth: tuple[Planted, ...]


@dataclass(frozen=True, slots=True)
class ShopFiles:
    """Where `write_shop` put the data."""

    first: Path
    second: Path
    truth: Path


def make_shop(seed: int = SEED) -> Shop:
    """Make the shop's orders; the same seed gives the same lines."""
    rng = random.Random(seed)
    maker = _Maker(rng, set(), count(1))
    rows: dict[str, list[Planned]] = {FIRST: [], SECOND: []}
    originals: list[Planned] = []
    for file, plan in PLANS.items():
        products = _ASSORTMENT[file]
        fresh = [maker.row(products) for _ in range(plan.clean)]
        originals += fresh
        rng.shuffle(originals)
        copies = _copies(rng, plan, originals, products)
        rows[file] += fresh + copies + _spoiled(maker, plan, products) + _twins(maker, plan, products)
    for parts in _shared_twins(maker):
        rows[FIRST] += parts[:1]
        rows[SECOND] += parts[1:]
    return _lay_out(rng, rows)


def write_shop(folder: Path, *, seed: int = SEED) -> ShopFiles:
    """Write both files of orders and the truth into a folder; the same seed gives the same bytes."""
    shop = make_shop(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for name, lines in shop.lines.items():
        (folder / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    truth = "".join(f"{json.dumps(planted.to_json())}\n" for planted in shop.truth)
    (folder / TRUTH).write_text(truth, encoding="utf-8")
    return ShopFiles(first=folder / FIRST, second=folder / SECOND, truth=folder / TRUTH)


def read_truth(path: Path) -> tuple[Planted, ...]:
    """Read what `write_shop` wrote about what it planted."""
    return tuple(Planted.model_validate_json(line) for line in path.read_text(encoding="utf-8").splitlines())


@dataclass(frozen=True, slots=True)
class _Maker:
    """Draws rows that are unlike all rows drawn before, and numbers them."""

    rng: random.Random
    seen: set[str]
    numbers: Iterator[int]

    def row(self, products: Sequence[Product]) -> Planned:
        """Draw one clean row."""
        return replace(clean(self.rng, products, self.seen), plant=next(self.numbers))

    def together(self, rows: Iterable[Planned]) -> list[Planned]:
        """Give rows one number."""
        number = next(self.numbers)
        return [replace(row, plant=number) for row in rows]


def _copies(
    rng: random.Random, plan: Plan, originals: list[Planned], products: Sequence[Product]
) -> list[Planned]:
    """Make copies and contradictions; each uses up one of the originals."""
    exact = [exact_copy(rng, originals.pop()) for _ in range(plan.exact)]
    near: list[Planned] = []
    while len(near) < plan.near:
        copy = near_copy(rng, originals.pop())
        near += [copy] if copy else []
    wrong = [contradict(rng, originals.pop(), products) for _ in range(plan.conflicts)]
    return exact + near + wrong


def _spoiled(maker: _Maker, plan: Plan, products: Sequence[Product]) -> list[Planned]:
    """Make junk, and rows that hold personal data or keys."""
    rng = maker.rng
    forms = [form for form, number in zip(JUNK, plan.junk, strict=True) for _ in range(number)]
    types = [kind for kind in PII_TYPES for _ in range(plan.pii_each)]
    return [
        *(junk(rng, maker.row(products), form) for form in forms),
        *(personal(rng, maker.row(products), kind) for kind in types),
        *(leaked(rng, maker.row(products)) for _ in range(plan.secrets)),
    ]


def _twins(maker: _Maker, plan: Plan, products: Sequence[Product]) -> list[Planned]:
    """Make sets of rows that no split may tear apart: alike prompts, and orders of one customer."""
    rng = maker.rng
    alike = [twin_prompts(rng, products, rng.randint(2, 3)) for _ in range(plan.twin_sets)]
    return [
        *(row for rows in alike for row in maker.together(rows)),
        *(row for _ in range(plan.customers) for row in _customer(maker, products, rng.randint(2, 5))),
    ]


def _customer(maker: _Maker, products: Sequence[Product], num_orders: int) -> list[Planned]:
    rows = maker.together(maker.row(products) for _ in range(num_orders))
    return twin_customer(rows, f"c{1000 + rows[0].plant}")


def _shared_twins(maker: _Maker) -> Iterator[list[Planned]]:
    """Yield sets that the first and the second file share."""
    for _ in range(SHARED_TWINS):
        yield maker.together(twin_prompts(maker.rng, ALL_YEAR, 2))
    for _ in range(SHARED_CUSTOMERS):
        yield _customer(maker, ALL_YEAR, maker.rng.randint(2, 4))


def _lay_out(rng: random.Random, rows: Mapping[str, list[Planned]]) -> Shop:
    """Give every row its line and its time, and write down what was planted where."""
    placed = {name: rng.sample(listed, len(listed)) for name, listed in rows.items()}
    originals: dict[int, Place] = {
        row.plant: (name, line)
        for name, listed in placed.items()
        for line, row in enumerate(listed, start=1)
        if row.kind is None
    }
    truth = tuple(
        Planted(
            file=name,
            line=line,
            kind=row.kind,
            detail=row.detail,
            plant=row.plant,
            of=originals.get(row.plant),
        )
        for name, listed in placed.items()
        for line, row in enumerate(listed, start=1)
        if row.kind
    )
    return Shop(lines={name: _lines(rng, name, listed) for name, listed in placed.items()}, truth=truth)


def _lines(rng: random.Random, name: str, rows: Sequence[Planned]) -> tuple[str, ...]:
    """Write rows as JSON lines whose times go up."""
    lines: list[str] = []
    now = _STARTS[name]
    for row in rows:
        now += timedelta(seconds=rng.randint(60, 12_000))
        text = json.dumps({**row.fields(), "time": now.isoformat()}, ensure_ascii=False)
        lines.append(text[: len(text) // 2] if row.detail == "broken_line" else text)
    return tuple(lines)
