"""What the vault remembers of every row ever recorded: its side, how to recognise it. Pure; no keys, no text.

Bytes are the same for the same rows in whatever order they were added: a small header, then columns sorted by
row id, little-endian. About 900 bytes a row of 100 characters.
"""

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tunewright.core.text import Hashes, Signature
from tunewright.errors import BlobCorrupt, HeldOutLeak
from tunewright.values import Digest, digest_bytes

Side = Literal["train", "held_out"]
"""Validation counts as train."""

_MAGIC = b"TWVAULT1"
_SIDES: tuple[Side, Side] = ("train", "held_out")
_NO_GROUP = bytes(32)
_DIGEST_BYTES = 32


@dataclass(frozen=True, slots=True, eq=False)
class Remembered:
    """One recorded row."""

    id: Digest
    side: Side
    prompt: Digest
    """`text_digest` of the exact prompt."""
    group: Digest | None
    """Digest of the group key; absent where the row had none."""
    signature: Signature
    """Of the prompt."""


class VaultMemory:
    """Every row ever recorded, by id. Rows are added and never moved or removed."""

    def __init__(self, rows: Iterable[Remembered] = ()) -> None:
        self._rows = {row.id: row for row in sorted(rows, key=lambda row: row.id)}

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def rows(self) -> Sequence[Remembered]:
        """All rows, sorted by id."""
        return tuple(self._rows.values())

    def side(self, row: Digest) -> Side | None:
        """Say on which side a row was recorded, if it was."""
        found = self._rows.get(row)
        return found.side if found else None

    def add(self, rows: Iterable[Remembered]) -> "VaultMemory":
        """Remember more rows; a row known already stays as it was recorded.

        Raises:
            HeldOutLeak: a row would change its side.
        """
        merged = dict(self._rows)
        for row in rows:
            known = merged.setdefault(row.id, row)
            if known.side != row.side:
                raise HeldOutLeak(
                    f"row {row.id[:12]} was recorded as {known.side} and would now become {row.side}; a "
                    "recorded row never moves. Leave it out, or use a new workspace for a new product."
                )
        return VaultMemory(merged.values())

    @cached_property
    def digest(self) -> Digest:
        """Hash of the bytes."""
        return digest_bytes(self.to_bytes())

    def to_bytes(self) -> bytes:
        """Encode; equal for equal rows."""
        rows = self.rows
        parts = [
            _MAGIC,
            struct.pack("<Q", len(rows)),
            b"".join(bytes.fromhex(row.id) for row in rows),
            b"".join(bytes.fromhex(row.prompt) for row in rows),
            b"".join(bytes.fromhex(row.group) if row.group else _NO_GROUP for row in rows),
            bytes(_SIDES.index(row.side) for row in rows),
            np.array([_sizes(row.signature) for row in rows], "<i8").tobytes(),
            *(column.astype("<u8").tobytes() for row in rows for column in _columns(row.signature)),
        ]
        return b"".join(parts)

    @classmethod
    def from_bytes(cls, data: bytes) -> "VaultMemory":
        """Decode what `to_bytes` wrote.

        Raises:
            BlobCorrupt: the bytes are cut short, too long, or of another kind.
        """
        cursor = _Cursor(data)
        if cursor.take(len(_MAGIC)) != _MAGIC:
            raise BlobCorrupt("the vault memory does not start as one; expected version 1. Restore the blob.")
        count = int.from_bytes(cursor.take(8), "little")
        ids, prompts, groups = (cursor.digests(count) for _ in range(3))
        sides = cursor.sides(count)
        sizes = cursor.array("<i8", 3 * count).reshape(count, 3).tolist()
        rows: list[Remembered] = []
        for place, (num_tokens, num_words, num_chars) in enumerate(sizes):
            signature = Signature(num_tokens, cursor.hashes(num_words), cursor.hashes(num_chars))
            group = None if groups[place] == _NO_GROUP else Digest(groups[place].hex())
            row_id, prompt = Digest(ids[place].hex()), Digest(prompts[place].hex())
            rows.append(Remembered(row_id, sides[place], prompt, group, signature))
        cursor.expect_end()
        return cls(rows)


def _sizes(signature: Signature) -> tuple[int, int, int]:
    return signature.num_tokens, signature.words.size, signature.chars.size


def _columns(signature: Signature) -> tuple[Hashes, Hashes]:
    return signature.words, signature.chars


class _Cursor:
    """Reads bytes from front to back."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, num_bytes: int) -> bytes:
        taken = self._data[self._at : self._at + num_bytes]
        if num_bytes < 0 or len(taken) != num_bytes:
            raise BlobCorrupt(
                f"the vault memory ends at byte {len(self._data)}; expected {num_bytes} more bytes at byte "
                f"{self._at}. Restore the blob."
            )
        self._at += num_bytes
        return taken

    def digests(self, count: int) -> list[bytes]:
        data = self.take(_DIGEST_BYTES * count)
        return [data[start : start + _DIGEST_BYTES] for start in range(0, len(data), _DIGEST_BYTES)]

    def sides(self, count: int) -> list[Side]:
        codes = self.take(count)
        if codes and max(codes) >= len(_SIDES):
            raise BlobCorrupt(
                f"the vault memory names a side {max(codes)}; expected 0 or 1. Restore the blob."
            )
        return [_SIDES[code] for code in codes]

    def array(self, dtype: str, count: int) -> NDArray[np.int64]:
        return np.frombuffer(self.take(8 * count), dtype).astype(np.int64)

    def hashes(self, count: int) -> Hashes:
        return np.frombuffer(self.take(8 * count), "<u8").astype(np.uint64)

    def expect_end(self) -> None:
        if self._at != len(self._data):
            raise BlobCorrupt(
                f"the vault memory holds {len(self._data) - self._at} bytes too many. Restore the blob."
            )
