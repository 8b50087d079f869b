"""Which held-out rows training may have seen, recomputed from the tokens really trained. Pure.

Sees: equal prompts, near-duplicate prompts (verified Jaccard), and prompts whose words and numbers are closer
to a trained prompt than anything was when the data were made. Does not see paraphrases in other words.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tunewright.core.joins import near_pairs_between
from tunewright.core.lexical import LexicalIndex
from tunewright.core.text import prompt_text, signatures, text_digest
from tunewright.core.tokens import ChatTokenizer, TokenRow
from tunewright.evals.evidence import Contamination
from tunewright.records import Example

_EPSILON = 1e-5
"""Scores are rounded to six digits; a smaller rise is rounding."""

_Evidence = Mapping[str, str | float]


@dataclass(frozen=True, slots=True)
class RowText:
    """A row and the text it is compared by."""

    row: str
    text: str
    """`prompt_text`; the decoded tokens where the chain is broken."""


@dataclass(frozen=True, slots=True)
class TrainedTexts:
    """What was trained on, as text, and what of the chain does not fit."""

    rows: tuple[RowText, ...]
    chain_breaks: tuple[str, ...]
    """Sentences for people; never text of a row."""


def trained_texts(
    token_rows: Iterable[TokenRow], examples: Mapping[str, Example], tokenizer: ChatTokenizer
) -> TrainedTexts:
    """Turn trained tokens back into text to compare.

    A row whose stored tokens are what its example renders to (or the end of it, if it was cut to length) is
    compared by the example's prompt; any other by its decoded tokens, with a sentence that says so.

    Args:
        token_rows: every row the worker consumed, from the blobs it hashed.
        examples: the dataset's train and validation rows by id.
        tokenizer: the base's.
    """
    rows: list[RowText] = []
    strangers: list[str] = []
    altered: list[str] = []
    for trained in token_rows:
        example = examples.get(trained.row)
        if example is not None and _is_rendering(trained.ids, example, tokenizer):
            rows.append(RowText(trained.row, prompt_text(example.messages)))
            continue
        rows.append(RowText(trained.row, tokenizer.decode(trained.ids)))
        (strangers if example is None else altered).append(trained.row)
    breaks = (
        _sentence(strangers, "in neither train nor validation of the dataset"),
        _sentence(altered, "not what their rows in the dataset render to"),
    )
    return TrainedTexts(tuple(rows), tuple(sentence for sentence in breaks if sentence))


def find_contamination(
    held_out: Sequence[RowText],
    trained: TrainedTexts,
    *,
    neighbours: Mapping[str, float],
    lexical_threshold: float,
    near_threshold: float = 0.8,
    unknown: Sequence[str] = (),
) -> Contamination:
    """Find the held-out rows that training may have seen.

    A row is dirty when its prompt was trained on word for word, when a trained prompt is a verified
    near-duplicate, or when its best lexical score exceeds both the one stored at curation and the threshold.

    Args:
        held_out: every held-out row of the dataset, not a sample (words are weighted by their texts), with
            its `prompt_text`.
        trained: of both arms, over all ancestors.
        neighbours: held-out row -> best lexical score at curation; a row that is missing counts as 0.
        lexical_threshold: as fitted at curation.
        near_threshold: Jaccard at or above which two prompts are near-duplicates, as in the recipe.
        unknown: sentences on what cannot be known.
    """
    texts = [row.text for row in trained.rows]
    exact = _exact_hits(held_out, trained.rows)
    lexical = _lexical_hits(held_out, trained.rows, neighbours, lexical_threshold)
    near = _near_hits(held_out, trained.rows, near_threshold) if texts else {}
    evidence = {**lexical, **near, **exact}
    return Contamination(
        num_rows=len(held_out),
        exact_rows=tuple(row.row for row in held_out if row.row in exact),
        dirty_rows=tuple(row.row for row in held_out if row.row in evidence),
        evidence={row.row: evidence[row.row] for row in held_out if row.row in evidence},
        chain_breaks=trained.chain_breaks,
        unknown=tuple(unknown),
    )


def _sentence(rows: Sequence[str], what: str) -> str:
    return f"{len(rows)} trained rows are {what}; the first is {rows[0][:12]}" if rows else ""


def _is_rendering(ids: Sequence[int], example: Example, tokenizer: ChatTokenizer) -> bool:
    """Say whether ids are the example's tokens, or their end after a beginning-of-sequence token."""
    whole = tokenizer.encode(example.messages, add_generation_prompt=False)
    stored = list(ids)
    if len(stored) < len(whole) and stored[:1] == [tokenizer.bos_id]:
        stored = stored[1:]
    return bool(stored) and whole[-len(stored) :] == stored


def _exact_hits(held_out: Sequence[RowText], trained: Sequence[RowText]) -> dict[str, _Evidence]:
    known: dict[str, str] = {}
    for row in trained:
        known.setdefault(text_digest(row.text), row.row)
    digests = {row.row: text_digest(row.text) for row in held_out}
    return {
        row: {"trained": known[digest], "detector": "exact", "score": 1.0}
        for row, digest in digests.items()
        if digest in known
    }


def _near_hits(
    held_out: Sequence[RowText], trained: Sequence[RowText], threshold: float
) -> dict[str, _Evidence]:
    """Keep the best match of each row; the first trained row among equals."""
    left, right = signatures([row.text for row in held_out]), signatures([row.text for row in trained])
    hits: dict[str, _Evidence] = {}
    best: dict[str, float] = {}
    for pair in near_pairs_between(left, right, threshold):
        row = held_out[pair.a].row
        if pair.jaccard > best.get(row, 0.0):
            best[row] = pair.jaccard
            score = round(pair.jaccard, 6)
            hits[row] = {"trained": trained[pair.b].row, "detector": "near_duplicate", "score": score}
    return hits


def _lexical_hits(
    held_out: Sequence[RowText],
    trained: Sequence[RowText],
    neighbours: Mapping[str, float],
    threshold: float,
) -> dict[str, _Evidence]:
    """Compare with what curation stored; words weighted by the held-out texts, as there."""
    texts = [row.text for row in held_out]
    best = LexicalIndex([row.text for row in trained], reference=texts).best(texts)
    return {
        row.row: {"trained": trained[match].row, "detector": "lexical", "score": score}
        for row, (match, score) in zip(held_out, best, strict=True)
        if score > max(neighbours.get(row.row, 0.0) + _EPSILON, threshold)
    }
