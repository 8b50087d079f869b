"""Training rows against held-out rows, after the split. Pure.

After a clean cluster split no prompt and no near-duplicate stands on both sides; if one does, curation stops.
What remains is lexical likeness. In a narrow domain most honest pairs are alike (orders of coffee share most
of their words), so no fixed score tells contamination from domain. The threshold is therefore fitted on this
very data: train clusters are divided as if some were held out, and the score that at most `fpr` of such clean
rows exceed becomes the threshold. Train rows above it are quarantined, best first, up to a capped share.

Each held-out row's best score over what stays is kept, so that the gate can tell a likeness that was there
when the data were made from one that came in later.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tunewright.core.joins import near_pairs_between
from tunewright.core.lexical import LexicalIndex, fit_threshold
from tunewright.core.text import Signature
from tunewright.curate.split import hash_fraction
from tunewright.errors import HeldOutLeak
from tunewright.values import Digest

MAX_QUARANTINED_FRACTION = 0.05


@dataclass(frozen=True, slots=True, eq=False)
class PlacedRow:
    """A row with its place in the split."""

    id: Digest
    text: str
    """`prompt_text`."""
    prompt: Digest
    """`text_digest` of it."""
    signature: Signature
    cluster: Digest


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A train row put aside because it may restate a held-out row."""

    row: int
    """Its position among the train rows given."""
    held_out: Digest
    """Id of the held-out row it is most like."""
    score: float


@dataclass(frozen=True, slots=True)
class Decontamination:
    """What was found between the sides."""

    quarantined: tuple[Quarantined, ...]
    """Sorted by position; reason `lexical_match`."""
    neighbours: Mapping[Digest, float]
    """Held-out row -> best lexical score over the train rows that stay."""
    threshold: float
    """Score above which a train row counts as a lexical hit; 1.0 means that none can."""
    num_clean: int
    """Clean rows the threshold was fitted on."""
    num_hits: int
    """Train rows above the threshold, quarantined or not."""
    hit_fraction: float
    """Share of train rows above the threshold; about `fpr` in data without contamination."""
    num_over_cap: int
    """Hits that stay in train because the cap was reached."""


def decontaminate(
    train: Sequence[PlacedRow],
    held_out: Sequence[PlacedRow],
    *,
    near_threshold: float,
    fpr: float,
    max_quarantined_fraction: float = MAX_QUARANTINED_FRACTION,
) -> Decontamination:
    """Compare the sides and decide which train rows to put aside.

    Args:
        train: rows of train and validation, since both count as trained.
        held_out: rows of the held-out side.
        near_threshold: Jaccard at or above which two prompts are near-duplicates.
        fpr: declared share of clean train rows that the lexical detector may flag.
        max_quarantined_fraction: largest share of train rows to put aside.

    Raises:
        HeldOutLeak: an exact prompt or a near-duplicate stands on both sides.
    """
    check_sides(train, held_out, near_threshold)
    clean = clean_scores(train, len(held_out))
    threshold = fit_threshold(clean, fpr)
    matches = LexicalIndex([row.text for row in held_out]).best([row.text for row in train])
    hits = [
        Quarantined(place, held_out[match].id, score)
        for place, (match, score) in enumerate(matches)
        if score > threshold
    ]
    worst = sorted(hits, key=lambda hit: (-hit.score, train[hit.row].id))
    quarantined = worst[: int(max_quarantined_fraction * len(train))]
    gone = {hit.row for hit in quarantined}
    return Decontamination(
        quarantined=tuple(sorted(quarantined, key=lambda hit: hit.row)),
        neighbours=nearest_scores([row for place, row in enumerate(train) if place not in gone], held_out),
        threshold=threshold,
        num_clean=len(clean),
        num_hits=len(hits),
        hit_fraction=len(hits) / len(train) if train else 0.0,
        num_over_cap=len(hits) - len(quarantined),
    )


def check_sides(train: Sequence[PlacedRow], held_out: Sequence[PlacedRow], near_threshold: float) -> None:
    """Prove that no exact prompt and no near-duplicate stands on both sides.

    Raises:
        HeldOutLeak: one does; names the first pair.
    """
    known = {row.prompt: row for row in train}
    exact = [(known[row.prompt], row, 1.0) for row in held_out if row.prompt in known]
    near = near_pairs_between(
        [row.signature for row in train], [row.signature for row in held_out], near_threshold
    )
    found = exact + [(train[pair.a], held_out[pair.b], pair.jaccard) for pair in near]
    if found:
        trained, held, score = found[0]
        raise HeldOutLeak(
            f"held-out row {held.id[:12]} is a near-duplicate (Jaccard {score:.2f}) of train row "
            f"{trained.id[:12]}, and {len(found) - 1} more pairs are; expected none after a split by "
            "clusters. This is a defect of the split: please report it with the recipe."
        )


def clean_scores(train: Sequence[PlacedRow], num_held_out: int) -> list[float]:
    """Score train rows against other train clusters, as many as are really held out (at most half).

    Clusters are put aside in the order of a stable hash, so that the same rows give the same scores.
    """
    clusters: defaultdict[Digest, list[PlacedRow]] = defaultdict(list)
    for row in train:
        clusters[row.cluster].append(row)
    aside: list[PlacedRow] = []
    rest: list[PlacedRow] = []
    for key in sorted(clusters, key=lambda key: (hash_fraction("clean", "", key), key)):
        target = aside if len(aside) < min(num_held_out, len(train) // 2) else rest
        target.extend(clusters[key])
    return [score for _, score in LexicalIndex([row.text for row in aside]).best([row.text for row in rest])]


def nearest_scores(train: Sequence[PlacedRow], held_out: Sequence[PlacedRow]) -> dict[Digest, float]:
    """Find each held-out row's best lexical score over train rows.

    Words are weighted by the held-out texts, so that what else is trained on does not change a pair's score.
    """
    texts = [row.text for row in held_out]
    best = LexicalIndex([row.text for row in train], reference=texts).best(texts)
    return {row.id: score for row, (_, score) in zip(held_out, best, strict=True)}
