"""What a data file seems to hold: form, fields, kind of answers; each with its evidence in words. Pure."""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from tunewright.curate.problem import Problem
from tunewright.curate.shapes import LABELS, PAIRS, Shaped, shape_row
from tunewright.recipe import SourceSpec
from tunewright.values import Json

Fields = Mapping[str, Json]
AnswerKind = Literal["json", "class", "number", "text"]

MOST = 0.98
"""Share of rows that must agree before we say "all"."""
MANY = 0.8
MAX_SLICE_VALUES = 12
MAX_SLICES = 3
MAX_CLASSES = 200
MAX_CLASS_CHARS = 60
MIN_ROWS_A_CLASS = 3
MAX_GROUP_SHARE = 0.1

_GROUP_NAMES = re.compile(
    r"(^|_)(group|customer|client|user|author|session|conversation|dialog|dialogue|thread|ticket|doc|document|"
    r"patient|account|template|source)(_?id)?$"
)
_TIME_NAMES = re.compile(r"(^|_)(time|timestamp|date|datetime|created|updated|at|ts)($|_)")
_NUMBER = re.compile(r"[-+]?\d[\d,_]*(\.\d+)?%?")
_FIRST_UNIX_S, _LAST_UNIX_S = 0, 4_102_444_800  # 1970 to 2100


@dataclass(frozen=True, slots=True)
class Finding:
    """One choice for the recipe and why."""

    value: str
    reason: str


@dataclass(frozen=True, slots=True)
class Answers:
    """What the answers are like."""

    kind: AnswerKind
    reason: str
    sets: tuple[str, ...] = ()
    """JSON: keys whose values are lists."""
    fields: tuple[str, ...] = ()
    """JSON: keys in nearly every answer whose text takes few values, worth a metric of their own."""
    longest_chars: int = 0


@dataclass(frozen=True, slots=True)
class Detected:
    """Everything `detect` found."""

    num_rows: int
    """Rows that were looked at."""
    num_shaped: int
    """Rows among them that a recipe with these fields can read as prompt and answer."""
    form: Finding
    """`messages`, `pair` or `label`."""
    prompt_field: str | None
    completion_field: str | None
    """Named only where they are not guessed anyway."""
    messages_field: str | None
    group: Finding | None
    time: Finding | None
    slices: tuple[Finding, ...]
    notes: tuple[str, ...]
    """What was seen and not chosen, such as an id that is unique in every row."""
    answers: Answers
    longest_row_chars: int


def detect(rows: Sequence[Fields]) -> Detected | None:
    """Look at rows and choose; None where no two fields look like prompt and answer.

    Args:
        rows: fields of the first rows of a file, at least one.
    """
    spec = _source_spec(rows)
    if spec is None:
        return None
    shaped = [shape for row in rows if not isinstance(shape := shape_row(row, spec), Problem)]
    shaped = [shape for shape in shaped if shape.turns and shape.turns[-1].role == "assistant"]
    if not shaped:
        return None
    used = {name for shape in shaped for name in shape.fields}
    others = [name for name in _names(rows) if name not in used]
    group, notes = _group(rows, others)
    time = next(filter(None, (_time(rows, name) for name in others)), None)
    taken = {finding.value for finding in (group, time) if finding}
    return Detected(
        num_rows=len(rows),
        num_shaped=len(shaped),
        form=_form(shaped),
        prompt_field=spec.prompt_field,
        completion_field=spec.completion_field,
        messages_field=None if spec.messages_field == "messages" else spec.messages_field,
        group=group,
        time=time,
        slices=tuple(_slices(rows, [name for name in others if name not in taken]))[:MAX_SLICES],
        notes=tuple(notes),
        answers=_answers([shape.turns[-1].content for shape in shaped]),
        longest_row_chars=max(sum(len(turn.content) for turn in shape.turns) for shape in shaped),
    )


def _names(rows: Sequence[Fields]) -> list[str]:
    """List field names in the order in which they first appear."""
    return list(dict.fromkeys(name for row in rows for name in row))


def _source_spec(rows: Sequence[Fields]) -> SourceSpec | None:
    """Choose the fields that hold prompt and answer."""
    plain = SourceSpec(path="-")
    readable = sum(not isinstance(shape_row(row, plain), Problem) for row in rows)
    if readable >= len(rows) / 2:
        return plain
    chat = next((name for name in _names(rows) if _is_chat([row.get(name) for row in rows])), None)
    if chat:
        return SourceSpec(path="-", messages_field=chat)
    pair = _text_pair(rows)
    return SourceSpec(path="-", prompt_field=pair[0], completion_field=pair[1]) if pair else None


def _is_chat(values: Sequence[Json]) -> bool:
    lists = [value for value in values if isinstance(value, list) and value and isinstance(value[0], dict)]
    return len(lists) >= len(values) / 2


def _text_pair(rows: Sequence[Fields]) -> tuple[str, str] | None:
    """Take the longest texts as prompt and a field named like an answer, else the next longest, as answer."""
    lengths: dict[str, float] = {}
    for name in _names(rows):
        texts = [value for row in rows if isinstance(value := row.get(name), str) and value]
        if len(texts) >= MANY * len(rows) and not _is_time_text(texts) and not _is_id(name, texts):
            lengths[name] = sum(map(len, texts)) / len(texts)
    if len(lengths) < 2:
        return None
    answers = {answer for _, answer in (*PAIRS, *LABELS)}
    named = next((name for name in lengths if name.casefold() in answers), None)
    by_length = sorted((name for name in lengths if name != named), key=lambda name: -lengths[name])
    return by_length[0], named or by_length[1]


