"""Bounds on JSON that a stranger sent, checked before every field of it is complained about."""

from collections.abc import Mapping, Sequence
from typing import cast

from pydantic_core import from_json

from tunewright.errors import RequestRefused
from tunewright.values import Json

MAX_FIELDS = 64
"""Of one object. Validation makes a complaint of each wrong field; a million of them take seconds."""

MAX_LOOKED_AT = 2049
"""Entries of a list that are looked into; more are more than any list of objects may have."""


def refuse_wide_objects(body: bytes) -> None:
    """Refuse JSON with a flood of fields in one object.

    Raises:
        RequestRefused: the body is not JSON, or an object has more than MAX_FIELDS fields.
    """
    try:
        parsed = cast("Json", from_json(body, allow_inf_nan=False))
    except ValueError as error:
        raise RequestRefused(
            f"the body is not JSON: {error!s:.200}; expected one JSON object in UTF-8"
        ) from error
    _look(parsed)


def _look(value: Json) -> None:
    if isinstance(value, Mapping):
        if len(value) > MAX_FIELDS:
            raise RequestRefused(
                f"an object has {len(value):,} fields; expected at most {MAX_FIELDS}", code="unknown_field"
            )
        inner: Sequence[Json] = tuple(value.values())
    else:
        inner = value[:MAX_LOOKED_AT] if isinstance(value, list) else ()
    for item in inner:
        if isinstance(item, dict | list):
            _look(item)
