"""Personal data is found, proven, masked the same way everywhere in a row, and never leaves in the open."""

import itertools
import json
import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunewright.curate.pii import find_spans, make_scanner, mask_messages
from tunewright.curate.pii_validators import (
    has_luhn_checksum,
    is_card_number,
    is_iban,
    is_ip_address,
    is_us_social_security_number,
    phone_number,
)
from tunewright.errors import RecipeError
from tunewright.recipe import PiiRules
from tunewright.records import Message

DATA = os.environ.get("TUNEWRIGHT_DATA")
DEFAULT = make_scanner(PiiRules())
needs_data = pytest.mark.skipif(not DATA, reason="TUNEWRIGHT_DATA is not set: public data are absent")


def masked(text: str, rules: PiiRules | None = None) -> str:
    scanner = make_scanner(rules or PiiRules(secrets="mask"))
    return mask_messages([Message(role="user", content=text)], scanner).messages[0].content


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("write to bob.o'neil+x@mail.example.co.uk.", "write to <EMAIL_1>."),
        ("'müller@straße.de'", "'<EMAIL_1>'"),
        ("card 4111 1111 1111 1111 exp 12/27", "card <CREDIT_CARD_1> exp 12/27"),
        ("378282246310005", "<CREDIT_CARD_1>"),
        ("IBAN DE89 3704 0044 0532 0130 00 please", "IBAN <IBAN_1> please"),
        ("gb82west12345698765432", "<IBAN_1>"),
        ("my ssn is 536-90-4399", "my ssn is <SSN_1>"),
        ("social security 536904399", "social security <SSN_1>"),
        ("from 192.168.0.17 to 2001:db8::ff00:42:8329", "from <IP_1> to <IP_2>"),
        ("call (212) 555-2368 now", "call <PHONE_1> now"),
        ("call +1 212-555-2368 2 times", "call <PHONE_1> 2 times"),
        ("+49 30 901820", "<PHONE_1>"),
        ("Tel. 01 42 68 53 00", "Tel. <PHONE_1>"),
        ("my phone number is 2125552368", "my phone number is <PHONE_1>"),
        ("ring 020 7946 0958 ext. 12", "ring <PHONE_1>"),
    ],
)
def test_personal_data_is_masked(text: str, expected: str):
    assert masked(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "order 2125552368",
        "order number: 112-2355-2368",
        "tracking 9400 1000 0000 0000 0000 00",
        "it was $1,299.00 and 3.14159265",
        "on 2024-01-15 10:30:45 or 12/31/2024",
        "from 1990-2005",
        "4111 1111 1111 1112",
        "serial 0000 0000 0000 0000",
        "DE89 3704 0044 0532 0130 01",
        "000-12-3456 and 666-12-3456 and 987-65-4321",
        "order 536-90-43990",
        "version 1.2.3.4 and 300.1.1.1",
        "std::vector and a::b at 12:30:45",
        "100-50-30-15 = 5",
        "population 12 345 678",
        "at 17151 2450 Crown St",
        "two @ three @home",
        "<EMAIL_1> and <PHONE_2>",
        '{"item": "Mocha", "quantity": 1, "sku": 884412345678}',
    ],
)
def test_what_only_looks_like_personal_data_stays(text: str):
    assert masked(text) == text


def test_equal_values_get_equal_tags_across_turns_and_spellings():
    turns = [
        Message(role="user", content="I am Bob@X.com, call +1 212-555-2368; not ann@x.com"),
        Message(role="assistant", content='{"mail": "bob@x.com", "phone": "(212) 555-2368"}'),
    ]
    done = mask_messages(turns, DEFAULT)
    assert done.messages[0].content == "I am <EMAIL_1>, call <PHONE_1>; not <EMAIL_2>"
    assert json.loads(done.messages[1].content) == {"mail": "<EMAIL_1>", "phone": "<PHONE_1>"}
    assert done.counts == {"email": 3, "phone": 2}


def test_tags_that_stand_in_the_text_already_are_not_reused():
    assert masked("<EMAIL_1> wrote to a@b.com") == "<EMAIL_1> wrote to <EMAIL_2>"


SECRETS = {
    "aws": "AKIA" + "IOSFODNN7EXAMPLE",
    "aws secret": "aws_secret_access_key = " + "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    "github": "ghp_" + "a1B2" * 9,
    "slack": "xoxb-" + "123456789012-abcdefABCDEF",
    "openai": "sk-" + "proj-" + "Ab3" * 10,
    "google": "AIza" + "Sy" + "A1b2C" * 6 + "x9z",
    "stripe": "sk_live_" + "4eC39HqLyjWDarjtT1zdp7dc",
    "jwt": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9",
    "key block": "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\n-----END RSA PRIVATE KEY-----",
    "cut key block": "-----BEGIN PRIVATE KEY-----\nMIIEowAB",
    "url": "postgres://admin:s3cr3tpw@db.example.com/x",
    "assigned": 'api_key="9f8e7d6c5b4a39281706f5e4"',
}


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_drops_the_row_by_default_and_is_never_repeated(name: str):
    done = mask_messages([Message(role="user", content=f"here: {SECRETS[name]} bye")], DEFAULT)
    assert done.problem is not None
    assert done.problem.reason == "secret"
    assert done.problem.evidence == {"found": {"secret": 1}}


