"""Each rule trips on the smallest text that should trip it, and spares terse, honest rows."""

import json
import os
from collections import Counter
from pathlib import Path

import pytest

from tunewright.curate.quality import check_language, check_quality, repeated_share, symbol_share
from tunewright.recipe import QualityRules
from tunewright.records import Example, Message, Source

DATA = os.environ.get("TUNEWRIGHT_DATA")
OFF = dict(
    min_answer_chars=None,
    max_chars=None,
    max_repetition=None,
    max_symbol_ratio=None,
    refusals=False,
    truncated=False,
)


def row(prompt: str, answer: str) -> Example:
    return Example(
        id="0" * 64,
        messages=(Message(role="user", content=prompt), Message(role="assistant", content=answer)),
        source=Source(digest="0" * 64, path="a", line=1),
    )


def found(prompt: str, answer: str, **rules) -> str | None:
    problem = check_quality(row(prompt, answer), QualityRules(**rules))
    return problem and problem.reason


@pytest.mark.parametrize(
    ("prompt", "answer"),
    [
        ("one mocha pls", '{"item": "Mocha"}'),
        ("what's in a cold brew?", '{"item": "Cold Brew", "addons": [], "notes": "\\"extra\\" hot {"}'),
        ("my card is lost", "lost_or_stolen_card"),
        ("???", "0"),
        ("👍👍👍", "ok"),
        ("yes", "[1, 2]"),
        (
            "Where is it?",
            "I'm sorry, but I can't cancel an order that has shipped already.",
        ),
        ("Do you ship?", "I cannot ship to PO boxes, but a pick-up point works."),
        ("Who makes it?", "Acme is known as an AI company and sells robots."),
        ("smile", "[hello] to you {name}"),
        ("fence?", "```\ncode\n```"),
        ("write it in Hindi", "यह एक परीक्षण वाक्य है जो बिल्कुल ठीक है"),
    ],
)
def test_terse_and_honest_rows_pass_every_default_rule(prompt: str, answer: str):
    assert found(prompt, answer) is None


@pytest.mark.parametrize(
    ("prompt", "answer", "reason"),
    [
        ("hi", "x" * 20_001, "too_long"),
        ("hi", "buy now and save big " * 10, "repetition"),
        ("buy now and save big " * 10, "no", "repetition"),
        ("<<<>>>###$$$%%%^^^&&&***", "no", "symbols"),
        ("hi", "As an AI language model, I have no opinion on soup.", "refusal"),
        ("hi", "I'm sorry, but I can't assist with that.", "refusal"),
        ("hi", "I’m unable to say. I'm just an AI assistant.", "refusal"),
        ("hi", "I cannot provide that, since it would be unethical.", "refusal"),
        ("hi", "Here you go:\n```python\nprint(1)", "truncated"),
        ("hi", '{"item": "Mocha", "addons": [', "truncated"),
        ("hi", '{"item": "Moc', "truncated"),
        ("hi", "You can send the parcel back within thirty days if it is unop-", "truncated"),
        ("hi", "You can send the parcel back within thirty days as long as the", "truncated"),
    ],
)
def test_each_rule_trips_on_what_it_is_for(prompt: str, answer: str, reason: str):
    assert found(prompt, answer) == reason
    assert found(prompt, answer, **OFF) is None


def test_limits_come_from_the_recipe():
    assert found("hi", "ok", min_answer_chars=3) == "answer_too_short"
    assert found("hi", "ok" * 50, max_length_ratio=10) == "length_ratio"
    assert found("hi", "ok" * 10, max_length_ratio=10) is None


def test_a_problem_carries_numbers_and_no_text():
    problem = check_quality(row("hi", "my secret " * 40), QualityRules())
    assert problem is not None
    assert problem.evidence == {"share": 0.974, "limit": 0.5}


def test_repetition_needs_twenty_words():
    assert repeated_share("a b c d " * 4) == 0.0
    assert repeated_share("a b c d " * 5) > 0.5


def test_vowel_signs_are_letters_and_emoji_are_symbols():
    assert symbol_share("हिन्दी") == 0.0
    assert symbol_share("👍👍") == 1.0


def test_the_language_rule_spares_short_text():
    calls: list[str] = []

    def always_german(text: str) -> str:
        calls.append(text)
        return "de"

    assert check_language(row("ja", "nein"), ("en",), always_german) is None
    assert not calls
    problem = check_language(row("ein langer Satz über Kaffee", "ja"), ("en",), always_german)
    assert problem is not None
    assert (problem.reason, problem.evidence) == ("language", {"found": "de"})


@pytest.mark.skipif(not DATA, reason="TUNEWRIGHT_DATA is not set: public data are absent")
def test_no_real_coffee_order_is_rejected():
    reasons: Counter[str] = Counter()
    with (Path(str(DATA)) / "coffee" / "orders.jsonl").open() as handle:
        for line in handle:
            turns = [turn["content"] for turn in json.loads(line)["messages"]]
            reasons[found(*turns) or "kept"] += 1
    assert set(reasons) == {"kept"}


@pytest.mark.skipif(not DATA, reason="TUNEWRIGHT_DATA is not set: public data are absent")
def test_human_judged_refusals_are_found_and_compliance_is_kept():
    import csv

    counts: Counter[tuple[str, bool]] = Counter()
    for name in ("gpt4_gpteval", "llama2orig_gpteval"):
        with (Path(str(DATA)) / "xstest" / f"{name}.csv").open(newline="") as handle:
            for line in csv.DictReader(handle):
                reason = found(line["prompt"], line["completion"].strip(), truncated=False)
                counts[line["final_label"], reason == "refusal"] += 1
    assert counts["2_full_refusal", True] / (505) > 0.8
    assert counts["1_full_compliance", True] / (counts["1_full_compliance", False]) < 0.06
