"""Sealed bytes: the held-out side is encrypted, all is sorted, sums close, digests cover content only."""

import json
import random
from pathlib import Path

import pytest
from tests.fakes import FakeVaultSession, InMemoryBlobs, fake_ports

from tunewright.core.rows import decode_examples
from tunewright.curate.seal import (
    KeptRow,
    count_sources,
    dataset_digest,
    encode_lineage,
    encode_neighbours,
    encode_rejections,
    seal_splits,
)
from tunewright.records import Example, Message, Rejection, Source, Split
from tunewright.values import Digest, digest_bytes, merkle_root

FILE = digest_bytes(b"file")


def place(line: int, path: str = "a.jsonl", digest: Digest = FILE) -> Source:
    return Source(digest=digest, path=path, line=line)


def kept(line: int, split: Split, path: str = "a.jsonl", answer: str = "yes") -> KeptRow:
    messages = (Message(role="user", content=f"question {line}"), Message(role="assistant", content=answer))
    example = Example(id=digest_bytes(b"%d" % line), messages=messages, source=place(line, path), group="g")
    return KeptRow(example, split, digest_bytes(b"cluster"), (place(line, path), place(line + 100, path)))


def rejection(line: int, reason: str = "empty_turn", path: str = "a.jsonl") -> Rejection:
    return Rejection(source=place(line, path), step="validate", reason=reason)


ROWS = [kept(1, "train"), kept(2, "validation"), kept(3, "held_out"), kept(4, "train")]
REJECTED = [rejection(5), rejection(6, "too_long")]


@pytest.fixture
def session(tmp_path: Path) -> FakeVaultSession:
    return fake_ports(tmp_path).vault.open("curate", "dataset:x", "me")


def test_held_out_text_is_not_readable_in_any_blob(session: FakeVaultSession):
    blobs = InMemoryBlobs()
    infos = seal_splits(ROWS, blobs, session)
    assert not any(b"question 3" in data for data in blobs.stored.values())
    assert any(b"question 1" in data for data in blobs.stored.values())
    opened = decode_examples(session.unseal(blobs.get(infos["held_out"].blob)))
    assert [row.id for row in opened] == [ROWS[2].example.id]


def test_a_split_is_named_by_the_merkle_root_of_its_row_ids(session: FakeVaultSession):
    infos = seal_splits(ROWS, InMemoryBlobs(), session)
    assert infos["train"].rows == 2
    assert infos["train"].digest == merkle_root([ROWS[0].example.id, ROWS[3].example.id])


def test_the_order_of_rows_changes_nothing(session: FakeVaultSession):
    shuffled, rejected = ROWS[:], REJECTED[::-1]
    random.Random(3).shuffle(shuffled)
    assert encode_lineage(shuffled) == encode_lineage(ROWS)
    assert encode_rejections(rejected) == encode_rejections(REJECTED)
    assert dataset_digest(shuffled, rejected) == dataset_digest(ROWS, REJECTED)
    assert encode_neighbours({Digest("b"): 0.5, Digest("a"): 0.25}) == b'{"a":0.25,"b":0.5}'


def test_a_renamed_file_does_not_change_the_digest_but_every_other_change_does():
    renamed = [kept(int(row.example.source.line), row.split, path="b.jsonl") for row in ROWS]
    digest = dataset_digest(ROWS, REJECTED)
    assert (
        dataset_digest(renamed, [rejection(5, path="b.jsonl"), rejection(6, "too_long", "b.jsonl")]) == digest
    )
    assert dataset_digest([kept(1, "validation"), *ROWS[1:]], REJECTED) != digest
    assert dataset_digest([kept(1, "train", answer="<EMAIL_1>"), *ROWS[1:]], REJECTED) != digest
    assert dataset_digest(ROWS[1:], REJECTED) != digest
    assert dataset_digest(ROWS, [REJECTED[0], rejection(6, "too_short")]) != digest


def test_lineage_lists_every_line_and_no_text():
    line = json.loads(encode_lineage(ROWS).splitlines()[0])
    assert sorted(line) == ["cluster", "group", "row", "sources", "split"]
    assert [source[2] - line["sources"][0][2] for source in line["sources"]] == [0, 100]
    assert b"question" not in encode_lineage(ROWS)


def test_sums_close_for_every_source():
    other = digest_bytes(b"other")
    rejected = [*REJECTED, Rejection(source=place(1, "b.jsonl", other), step="read", reason="broken_json")]
    counts = count_sources({("b.jsonl", other): 1, ("a.jsonl", FILE): 6}, ROWS, rejected)
    assert [(c.path, c.rows_in, c.rows_kept, c.removed) for c in counts] == [
        ("a.jsonl", 6, 4, {"empty_turn": 1, "too_long": 1}),
        ("b.jsonl", 1, 0, {"broken_json": 1}),
    ]


def test_a_row_that_vanished_is_our_own_bug():
    with pytest.raises(AssertionError, match="sums do not close"):
        count_sources({("a.jsonl", FILE): 7}, ROWS, REJECTED)
