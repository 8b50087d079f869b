"""From turns as written to an `Example`: cleaning, validation, content id, group, time and slices. Pure.

Text that is trained on keeps its white space and letters as written; only what no reader sees is taken out.
What rows are compared and identified by is the canonical form of `core.text`.
"""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Literal, cast

from tunewright.core.text import canonical_text, content_id
from tunewright.curate.problem import Problem
from tunewright.curate.shapes import Turn
from tunewright.recipe import SourceSpec
from tunewright.records import Example, Message, Source
from tunewright.values import Json

_UNSEEN = re.compile("[\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f-\\x84\\x86-\\x9f\\ufeff]")
_SURROGATE = re.compile("[\\ud800-\\udfff]")


def clean_text(text: str) -> str:
    """Take out control characters and byte order marks, write line ends as LF, strip both ends."""
    return _UNSEEN.sub("", text.replace("\r\n", "\n")).strip()


def clean_turns(turns: Sequence[Turn], system: str | None) -> tuple[Turn, ...]:
    """Clean every turn; an empty system turn is left out, and the recipe's is put where there is none."""
    cleaned = [Turn(turn.role, clean_text(turn.content)) for turn in turns]
    if cleaned and cleaned[0] == Turn("system", ""):
        cleaned = cleaned[1:]
    if system and cleaned and cleaned[0].role != "system":
        cleaned.insert(0, Turn("system", clean_text(system)))
    return tuple(cleaned)


def validate_turns(turns: Sequence[Turn]) -> Problem | None:
    """Check that a chat can be trained on.

    Returns:
        The first of: `no_messages`, `roles_out_of_order` (after an optional system turn user and assistant
        must alternate, user first), `last_turn_not_assistant`, `empty_turn`, `invalid_unicode`; else None.
    """
    spoken = turns[1:] if turns and turns[0].role == "system" else turns
    if not spoken:
        return Problem("no_messages")
    for number, turn in enumerate(turns, start=1):
        position = number - 1 - (len(turns) - len(spoken))
        if position >= 0 and turn.role != ("user", "assistant")[position % 2]:
            return Problem("roles_out_of_order", {"turn": number})
    if spoken[-1].role != "assistant":
        return Problem("last_turn_not_assistant")
    for number, turn in enumerate(turns, start=1):
        if not canonical_text(turn.content):
            return Problem("empty_turn", {"turn": number})
        if _SURROGATE.search(turn.content):
            return Problem("invalid_unicode", {"turn": number})
    return None


def make_example(
    turns: Sequence[Turn], fields: Mapping[str, Json], spec: SourceSpec, source: Source
) -> Example | Problem:
    """Build the example of a validated chat, with its group, time and slices."""
    time = parse_time(fields.get(spec.time)) if spec.time else None
    if isinstance(time, Problem):
        return Problem(time.reason, {"field": spec.time})
    messages = tuple(_message(turn) for turn in turns)
    return Example(
        id=content_id(messages),
        messages=messages,
        group=field_text(fields.get(spec.group)) if spec.group else None,
        time=time,
        slices=_slices(fields, spec.slices),
        source=source,
    )


def field_text(value: Json) -> str | None:
    """Write a field's value as text; None where it is absent or blank."""
    if value is None:
        return None
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
    return canonical_text(text) or None


def parse_time(value: Json) -> datetime | Problem | None:
    """Read an ISO 8601 time (UTC where it names no zone) or Unix seconds; None where the field is absent."""
    if value is None or value == "":
        return None
    try:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            return Problem("bad_time")
        if isinstance(value, str) and not re.fullmatch(r"\s*\d+(\.\d+)?\s*", value):
            read = datetime.fromisoformat(value.strip())
            return read.astimezone(UTC) if read.tzinfo else read.replace(tzinfo=UTC)
        return datetime.fromtimestamp(float(value), UTC)
    except (ValueError, OverflowError, OSError):
        return Problem("bad_time")


def _message(turn: Turn) -> Message:
    return Message(role=cast("Literal['system', 'user', 'assistant']", turn.role), content=turn.content)


def _slices(fields: Mapping[str, Json], names: Sequence[str]) -> dict[str, str]:
    texts = {name: field_text(fields.get(name)) for name in sorted(names)}
    return {name: text for name, text in texts.items() if text is not None}
