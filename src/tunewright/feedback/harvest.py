"""The stage between production and the next dataset version: approved feedback in, one committed source out.

Which rows, and why the others not, is decided in `choose`. The source's bytes are a blob; the file that
curation reads is written from it by the pipeline.
"""

import json
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from tunewright.core.references import list_records
from tunewright.errors import AliasConflict, BlobCorrupt, UnknownReference, WorkspaceBusy
from tunewright.feedback.choose import Before, Chosen, Mask, Row, Rules, choose
from tunewright.live_ports import Live
from tunewright.ports import Blobs, Commit, Ports, Records
from tunewright.recipe import FlywheelSection
from tunewright.records import DatasetVersion, Edge, EventDraft, Feedback, Harvest, Trace, TraceText
from tunewright.values import Digest, Json, Ref, canonical_json, digest_bytes, digest_json, fingerprint, node

logger = logging.getLogger(__name__)

CODE_VERSION = 1
ATTEMPTS = 3
"""How often to choose again when another harvest of the same name was faster."""


def harvest(name: str, policy: FlywheelSection, ports: Ports, live: Live, *, mask: Mask) -> Harvest | None:
    """Make approved feedback of a name a source of its next dataset version.

    Args:
        name: of recipe, dataset and model.
        policy: the caps.
        ports: registry and blobs.
        live: the trace store.
        mask: masks personal data in a whole row, or gives the reason why the row is refused.

    Returns:
        The record; None when there is nothing new to harvest.

    Raises:
        WorkspaceBusy: other processes kept harvesting the same name.
        IntegrityError, StorageError: an earlier harvest is damaged, or the disk refuses.
    """
    ports.progress.start("harvest")
    for _ in range(ATTEMPTS):
        head = ports.records.head(_head_key(name))
        chosen = survey(name, policy, ports, live, mask=mask)
        if not chosen.rows:
            ports.progress.finish(f"nothing to harvest for {name} ({_reasons(chosen.left_out)})")
            return None
        try:
            record = _commit(name, chosen, head, ports)
        except AliasConflict:
            logger.info("another process harvested %s meanwhile; choosing again", name)
            continue
        ports.progress.finish(f"{record.ref}: {record.rows:,} rows (left out: {_reasons(record.left_out)})")
        logger.info("harvested %s: %d rows", record.ref, record.rows)
        return record
    raise WorkspaceBusy(
        f"other processes harvested {name} {ATTEMPTS} times meanwhile; expected the harvests to stand still. "
        "Run again when they have finished."
    )


def survey(name: str, policy: FlywheelSection, ports: Ports, live: Live, *, mask: Mask) -> Chosen:
    """Choose what a harvest would take now, without writing anything."""
    approved = live.traces.feedback(status="approved")
    traces = _traces(approved, live)
    rules = Rules(name, policy, mask, _before(name, ports))
    return choose(approved, traces, _texts(approved, live, ports), rules)


def encode_rows(rows: Iterable[Row]) -> bytes:
    """Write the source file: JSON lines of canonical JSON."""
    return b"".join(canonical_json(row.to_json()) + b"\n" for row in rows)


def harvests_of(name: str, records: Records) -> list[Harvest]:
    """List the harvests of a name, oldest first."""
    return [one for one in list_records(records, Harvest) if one.ref.name == name]


def harvested_lines(one: Harvest, blobs: Blobs) -> Iterator[Mapping[str, Json]]:
    """Read the rows of a harvest, in order. Raises BlobMissing, BlobCorrupt."""
    for number, line in enumerate(blobs.get(one.blob).splitlines(), start=1):
        try:
            fields: Json = json.loads(line)
        except ValueError as error:
            raise _damaged(one.ref, number) from error
        if not isinstance(fields, dict):
            raise _damaged(one.ref, number)
        yield fields


def _damaged(ref: Ref, line: int) -> BlobCorrupt:
    return BlobCorrupt(
        f"line {line} of harvest {ref} is not a row; expected JSON lines written by harvest. "
        "Run `tunewright models verify`."
    )


def _before(name: str, ports: Ports) -> Before:
    """Read what was harvested before, and how large the newest dataset version is."""
    dataset = ports.records.latest("dataset", name)
    earlier = harvests_of(name, ports.records)
    rows = [row for one in earlier for row in harvested_lines(one, ports.blobs)]
    return Before(
        dataset_rows=dataset.rows_kept if isinstance(dataset, DatasetVersion) else 0,
        feedback=frozenset(feedback for one in earlier for feedback in one.feedback),
        traces=frozenset(str(row.get("trace")) for row in rows),
        rows_by_author=Counter(str(row.get("author")) for row in rows),
    )


def _traces(approved: Sequence[Feedback], live: Live) -> dict[str, Trace]:
    found: dict[str, Trace] = {}
    for trace in {one.trace for one in approved}:
        try:
            found[trace] = live.traces.get(trace)
        except UnknownReference:  # its time is over; `choose` counts it
            continue
    return found


def _texts(approved: Sequence[Feedback], live: Live, ports: Ports) -> dict[str, TraceText]:
    now = ports.clock()
    owners = {one.trace for one in approved} | {one.id for one in approved if one.kind == "edit"}
    found = {owner: live.traces.text(owner, now) for owner in owners}
    return {owner: text for owner, text in found.items() if text is not None}


def _commit(name: str, chosen: Chosen, head: str | None, ports: Ports) -> Harvest:
    """Store the bytes, then record, edges, event and head in one transaction."""
    data = encode_rows(chosen.rows)
    feedback = sorted(row.feedback for row in chosen.rows)
    key = fingerprint(
        "harvest",
        CODE_VERSION,
        {"name": name, "feedback": feedback, "rows": [digest_json(row.to_json()) for row in chosen.rows]},
    )
    draft = Harvest(
        ref=Ref(name, 1),
        fingerprint=key,
        blob=ports.blobs.put(data),
        rows=len(chosen.rows),
        left_out=dict(chosen.left_out),
        feedback=tuple(row.feedback for row in chosen.rows),
        reviewers=dict(sorted(Counter(row.reviewer for row in chosen.rows).items())),
        created_at=ports.clock(),
    )
    event = EventDraft(
        kind="harvest",
        actor=ports.actor,
        subject=node("harvest", name),
        detail={"rows": draft.rows, "left_out": dict(draft.left_out), "blob": draft.blob},
    )
    record = ports.records.commit(
        Commit(
            kind="harvest",
            name=name,
            make=lambda ref: draft.model_copy(update={"ref": ref}),
            event=event,
            edges=lambda ref: _edges(ref, chosen, digest_bytes(data)),
            heads={_head_key(name): (head, key)},
        )
    )
    assert isinstance(record, Harvest)
    return record


def _edges(ref: Ref, chosen: Chosen, source: Digest) -> list[Edge]:
    """Draw traces -> harvest -> source file, so that a row of a dataset leads back to what was said."""
    me = node("harvest", ref)
    traces = [Edge(parent=node("trace", row.trace), child=me, role="trace") for row in chosen.rows]
    return [*traces, Edge(parent=me, child=node("source", source), role="source")]


def _head_key(name: str) -> str:
    return f"harvest:{name}"


def _reasons(left_out: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in left_out.items()) or "none"
