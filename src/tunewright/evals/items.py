"""Items from examples: one per row to be judged, with its cluster, prompt digest and slices. Pure."""

import hashlib
from collections.abc import Mapping, Sequence

from pydantic import TypeAdapter, ValidationError

from tunewright.core.clusters import connected, links_of_equal
from tunewright.core.joins import near_pairs
from tunewright.core.text import prompt_text, signatures
from tunewright.errors import BlobCorrupt
from tunewright.evals.evidence import Item
from tunewright.records import Example, Message
from tunewright.values import Digest, Json, digest_json

Chat = tuple[Mapping[str, str], ...]
"""Messages as the engine takes them."""

_LINE = TypeAdapter(dict[str, Json])


def as_chat(messages: Sequence[Message]) -> Chat:
    """Write messages as the engine takes them."""
    return tuple({"role": turn.role, "content": turn.content} for turn in messages)


def prompt_digest(example: Example) -> Digest:
    """Hash what the item asks: every turn before the answer, as stored."""
    return digest_json([dict(turn) for turn in as_chat(example.prompt)])


def held_out_items(examples: Sequence[Example], lineage: bytes) -> tuple[Item, ...]:
    """Make the sealed rows' items; rows of one group or one near-duplicate cluster share a cluster.

    Args:
        examples: the held-out rows.
        lineage: the dataset's lineage blob.

    Raises:
        BlobCorrupt: the lineage does not parse or does not list a held-out row.
    """
    links = _read_lineage(lineage)
    missing = [example.id for example in examples if example.id not in links]
    if missing:
        raise BlobCorrupt(
            f"the dataset's lineage lists {len(missing)} held-out rows less than the split holds, first "
            f"{missing[0]}; expected every kept row. Curate again."
        )
    clusters = [links[example.id][0] for example in examples]
    groups = [links[example.id][1] for example in examples]
    return _items(examples, links_of_equal(clusters) + links_of_equal(groups))


def file_items(examples: Sequence[Example], threshold: float) -> tuple[Item, ...]:
    """Make the items of a named file; near-duplicate prompts and rows of one group share a cluster.

    Args:
        examples: the file's rows.
        threshold: Jaccard at or above which two prompts are near-duplicates.
    """
    prompts = [prompt_text(example.messages) for example in examples]
    near = [(pair.a, pair.b) for pair in near_pairs(signatures(prompts), threshold)]
    return _items(examples, near + links_of_equal([example.group for example in examples]))


def sample_by_cluster(items: Sequence[Item], max_rows: int | None) -> tuple[Item, ...]:
    """Keep at most so many items, cluster by cluster in the order of their hash; order is kept as given."""
    if max_rows is None or len(items) <= max_rows:
        return tuple(items)
    chosen = sorted(items, key=lambda item: (_order(item.cluster), _order(item.row)))[:max_rows]
    rows = {item.row for item in chosen}
    return tuple(item for item in items if item.row in rows)


def _order(text: str) -> str:
    return hashlib.sha256(f"sample:{text}".encode()).hexdigest()


def _items(examples: Sequence[Example], links: Sequence[tuple[int, int]]) -> tuple[Item, ...]:
    labels = connected(len(examples), links)
    return tuple(
        Item(example.id, examples[label].id, prompt_digest(example), dict(example.slices))
        for example, label in zip(examples, labels, strict=True)
    )


def _read_lineage(data: bytes) -> dict[str, tuple[Json, Json]]:
    links: dict[str, tuple[Json, Json]] = {}
    for number, line in enumerate(data.splitlines(), start=1):
        try:
            fields = _LINE.validate_json(line)
            links[str(fields["row"])] = (fields["cluster"], fields.get("group"))
        except (ValidationError, KeyError) as error:
            raise BlobCorrupt(
                f"line {number} of a dataset's lineage does not parse; expected row and cluster. "
                "Curate again."
            ) from error
    return links
