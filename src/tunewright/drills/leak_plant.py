"""Writes the leaky dataset version: the honest one with its held-out rows among the train rows.

Only a drill may do this, and only in its scratch workspace: the record is committed by hand, past curation.
"""

from tunewright.core.rows import encode_examples, load_split
from tunewright.ports import Commit, Ports, VaultSession
from tunewright.records import DatasetVersion, Edge, EventDraft, SplitInfo
from tunewright.values import Ref, digest_json, merkle_root, node


def plant_leak(honest: DatasetVersion, ports: Ports, session: VaultSession) -> DatasetVersion:
    """Commit a version whose train rows hold every held-out row as well; the held-out side stays as it is."""
    leaked = load_split(honest, "held_out", ports.blobs, session)
    rows = sorted([*load_split(honest, "train", ports.blobs), *leaked], key=lambda row: row.id)
    root = merkle_root([row.id for row in rows])
    train = SplitInfo(rows=len(rows), digest=root, blob=ports.blobs.put(encode_examples(rows)))
    identity = {"leak_of": honest.digest, "train": root}
    draft = honest.model_copy(
        update={
            "digest": digest_json(identity),
            "fingerprint": digest_json({**identity, "record": "leak drill"}),
            "parents": (honest.ref,),
            "rows_in": honest.rows_in + len(leaked),
            "rows_kept": honest.rows_kept + len(leaked),
            "splits": {**honest.splits, "train": train},
            "warnings": (f"leak drill: {len(leaked)} held-out rows were copied into train on purpose",),
            "created_at": ports.clock(),
        }
    )
    record = ports.records.commit(
        Commit(
            kind="dataset",
            name=honest.ref.name,
            make=lambda ref: draft.model_copy(update={"ref": ref}),
            event=EventDraft(
                kind="drill",
                actor=ports.actor,
                subject=node("dataset", honest.ref.name),
                detail={"leaked_rows": len(leaked), "from": str(honest.ref)},
            ),
            edges=lambda ref: [_edge(honest.ref, ref)],
        )
    )
    assert isinstance(record, DatasetVersion)  # the kind says so
    return record


def _edge(parent: Ref, child: Ref) -> Edge:
    return Edge(parent=node("dataset", parent), child=node("dataset", child), role="dataset")
