"""The vault's memory: the same bytes for the same rows, and rows that never move."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunewright.core.text import signature, text_digest
from tunewright.curate.memory import Remembered, VaultMemory
from tunewright.errors import BlobCorrupt, HeldOutLeak
from tunewright.values import digest_bytes


def a_row(text: str, side="train", group: str | None = None) -> Remembered:
    group_key = digest_bytes(group.encode()) if group else None
    return Remembered(digest_bytes(text.encode()), side, text_digest(text), group_key, signature(text))


ROWS = st.lists(
    st.builds(a_row, st.text(max_size=30), st.just("held_out"), st.none() | st.text(min_size=1, max_size=3)),
    max_size=8,
)


@given(ROWS)
def test_memory_survives_writing_and_reading(rows: list[Remembered]):
    memory = VaultMemory(rows)
    again = VaultMemory.from_bytes(memory.to_bytes())
    assert again.digest == memory.digest
    for row, same in zip(memory.rows, again.rows, strict=True):
        assert (row.id, row.side, row.prompt, row.group) == (same.id, same.side, same.prompt, same.group)
        assert row.signature.key == same.signature.key
        assert row.signature.num_tokens == same.signature.num_tokens


def test_the_order_of_adding_does_not_matter():
    a, b, c = a_row("a"), a_row("b", "held_out"), a_row("c", group="g")
    assert VaultMemory().add([a, b]).add([c]).digest == VaultMemory().add([c, b]).add([a, b]).digest


def test_the_format_is_pinned():
    pinned = "e4c7f1d170761df6b0a8493d563a24f31e71c9e9b79149257750944619667b25"
    assert VaultMemory([a_row("one latte", group="g"), a_row("x", "held_out")]).digest == pinned


def test_a_recorded_row_cannot_change_its_side():
    memory = VaultMemory([a_row("a", "held_out")])
    with pytest.raises(HeldOutLeak, match="recorded as held_out and would now become train"):
        memory.add([a_row("a", "train")])


def test_adding_leaves_the_old_memory_as_it_was():
    memory = VaultMemory([a_row("a")])
    assert len(memory.add([a_row("b")])) == 2
    assert len(memory) == 1


def test_side_names_what_was_recorded():
    memory = VaultMemory([a_row("a", "held_out")])
    assert memory.side(a_row("a").id) == "held_out"
    assert memory.side(a_row("b").id) is None


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[:-1], "expected"),
        (lambda data: data + b"x", "too many"),
        (lambda data: b"X" + data[1:], "does not start as one"),
        (lambda data: data[:8] + struct.pack("<Q", 1 << 60) + data[16:], "ends at byte"),
        (lambda data: data[:112] + b"\x07" + data[113:], "names a side 7"),
        (lambda data: b"", "ends at byte 0"),
    ],
)
def test_damaged_bytes_are_refused(damage, message: str):
    with pytest.raises(BlobCorrupt, match=message):
        VaultMemory.from_bytes(damage(VaultMemory([a_row("one latte")]).to_bytes()))
