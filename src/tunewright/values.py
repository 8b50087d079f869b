"""Values that everything else is built from: references, digests, canonical JSON, fingerprints, time."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple, NewType, Self

from pydantic import GetCoreSchemaHandler, JsonValue
from pydantic_core import CoreSchema, core_schema

from tunewright.errors import UsageError

Digest = NewType("Digest", str)
"""SHA-256 of content, 64 lower-case hexadecimal characters."""

Json = JsonValue
"""Any JSON value."""

NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")
"""What a recipe, dataset, run or model may be called."""


_VERSION = re.compile(r"[1-9][0-9]{0,8}")


class _RefFields(NamedTuple):
    name: str
    version: int


class Ref(_RefFields):
    """A version of something named: `support@2`. Its kind is fixed by where it stands."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `name@n`; raises UsageError."""
        name, _, version = text.partition("@")
        if not NAME.fullmatch(name) or not _VERSION.fullmatch(version):
            raise UsageError(f"{text!r} is not a reference; expected name@version, such as support@2")
        return cls(name, int(version))

    def __str__(self) -> str:
        """Write `name@n`."""
        return f"{self.name}@{self.version}"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: type, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Store as the string `name@n`."""
        return core_schema.no_info_plain_validator_function(
            lambda value: value if isinstance(value, cls) else cls.parse(str(value)),
            serialization=core_schema.plain_serializer_function_ser_schema(str),
        )


def node(kind: str, ref: Ref | str) -> str:
    """Name a node of the lineage graph, such as `dataset:support@2` or `source:<digest>`."""
    return f"{kind}:{ref}"


def canonical_json(value: object) -> bytes:
    """Encode as JSON with sorted keys, no spaces, UTF-8 (after RFC 8785; floats as Python's shortest repr).

    Raises:
        ValueError: the value holds NaN or infinity.
        TypeError: the value holds something that is not JSON.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", errors="surrogatepass")


def digest_bytes(data: bytes) -> Digest:
    """Hash bytes with SHA-256."""
    return Digest(hashlib.sha256(data).hexdigest())


def digest_json(value: object) -> Digest:
    """Hash the canonical JSON of a value."""
    return digest_bytes(canonical_json(value))


def fingerprint(stage: str, code_version: int, inputs: Mapping[str, object]) -> Digest:
    """Say "already made": hash of the stage, the version of its code and everything that went in."""
    return digest_json({"stage": stage, "code_version": code_version, "inputs": dict(inputs)})


def merkle_root(ids: Sequence[str]) -> Digest:
    """Fold sorted ids into one SHA-256 Merkle root (RFC 6962 shape: leaf prefix 0, node prefix 1)."""
    level = [hashlib.sha256(b"\x00" + item.encode()).digest() for item in sorted(ids)]
    if not level:
        return digest_bytes(b"")
    while len(level) > 1:
        odd = level[-1:] if len(level) % 2 else []
        pairs = zip(level[::2], level[1::2], strict=False)
        level = [hashlib.sha256(b"\x01" + left + right).digest() for left, right in pairs] + odd
    return Digest(level[0].hex())


def utc_now() -> datetime:
    """Read the clock, UTC and aware."""
    return datetime.now(UTC)
