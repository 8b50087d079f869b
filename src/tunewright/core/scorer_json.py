"""Scorers for JSON answers: valid, valid by a schema, one field, equality, key-level F1.

JSON is read strictly (no NaN, nothing around it); `extract` reads over a code fence or text around the first
object. Numbers are compared by value (1 equals 1.0), true never equals 1.
"""

# jsonschema's validator protocol is partly untyped.
# pyright: reportUnknownMemberType=false

import json
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError
from pydantic import Field, field_validator

from tunewright.core.scorer_base import Answer, Traits, always, scorer
from tunewright.core.scorer_text import bag_f1
from tunewright.records import Example, Record
from tunewright.values import Json

MAX_DEPTH = 64
"""Deeper nesting counts as not JSON: a model that repeats `[` must not exhaust the stack."""


@dataclass(frozen=True, slots=True)
class Parsed:
    """A text that was JSON."""

    value: Json
    end: int = 0
    """Characters read."""


class JsonSettings(Record):
    """How JSON is found in an answer."""

    extract: bool = False
    """Take the first JSON object of the answer instead of the whole answer."""


class JsonSchemaSettings(JsonSettings):
    """What a valid answer looks like."""

    schema_: dict[str, Json] = Field(alias="schema")
    """JSON Schema, draft 2020-12; references must stay inside it."""

    @field_validator("schema_")
    @classmethod
    def _is_schema(cls, schema: dict[str, Json]) -> dict[str, Json]:
        try:
            Draft202012Validator.check_schema(schema)
        except SchemaError as error:
            raise ValueError(f"not a JSON Schema: {error.message}") from error
        unresolved = [ref for ref in _references(schema) if not _resolves(schema, ref)]
        if unresolved:
            raise ValueError(f"$ref {unresolved[0]!r} does not point into the schema itself")
        return schema


class JsonFieldSettings(JsonSettings):
    """Which field to compare, and how."""

    path: str = Field(min_length=1)
    """Keys joined by dots, such as `item` or `lines.0.size`; a number is a place in a list."""
    normalise: bool = True
    """Fold case and white space of strings, and compare lists as sorted sets."""


class JsonEqualSettings(JsonSettings):
    """When two JSON values count as equal."""

    normalise: bool = True
    """Fold case and white space of strings."""
    sets: tuple[str, ...] = ()
    """Fields whose lists are compared as sorted sets; keys joined by dots, walking through lists."""


class KeyF1Settings(JsonSettings):
    """How the values of keys are compared."""

    normalise: bool = True
    """Fold case and white space of strings."""


def parse_json(text: str, *, extract: bool = False) -> Parsed | None:
    """Read JSON strictly; None when the text is not JSON.

    Args:
        text: white space at both ends is allowed.
        extract: look for the first JSON object in the text instead.
    """
    if not extract:
        return _parse(text.strip())
    start = text.find("{")
    while start >= 0:
        found = _parse_prefix(text[start:])
        if found is not None:
            return found
        start = text.find("{", start + 1)
    return _parse(text.strip())


def fold_json(value: Json, *, normalise: bool, sets: Sequence[str] | Literal["all"] = ()) -> str:
    """Write a JSON value so that values that count as equal give the same text.

    Args:
        value: any JSON.
        normalise: fold case and white space of strings (never of keys).
        sets: dotted paths of lists whose order and repeats do not count, or all lists.
    """
    return _fold(value, normalise, sets, "")


def json_path(value: Json, path: str) -> Parsed | None:
    """Walk to a field; None when it is not there."""
    here = value
    for key in path.split("."):
        if isinstance(here, dict) and key in here:
            here = here[key]
        elif isinstance(here, list) and key.isdecimal() and int(key) < len(here):
            here = here[int(key)]
        else:
            return None
    return Parsed(here)


