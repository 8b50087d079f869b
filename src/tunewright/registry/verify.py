"""Re-hash everything: the ledger's chain, every record, every blob, every signature, every alias.

Survives whatever it finds and names the first broken link, in ledger order.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tunewright.errors import IntegrityError, SignatureInvalid, StorageError, TunewrightError
from tunewright.ports import Blobs, RawLedger, Records, Signer
from tunewright.records import ModelVersion, Record
from tunewright.registry.links import (
    BlobUse,
    Row,
    alias_problems,
    link_name,
    link_problems,
    named_blobs,
    named_records,
    read_record,
)
from tunewright.registry.load import check_signature
from tunewright.trees import refuse_unsafe_names
from tunewright.values import Digest, Json, Ref, node

_CANNOT = (
    "It cannot prove that nobody with write access made the whole registry anew or cut off its newest "
    "events: keep the newest hash elsewhere and compare.",
    "It cannot prove who used the signing key: whoever can read the key file can sign.",
    "It does not open the held-out rows; it proves that their sealed bytes are the ones recorded.",
    "It does not read the raw files; `tunewright models explain` says which of them have changed.",
)


@dataclass(frozen=True, slots=True)
class Verification:
    """What re-hashing found."""

    ok: bool
    links: int
    """Ledger events looked at."""
    first_broken: str | None
    """The first broken link, in ledger order."""
    problems: tuple[str, ...]
    newest_hash: str
    """Hash of the last event, to be kept elsewhere."""
    proves: tuple[str, ...]
    """Sentences: what this proves, and what it cannot."""


@dataclass(slots=True)
class _Walk:
    """What is looked at, and what was counted on the way."""

    raw: RawLedger
    records: Records
    blobs: Blobs
    signer: Signer
    checked: dict[Digest, str | None] = field(default_factory=dict[Digest, str | None])
    """Blob -> its problem; each is read once."""
    num_records: int = 0
    keys: set[str] = field(default_factory=set[str])


def verify_workspace(records: Records, blobs: Blobs, signer: Signer) -> Verification:
    """Check the whole workspace; reports, and never raises for what it finds."""
    return _verify(records, blobs, signer, lambda raw: None)


def verify_model(ref: Ref, records: Records, blobs: Blobs, signer: Signer) -> Verification:
    """Check the ledger's chain, and records, blobs and signatures of one model and all its ancestors.

    Raises:
        UnknownReference: the ledger knows no such model.
    """
    top = node("model", ref)

    def ancestors(raw: RawLedger) -> set[str]:
        if top not in raw.records and all(row.get("subject") != top for row in raw.events):
            records.get("model", ref)  # raises UnknownReference
        return _ancestors(top, raw)

    return _verify(records, blobs, signer, ancestors)


def _verify(
    records: Records, blobs: Blobs, signer: Signer, choose: Callable[[RawLedger], set[str] | None]
) -> Verification:
    try:
        walk = _Walk(records.raw(), records, blobs, signer)
    except (IntegrityError, StorageError) as error:
        return Verification(False, 0, str(error), (str(error),), "", _CANNOT)
    wanted = choose(walk.raw)
    problems = list(_event_problems(walk, wanted))
    if wanted is None:
        problems += _table_problems(walk)
    events = walk.raw.events
    return Verification(
        ok=not problems,
        links=len(events),
        first_broken=problems[0] if problems else None,
        problems=tuple(problems),
        newest_hash=str(events[-1].get("hash")) if events else "",
        proves=(*(() if problems else _proven(walk, wanted)), *_CANNOT),
    )


def _event_problems(walk: _Walk, wanted: set[str] | None) -> Iterator[str]:
    before: Row | None = None
    for row in walk.raw.events:
        subject = str(row.get("subject"))
        problems = link_problems(row, before)
        if row.get("record_digest") is not None and (wanted is None or subject in wanted):
            problems += _record_problems(walk, row, subject)
        yield from (f"{link_name(row)}: {problem}" for problem in problems)
        before = row


def _record_problems(walk: _Walk, row: Row, subject: str) -> Iterator[str]:
    record = read_record(subject, walk.raw.records.get(subject), row.get("record_digest"))
    if isinstance(record, str):
        yield record
        return
    walk.num_records += 1
    for use in named_blobs(record):
        yield from (f"{use.label} of {subject}: {problem}" for problem in _blob_problems(walk, use))
    yield from _signature_problems(walk, record)
    yield from _edge_problems(walk, row, subject)
    try:
        walk.records.get(subject.partition(":")[0], Ref.parse(subject.partition(":")[2]))
    except TunewrightError as error:  # what is stored beside the content, such as the fingerprint column
        yield str(error)


def _blob_problems(walk: _Walk, use: BlobUse) -> Iterator[str]:
    problem = _read_problem(walk, use.digest)
    if problem is not None:
        yield problem
    elif use.is_tree:
        manifest = _manifest(walk.blobs.get(use.digest))
        if manifest is None:
            yield f"blob {use.digest} is not a manifest"
            return
        try:
            refuse_unsafe_names(manifest, use.digest)
        except IntegrityError as error:
            yield str(error)
        for name, digest in manifest.items():
            inner = _read_problem(walk, digest)
            if inner is not None:
                yield f"file {name}: {inner}"


def _read_problem(walk: _Walk, digest: Digest) -> str | None:
    if digest not in walk.checked:
        try:
            walk.blobs.get(digest)
            walk.checked[digest] = None
        except (IntegrityError, StorageError) as error:
            walk.checked[digest] = str(error)
    return walk.checked[digest]


def _manifest(data: bytes) -> dict[str, Digest] | None:
    try:
        fields: Json = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(fields, dict):
        return None
    return {name: Digest(str(digest)) for name, digest in fields.items()}


def _signature_problems(walk: _Walk, record: Record) -> Iterator[str]:
    if isinstance(record, ModelVersion):
        try:
            check_signature(record, walk.signer)
            walk.keys.add(record.key_id)
        except (SignatureInvalid, StorageError) as error:
            yield f"signature of model {record.ref}: {error}"


def _edge_problems(walk: _Walk, row: Row, subject: str) -> Iterator[str]:
    """Compare the lineage table with the edges the event names, where it names them."""
    detail = row.get("detail")
    told = detail.get("edges") if isinstance(detail, dict) else None
    if isinstance(told, list):
        stored = [*walk.records.parents(subject), *walk.records.children(subject)]
        found = {(edge.parent, edge.child, edge.role) for edge in stored}
        missing = [edge for edge in told if not isinstance(edge, list) or tuple(edge) not in found]
        yield from (f"lineage edge {edge} of {subject} is gone or was edited" for edge in missing)
        known = [tuple(edge) for edge in told if isinstance(edge, list)]
        added = [edge for edge in found if edge[1] == subject and edge not in known]
        yield from (f"lineage edge {list(edge)} of {subject} was put in" for edge in sorted(added))


def _table_problems(walk: _Walk) -> Iterator[str]:
    committed = {str(row.get("subject")) for row in walk.raw.events if row.get("record_digest") is not None}
    yield from (f"record {node} has no event" for node in walk.raw.records if node not in committed)
    yield from alias_problems(walk.raw.events, walk.raw.aliases)
    heads: dict[str, str] = {}
    for row in walk.raw.events:
        detail = row.get("detail")
        moved = detail.get("heads") if isinstance(detail, dict) else None
        if isinstance(moved, dict):
            heads |= {key: str(value) for key, value in moved.items()}
    for key, value in heads.items():
        if walk.records.head(key) != value:
            yield f"head {key!r} is {walk.records.head(key)}, but the ledger says {value}"
    vault = walk.records.head("vault")
    if vault is not None:
        problem = _read_problem(walk, Digest(vault.partition(":")[2]))
        if problem is not None:
            yield f"memory of the vault: {problem}"


def _ancestors(top: str, raw: RawLedger) -> set[str]:
    """Collect a node and everything it was made from, as far as records can be read."""
    digests = {str(row.get("subject")): row.get("record_digest") for row in raw.events}
    found: set[str] = set()
    waiting = [top]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            record = read_record(name, raw.records.get(name), digests.get(name))
            waiting += [] if isinstance(record, str) else named_records(record)
    return found


def _proven(walk: _Walk, wanted: set[str] | None) -> tuple[str, ...]:
    scope = "every record" if wanted is None else "this model's record and those of its ancestors"
    keys = ", ".join(sorted(walk.keys)) or "none"
    return (
        f"{len(walk.raw.events)} ledger events form one unbroken chain: none was edited, put in or "
        "removed from the middle.",
        f"{walk.num_records} records are what was committed ({scope}).",
        f"{len(walk.checked)} blobs that they name are present and hash to their names.",
        f"Signatures of all model versions checked fit, by keys: {keys}.",
    )