def test_secrets_can_be_masked_or_left():
    text = f"key {SECRETS['github']}"
    assert masked(text, PiiRules(secrets="mask")) == "key <SECRET_1>"
    assert masked(text, PiiRules(secrets="off")) == text


@pytest.mark.parametrize(
    "text",
    [
        "the token is missing",
        "password: <password>",
        "api_key = YOUR_API_KEY_HERE",
        "a secret ingredient",
        "ask-me",
    ],
)
def test_talk_about_secrets_is_no_secret(text: str):
    assert find_spans(text, DEFAULT) == []


def test_rows_with_personal_data_can_be_dropped_counting_types_only():
    scanner = make_scanner(PiiRules(action="drop"))
    done = mask_messages([Message(role="user", content="a@b.com and c@d.com")], scanner)
    assert done.problem is not None
    assert (done.problem.reason, done.problem.evidence) == ("personal_data", {"found": {"email": 2}})


def test_off_and_types_are_obeyed():
    text = "a@b.com 192.168.0.17"
    assert masked(text, PiiRules(action="off")) == text
    assert masked(text, PiiRules(types=("ip",))) == "a@b.com <IP_1>"


def test_user_patterns_become_types_of_their_own():
    rules = PiiRules(patterns={"customer": r"C-\d{6}"})
    assert masked("I am C-123456, not C-654321", rules) == "I am <CUSTOMER_1>, not <CUSTOMER_2>"


def test_wrong_rules_name_the_key():
    with pytest.raises(RecipeError, match=r"data\.pii\.types: unknown type 'mail'"):
        make_scanner(PiiRules(types=("mail",)))
    with pytest.raises(RecipeError, match=r"data\.pii\.patterns\.x: not a regular expression"):
        make_scanner(PiiRules(patterns={"x": "("}))


@given(st.integers(min_value=0, max_value=10**14))
def test_one_wrong_digit_breaks_the_luhn_sum(number: int):
    digits = str(number)
    check = next(str(d) for d in range(10) if has_luhn_checksum(digits + str(d)))
    assert not has_luhn_checksum(digits + str((int(check) + 1) % 10))


@given(st.text(max_size=200))
def test_masking_never_fails_and_keeps_what_it_does_not_find(text: str):
    spans = find_spans(text, DEFAULT)
    assert all(a.end <= b.start for a, b in itertools.pairwise(spans))
    if not spans:
        assert masked(text) == text


@pytest.mark.parametrize(
    "char", ["a", "1", "1 ", "-", "@", "a@", "a.", ":", "1.", "(1", "key=", "sk-", "eyJ.", "A0 "]
)
def test_long_runs_do_not_make_matching_slow(char: str):
    start = time.perf_counter()
    find_spans(char * 4000, DEFAULT)
    assert time.perf_counter() - start < 2


def test_validators_know_their_ranges():
    assert is_card_number("5555555555554444", has_context=False)
    assert not is_card_number("5555555555554445", has_context=True)
    assert not is_card_number("9999990000000007", has_context=False)
    assert is_iban("FR14 2004 1010 0505 0001 3M02 606")
    assert not is_iban("XX14 2004 1010 0505 0001 3M02 606")
    assert not is_us_social_security_number("123-45-6789")
    assert is_ip_address("fe80::1ff:fe23:4567:890a")
    assert not is_ip_address("a::b")
    assert phone_number("030 901820", ("DE",), has_context=False) == ("030 901820", "+4930901820")
    assert phone_number("2125552368", ("US",), has_context=False) is None


@needs_data
def test_recall_and_precision_on_labelled_synthetic_people():
    kinds = {"EMAIL_ADDRESS": "EMAIL", "IBAN_CODE": "IBAN", "CREDIT_CARD": "CREDIT_CARD", "US_SSN": "SSN",
             "IP_ADDRESS": "IP", "PHONE_NUMBER": "PHONE"}  # fmt: skip
    documents = json.loads((Path(str(DATA)) / "pii" / "synth_dataset_v2.json").read_text())
    hits, total, false = dict.fromkeys(kinds, 0), dict.fromkeys(kinds, 0), 0
    for document in documents:
        spans = find_spans(document["full_text"], DEFAULT)
        truth = document["spans"]
        for one in (one for one in truth if one["entity_type"] in kinds):
            total[one["entity_type"]] += 1
            hits[one["entity_type"]] += any(
                span.type == kinds[one["entity_type"]]
                and span.start <= one["start_position"]
                and span.end >= one["end_position"]
                for span in spans
            )
        false += sum(
            not any(
                span.start < one["end_position"] and span.end > one["start_position"] for one in truth
                if kinds.get(one["entity_type"]) == span.type
            )
            for span in spans
        )  # fmt: skip
    recall = {kind: hits[kind] / total[kind] for kind in kinds}
    assert recall.pop("PHONE_NUMBER") >= 0.85
    assert set(recall.values()) == {1.0}
    assert false == 0


@needs_data
def test_nothing_in_real_coffee_orders_is_masked():
    with (Path(str(DATA)) / "coffee" / "orders.jsonl").open() as handle:
        texts = [turn["content"] for line in handle for turn in json.loads(line)["messages"]]
    assert sum(bool(find_spans(text, DEFAULT)) for text in texts) == 0