def leaves(value: Json, *, normalise: bool, path: str = "") -> Iterator[str]:
    """List every leaf as `path=value`; elements of a list share one path, an empty container is a leaf."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from leaves(inner, normalise=normalise, path=f"{path}.{key}")
    elif isinstance(value, list) and value:
        for inner in value:
            yield from leaves(inner, normalise=normalise, path=f"{path}[]")
    else:
        yield f"{path}={fold_json(value, normalise=normalise)}"


def _is_json(example: Example, settings: JsonSettings) -> bool:
    return parse_json(example.answer) is not None


@scorer(Traits("binary"), JsonSettings, scores_alone=always)
def json_valid(answer: Answer, example: Example, settings: JsonSettings) -> bool:
    """The answer is JSON."""
    return parse_json(answer.text, extract=settings.extract) is not None


@scorer(Traits("binary"), JsonSchemaSettings, scores_alone=always)
def json_schema(answer: Answer, example: Example, settings: JsonSchemaSettings) -> bool:
    """The answer is JSON that fits a schema."""
    given = parse_json(answer.text, extract=settings.extract)
    return given is not None and Draft202012Validator(settings.schema_).is_valid(given.value)


@scorer(Traits("binary"), JsonFieldSettings, usable=_is_json)
def json_field(answer: Answer, example: Example, settings: JsonFieldSettings) -> bool:
    """One field equals the reference's; a field the reference lacks must be lacking too."""
    given = parse_json(answer.text, extract=settings.extract)
    wanted = parse_json(example.answer)
    if given is None or wanted is None:
        return False
    left, right = json_path(given.value, settings.path), json_path(wanted.value, settings.path)
    if left is None or right is None:
        return left is right
    sets: Sequence[str] | Literal["all"] = "all" if settings.normalise else ()
    return fold_json(left.value, normalise=settings.normalise, sets=sets) == fold_json(
        right.value, normalise=settings.normalise, sets=sets
    )


@scorer(Traits("binary"), JsonEqualSettings, usable=_is_json)
def json_equal(answer: Answer, example: Example, settings: JsonEqualSettings) -> bool:
    """The whole value equals the reference's."""
    given = parse_json(answer.text, extract=settings.extract)
    wanted = parse_json(example.answer)
    if given is None or wanted is None:
        return False
    return fold_json(given.value, normalise=settings.normalise, sets=settings.sets) == fold_json(
        wanted.value, normalise=settings.normalise, sets=settings.sets
    )


@scorer(Traits("graded"), KeyF1Settings, usable=_is_json)
def key_f1(answer: Answer, example: Example, settings: KeyF1Settings) -> float:
    """F1 of the `key = value` pairs shared with the reference; 0 when the answer is not JSON."""
    given = parse_json(answer.text, extract=settings.extract)
    wanted = parse_json(example.answer)
    if given is None or wanted is None:
        return 0.0
    return bag_f1(
        Counter(leaves(given.value, normalise=settings.normalise)),
        Counter(leaves(wanted.value, normalise=settings.normalise)),
    )


def _parse(text: str) -> Parsed | None:
    found = _parse_prefix(text)
    return found if found is not None and found.end == len(text) else None


def _parse_prefix(text: str) -> Parsed | None:
    try:
        value, end = _DECODER.raw_decode(text)
    except (ValueError, RecursionError):
        return None
    return Parsed(value, end) if _is_shallow(value) else None


def _is_shallow(value: Json) -> bool:
    level: list[Json] = [value]
    for _ in range(MAX_DEPTH):
        level = [inner for outer in level for inner in _children(outer)]
        if not level:
            return True
    return False


def _children(value: Json) -> Sequence[Json]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else ()


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse)


def _fold(value: Json, normalise: bool, sets: Sequence[str] | Literal["all"], path: str) -> str:
    if isinstance(value, dict):
        prefix = f"{path}." if path else ""
        pairs = (
            f"{json.dumps(key)}:{_fold(value[key], normalise, sets, prefix + key)}" for key in sorted(value)
        )
        return "{" + ",".join(pairs) + "}"
    if isinstance(value, list):
        parts = [_fold(inner, normalise, sets, path) for inner in value]
        return "[" + ",".join(sorted(set(parts)) if sets == "all" or path in sets else parts) + "]"
    if isinstance(value, str) and normalise:
        return json.dumps(" ".join(unicodedata.normalize("NFKC", value).casefold().split()))
    if isinstance(value, float) and value.is_integer():
        return json.dumps(int(value))
    return json.dumps(value)


def _references(schema: Json) -> Iterator[str]:
    if isinstance(schema, dict):
        for key, inner in schema.items():
            if key in ("$ref", "$dynamicRef") and isinstance(inner, str):
                yield inner
            else:
                yield from _references(inner)
    elif isinstance(schema, list):
        for inner in schema:
            yield from _references(inner)


def _resolves(schema: dict[str, Json], ref: str) -> bool:
    if ref == "#":
        return True
    if not ref.startswith("#/"):
        return False
    keys = [key.replace("~1", "/").replace("~0", "~") for key in ref[2:].split("/")]
    here: Json = schema
    for key in keys:
        if not isinstance(here, dict) or key not in here:
            return False
        here = here[key]
    return True
