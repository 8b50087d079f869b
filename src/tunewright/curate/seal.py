"""Decided rows to stored bytes: split blobs (held-out sealed), lineage, rejections, and the dataset's digest.

Every encoding is sorted, so that the same rows give the same plaintext whatever order they were read in.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tunewright.core.rows import encode_examples
from tunewright.ports import Blobs, VaultSession
from tunewright.records import Example, Rejection, Source, SourceCount, Split, SplitInfo
from tunewright.values import Digest, Json, canonical_json, digest_bytes, digest_json, merkle_root

SPLITS: tuple[Split, ...] = ("train", "validation", "held_out")


@dataclass(frozen=True, slots=True)
class KeptRow:
    """A row of the dataset, with its side."""

    example: Example
    split: Split
    cluster: Digest
    sources: tuple[Source, ...]
    """Every line it stands for: its own and those of its exact duplicates."""


def by_place(source: Source) -> tuple[str, int]:
    """Sort key of a place in a raw file; paths do not count."""
    return source.digest, source.line


def rows_of(kept: Sequence[KeptRow], split: Split) -> list[Example]:
    """Rows of one side, sorted by id."""
    return sorted((row.example for row in kept if row.split == split), key=lambda example: example.id)


def seal_splits(kept: Sequence[KeptRow], blobs: Blobs, session: VaultSession) -> dict[Split, SplitInfo]:
    """Store every side; the held-out one is encrypted before it is written."""
    stored: dict[Split, SplitInfo] = {}
    for split in SPLITS:
        examples = rows_of(kept, split)
        data = encode_examples(examples)
        blob = blobs.put(session.seal(data) if split == "held_out" else data)
        root = merkle_root([example.id for example in examples])
        stored[split] = SplitInfo(rows=len(examples), digest=root, blob=blob)
    return stored


def encode_rejections(rejections: Iterable[Rejection]) -> bytes:
    """JSON lines, sorted by file digest and line."""
    ordered = sorted(rejections, key=lambda rejection: by_place(rejection.source))
    return b"".join(canonical_json(rejection.to_json()) + b"\n" for rejection in ordered)


def encode_lineage(kept: Sequence[KeptRow]) -> bytes:
    """JSON lines {row, split, cluster, group, sources}, sorted by row id; never text."""
    return b"".join(
        canonical_json(
            {
                "row": row.example.id,
                "split": row.split,
                "cluster": row.cluster,
                "group": row.example.group,
                "sources": [
                    [source.digest, source.path, source.line] for source in sorted(row.sources, key=by_place)
                ],
            }
        )
        + b"\n"
        for row in sorted(kept, key=lambda row: row.example.id)
    )


def encode_neighbours(scores: Mapping[Digest, float]) -> bytes:
    """JSON object: held-out row id -> best lexical score; to be sealed."""
    return canonical_json({row: round(scores[row], 9) for row in sorted(scores)})


def dataset_digest(kept: Sequence[KeptRow], rejections: Iterable[Rejection]) -> Digest:
    """Hash what was kept, removed and split, by plaintext; paths, clocks and ciphertext do not count."""
    return digest_json(
        {
            "kept": {split: _rows_digest(kept, split) for split in SPLITS},
            "removed": sorted(
                [rejection.source.digest, rejection.source.line, rejection.step, rejection.reason]
                for rejection in rejections
            ),
        }
    )


def _rows_digest(kept: Sequence[KeptRow], split: Split) -> Digest:
    rows = sorted((row for row in kept if row.split == split), key=lambda row: row.example.id)
    return digest_bytes(b"".join(canonical_json(_identity(row)) for row in rows))


def _identity(row: KeptRow) -> list[Json]:
    content = {key: value for key, value in row.example.to_json().items() if key != "source"}
    places: list[Json] = [[source.digest, source.line] for source in sorted(row.sources, key=by_place)]
    return [content, row.cluster, places]


def count_sources(
    rows_in: Mapping[tuple[str, Digest], int], kept: Sequence[KeptRow], rejections: Sequence[Rejection]
) -> tuple[SourceCount, ...]:
    """Count what each file gave, sorted by path.

    Args:
        rows_in: (path, file digest) -> rows read.
        kept: rows of all sides; each counts for the file its own line stands in.
        rejections: all of them.
    """
    kept_by = Counter(row.example.source.digest for row in kept)
    removed_by: dict[Digest, Counter[str]] = {digest: Counter() for _, digest in rows_in}
    for rejection in rejections:
        removed_by[rejection.source.digest][rejection.reason] += 1
    counts = tuple(
        SourceCount(
            path=path,
            digest=digest,
            rows_in=rows,
            rows_kept=kept_by[digest],
            removed=dict(sorted(removed_by[digest].items())),
        )
        for (path, digest), rows in sorted(rows_in.items())
    )
    for count in counts:
        assert count.rows_in == count.rows_kept + sum(count.removed.values()), (
            f"{count.path}: sums do not close"
        )
    return counts
