"""Shared fakes of every port: small, in memory, honest about the contract.

Use `fake_ports(tmp_path)` for a whole set; replace single ports with `dataclasses.replace`.
"""

import base64
import difflib
import hashlib
import hmac
import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

import tunewright
from tunewright.errors import (
    AliasConflict,
    BaseNotFound,
    BlobCorrupt,
    BlobMissing,
    IntegrityError,
    SignatureInvalid,
    UnknownReference,
    WorkerFailed,
)
from tunewright.ports import (
    BaseFiles,
    Commit,
    Engine,
    GenerateRequest,
    Generation,
    Heads,
    Ports,
    Purpose,
    RawLedger,
)
from tunewright.records import AliasState, BaseModelRef, Edge, EventDraft, LedgerEvent, Record
from tunewright.values import Digest, Json, Ref, digest_bytes, digest_json, node

TINY_BASE = Path(tunewright.__file__).parent / "demo" / "base"
START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class FixedClock:
    """Stands still until told to move."""

    def __init__(self, now: datetime = START) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def tick(self, seconds: float = 1.0) -> None:
        self.now += timedelta(seconds=seconds)


class SilentProgress:
    """Says nothing, remembers everything."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.updates: list[tuple[int, str]] = []
        self.finished: list[str] = []

    def start(self, stage: str, total: int | None = None, unit: str = "rows") -> None:
        self.started.append(stage)

    def update(self, done: int, note: str = "") -> None:
        self.updates.append((done, note))

    def finish(self, summary: str) -> None:
        self.finished.append(summary)


class InMemoryBlobs:
    """A dict of bytes; `get` verifies, so a test may damage `stored`."""

    def __init__(self) -> None:
        self.stored: dict[Digest, bytes] = {}

    def put(self, data: bytes) -> Digest:
        digest = digest_bytes(data)
        self.stored.setdefault(digest, bytes(data))
        return digest

    def get(self, digest: Digest) -> bytes:
        if digest not in self.stored:
            raise BlobMissing(f"blob {digest} is not in the store")
        data = self.stored[digest]
        if digest_bytes(data) != digest:
            raise BlobCorrupt(f"blob {digest} does not hash to its name")
        return data

    def has(self, digest: Digest) -> bool:
        return digest in self.stored

    def digests(self) -> Sequence[Digest]:
        return sorted(self.stored)


class InMemoryRecords:
    """Records, edges, heads, aliases and a hash-chained ledger in lists and dicts."""

    def __init__(self, clock: Callable[[], datetime] | None = None) -> None:
        self.clock = clock or FixedClock()
        self.stored: dict[str, dict[Ref, Record]] = {}
        self.edges: list[Edge] = []
        self.ledger: list[LedgerEvent] = []
        self.heads: dict[str, str] = {}
        self.alias_states: dict[tuple[str, str], AliasState] = {}
        self.commits = 0
        self.before_commit: Callable[[], None] = lambda: None
        """Called at the start of every commit: a test's chance to interfere (another process, a crash)."""

    def commit(self, commit: Commit) -> Record:
        self.before_commit()
        versions = self.stored.setdefault(commit.kind, {})
        latest = max((ref.version for ref in versions if ref.name == commit.name), default=0)
        ref = Ref(commit.name, latest + 1)
        record = commit.make(ref)
        existing = self.find(commit.kind, fingerprint_of(record))
        if existing is not None:
            return existing
        event = self._swap_heads(commit.event, commit.heads)
        versions[ref] = record
        self.edges.extend(commit.edges(ref))
        self.commits += 1
        self._link(event, node(commit.kind, ref), record.content_digest())
        return record

    def append(self, event: EventDraft, *, heads: Heads | None = None) -> LedgerEvent:
        return self._link(self._swap_heads(event, heads or {}), event.subject, None)

    def tip(self) -> int:
        return len(self.ledger)

    def get(self, kind: str, ref: Ref) -> Record:
        found = self.stored.get(kind, {}).get(ref)
        if found is None:
            known = [str(other) for other in self.stored.get(kind, {})]
            near = difflib.get_close_matches(str(ref), known) or known
            raise UnknownReference(f"no {kind} {ref}; nearest: {', '.join(near) or 'none'}")
        return found

    def latest(self, kind: str, name: str) -> Record | None:
        versions = [ref for ref in self.stored.get(kind, {}) if ref.name == name]
        return self.stored[kind][max(versions)] if versions else None

    def find(self, kind: str, fingerprint: Digest) -> Record | None:
        found = (r for r in self.stored.get(kind, {}).values() if fingerprint_of(r) == fingerprint)
        return next(found, None)

    def list(self, kind: str, name: str | None = None) -> Sequence[Record]:
        return [r for ref, r in self.stored.get(kind, {}).items() if name is None or ref.name == name]

    def parents(self, node: str) -> Sequence[Edge]:
        return [edge for edge in self.edges if edge.child == node]

    def children(self, node: str) -> Sequence[Edge]:
        return [edge for edge in self.edges if edge.parent == node]

    def events(self, *, kind: str | None = None, subject: str | None = None) -> Sequence[LedgerEvent]:
        return [
            event
            for event in self.ledger
            if (kind is None or event.kind == kind) and (subject is None or event.subject == subject)
        ]

    def head(self, key: str) -> str | None:
        return self.heads.get(key)

    def alias(self, name: str, alias: str) -> AliasState:
        empty = AliasState(name=name, alias=alias, target=None, revision=0)
        return self.alias_states.get((name, alias), empty)

    def aliases(self) -> Sequence[AliasState]:
        return [self.alias_states[key] for key in sorted(self.alias_states)]

    def move_alias(
        self, expected: AliasState, target: Ref | None, event: EventDraft, *, heads: Heads | None = None
    ) -> AliasState:
        if self.alias(expected.name, expected.alias) != expected:
            raise AliasConflict(f"alias {expected.name}/{expected.alias} moved meanwhile")
        event = self._swap_heads(event, heads or {})
        moved = expected.model_copy(update={"target": target, "revision": expected.revision + 1})
        self.alias_states[expected.name, expected.alias] = moved
        self._link(event, event.subject, None)
        return moved

    def raw(self) -> RawLedger:
        records = {
            node(kind, ref): json.dumps(record.to_json(), sort_keys=True)
            for kind, versions in self.stored.items()
            for ref, record in versions.items()
        }
        events = [dict(event.to_json()) for event in self.ledger]
        return RawLedger(events=events, records=records, aliases=self.aliases())

    def _swap_heads(self, event: EventDraft, heads: Heads) -> EventDraft:
        for key, (expected, _) in heads.items():
            if self.heads.get(key) != expected:
                raise AliasConflict(f"head {key!r} moved: expected {expected}, found {self.heads.get(key)}")
        new = {key: value for key, (_, value) in heads.items()}
        self.heads |= new
        return event.model_copy(update={"detail": {**event.detail, "heads": new}}) if new else event

    def _link(self, draft: EventDraft, subject: str, record_digest: Digest | None) -> LedgerEvent:
        previous = self.ledger[-1].hash if self.ledger else Digest("0" * 64)
        unhashed = LedgerEvent(
            seq=len(self.ledger) + 1,
            at=self.clock(),
            kind=draft.kind,
            actor=draft.actor,
            subject=subject,
            detail=draft.detail,
            record_digest=record_digest,
            previous=previous,
            hash=Digest(""),
        )
        content = {key: value for key, value in unhashed.to_json().items() if key != "hash"}
        event = unhashed.model_copy(update={"hash": digest_json(content)})
        self.ledger.append(event)
        return event


