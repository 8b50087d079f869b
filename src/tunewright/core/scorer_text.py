"""Scorers that compare texts: exact, normalised, contains, regular expression, numeric, token F1."""

import re
import string
import unicodedata
from collections import Counter

from pydantic import Field, field_validator

from tunewright.core.scorer_base import Answer, NoSettings, TextForm, Traits, always, scorer
from tunewright.records import Example, Record

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_GROUPED = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_POINT_OR_SIGN = re.compile(r"(?<=\d)\.(?=\d)|(?<![\w.])-(?=\.?\d)")
_BETWEEN_DIGITS = re.compile(r"(?<=\d)[^\w\s.](?=\d)")
_NUMBER = re.compile(r"(?<![\w.])[-+]?(?:\d+(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?")
_CURRENCY = re.compile(r"[$€£¥]")
_SQUAD_PUNCTUATION = frozenset(string.punctuation)


class ContainsSettings(TextForm):
    """What must occur in the answer."""

    text: str | None = Field(default=None, min_length=1)
    """Fixed text to look for; the reference answer when absent."""


class RegexSettings(Record):
    """A pattern the answer must match."""

    pattern: str
    full: bool = False
    """The whole answer must match, not just a part."""
    ignore_case: bool = False

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from error
        return pattern


class NumericSettings(Record):
    """How close two numbers must be: |a - b| <= max(absolute, relative x |reference|)."""

    absolute: float = Field(default=1e-6, ge=0)
    relative: float = Field(default=0.0, ge=0)


def fold_text(text: str, *, case_sensitive: bool = False) -> str:
    """Fold white space and Unicode form, and case unless told otherwise."""
    folded = " ".join(unicodedata.normalize("NFKC", text).split())
    return folded if case_sensitive else folded.casefold()


def normalise(text: str) -> str:
    """Fold case, punctuation, articles and white space; numbers keep their sign and decimal point.

    A text of nothing but articles and punctuation is folded by case and white space only, so that it does
    not equal the empty answer.
    """
    folded = fold_text(text)
    plain = _GROUPED.sub("", folded)
    spaced = _BETWEEN_DIGITS.sub(" ", plain)
    kept = {match.start() for match in _POINT_OR_SIGN.finditer(spaced)}
    letters = (char for index, char in enumerate(spaced) if index in kept or not _is_punctuation(char))
    short = " ".join(_ARTICLES.sub(" ", "".join(letters)).split())
    return short or folded


def last_number(text: str) -> float | None:
    """Find the last number of a text; thousands separators and currency signs are read over."""
    plain = _CURRENCY.sub(" ", _GROUPED.sub("", unicodedata.normalize("NFKC", text)))
    numbers = _NUMBER.findall(plain)
    return float(numbers[-1]) if numbers else None


def squad_tokens(text: str) -> list[str]:
    """Split as the SQuAD evaluation does: lower case, without ASCII punctuation and articles.

    Source: Rajpurkar et al. (2016), SQuAD, the official evaluation script v1.1.
    """
    plain = "".join(char for char in text.lower() if char not in _SQUAD_PUNCTUATION)
    return _ARTICLES.sub(" ", plain).split()


def bag_f1(predicted: Counter[str], expected: Counter[str]) -> float:
    """Compute F1 of two multisets; two empty ones agree."""
    if not predicted and not expected:
        return 1.0
    shared = (predicted & expected).total()
    return 2 * shared / (predicted.total() + expected.total())


@scorer(Traits("binary"), NoSettings)
def exact_match(answer: Answer, example: Example, settings: NoSettings) -> bool:
    """Equal word for word; only white space at both ends is dropped."""
    return answer.text.strip() == example.answer.strip()


@scorer(Traits("binary"), NoSettings)
def normalised_match(answer: Answer, example: Example, settings: NoSettings) -> bool:
    """Equal after case, punctuation, articles and white space are folded."""
    return normalise(answer.text) == normalise(example.answer)


def _has_text(settings: ContainsSettings) -> bool:
    return settings.text is not None


@scorer(Traits("binary"), ContainsSettings, scores_alone=_has_text)
def contains(answer: Answer, example: Example, settings: ContainsSettings) -> bool:
    """The answer holds the reference, or a fixed text."""
    wanted = settings.text if settings.text is not None else example.answer
    return fold_text(wanted, case_sensitive=settings.case_sensitive) in fold_text(
        answer.text, case_sensitive=settings.case_sensitive
    )


@scorer(Traits("binary"), RegexSettings, scores_alone=always)
def regex(answer: Answer, example: Example, settings: RegexSettings) -> bool:
    """The answer, without white space at both ends, matches a pattern."""
    pattern = re.compile(settings.pattern, re.IGNORECASE if settings.ignore_case else 0)
    text = answer.text.strip()
    return bool(pattern.fullmatch(text) if settings.full else pattern.search(text))


def _has_number(example: Example, settings: NumericSettings) -> bool:
    return last_number(example.answer) is not None


@scorer(Traits("binary"), NumericSettings, usable=_has_number)
def numeric(answer: Answer, example: Example, settings: NumericSettings) -> bool:
    """The last number of the answer is close to the last number of the reference."""
    given, wanted = last_number(answer.text), last_number(example.answer)
    if given is None or wanted is None:
        return False
    return abs(given - wanted) <= max(settings.absolute, settings.relative * abs(wanted))


@scorer(Traits("graded"), NoSettings)
def token_f1(answer: Answer, example: Example, settings: NoSettings) -> float:
    """F1 of the words shared with the reference, as in SQuAD."""
    return bag_f1(Counter(squad_tokens(answer.text)), Counter(squad_tokens(example.answer)))


def _is_punctuation(char: str) -> bool:
    return unicodedata.category(char)[0] == "P" or char in _SQUAD_PUNCTUATION
