"""Personal data and secrets: find, prove, then mask with typed tags or drop the row. Pure.

Counts and evidence carry types only, never a value. Names in free text are not found without a model: a
stated gap.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from re import Match, Pattern

from tunewright.curate.pii_patterns import (
    CARD_CONTEXT,
    CONTEXT_CHARS,
    GATE,
    NOT_PHONE_CONTEXT,
    PHONE_CONTEXT,
    PII_PATTERNS,
    SECRET_GATE,
    SECRET_PATTERNS,
    SSN_CONTEXT,
    VERSION_CONTEXT,
)
from tunewright.curate.pii_validators import (
    digits_of,
    iban_prefix,
    is_card_number,
    is_ip_address,
    is_random_looking,
    is_us_social_security_number,
    known_regions,
    phone_number,
)
from tunewright.curate.problem import Problem
from tunewright.errors import RecipeError
from tunewright.recipe import PiiRules
from tunewright.records import Message
from tunewright.values import Json


@dataclass(frozen=True, slots=True)
class Span:
    """One finding in a text."""

    start: int
    end: int
    type: str
    """Upper case, as it stands in the tag."""
    value: str
    """Normalised, so that two spellings of one value get one tag. Never leaves this module's callers."""


@dataclass(frozen=True, slots=True)
class Scanner:
    """The recipe's rules, checked and compiled."""

    rules: PiiRules
    patterns: Mapping[str, Pattern[str]]
    """The user's own types."""


@dataclass(frozen=True, slots=True)
class Masked:
    """What became of a row."""

    messages: tuple[Message, ...]
    """The same messages, with tags in place of what was masked."""
    counts: Mapping[str, int] = field(default_factory=dict[str, int])
    """Type -> values found, secrets as `secret`."""
    problem: Problem | None = None
    """Set when the rules say to drop the row."""


def make_scanner(rules: PiiRules) -> Scanner:
    """Check and compile the recipe's rules. Raises RecipeError, naming the type."""
    unknown = sorted(set(rules.types) - set(PII_PATTERNS))
    if unknown:
        raise RecipeError(
            f"data.pii.types: unknown type {unknown[0]!r}; expected some of {', '.join(PII_PATTERNS)}. "
            "Types of your own go to data.pii.patterns."
        )
    regions = sorted(set(rules.regions) - known_regions())
    if regions:
        raise RecipeError(
            f"data.pii.regions: unknown region {regions[0]!r}; expected ISO 3166 codes in "
            "capitals, such as US, GB, DE"
        )
    patterns: dict[str, Pattern[str]] = {}
    for name, pattern in rules.patterns.items():
        if not re.fullmatch(r"[A-Za-z][A-Za-z_]{0,30}", name):
            raise RecipeError(
                f"data.pii.patterns: {name!r} is no type name; expected letters and underscores"
            )
        try:
            patterns[name.upper()] = re.compile(pattern)
        except re.error as error:
            raise RecipeError(f"data.pii.patterns.{name}: not a regular expression ({error})") from error
    return Scanner(rules, patterns)


def find_spans(text: str, scanner: Scanner) -> list[Span]:
    """Find what the rules look for, without overlaps, by position; secrets win over all other types."""
    rules = scanner.rules
    found: list[Span] = []
    if rules.secrets != "off" and SECRET_GATE.search(text):
        found.extend(_secrets(text))
    if rules.action != "off":
        found.extend(_user_spans(text, scanner.patterns))
        if GATE.search(text):
            found.extend(_personal(text, rules))
    return _without_overlaps(found)


def mask_messages(messages: Sequence[Message], scanner: Scanner) -> Masked:
    """Mask or drop one row. Equal values get equal tags in every turn of the row."""
    spans = [find_spans(turn.content, scanner) for turn in messages]
    flat = [span for turn in spans for span in turn]
    if not flat:
        return Masked(tuple(messages))
    counts = dict(Counter(span.type for span in flat))
    dropped = {"SECRET": scanner.rules.secrets == "drop"}
    bad: dict[str, Json] = {
        kind.lower(): count
        for kind, count in sorted(counts.items())
        if dropped.get(kind, scanner.rules.action == "drop")
    }
    lowered = {kind.lower(): count for kind, count in counts.items()}
    if bad:
        reason = "secret" if "secret" in bad else "personal_data"
        return Masked(tuple(messages), lowered, Problem(reason, {"found": bad}))
    tags = _tags(messages, flat)
    masked = tuple(
        Message(role=turn.role, content=_replace(turn.content, found, tags))
        for turn, found in zip(messages, spans, strict=True)
    )
    return Masked(masked, lowered)


