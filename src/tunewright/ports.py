"""What the stages need from the world, as protocols; `backends/` implements them, `app.py` chooses."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal, Protocol

from tunewright.records import AliasState, BaseModelRef, Edge, EventDraft, LedgerEvent, Record
from tunewright.values import Digest, Json, Ref

Purpose = Literal["curate", "evaluate", "audit"]
Heads = Mapping[str, tuple[str | None, str]]
"""Head key -> (expected value, new value)."""


class Blobs(Protocol):
    """Content-addressed, write-once bytes. Every write is atomic: temporary file, fsync, rename."""

    def put(self, data: bytes) -> Digest:
        """Store bytes; storing them again changes nothing. Raises StorageError (full, read-only)."""
        ...

    def get(self, digest: Digest) -> bytes:
        """Read and verify. Raises BlobMissing, BlobCorrupt."""
        ...

    def has(self, digest: Digest) -> bool:
        """Say whether a blob of this name exists; does not verify."""
        ...

    def digests(self) -> Sequence[Digest]:
        """List every stored name, sorted."""
        ...


def _no_edges(ref: Ref) -> Sequence[Edge]:
    return ()


@dataclass(frozen=True, slots=True)
class Commit:
    """One transaction: a record, its edges, its ledger event, and the heads it moves."""

    kind: str
    name: str
    make: Callable[[Ref], Record]
    """Called inside the transaction with the next free version."""
    event: EventDraft
    """The subject is replaced by the new record's node."""
    edges: Callable[[Ref], Sequence[Edge]] = _no_edges
    heads: Heads = field(default_factory=dict[str, tuple[str | None, str]])
    """Compare-and-swap; AliasConflict when it lost."""


class Records(Protocol):
    """Records, lineage and ledger in one database. Opened by App processes only."""

    def commit(self, commit: Commit) -> Record:
        """Write record, edges and event in one transaction.

        A record with the same fingerprint and kind that exists already is returned unchanged and nothing is
        written. Raises AliasConflict (a head moved), WorkspaceBusy, StorageError.
        """
        ...

    def append(self, event: EventDraft, *, heads: Heads | None = None) -> LedgerEvent:
        """Append one event that carries no record (look, waive, ...), and move heads with it.

        Raises AliasConflict (a head moved), WorkspaceBusy, StorageError.
        """
        ...

    def tip(self) -> int:
        """Read the number of the newest ledger event; 0 for an empty ledger. Cheap: made for polling."""
        ...

    def get(self, kind: str, ref: Ref) -> Record:
        """Read one record. Raises UnknownReference with the nearest known references."""
        ...

    def latest(self, kind: str, name: str) -> Record | None:
        """Read the highest version of a name."""
        ...

    def find(self, kind: str, fingerprint: Digest) -> Record | None:
        """Read the record with this fingerprint."""
        ...

    def list(self, kind: str, name: str | None = None) -> Sequence[Record]:
        """Read all records of a kind, oldest first."""
        ...

    def parents(self, node: str) -> Sequence[Edge]:
        """Edges into a node."""
        ...

    def children(self, node: str) -> Sequence[Edge]:
        """Edges out of a node."""
        ...

    def events(self, *, kind: str | None = None, subject: str | None = None) -> Sequence[LedgerEvent]:
        """Read the ledger, oldest first."""
        ...

    def head(self, key: str) -> str | None:
        """Read a head, such as `vault`."""
        ...

    def alias(self, name: str, alias: str) -> AliasState:
        """Read where an alias points; revision 0 and no target when it was never set."""
        ...

    def aliases(self) -> Sequence[AliasState]:
        """Read all aliases."""
        ...

    def move_alias(
        self, expected: AliasState, target: Ref | None, event: EventDraft, *, heads: Heads | None = None
    ) -> AliasState:
        """Move an alias if it still is as expected; writes the event, and heads, in the same transaction.

        Raises AliasConflict when the alias, or a head, is not as expected any more.
        """
        ...

    def raw(self) -> "RawLedger":
        """Read everything unparsed, for verification."""
        ...


@dataclass(frozen=True, slots=True)
class RawLedger:
    """What the database holds, word for word."""

    events: Sequence[Mapping[str, Json]]
    """Each ledger row as stored, oldest first."""
    records: Mapping[str, str]
    """node -> stored JSON text."""
    aliases: Sequence[AliasState]


