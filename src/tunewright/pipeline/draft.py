"""Write a recipe as commented YAML from what `detect` found: each choice with its reason beside it. Pure."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from tunewright.pipeline.detect import Answers, Detected
from tunewright.values import NAME

TOO_FEW_ROWS = 200
FEW_ROWS = 1_000
MANY_ROWS = 10_000
ITEMS_FOR_5_POINTS = 371
"""Held-out items for a margin of 5 points at 15 % discordance, alpha .05, power .8, without clusters."""
SMALL_HELD_OUT = 100

_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*")
_YAML_WORDS = {"yes", "no", "on", "off", "true", "false", "null", "y", "n"}


@dataclass(frozen=True, slots=True)
class DraftFile:
    """The data file as the draft speaks of it."""

    name: str
    """What the recipe will be called."""
    path: str
    """As the recipe will name it."""
    format: str
    is_whole: bool
    """All rows were looked at, not only the first ones."""
    num_unreadable: int
    """Rows that could not be read."""


def write_recipe(file: DraftFile, found: Detected) -> str:
    """Write the draft. It loads as a recipe as it is."""
    parts = [_head(file, found), _data(file, found), _train(file, found), _gate(file, found)]
    return "".join(f"{line}\n" for part in parts for line in part)


def recipe_name(stem: str) -> str:
    """Make a name that a recipe may have from the stem of a file name."""
    name = re.sub(r"[^a-z0-9._-]+", "-", stem.lower()).strip("-._")[:64].strip("-._")
    return name if NAME.fullmatch(name) else "my-model"


def scalar(text: str) -> str:
    """Write text as a YAML scalar, quoted where it needs to be."""
    if _PLAIN.fullmatch(text) and text.casefold() not in _YAML_WORDS:
        return text
    return json.dumps(text, ensure_ascii=False)


def _comment(text: str) -> str:
    """Make one comment of text that may come from the data."""
    return "# " + "".join(char if char.isprintable() else " " for char in text)


def _head(file: DraftFile, found: Detected) -> Iterator[str]:
    some = "" if file.is_whole else "the first "
    yield f"# Drafted by `tunewright init` from {some}{found.num_rows:,} rows. Read it; change what is wrong."
    yield f"# Next: tunewright plan {file.name}.yaml, then tunewright run {file.name}.yaml"
    yield from _size_warning(file, found)
    if file.num_unreadable:
        yield f"# NOTE: {file.num_unreadable:,} rows could not be read; `tunewright data rejects` lists them."
    unshaped = found.num_rows - found.num_shaped
    if unshaped:
        yield f"# NOTE: {unshaped:,} rows have no prompt and answer in these fields and would be rejected."
    yield f"name: {scalar(file.name)}"
    yield ""


def _size_warning(file: DraftFile, found: Detected) -> Iterator[str]:
    """Say in plain words what to expect of this many rows."""
    rows = found.num_shaped
    if not file.is_whole or rows >= FEW_ROWS:
        return
    if rows < TOO_FEW_ROWS:
        yield f"# WARNING: {rows} rows. Under {TOO_FEW_ROWS} labelled rows fine-tuning is the wrong tool:"
        yield "# try a prompt with examples first. The gate will most likely answer `inconclusive`, because"
        yield f"# about {round(rows * 0.2)} held-out rows can prove large differences only."
        yield f"# {TOO_FEW_ROWS - rows} more rows are a start; from {FEW_ROWS:,} on fine-tuning pays."
    else:
        yield f"# NOTE: {rows} rows. Between {TOO_FEW_ROWS} and {FEW_ROWS:,} rows fine-tuning can pay:"
        yield "# train on half of them as well (data.max_rows) and see whether more data still helps."


def _data(file: DraftFile, found: Detected) -> Iterator[str]:
    yield "data:"
    yield "  sources:"
    yield f"    - path: {scalar(file.path)}"
    yield f"      format: {file.format}"
    yield f"      {_comment(found.form.reason)}"
    named = {
        "prompt_field": found.prompt_field,
        "completion_field": found.completion_field,
        "messages_field": found.messages_field,
    }
    yield from (f"      {key}: {scalar(value)}" for key, value in named.items() if value)
    if found.group:
        yield f"      group: {scalar(found.group.value)}  {_comment(found.group.reason)}"
    else:
        yield "      # group: no field keeps rows together; near-duplicates are kept on one side anyway"
    if found.time:
        yield f"      time: {scalar(found.time.value)}  {_comment(found.time.reason)}"
    if found.slices:
        yield f"      slices: [{', '.join(scalar(finding.value) for finding in found.slices)}]"
        yield from (f"      {_comment(f'{finding.value}: {finding.reason}')}" for finding in found.slices)
    yield from (f"      {_comment(note)}" for note in found.notes)
    yield from _split(file, found)


def _split(file: DraftFile, found: Detected) -> Iterator[str]:
    rows = found.num_shaped
    share = 0.2 if not file.is_whole or rows < 5 * FEW_ROWS else 0.1
    count = round(rows * share)
    about = f"about {count:,} rows" if file.is_whole else "a fifth of the rows"
    yield "  split:"
    yield f"    held_out: {share}  # {about}; a margin of 5 points needs about {ITEMS_FOR_5_POINTS}"
    yield ""


def _train(file: DraftFile, found: Detected) -> Iterator[str]:
    rows = found.num_shaped if file.is_whole else MANY_ROWS
    epochs, batch, why = _epochs(rows)
    yield "train:"
    yield "  base: tiny  # shipped, for trying out; for real work name a folder or org/model@revision"
    steps = -(-rows * epochs * 7 // 10 // batch)  # 7 of 10 rows are trained on
    yield f"  epochs: {epochs}  # {why}; early stopping may end sooner"
    yield f"  batch_rows: {batch}  # makes about {steps:,} steps"
    longest = found.longest_row_chars
    yield f"  max_tokens: 512  # the longest row has {longest:,} characters, roughly {longest // 3:,} tokens"
    yield "  learning_rate: auto  # from the base's size"
    yield "  lora: {rank: 16, alpha: 32}"
    yield ""


def _epochs(rows: int) -> tuple[int, int, str]:
    if rows < TOO_FEW_ROWS:
        return 5, 4, "very few rows"
    if rows < FEW_ROWS:
        return 4, 8, f"fewer than {FEW_ROWS:,} rows"
    if rows < MANY_ROWS:
        return 3, 16, f"{FEW_ROWS:,} to {MANY_ROWS:,} rows"
    return 2, 16, f"{MANY_ROWS:,} rows and more"


def _gate(file: DraftFile, found: Detected) -> Iterator[str]:
    scorers, metric = _scorers(found.answers)
    held_out = found.num_shaped * 0.2
    margin = 0.1 if file.is_whole and held_out < SMALL_HELD_OUT else 0.05
    yield "gate:"
    tokens, longest = _answer_tokens(found.answers), found.answers.longest_chars
    yield f"  max_new_tokens: {tokens}  # the longest answer has {longest:,} characters"
    yield "  suites:"
    yield "    - scorers:"
    yield f"        {_comment(found.answers.reason)}"
    yield from (f"        - {scorer}" for scorer in scorers)
    yield "  require:"
    yield f"    - {{metric: {metric}, better_than: base}}"
    yield f"    - {{metric: {metric}, better_than: few_shot}}  # else a prompt would do"
    yield f"    - {{metric: {metric}, better_than: nearest_example}}  # else a lookup table would do"
    yield f"    # once there is a champion; {round(margin * 100)} points"
    yield f"    - {{metric: {metric}, not_worse_than: incumbent, margin: {margin}}}"


def _answer_tokens(answers: Answers) -> int:
    """Half a token a character with some room, in steps of 16."""
    return max(16, min(512, (answers.longest_chars // 2 // 16 + 1) * 16))


def _scorers(answers: Answers) -> tuple[list[str], str]:
    """Choose scorers for a kind of answers, and the metric that requirements are about."""
    if answers.kind == "json":
        sets = f", settings: {{sets: [{', '.join(map(scalar, answers.sets))}]}}" if answers.sets else ""
        fields = [
            f"{{kind: json_field, name: {scalar(f'field_{field}')}, settings: {{path: {scalar(field)}}}}}"
            for field in answers.fields
            if "." not in field
        ]
        return [
            f"{{kind: json_equal, name: exact{sets}}}",
            *fields,
            "{kind: json_valid}",
            "{kind: key_f1}",
        ], "exact"
    if answers.kind == "class":
        return ["{kind: accuracy}", "{kind: macro_f1}"], "accuracy"
    if answers.kind == "number":
        return ["{kind: numeric}", "{kind: exact_match}"], "numeric"
    return ["{kind: normalised_match}", "{kind: token_f1}"], "token_f1"
