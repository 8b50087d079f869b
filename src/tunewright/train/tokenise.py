"""Rows of a dataset version -> token rows that fit the base; what is cut or left out is counted. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tunewright.core.tokens import ChatTokenizer, TokenRow, supervise, truncate
from tunewright.errors import NothingSupervised, TemplateMismatch
from tunewright.records import Example, Split
from tunewright.values import Json

MAX_MISMATCHED_FRACTION = 0.01
"""Share of rows whose template does not extend its prefix above which the base's template is at fault."""


@dataclass(frozen=True, slots=True)
class Tokenised:
    """One split as token rows, and what was done to fit them."""

    rows: tuple[TokenRow, ...]
    num_truncated: int
    """Rows whose prompt lost tokens on the left."""
    too_long: tuple[str, ...]
    """Ids of rows left out, since the answer alone exceeds the limit."""
    mismatched: tuple[str, ...]
    """Ids of rows left out, since their prompt is tokenised differently with and without the answer."""
    forged: tuple[str, ...] = ()
    """Ids of rows left out, since their text spells a special token, such as the end of a turn."""


TokenisedSplits = Mapping[Split, Tokenised]
"""train and, where the dataset has one, validation."""


def context_limit(max_tokens: int, config: Mapping[str, Json]) -> int:
    """Cap the recipe's longest row to the base's trained context."""
    context = config.get("max_position_embeddings")
    return min(max_tokens, context) if isinstance(context, int) and context > 1 else max_tokens


def tokenise(tokenizer: ChatTokenizer, examples: Sequence[Example], max_tokens: int) -> Tokenised:
    """Turn the rows of one split into token rows, leaving out those that do not fit.

    Raises:
        TemplateMismatch: more than one row in a hundred is tokenised differently with its answer.
        NothingSupervised: no row is left.
        EosNotSupervised: an answer has no end.
    """
    rows: list[TokenRow] = []
    too_long: list[str] = []
    mismatched: list[str] = []
    forged: list[str] = []
    last_mismatch: TemplateMismatch | None = None
    num_truncated = 0
    for example in examples:
        if tokenizer.forged(example.messages):
            forged.append(example.id)
            continue
        try:
            full = supervise(tokenizer, example.id, example.messages)
        except TemplateMismatch as error:
            mismatched.append(example.id)
            last_mismatch = error
            continue
        try:
            row = truncate(full, max_tokens, keep_first=tokenizer.bos_id)
        except NothingSupervised:
            too_long.append(example.id)
            continue
        num_truncated += len(row.ids) < len(full.ids)
        rows.append(row)
    if last_mismatch and len(mismatched) > MAX_MISMATCHED_FRACTION * len(examples):
        raise last_mismatch
    if examples and not rows:
        raise NothingSupervised(
            f"none of the {len(examples)} rows can be trained on: {len(too_long)} answers alone exceed "
            f"{max_tokens} tokens, {len(forged)} spell special tokens; expected at least one that "
            "fits. Raise train.max_tokens, or choose a base with a longer context."
        )
    return Tokenised(tuple(rows), num_truncated, tuple(too_long), tuple(mismatched), tuple(forged))
