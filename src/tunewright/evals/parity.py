"""Do the engine's tokens and log-probabilities equal the trainer's? Asked through the wire, as in serving."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import TypeAdapter, ValidationError

from tunewright.core.tokens import ChatTokenizer, TokenRow
from tunewright.errors import BlobCorrupt, EvaluationError, TemplateMismatch
from tunewright.evals.evidence import Parity
from tunewright.evals.items import Chat, as_chat
from tunewright.ports import Engine
from tunewright.records import Example

NUM_ROWS = 64
REFERENCE_FILE = "parity.json"
"""In a candidate's tree: {"rows": [{"row", "ids", "logprobs"}, ...]}, teacher-forced by the trainer."""

TOLERANCE = {"fp32": 1e-3, "bf16": 1e-1}
"""Largest allowed difference of natural-log probabilities, by the precision of training."""

EDGE_CASES: Mapping[str, Chat] = {
    "unicode": ({"role": "user", "content": "Zwölf Boxkämpfer, 日本語, العربية, e\u0301 and é"},),
    "emoji": ({"role": "user", "content": "two ☕️ for 👩‍👩‍👧, please 🙏🏽"},),
    "white space": ({"role": "user", "content": "  leading,\ttabs,\r\nlines \n\n and trailing  "},),
    "empty system": ({"role": "system", "content": ""}, {"role": "user", "content": "hello"}),
    "system": ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello"}),
    "many turns": (
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
    ),
    "template words": (
        {"role": "user", "content": "<|user|> <|im_end|> </s> [INST] {{ messages }} {% raw %}"},
    ),
    "long": ({"role": "user", "content": "a latte with oat milk and 12 sugars; " * 200},),
    "control": ({"role": "user", "content": "zero\u200bwidth, bell \x07, replacement \ufffd"},),
}


@dataclass(frozen=True, slots=True)
class ReferenceRow:
    """What the trainer computed for one row with the final weights."""

    row: str
    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    """Natural-log probability of each token given those before it; the first is 0.0."""


_REFERENCE = TypeAdapter(dict[str, list[ReferenceRow]])


def compare_tokens(
    engine: Engine, tokenizer: ChatTokenizer, stored: Sequence[TokenRow], examples: Mapping[str, Example]
) -> tuple[int, tuple[str, ...]]:
    """Compare the engine's ids with the trained ids of rows and with our own ids of edge cases.

    Args:
        engine: asked over the wire.
        tokenizer: the trainer's.
        stored: trained rows; a row that was cut to length is compared by its kept part.
        examples: row id -> example of every stored row.

    Returns:
        How many rows and cases were compared, and the names of those that differ.
    """
    different = [
        row.row
        for row in stored
        if not _same(
            engine.tokenize(as_chat(examples[row.row].messages), add_generation_prompt=False), row.ids
        )
    ]
    compared = len(stored)
    for name, chat in EDGE_CASES.items():
        try:
            expected = tokenizer.encode(chat, add_generation_prompt=True)
        except TemplateMismatch:
            continue  # the base's template refuses such a chat, in the engine as in training
        compared += 1
        if engine.tokenize(chat, add_generation_prompt=True) != expected:
            different.append(f"edge case: {name}")
    return compared, tuple(different)


def check_parity(
    engine: Engine,
    model: str,
    tokens: tuple[int, tuple[str, ...]],
    reference: Sequence[ReferenceRow],
    precision: str,
) -> Parity:
    """Join what `compare_tokens` found with the difference of log-probabilities.

    Args:
        engine: asked over the wire.
        model: `base` or the candidate's digest.
        tokens: number compared and names that differ.
        reference: the trainer's log-probabilities; none: only tokens are judged.
        precision: fp32 or bf16, the trainer's.
    """
    num_rows, different = tokens
    return Parity(
        num_rows=num_rows,
        token_mismatches=different,
        max_logprob_difference=largest_difference(engine, model, reference) if reference else None,
        tolerance=TOLERANCE.get(precision, TOLERANCE["bf16"]),
    )


def largest_difference(engine: Engine, model: str, reference: Sequence[ReferenceRow]) -> float:
    """Find the largest difference of a token's log-probability, all rows in one batch.

    Raises:
        EvaluationError: the engine gave another number of values than tokens.
    """
    served = engine.logprobs([row.ids for row in reference], model)
    worst = 0.0
    for row, values in zip(reference, served, strict=True):
        if len(values) != len(row.logprobs):
            raise EvaluationError(
                f"row {row.row}: the engine gave {len(values)} log-probabilities for {len(row.ids)} tokens; "
                "expected one a token. Run again; if it recurs, report a bug."
            )
        worst = max([worst, *(abs(a - b) for a, b in zip(values, row.logprobs, strict=True))])
    return worst


def choose_rows(rows: Sequence[TokenRow], count: int = NUM_ROWS) -> list[TokenRow]:
    """Choose rows by the hash of their id: the same ones every time, spread over the data."""
    return sorted(rows, key=lambda row: hashlib.sha256(f"parity:{row.row}".encode()).hexdigest())[:count]


def read_reference(tree: Mapping[str, bytes]) -> list[ReferenceRow]:
    """Read the trainer's log-probabilities from a candidate's files; none where it wrote none.

    Raises:
        BlobCorrupt: the file does not parse.
    """
    data = tree.get(REFERENCE_FILE)
    if data is None:
        return []
    try:
        rows = _REFERENCE.validate_python(json.loads(data)).get("rows", [])
    except (ValidationError, ValueError) as error:
        raise BlobCorrupt(
            f"{REFERENCE_FILE} of the candidate does not parse: {error}; expected rows with ids and "
            "logprobs. Train again."
        ) from error
    return [row for row in rows if len(row.ids) == len(row.logprobs)]


def _same(served: Sequence[int], trained: Sequence[int]) -> bool:
    """Equal, or equal in the part that was kept when the row was cut from the left."""
    if len(served) > len(trained):
        kept = len(trained) - 1
        return kept > 0 and list(served[-kept:]) == list(trained[-kept:])
    return list(served) == list(trained)
