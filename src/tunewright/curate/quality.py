"""Quality rules for chat: each a pure function of one example that answers with a reason or None.

Made for terse answers as well: a JSON order, an intent label or one word passes every default rule. Web-page
rules (at least 50 words, say) would drop most chat turns and are not here.
"""

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

from tunewright.curate.problem import Problem
from tunewright.recipe import QualityRules
from tunewright.records import Example

REPETITION_MIN_WORDS = 20
SYMBOLS_MIN_CHARS = 20
"""Shorter user turns may be all symbols: a smiley, "???", a price."""
LANGUAGE_MIN_CHARS = 20
"""Shorter texts cannot be told apart reliably."""
REFUSAL_WINDOW_CHARS = 250
"""A refusal stands at the beginning of an answer."""
PROSE_MIN_WORDS = 12

_CANNOT = r"i (?:cannot|can['’]t|can not|am unable to|am not able to|won['’]t|will not)"
_SORRY = r"(?:(?:i['’]m|i am) (?:very |so )?sorry,? (?:but )?|i apologi[sz]e,? (?:but )?|sorry,? (?:but )?)?"
_REFUSALS = re.compile(
    "|".join(
        (
            r"\bas an? (?:ai|artificial intelligence) (?:language )?(?:model|assistant)\b",
            r"\bas an? (?:ai|(?:large )?language model)(?= ?,| developed| created| trained)",
            r"\bi(?:['’]m| am) (?:just |only )?an? (?:ai|large language|language) (?:assistant|model)\b",
            rf"^{_SORRY}{_CANNOT} (?:assist|help|comply|fulfil|fulfill|answer|respond|engage)(?: you)?"
            r"(?: (?:with|to|in))? (?:that|this|your request|it)\b",
            rf"^{_SORRY}{_CANNOT} (?:assist|help|comply|answer|respond)\s*[.!]",
            rf"\b{_CANNOT} (?:provide|satisfy|fulfil|fulfill|encourage|promote|suggest|offer|engage|create)\b"
            r".{0,200}\b(?:ethical|unethical|appropriate|inappropriate|illegal|harmful|discriminatory|violence)\b",
        )
    ),
    re.IGNORECASE | re.DOTALL,
)
_STRINGS = re.compile(r'"(?:[^"\\]|\\.)*"')
_DANGLING = re.compile(r"\b(?:the|an?|of|and|or|but|because|which|with|than|if|its|their|our|your|my)$", re.I)
_SYMBOL = re.compile(r"[^\w\s]")


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule with what switches it on."""

    name: str
    check: Callable[[Example, QualityRules], Problem | None]


def check_quality(example: Example, rules: QualityRules) -> Problem | None:
    """Apply every rule in order and answer with the first problem."""
    for rule in RULES:
        problem = rule.check(example, rules)
        if problem:
            return problem
    return None


def answer_too_short(example: Example, rules: QualityRules) -> Problem | None:
    """Answers need `min_answer_chars` characters."""
    length = len(example.answer)
    if rules.min_answer_chars is None or length >= rules.min_answer_chars:
        return None
    return Problem("answer_too_short", {"chars": length, "limit": rules.min_answer_chars})


def too_long(example: Example, rules: QualityRules) -> Problem | None:
    """All turns together may have `max_chars` characters."""
    length = sum(len(turn.content) for turn in example.messages)
    if rules.max_chars is None or length <= rules.max_chars:
        return None
    return Problem("too_long", {"chars": length, "limit": rules.max_chars})


def repetition(example: Example, rules: QualityRules) -> Problem | None:
    """No turn of 20 words and more may repeat more than `max_repetition` of its word 4-grams."""
    if rules.max_repetition is None:
        return None
    for turn in example.messages:
        share = repeated_share(turn.content)
        if share > rules.max_repetition:
            return Problem("repetition", {"share": round(share, 3), "limit": rules.max_repetition})
    return None


def repeated_share(text: str) -> float:
    """Share of a text's word 4-grams that stood before; 0.0 below 20 words."""
    words = text.split()
    if len(words) < REPETITION_MIN_WORDS:
        return 0.0
    grams = list(zip(words, words[1:], words[2:], words[3:], strict=False))
    return 1 - len(set(grams)) / len(grams)


