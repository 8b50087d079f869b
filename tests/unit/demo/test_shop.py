"""The demo's data: the same every time, as messy as it claims to be, and what was planted can be found."""

import ipaddress
import json
import random
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any  # JSON of every shape

import phonenumbers
import pytest
from tokenizers import Tokenizer

from tunewright.core.joins import near_pairs
from tunewright.core.text import canonical_text, content_id, signature
from tunewright.demo.shop import FIRST, SECOND, TRUTH, Shop, make_shop, read_truth, write_shop
from tunewright.demo.shop_private import credit_card, iban, ip, luhn_digit, phone, ssn
from tunewright.demo.shop_words import ALL_YEAR, OPTIONS, SPRING
from tunewright.demo.truth import KINDS, Place, Planted
from tunewright.records import Message

PRODUCTS = {product.name for product in ALL_YEAR + SPRING}
BASE = Path(__file__).parents[3] / "src" / "tunewright" / "demo" / "base"


@pytest.fixture(scope="module")
def shop() -> Shop:
    return make_shop()


@pytest.fixture(scope="module")
def rows(shop: Shop) -> dict[Place, dict[str, Any]]:
    """Every row that is JSON at all."""
    broken = {planted.place for planted in shop.truth if planted.detail == "broken_line"}
    return {
        (name, line): json.loads(text)
        for name, lines in shop.lines.items()
        for line, text in enumerate(lines, start=1)
        if (name, line) not in broken
    }


def planted(shop: Shop, kind: str) -> list[Planted]:
    return [row for row in shop.truth if row.kind == kind]


def said(row: dict[str, Any]) -> str:
    return row["messages"][0]["content"]


def messages(row: dict[str, Any]) -> list[Message]:
    return [Message(**turn) for turn in row["messages"]]


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    one, two = write_shop(tmp_path / "one"), write_shop(tmp_path / "two")
    assert one.first.read_bytes() == two.first.read_bytes()
    assert one.second.read_bytes() == two.second.read_bytes()
    assert one.truth.read_bytes() == two.truth.read_bytes()
    assert write_shop(tmp_path / "three", seed=1).first.read_bytes() != one.first.read_bytes()


def test_what_is_written_is_what_was_made(tmp_path: Path, shop: Shop) -> None:
    files = write_shop(tmp_path)
    assert tuple(files.first.read_text(encoding="utf-8").splitlines()) == shop.lines[FIRST]
    assert read_truth(files.truth) == shop.truth
    assert files.truth.name == TRUTH


def test_sizes_and_every_kind_are_there(shop: Shop) -> None:
    assert 680 <= len(shop.lines[FIRST]) <= 740
    assert 1_260 <= len(shop.lines[FIRST]) + len(shop.lines[SECOND]) <= 1_360
    counts = Counter((row.file, row.kind) for row in shop.truth)
    assert all(counts[name, kind] >= 10 for name in (FIRST, SECOND) for kind in KINDS)


def test_the_truth_never_stands_in_the_data(rows: dict[Place, dict[str, Any]]) -> None:
    assert {name for row in rows.values() for name in row} == {"messages", "channel", "customer", "time"}


def test_answers_are_orders_from_the_assortment(shop: Shop, rows: dict[Place, dict[str, Any]]) -> None:
    spoiled = {row.place for row in planted(shop, "junk")}
    for place, row in rows.items():
        if place not in spoiled:
            order = json.loads(row["messages"][-1]["content"])
            assert order["item"] in PRODUCTS
            assert 1 <= order["count"] <= 12
            assert order["options"] == sorted(order["options"], key=OPTIONS.index)


def test_times_go_up_and_channels_are_mixed(shop: Shop, rows: dict[Place, dict[str, Any]]) -> None:
    for name in shop.lines:
        times = [row["time"] for (file, _), row in rows.items() if file == name]
        assert times == sorted(times)
    shares = Counter(row["channel"] for row in rows.values())
    assert set(shares) == {"chat", "phone", "web"}
    assert min(shares.values()) > len(rows) / 6


def test_exact_duplicates_have_the_content_of_their_original(
    shop: Shop, rows: dict[Place, dict[str, Any]]
) -> None:
    for row in planted(shop, "exact_duplicate"):
        assert row.of
        assert content_id(messages(rows[row.place])) == content_id(messages(rows[row.of]))