class VaultSession(Protocol):
    """An opened vault."""

    def seal(self, plaintext: bytes) -> bytes:
        """Encrypt and authenticate (AES-256-GCM)."""
        ...

    def unseal(self, ciphertext: bytes) -> bytes:
        """Decrypt. Raises IntegrityError when tampered with or made with another key."""
        ...


class Vault(Protocol):
    """The workspace's key to its held-out rows; the key lives outside the workspace."""

    def open(self, purpose: Purpose, subject: str, actor: str) -> VaultSession:
        """Append the look to the ledger, then release the key."""
        ...


class Signer(Protocol):
    """ed25519. Private key in the user's configuration folder, public keys in the workspace."""

    def sign(self, data: bytes) -> tuple[str, str]:
        """Return (signature in base64, key id)."""
        ...

    def verify(self, data: bytes, signature: str, key_id: str) -> None:
        """Raise SignatureInvalid unless this signature by this known key fits."""
        ...


@dataclass(frozen=True, slots=True)
class BaseFiles:
    """A base model found on this machine."""

    ref: BaseModelRef
    folder: Path
    files: Mapping[str, Digest]
    """File name -> sha256."""
    tokenizer_json: str
    tokenizer_config: Mapping[str, Json]
    chat_template: str
    config: Mapping[str, Json]
    """config.json of the model."""


class Bases(Protocol):
    """Finds base models and says what they are by content."""

    def resolve(self, name: str) -> BaseFiles:
        """Find and hash a base (hashes are cached by size, mtime and inode).

        Raises BaseNotFound (names the folders looked in and how to supply one), BaseIncomplete.
        """
        ...


class Executor(Protocol):
    """Runs a worker module in a process of its own, with a scrubbed environment."""

    def run(self, module: str, folder: Path, *, on_line: Callable[[Mapping[str, Json]], None]) -> int:
        """Run `python -m module FOLDER`; each JSON line it prints goes to on_line. Returns the exit code.

        SIGINT and SIGTERM of the parent are passed on as SIGTERM, and the worker is given time to save.
        """
        ...


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """One chat to answer."""

    messages: Sequence[Mapping[str, str]]
    model: str
    """`base`, or the manifest digest of a loaded adapter."""
    max_tokens: int
    temperature: float = 0.0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Generation:
    """One answer."""

    text: str
    num_prompt_tokens: int
    num_tokens: int
    finish_reason: Literal["stop", "length"]
    latency_s: float
    model: str
    """The digest that really answered, as the engine says."""


class Engine(Protocol):
    """A running engine, spoken to over HTTP in the OpenAI wire format."""

    def load_adapter(self, digest: Digest, files: Mapping[str, bytes]) -> None:
        """Load verified adapter bytes under their digest. Raises BaseMismatch, EngineFailed."""
        ...

    def generate(
        self, requests: Sequence[GenerateRequest], *, on_done: Callable[[int], None] = ...
    ) -> list[Generation]:
        """Answer all requests, in order; calls on_done with the number finished. Raises EngineFailed."""
        ...

    def logprobs(self, rows: Sequence[Sequence[int]], model: str) -> list[list[float]]:
        """Natural-log probability of each token given those before it; the first entry is 0.0."""
        ...

    def tokenize(self, messages: Sequence[Mapping[str, str]], *, add_generation_prompt: bool) -> list[int]:
        """Token ids the engine would feed for these messages."""
        ...


class Engines(Protocol):
    """Starts engines."""

    def start(self, base: Path) -> AbstractContextManager[Engine]:
        """Start an engine process on a base folder; stops it on exit. Raises EngineFailed."""
        ...


class Progress(Protocol):
    """Tells the person what happens: bars on a terminal, plain lines elsewhere."""

    def start(self, stage: str, total: int | None = None, unit: str = "rows") -> None:
        """Begin a stage."""
        ...

    def update(self, done: int, note: str = "") -> None:
        """Say how far the current stage is."""
        ...

    def finish(self, summary: str) -> None:
        """End the current stage with one line."""
        ...


class Clock(Protocol):
    """Time, so that tests can make it jump."""

    def __call__(self) -> datetime:
        """Now, UTC and aware."""
        ...


@dataclass(frozen=True, slots=True)
class Ports:
    """Everything a stage may touch."""

    records: Records
    blobs: Blobs
    vault: Vault
    signer: Signer
    bases: Bases
    executor: Executor
    engines: Engines
    progress: Progress
    clock: Clock
    data_root: Path
    """Where relative source paths are looked up."""
    runs_dir: Path
    """Working folders of training runs (checkpoints); mutable."""
    actor: str
