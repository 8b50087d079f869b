"""Rows as stored in a split's blob: JSON lines of Example, and reading a split back.

Nothing here knows how rows were chosen; that is curation's business.
"""

from collections.abc import Iterable

from pydantic import ValidationError

from tunewright.errors import BlobCorrupt, HeldOutLeak, UnknownReference
from tunewright.ports import Blobs, VaultSession
from tunewright.records import DatasetVersion, Example, Split
from tunewright.values import canonical_json


def encode_examples(examples: Iterable[Example]) -> bytes:
    """Encode as JSON lines of canonical JSON, in the order given; equal examples give equal bytes."""
    return b"".join(canonical_json(example.to_json()) + b"\n" for example in examples)


def decode_examples(data: bytes) -> list[Example]:
    """Read what `encode_examples` wrote.

    Raises:
        BlobCorrupt: a line is not an example; the message names the line, never its text.
    """
    examples: list[Example] = []
    for number, line in enumerate(data.splitlines(), start=1):
        try:
            examples.append(Example.model_validate_json(line))
        except ValidationError as error:
            raise BlobCorrupt(
                f"line {number} of a split's rows is not an example ({error.error_count()} problems); "
                "expected JSON lines written by curation. Curate again."
            ) from None  # the validation error quotes the row's text
    return examples


def load_split(
    dataset: DatasetVersion, split: Split, blobs: Blobs, session: VaultSession | None = None
) -> list[Example]:
    """Read the rows of one split, in stored order.

    Args:
        dataset: the version to read from.
        split: which side.
        blobs: where the bytes are.
        session: an opened vault; needed for `held_out` and ignored otherwise.

    Raises:
        HeldOutLeak: `held_out` was asked for without an opened vault.
        UnknownReference: the dataset has no such split.
        BlobMissing, BlobCorrupt, IntegrityError: the stored bytes are not what the record says.
    """
    info = dataset.splits.get(split)
    if info is None:
        raise UnknownReference(
            f"{dataset.ref} has no split {split!r}; it has {', '.join(sorted(dataset.splits)) or 'none'}"
        )
    data = blobs.get(info.blob)
    if split == "held_out":
        if session is None:
            raise HeldOutLeak(
                f"the held-out rows of {dataset.ref} were asked for without an opened vault; "
                "only curation, evaluation and audit may open it"
            )
        data = session.unseal(data)
    return decode_examples(data)