def symbols(example: Example, rules: QualityRules) -> Problem | None:
    """User turns of 20 characters and more must be mostly letters, digits and spaces, of any script."""
    if rules.max_symbol_ratio is None:
        return None
    for turn in example.messages:
        if turn.role == "user" and len(turn.content) >= SYMBOLS_MIN_CHARS:
            share = symbol_share(turn.content)
            if share > rules.max_symbol_ratio:
                return Problem("symbols", {"share": round(share, 3), "limit": rules.max_symbol_ratio})
    return None


def symbol_share(text: str) -> float:
    """Share of characters that are neither letters, digits nor spaces; vowel signs count as letters."""
    found = [char for char in _SYMBOL.findall(text) if not unicodedata.category(char).startswith("M")]
    return len(found) / len(text)


def refusal(example: Example, rules: QualityRules) -> Problem | None:
    """Answers that refuse as an assistant would, or speak as "an AI language model", teach refusing."""
    if rules.refusals and _REFUSALS.search(example.answer[:REFUSAL_WINDOW_CHARS]):
        return Problem("refusal")
    return None


def truncated(example: Example, rules: QualityRules) -> Problem | None:
    """Answers must not stop in a code fence, in JSON, in a hyphenated word or at an article."""
    if not rules.truncated:
        return None
    answer = example.answer.rstrip()
    if answer.count("```") % 2:
        return Problem("truncated", {"sign": "unclosed_code_fence"})
    if answer[:1] in ("{", "[") and _is_unclosed_json(answer):
        return Problem("truncated", {"sign": "unclosed_json"})
    if len(answer.split()) < PROSE_MIN_WORDS:
        return None
    if re.search(r"[^\W\d_]-$", answer):
        return Problem("truncated", {"sign": "ends_mid_word"})
    if _DANGLING.search(answer):
        return Problem("truncated", {"sign": "ends_mid_sentence"})
    return None


def _is_unclosed_json(answer: str) -> bool:
    """Say whether text that begins like JSON has more opening than closing brackets outside strings."""
    if not re.match(r'[\[{]\s*(?:["{\[\]}]|-?\d|true|false|null)', answer):
        return False
    bare = _STRINGS.sub("", answer)
    opened = bare.count("{") + bare.count("[") - bare.count("}") - bare.count("]")
    return opened > 0 or '"' in bare


def length_ratio(example: Example, rules: QualityRules) -> Problem | None:
    """Answers may be `max_length_ratio` times as long as their prompt, in characters."""
    if rules.max_length_ratio is None:
        return None
    ratio = len(example.answer) / max(1, sum(len(turn.content) for turn in example.prompt))
    if ratio <= rules.max_length_ratio:
        return None
    return Problem("length_ratio", {"ratio": round(ratio, 3), "limit": rules.max_length_ratio})


def check_language(
    example: Example, languages: tuple[str, ...], identify: Callable[[str], str]
) -> Problem | None:
    """User text must be in one of the languages; short text passes.

    Args:
        example: the row.
        languages: ISO 639-1 codes to keep.
        identify: tells the language of a text.
    """
    text = "\n".join(turn.content for turn in example.messages if turn.role == "user")
    if len(text) < LANGUAGE_MIN_CHARS:
        return None
    found = identify(text)
    return None if found in languages else Problem("language", {"found": found})


RULES: tuple[Rule, ...] = (
    Rule("min_answer_chars", answer_too_short),
    Rule("max_chars", too_long),
    Rule("max_repetition", repetition),
    Rule("max_symbol_ratio", symbols),
    Rule("refusals", refusal),
    Rule("truncated", truncated),
    Rule("max_length_ratio", length_ratio),
)
"""Every rule, in the order applied, named after the recipe's key."""