def fingerprint_of(record: Record) -> Digest:
    """The fingerprint of a stored record."""
    return Digest(str(record.to_json()["fingerprint"]))


class FakeVaultSession:
    """AES-256-GCM with one key."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def seal(self, plaintext: bytes) -> bytes:
        nonce = os.urandom(12)
        return nonce + self._cipher.encrypt(nonce, plaintext, None)

    def unseal(self, ciphertext: bytes) -> bytes:
        try:
            return self._cipher.decrypt(ciphertext[:12], ciphertext[12:], None)
        except (InvalidTag, ValueError) as error:
            raise IntegrityError("sealed bytes were tampered with or made with another key") from error


class FakeVault:
    """Appends a look, then hands out a session, as the real one does."""

    def __init__(self, records: InMemoryRecords, key: bytes = b"k" * 32) -> None:
        self.records = records
        self.key = key

    def open(self, purpose: Purpose, subject: str, actor: str) -> FakeVaultSession:
        self.records.append(
            EventDraft(kind="look", actor=actor, subject=subject, detail={"purpose": purpose})
        )
        return FakeVaultSession(self.key)


class FakeSigner:
    """HMAC in place of ed25519: wrong data, key or signature is refused all the same."""

    def __init__(self, key: bytes = b"signing key", key_id: str = "fake-key") -> None:
        self.key = key
        self.key_id = key_id

    def sign(self, data: bytes) -> tuple[str, str]:
        return base64.b64encode(hmac.digest(self.key, data, "sha256")).decode(), self.key_id

    def verify(self, data: bytes, signature: str, key_id: str) -> None:
        expected, _ = self.sign(data)
        if key_id != self.key_id or not hmac.compare_digest(signature, expected):
            raise SignatureInvalid(f"signature by {key_id} does not verify")


class FakeBases:
    """Knows folders by name; `tiny` is the shipped base."""

    def __init__(self, folders: Mapping[str, Path] | None = None) -> None:
        self.folders = {"tiny": TINY_BASE} | dict(folders or {})

    def resolve(self, name: str) -> BaseFiles:
        folder = self.folders.get(name)
        if folder is None:
            raise BaseNotFound(f"no base {name!r}; known: {', '.join(sorted(self.folders))}")
        files = {
            path.name: Digest(hashlib.sha256(path.read_bytes()).hexdigest())
            for path in sorted(folder.iterdir())
            if path.is_file()
        }
        tokenizer_files = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
        ref = BaseModelRef(
            name=name,
            digest=digest_json(files),
            tokenizer_digest=digest_json({file: files[file] for file in tokenizer_files}),
        )
        return BaseFiles(
            ref=ref,
            folder=folder,
            files=files,
            tokenizer_json=(folder / "tokenizer.json").read_text("utf-8"),
            tokenizer_config=json.loads((folder / "tokenizer_config.json").read_text("utf-8")),
            chat_template=(folder / "chat_template.jinja").read_text("utf-8"),
            config=json.loads((folder / "config.json").read_text("utf-8")),
        )


FakeWorker = Callable[[Path, Callable[[Mapping[str, Json]], None]], int]


class FakeExecutor:
    """Runs a function in place of a worker module: workers["tunewright.train.worker"] = fn."""

    def __init__(self, workers: Mapping[str, FakeWorker] | None = None) -> None:
        self.workers = dict(workers or {})

    def run(self, module: str, folder: Path, *, on_line: Callable[[Mapping[str, Json]], None]) -> int:
        if module not in self.workers:
            raise WorkerFailed(f"no fake worker for {module}")
        return self.workers[module](folder, on_line)


def echo(request: GenerateRequest) -> str:
    """Answer with the last message; the default brain of a FakeEngine."""
    return request.messages[-1]["content"]


@dataclass
class FakeEngine:
    """Answers by a plain function of the request; remembers adapters and requests."""

    answer: Callable[[GenerateRequest], str] = echo
    adapters: dict[Digest, Mapping[str, bytes]] = field(default_factory=dict)
    requests: list[GenerateRequest] = field(default_factory=list)

    def load_adapter(self, digest: Digest, files: Mapping[str, bytes]) -> None:
        self.adapters[digest] = files

    def generate(
        self, requests: Sequence[GenerateRequest], *, on_done: Callable[[int], None] = lambda done: None
    ) -> list[Generation]:
        answers: list[Generation] = []
        for request in requests:
            self.requests.append(request)
            text = self.answer(request)
            answers.append(
                Generation(
                    text=text,
                    num_prompt_tokens=len(self.tokenize(request.messages, add_generation_prompt=True)),
                    num_tokens=min(len(text.encode()), request.max_tokens),
                    finish_reason="stop",
                    latency_s=0.01,
                    model=request.model,
                )
            )
            on_done(len(answers))
        return answers

    def logprobs(self, rows: Sequence[Sequence[int]], model: str) -> list[list[float]]:
        return [[0.0] + [-1.0] * (len(row) - 1) for row in rows]

    def tokenize(self, messages: Sequence[Mapping[str, str]], *, add_generation_prompt: bool) -> list[int]:
        text = "".join(f"<{m['role']}>{m['content']}" for m in messages)
        return list((text + ("<assistant>" if add_generation_prompt else "")).encode())


class FakeEngines:
    """Hands out one engine, any base."""

    def __init__(self, engine: Engine | None = None) -> None:
        self.engine = engine or FakeEngine()
        self.started: list[Path] = []

    @contextmanager
    def start(self, base: Path):
        self.started.append(base)
        yield self.engine


def fake_ports(tmp_path: Path, engine: Engine | None = None) -> Ports:
    """A whole set of fakes; raw files belong under `tmp_path / "data"`."""
    clock = FixedClock()
    records = InMemoryRecords(clock)
    (tmp_path / "data").mkdir(exist_ok=True)
    (tmp_path / "runs").mkdir(exist_ok=True)
    return Ports(
        records=records,
        blobs=InMemoryBlobs(),
        vault=FakeVault(records),
        signer=FakeSigner(),
        bases=FakeBases(),
        executor=FakeExecutor(),
        engines=FakeEngines(engine),
        progress=SilentProgress(),
        clock=clock,
        data_root=tmp_path / "data",
        runs_dir=tmp_path / "runs",
        actor="tester",
    )
