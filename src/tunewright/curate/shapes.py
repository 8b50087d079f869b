"""What the fields of a raw row mean: chat, prompt and completion, instruction and output, text and label.

Pure. A row that fits no shape is answered with a `Problem` that names fields, never their values.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tunewright.curate.problem import Problem
from tunewright.recipe import SourceSpec
from tunewright.values import Json

Form = Literal["messages", "pair", "label"]

PAIRS: tuple[tuple[str, str], ...] = (
    ("prompt", "completion"),
    ("prompt", "response"),
    ("prompt", "answer"),
    ("prompt", "output"),
    ("instruction", "output"),
    ("instruction", "response"),
    ("question", "answer"),
    ("query", "response"),
    ("query", "answer"),
    ("input", "output"),
)
"""Names of prompt and answer that are understood without being told, the first that fits wins."""
LABELS: tuple[tuple[str, str], ...] = tuple(
    (text, label) for text in ("text", "utterance", "sentence") for label in ("label", "intent", "category")
)
CHATS: tuple[str, ...] = ("messages", "conversations")
ROLES: Mapping[str, str] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
}
"""Role names as written elsewhere -> ours."""
TOOL_ROLES = frozenset({"tool", "function", "function_call", "observation", "tool_call", "tool_response"})
TOOL_FIELDS = ("tool_calls", "function_call")

_NAME = re.compile(r"[A-Za-z_][\w.-]{0,39}")


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn as written, its role in our words."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Shaped:
    """The turns of a row and how they were found."""

    turns: tuple[Turn, ...]
    form: Form
    fields: tuple[str, ...]
    """Fields the turns came from."""


def shape_row(fields: Mapping[str, Json], spec: SourceSpec) -> Shaped | Problem:
    """Find the turns of a raw row; fields named in the recipe win over names that are guessed."""
    if spec.prompt_field or spec.completion_field:
        return _shape_named(fields, spec.prompt_field, spec.completion_field)
    chat = next((name for name in (spec.messages_field, *CHATS) if fields.get(name) is not None), None)
    if chat:
        return _shape_chat(fields, chat)
    names = guess_fields(tuple(name for name in fields if fields[name] is not None))
    if names is None:
        seen: list[Json] = [name for name in sorted(fields) if _NAME.fullmatch(name)]
        return Problem("fields_not_recognised", {"fields": seen[:12]})
    return _shape_pair(fields, *names)


def guess_fields(names: Sequence[str]) -> tuple[str, str] | None:
    """Guess which two columns are prompt and answer; None when no known pair is there."""
    return next((pair for pair in (*PAIRS, *LABELS) if pair[0] in names and pair[1] in names), None)


def _shape_named(fields: Mapping[str, Json], prompt: str | None, completion: str | None) -> Shaped | Problem:
    pairs = (*PAIRS, *LABELS)
    prompt = prompt or next((p for p, c in pairs if c == completion and p in fields), None)
    completion = completion or next((c for p, c in pairs if p == prompt and c in fields), None)
    prompt = prompt or next((p for p, _ in pairs if p in fields and p != completion), "prompt")
    completion = completion or next((c for _, c in pairs if c in fields and c != prompt), "completion")
    return _shape_pair(fields, prompt, completion)


def _shape_pair(fields: Mapping[str, Json], prompt: str, completion: str) -> Shaped | Problem:
    for name in (prompt, completion):
        if fields.get(name) is None:
            return Problem("field_missing", {"field": name})
    question, answer = _as_text(fields[prompt]), _as_text(fields[completion])
    context = fields.get("input") if prompt == "instruction" else None
    if isinstance(context, str) and context.strip():
        question = f"{question}\n\n{context}"
    turns = (Turn("user", question), Turn("assistant", answer))
    return Shaped(turns, "label" if (prompt, completion) in LABELS else "pair", (prompt, completion))


def _as_text(value: Json) -> str:
    """Take text as it is; write anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _shape_chat(fields: Mapping[str, Json], name: str) -> Shaped | Problem:
    written = _parsed(fields[name])
    if not isinstance(written, list):
        return Problem("messages_not_a_list", {"field": name})
    if fields.get("tools") or fields.get("functions"):
        return Problem("tool_calls_not_supported_yet", {"field": "tools"})
    turns: list[Turn] = []
    for number, item in enumerate(written, start=1):
        turn = _turn(item)
        if isinstance(turn, Problem):
            return Problem(turn.reason, {"turn": number, **turn.evidence})
        turns.append(turn)
    return Shaped(tuple(turns), "messages", (name,))


def _parsed(value: Json) -> Json:
    """Read a chat that stands in a table's cell as JSON text."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _turn(item: Json) -> Turn | Problem:
    if not isinstance(item, dict):
        return Problem("turn_not_an_object")
    role = item.get("role") or item.get("from")
    if role in TOOL_ROLES or any(item.get(name) for name in TOOL_FIELDS):
        return Problem("tool_calls_not_supported_yet")
    if not isinstance(role, str) or role not in ROLES:
        return Problem("unknown_role")
    if item.get("weight") == 0:
        return Problem("turn_weights_not_supported_yet")
    content = _content(item.get("content") if "content" in item else item.get("value"))
    if content is None:
        return Problem("content_not_text")
    return Turn(ROLES[role], content)


def _content(value: Json) -> str | None:
    """Read a turn's text: a string, or a list of text parts; None for anything else."""
    if value is None or isinstance(value, str):
        return value or ""
    if not isinstance(value, list):
        return None
    parts = [part.get("text") if isinstance(part, dict) else part for part in value]
    texts = [part for part in parts if isinstance(part, str)]
    return "".join(texts) if len(texts) == len(parts) else None