def _tags(messages: Sequence[Message], spans: Sequence[Span]) -> dict[tuple[str, str], str]:
    """Number the values of each type by appearance, above tags that the text itself holds already."""
    text = "\n".join(turn.content for turn in messages)
    used = Counter[str]()
    for kind, number in re.findall(r"<([A-Z][A-Z_]*)_(\d{1,6})>", text):
        used[kind] = max(used[kind], int(number))
    tags: dict[tuple[str, str], str] = {}
    for span in spans:
        if (span.type, span.value) not in tags:
            used[span.type] += 1
            tags[span.type, span.value] = f"<{span.type}_{used[span.type]}>"
    return tags


def _replace(text: str, spans: Sequence[Span], tags: Mapping[tuple[str, str], str]) -> str:
    parts: list[str] = []
    position = 0
    for span in spans:
        parts += [text[position : span.start], tags[span.type, span.value]]
        position = span.end
    return "".join((*parts, text[position:]))


def _without_overlaps(spans: Sequence[Span]) -> list[Span]:
    """Keep the first of overlapping spans in the order given, then sort by position."""
    kept: list[Span] = []
    for span in spans:
        if all(span.end <= other.start or span.start >= other.end for other in kept):
            kept.append(span)
    return sorted(kept, key=lambda span: span.start)


def _secrets(text: str) -> Iterator[Span]:
    for name, pattern in SECRET_PATTERNS.items():
        group = "value" if "value" in pattern.groupindex else 0
        for match in pattern.finditer(text):
            value = match.group(group)
            if name != "assigned_secret" or is_random_looking(value):
                yield Span(match.start(group), match.end(group), "SECRET", value)


def _user_spans(text: str, patterns: Mapping[str, Pattern[str]]) -> Iterator[Span]:
    for name, pattern in patterns.items():
        for match in pattern.finditer(text):
            if match.group():
                yield Span(match.start(), match.end(), name, match.group())


def _personal(text: str, rules: PiiRules) -> Iterator[Span]:
    for kind, find in FINDERS.items():
        if kind in rules.types:
            for match in PII_PATTERNS[kind].finditer(text):
                yield from find(match, rules)


def _before(match: Match[str]) -> str:
    return match.string[max(0, match.start() - CONTEXT_CHARS) : match.start()]


def _email(match: Match[str], rules: PiiRules) -> Iterator[Span]:
    text = match.group().strip("'.")
    start = match.start() + match.group().index(text)
    yield Span(start, start + len(text), "EMAIL", text.casefold())


def _iban(match: Match[str], rules: PiiRules) -> Iterator[Span]:
    found = iban_prefix(match.string[match.start() : match.end() + 1])
    if found:
        value = re.sub(r"\s", "", found).upper()
        yield Span(match.start(), match.start() + len(found), "IBAN", value)


def _credit_card(match: Match[str], rules: PiiRules) -> Iterator[Span]:
    if is_card_number(match.group(), has_context=bool(CARD_CONTEXT.search(_before(match)))):
        yield Span(match.start(), match.end(), "CREDIT_CARD", digits_of(match.group()))


def _ssn(match: Match[str], rules: PiiRules) -> Iterator[Span]:
    announced = match.group(1) == "-" or SSN_CONTEXT.search(_before(match))
    if announced and is_us_social_security_number(match.group()):
        yield Span(match.start(), match.end(), "SSN", digits_of(match.group()))


def _ip(match: Match[str], rules: PiiRules) -> Iterator[Span]:
    if is_ip_address(match.group()) and not VERSION_CONTEXT.search(_before(match)):
        yield Span(match.start(), match.end(), "IP", match.group().lower())


def _phone(match: Match[str], rules: PiiRules) -> Iterator[Span]:
    before = _before(match)
    has_context = bool(PHONE_CONTEXT.search(before))
    if not has_context and not match.group().startswith("+") and NOT_PHONE_CONTEXT.search(before):
        return
    found = phone_number(match.group(), rules.regions, has_context=has_context)
    if found:
        text, number = found
        yield Span(match.start(), match.start() + len(text), "PHONE", number)


FINDERS: dict[str, Callable[[Match[str], PiiRules], Iterator[Span]]] = {
    "email": _email,
    "iban": _iban,
    "credit_card": _credit_card,
    "ssn": _ssn,
    "ip": _ip,
    "phone": _phone,
}
"""Type -> what proves a candidate, strictest first: an earlier type wins where two overlap."""