def test_near_duplicates_have_equal_answers_and_other_prompts(
    shop: Shop, rows: dict[Place, dict[str, Any]]
) -> None:
    for row in planted(shop, "near_duplicate"):
        assert row.of
        copy, original = rows[row.place], rows[row.of]
        assert copy["messages"][1] == original["messages"][1]
        assert canonical_text(said(copy)) != canonical_text(said(original))


def test_conflicts_have_equal_prompts_and_other_answers(
    shop: Shop, rows: dict[Place, dict[str, Any]]
) -> None:
    for row in planted(shop, "conflict"):
        assert row.of
        copy, original = rows[row.place], rows[row.of]
        assert copy["messages"][0] == original["messages"][0]
        assert copy["messages"][1] != original["messages"][1]


def test_near_pairs_are_the_planted_ones_and_no_others(shop: Shop, rows: dict[Place, dict[str, Any]]) -> None:
    truth = {row.place: row for row in shop.truth}
    places = [place for place in rows if place not in truth or truth[place].kind != "junk"]
    pairs = near_pairs([signature(said(rows[place])) for place in places], 0.8)
    found = {frozenset((places[pair.a], places[pair.b])) for pair in pairs}
    copies = {
        frozenset((row.place, row.of))
        for row in shop.truth
        if row.of and row.kind in {"exact_duplicate", "near_duplicate", "conflict"}
    }
    assert copies <= found
    by_plant = {place: row.plant for place, row in truth.items() if row.kind == "twin"}
    others = [pair for pair in found - copies if len({by_plant.get(place, 0) for place in pair}) > 1]
    assert not others


def test_twins_are_alike_or_of_one_customer(shop: Shop, rows: dict[Place, dict[str, Any]]) -> None:
    sets: defaultdict[int, list[Planted]] = defaultdict(list)
    for row in planted(shop, "twin"):
        sets[row.plant].append(row)
    for members in sets.values():
        assert len(members) > 1
        customers = {rows[row.place].get("customer") for row in members}
        answers = {rows[row.place]["messages"][1]["content"] for row in members}
        if members[0].detail == "customer":
            assert len(customers) == 1
            assert customers != {None}
        else:
            assert len(answers) == len(members)
    shared = [m for m in sets.values() if {row.file for row in m} == {FIRST, SECOND}]
    assert len(shared) >= 15


def test_customers_are_planted_twins_only(shop: Shop, rows: dict[Place, dict[str, Any]]) -> None:
    twins = {row.place for row in planted(shop, "twin") if row.detail == "customer"}
    assert {place for place, row in rows.items() if "customer" in row} == twins


def test_spring_products_stand_in_the_second_file_only(rows: dict[Place, dict[str, Any]]) -> None:
    spring = {product.name for product in SPRING}
    seen: defaultdict[str, set[str]] = defaultdict(set)
    for (name, _), row in rows.items():
        for item in spring:
            if f'"item": "{item}"' in row["messages"][-1]["content"]:
                seen[name].add(item)
    assert seen == {SECOND: spring}


def test_made_up_personal_data_passes_its_validators() -> None:
    rng = random.Random(3)
    for _ in range(200):
        digits = credit_card(rng).replace(" ", "")
        assert int(digits[-1]) == luhn_digit(digits[:-1])
        code = iban(rng).replace(" ", "")
        assert int("".join(str(int(char, 36)) for char in code[4:] + code[:4])) % 97 == 1
        assert phonenumbers.is_valid_number(phonenumbers.parse(phone(rng), "US"))
        area, group, serial = ssn(rng).split("-")
        assert area not in {"000", "666"} and group != "00" and serial != "0000"
        assert not ipaddress.ip_address(ip(rng)).is_global


@pytest.mark.parametrize(("digits", "check"), [("7992739871", 3), ("411111111111111", 1)])
def test_the_luhn_digit_is_that_of_known_numbers(digits: str, check: int) -> None:
    assert luhn_digit(digits) == check


def test_an_epoch_stays_within_the_token_budget(rows: dict[Place, dict[str, Any]]) -> None:
    tokenizer = Tokenizer.from_file(str(BASE / "tokenizer.json"))
    lengths = [
        sum(
            len(tokenizer.encode(turn["content"], add_special_tokens=False).ids) + 2
            for turn in row["messages"]
        )
        for row in rows.values()
    ]
    assert sum(lengths) / len(lengths) < 56
