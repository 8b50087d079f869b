"""Rows survive storage; the held-out side does not open without the vault."""

from pathlib import Path

import pytest
from tests.fakes import fake_ports

from tunewright.core.rows import decode_examples, encode_examples, load_split
from tunewright.errors import BlobCorrupt, HeldOutLeak, IntegrityError, UnknownReference
from tunewright.records import DatasetVersion, Example, Message, Source, SplitInfo
from tunewright.values import Digest, Ref, digest_bytes, merkle_root, utc_now


def an_example(text: str = "hi\u2028there\u0085\nyou\r") -> Example:
    return Example(
        id=digest_bytes(text.encode()),
        messages=(Message(role="user", content=text), Message(role="assistant", content="ok 😀")),
        group="g",
        time=utc_now(),
        slices={"b": "2", "a": "1"},
        source=Source(digest=digest_bytes(b"file"), path="a.jsonl", line=3),
    )


def a_dataset(**splits: SplitInfo) -> DatasetVersion:
    nothing = Digest("0" * 64)
    return DatasetVersion.model_validate(
        dict(
            ref=Ref("shop", 1), digest=nothing, fingerprint=nothing, sources=(), rows_in=0, rows_kept=0,
            removed={}, splits=splits, num_clusters=0, effective_clusters=0.0, rejections=nothing,
            lineage=nothing, neighbours=nothing, vault_before=nothing, vault_after=nothing,
            created_at=utc_now(),
        )
    )  # fmt: skip


def test_examples_with_unicode_line_breaks_survive_storage():
    rows = [an_example(), an_example("two")]
    assert decode_examples(encode_examples(rows)) == rows


def test_equal_examples_give_equal_bytes_whatever_the_order_of_their_slices():
    row = an_example()
    other = row.model_copy(update={"slices": dict(reversed(row.slices.items()))})
    assert encode_examples([row]) == encode_examples([other])


def test_a_damaged_line_is_named_without_its_text():
    data = encode_examples([an_example("one"), an_example("secret words")])[:-5]
    with pytest.raises(BlobCorrupt, match="line 2") as caught:
        decode_examples(data)
    assert "secret" not in str(caught.value)


def test_held_out_rows_need_an_opened_vault(tmp_path: Path):
    ports = fake_ports(tmp_path)
    session = ports.vault.open("curate", "dataset:shop@1", "me")
    rows = [an_example()]
    blob = ports.blobs.put(session.seal(encode_examples(rows)))
    dataset = a_dataset(held_out=SplitInfo(rows=1, digest=merkle_root([rows[0].id]), blob=blob))
    with pytest.raises(HeldOutLeak, match="without an opened vault"):
        load_split(dataset, "held_out", ports.blobs)
    assert load_split(dataset, "held_out", ports.blobs, session) == rows


def test_sealed_rows_that_were_damaged_are_refused(tmp_path: Path):
    ports = fake_ports(tmp_path)
    session = ports.vault.open("curate", "dataset:shop@1", "me")
    sealed = bytearray(session.seal(encode_examples([an_example()])))
    sealed[-1] ^= 1
    blob = ports.blobs.put(bytes(sealed))
    dataset = a_dataset(held_out=SplitInfo(rows=1, digest=merkle_root([]), blob=blob))
    with pytest.raises(IntegrityError):
        load_split(dataset, "held_out", ports.blobs, session)


def test_a_split_that_does_not_exist_is_named(tmp_path: Path):
    with pytest.raises(UnknownReference, match="validation"):
        load_split(a_dataset(), "validation", fake_ports(tmp_path).blobs)