def _is_id(name: str, texts: Sequence[str]) -> bool:
    """Say whether a field tells rows apart and says nothing else: unique, short, without spaces."""
    named = name.casefold().endswith("id") or name.casefold() in {"key", "uuid", "hash"}
    return (named or len(set(texts)) == len(texts)) and all(
        " " not in text and len(text) <= 64 for text in texts
    )


def _form(shaped: Sequence[Shaped]) -> Finding:
    form, count = Counter(shape.form for shape in shaped).most_common(1)[0]
    fields = next(shape.fields for shape in shaped if shape.form == form)
    words = {
        "messages": f"chats in {fields[0]!r}",
        "pair": f"{fields[0]!r} is the prompt, {fields[-1]!r} the answer",
        "label": f"{fields[0]!r} is the text, {fields[-1]!r} its label",
    }
    return Finding(form, f"{words[form]}, in {count:,} of the first rows")


def _texts(rows: Sequence[Fields], name: str) -> list[str]:
    """Values of a field as text, missing ones left out."""
    values = [row.get(name) for row in rows]
    return [
        value if isinstance(value, str) else json.dumps(value)
        for value in values
        if isinstance(value, str | int | float) and value != ""
    ]


def _group(rows: Sequence[Fields], names: Sequence[str]) -> tuple[Finding | None, list[str]]:
    """Choose a field whose equal values belong together; also say which candidates were not taken and why."""
    notes: list[str] = []
    for name in (name for name in names if _GROUP_NAMES.search(name.casefold())):
        counts = Counter(_texts(rows, name))
        if not counts:
            continue
        largest, filled = max(counts.values()), sum(counts.values())
        if largest == 1:
            notes.append(f"{name!r} is different in every row, so it cannot keep rows together")
        elif largest > MAX_GROUP_SHARE * len(rows) and largest > 2:
            notes.append(
                f"{name!r} was not taken as group: one value covers {largest / len(rows):.0%} of the rows"
            )
        else:
            reason = (
                f"{len(counts):,} values in {filled:,} rows; rows of one value stay on one side of the split"
            )
            return Finding(name, reason), notes
    return None, notes


def _time(rows: Sequence[Fields], name: str) -> Finding | None:
    if not _TIME_NAMES.search(name.casefold()):
        return None
    texts = _texts(rows, name)
    if len(texts) < MANY * len(rows):
        return None
    if _is_time_text(texts):
        return Finding(name, f"ISO-8601 times, {min(texts)[:10]} to {max(texts)[:10]} in the first rows")
    numbers = [
        float(text) for text in texts if _NUMBER.fullmatch(text) and "," not in text and "%" not in text
    ]
    if len(numbers) == len(texts) and all(_FIRST_UNIX_S < number < _LAST_UNIX_S for number in numbers):
        return Finding(name, "Unix seconds")
    return None


def _is_time_text(texts: Sequence[str]) -> bool:
    return bool(texts) and all(map(_is_iso_time, texts))


def _is_iso_time(text: str) -> bool:
    if not re.match(r"\d{4}-\d\d", text):
        return False
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def _slices(rows: Sequence[Fields], names: Sequence[str]) -> Iterator[Finding]:
    """Yield fields with a few values that each fill a fair part of the rows."""
    for name in names:
        counts = Counter(_texts(rows, name))
        filled = sum(counts.values())
        if 2 <= len(counts) <= MAX_SLICE_VALUES and filled >= MANY * len(rows) and filled >= 5 * len(counts):
            shown = ", ".join(value for value, _ in counts.most_common(4))
            yield Finding(name, f"{len(counts)} values: {shown}{', ...' if len(counts) > 4 else ''}")


def _answers(answers: Sequence[str]) -> Answers:
    """Tell what kind of answers these are."""
    longest = max(map(len, answers))
    found = _json_answers(answers, longest) or _class_answers(answers, longest)
    if found:
        return found
    if _share(answers, lambda text: bool(_NUMBER.fullmatch(text.strip()))) >= MOST:
        return Answers("number", "all answers are numbers", longest_chars=longest)
    mean = sum(map(len, answers)) / len(answers)
    reason = f"free text, {mean:.0f} characters on average, {len(set(answers)):,} different answers"
    return Answers("text", reason, longest_chars=longest)


def _share(texts: Sequence[str], holds: Callable[[str], bool]) -> float:
    return sum(map(holds, texts)) / len(texts)


def _json_answers(answers: Sequence[str], longest: int) -> Answers | None:
    parsed = [value for text in answers if isinstance(value := _parse(text), dict)]
    if len(parsed) < MOST * len(answers):
        return None
    keys = list(dict.fromkeys(key for value in parsed for key in value))
    sets = tuple(key for key in keys if any(isinstance(value.get(key), list) for value in parsed))
    return Answers(
        "json",
        f"all answers are JSON objects with the keys {', '.join(keys[:8])}{', ...' if len(keys) > 8 else ''}",
        sets=sets[:5],
        fields=tuple(key for key in keys if _is_category(parsed, key))[:2],
        longest_chars=longest,
    )


def _parse(text: str) -> Json:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _is_category(parsed: Sequence[Mapping[str, Json]], key: str) -> bool:
    texts = [value for item in parsed if isinstance(value := item.get(key), str)]
    return len(texts) >= MOST * len(parsed) and 2 <= len(set(texts)) <= max(2, len(texts) // MIN_ROWS_A_CLASS)


def _class_answers(answers: Sequence[str], longest: int) -> Answers | None:
    classes = Counter(answers)
    if longest > MAX_CLASS_CHARS or len(classes) > min(MAX_CLASSES, len(answers) / MIN_ROWS_A_CLASS):
        return None
    name, most = classes.most_common(1)[0]
    largest = f"the largest, {name!r}, has {most / len(answers):.0%} of the rows"
    reason = f"{len(classes)} different short answers; {largest}"
    return Answers("class", reason, longest_chars=longest)
