"""Verification of a real workspace on disk: what was changed by hand is found and named, never a crash."""

import dataclasses
import json
import random
import shutil
import sqlite3
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.fakes import fake_ports
from tests.registry_world import RECIPE, TunedEngine, make_world

from tunewright.backends.file_blobs import FileBlobs
from tunewright.backends.signer import LocalSigner
from tunewright.backends.sql_records import SqlRecords
from tunewright.backends.vault import LocalVault
from tunewright.core.ledger import event_hash
from tunewright.errors import UnknownReference
from tunewright.registry.aliases import set_alias
from tunewright.registry.register import register
from tunewright.registry.verify import verify_model, verify_workspace
from tunewright.values import Ref, digest_bytes

NUM_EVENTS = 15
"""Two worlds: look, curate, train, evaluate, register each; three first moves of aliases and two by hand."""


@contextmanager
def opened(folder: Path):
    """The workspace in a folder, as an App would open it."""
    records = SqlRecords(f"sqlite:///{folder / 'registry.db'}")
    try:
        yield dataclasses.replace(
            fake_ports(folder, TunedEngine()),
            records=records,
            blobs=FileBlobs(folder / "blobs"),
            vault=LocalVault(records, folder, folder.parent / "config"),
            signer=LocalSigner(folder, folder.parent / "config"),
        )
    finally:
        records.close()


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    folder = tmp_path_factory.mktemp("original") / "workspace"
    folder.mkdir()
    with opened(folder) as ports:
        for seed in range(2):
            register(RECIPE, make_world(ports, seed=seed, data=f"data {seed}").report, ports)
        for version in (2, 1):
            target = Ref("shop", version)
            set_alias("shop", "champion", target=target, actor="ann", reason="test", ports=ports)
    return folder


@pytest.fixture
def workspace(original, tmp_path):
    shutil.copytree(original.parent, tmp_path / "copy")
    return tmp_path / "copy" / original.name


def check(folder: Path, model: int | None = None):
    with opened(folder) as ports:
        if model is None:
            return verify_workspace(ports.records, ports.blobs, ports.signer)
        return verify_model(Ref("shop", model), ports.records, ports.blobs, ports.signer)


def edit(folder: Path, *statements: str) -> int:
    """Do what somebody with write access can; returns how many rows changed."""
    connection = sqlite3.connect(folder / "registry.db")
    connection.execute("PRAGMA foreign_keys = OFF")
    for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        connection.execute(f"DROP TRIGGER {name}")
    changed = sum(max(0, connection.execute(statement).rowcount) for statement in statements)
    connection.commit()
    connection.close()
    return changed


def test_an_untouched_workspace_verifies_and_says_what_that_proves_and_what_not(workspace):
    found = check(workspace)
    assert (found.ok, found.problems, found.first_broken) == (True, (), None)
    assert found.links == NUM_EVENTS
    text = " ".join(found.proves)
    assert f"{NUM_EVENTS} ledger events form one unbroken chain" in text
    assert "8 records are what was committed" in text
    assert "cannot prove that nobody with write access" in text
    with opened(workspace) as ports:
        assert found.newest_hash == ports.records.events()[-1].hash


@pytest.mark.parametrize(
    ("statement", "first"),
    [
        ("UPDATE ledger SET actor = 'eve' WHERE seq = 3", "event 3 (train run:shop@1): it was edited"),
        (
            "UPDATE ledger SET detail = '{\"a\":' WHERE seq = 4",
            "event 4 (evaluate evaluation:shop@1): it was edited",
        ),
        ("UPDATE ledger SET at = 'NaN' WHERE seq = 2", "event 2 (curate dataset:shop@1): it was edited"),
        ("UPDATE ledger SET kind = x'ff' WHERE seq = 2", "it was edited"),
        ("UPDATE ledger SET subject = '' WHERE seq = 2", "event 2 (curate ): it was edited"),
        ("DELETE FROM ledger WHERE seq = 3", "event 4 (evaluate evaluation:shop@1): its number is not 3"),
        ("DELETE FROM ledger WHERE seq = 1", "event 2 (curate dataset:shop@1): its number is not 1"),
        (
            "UPDATE ledger SET seq = 99 WHERE seq = 3",
            "event 4 (evaluate evaluation:shop@1): its number is not 3",
        ),
        (
            "UPDATE records SET body = replace(body, 'better', 'worse') WHERE node = 'evaluation:shop@1'",
            "event 4 (evaluate evaluation:shop@1): record evaluation:shop@1 was edited",
        ),
        (
            "UPDATE records SET body = '{' WHERE node = 'run:shop@1'",
            "event 3 (train run:shop@1): record run:shop@1 holds what is no JSON",
        ),
        (
            "UPDATE records SET body = x'ff00' WHERE node = 'run:shop@1'",
            "event 3 (train run:shop@1): record run:shop@1 holds what is no JSON",
        ),
        ("DELETE FROM records WHERE node = 'model:shop@2'", "record model:shop@2 is gone"),
        ("DELETE FROM edges WHERE child = 'run:shop@1'", "event 3 (train run:shop@1): lineage edge"),
        ("INSERT INTO edges VALUES ('source:x', 'run:shop@1', 'source')", "of run:shop@1 was put in"),
        ("DELETE FROM ledger WHERE seq >= 14", "alias shop/champion points to shop@1"),
        ("DELETE FROM ledger WHERE kind = 'register' AND subject = 'model:shop@2'", "its number is not"),
        (
            "UPDATE aliases SET target = 'shop@2' WHERE alias = 'champion'",
            "alias shop/champion points to shop@2",
        ),
        ("UPDATE aliases SET target = 'rubbish' WHERE alias = 'champion'", "alias shop/champion was changed"),
        ("UPDATE aliases SET revision = 'x' WHERE alias = 'champion'", "alias shop/champion was changed"),
        ("DELETE FROM aliases", "points to nothing, but the ledger says"),
        ("UPDATE heads SET value = 'a:b'", "head 'vault' is a:b, but the ledger says"),
        ("DELETE FROM heads", "head 'vault' is None, but the ledger says"),
        ("DELETE FROM ledger", "has no event"),
        ("DROP TABLE ledger", "no such table: ledger"),
    ],
)
def test_a_database_edited_by_hand_is_found_by_the_name_of_its_first_broken_link(workspace, statement, first):
    edit(workspace, statement)
    found = check(workspace)
    assert not found.ok
    assert first in str(found.first_broken)
    assert not any("unbroken chain" in sentence for sentence in found.proves)


def test_an_event_re_hashed_after_an_edit_breaks_the_chain_at_the_next_link(workspace):
    with opened(workspace) as ports:
        row = dict(ports.records.raw().events[2]) | {"actor": "eve"}
    edit(workspace, f"UPDATE ledger SET actor = 'eve', hash = '{event_hash(row)}' WHERE seq = 3")
    found = check(workspace)
    assert (
        found.first_broken == "event 4 (evaluate evaluation:shop@1): it does not continue the event before it"
    )


def test_a_whole_ledger_made_anew_still_fails_at_the_signature(workspace):
    """Eve edits the model, and re-hashes every event from there: only the signature tells."""
    with opened(workspace) as ports:
        raw = ports.records.raw()
    fields = json.loads(raw.records["model:shop@1"]) | {"verdict": "pass", "semantic_version": "7.0.0"}
    body = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    previous, statements = None, []
    for event in raw.events:
        row = dict(event) | ({"previous": previous} if previous else {})
        if row["subject"] == "model:shop@1":
            row["record_digest"] = digest_bytes(body.encode())
        previous = event_hash(row)
        statements.append(
            f"UPDATE ledger SET previous = '{row['previous']}', hash = '{previous}', "
            f"record_digest = {repr(row['record_digest']) if row['record_digest'] else 'NULL'} "
            f"WHERE seq = {row['seq']}"
        )
    quoted = body.replace("'", "''")
    edit(workspace, *statements, f"UPDATE records SET body = '{quoted}' WHERE node = 'model:shop@1'")
    found = check(workspace)
    assert len(found.problems) == 1
    assert "signature of model shop@1: the signature by key" in str(found.first_broken)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "is damaged"),
        (
            lambda path: path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:]),
            "is damaged",
        ),
        (lambda path: path.write_bytes(b""), "is damaged"),
        (lambda path: path.unlink(), "is not in the store"),
    ],
    ids=["truncated", "flipped", "emptied", "deleted"],
)
def test_every_damaged_blob_is_found(workspace, damage, words):
    files = sorted(path for path in (workspace / "blobs").rglob("*") if len(path.name) == 64)
    superseded = 0
    for path in files:
        data = path.read_bytes()
        path.chmod(0o644)
        damage(path)
        found = check(workspace)
        if found.ok:
            superseded += 1  # the vault's memory before the newest one is named by no record
        else:
            assert path.name in str(found.first_broken) and words in str(found.first_broken)
        path.write_bytes(data)
    assert (superseded, check(workspace).ok) == (1, True)


def test_a_blob_is_named_by_what_it_is_for(workspace):
    with opened(workspace) as ports:
        split = ports.records.get("dataset", Ref("shop", 1)).splits["held_out"].blob
    (workspace / "blobs" / split[:2] / split[2:4] / split).unlink()
    assert "event 2 (curate dataset:shop@1): split held_out of dataset:shop@1" in str(
        check(workspace).first_broken
    )


def test_a_public_key_that_is_gone_is_found(workspace):
    for path in (workspace / "keys").iterdir():
        path.unlink()
    assert "signature of model shop@1: signed by key" in str(check(workspace).first_broken)


def test_one_model_is_verified_with_its_ancestors_and_without_the_others(workspace):
    edit(workspace, "UPDATE records SET body = '{' WHERE node = 'run:shop@2'")
    assert check(workspace, model=1).ok
    assert "4 records" in " ".join(check(workspace, model=1).proves)
    assert "record run:shop@2 holds" in str(check(workspace, model=2).first_broken)
    with pytest.raises(UnknownReference, match="shop@2"):
        check(workspace, model=3)


def test_a_deleted_model_is_reported_and_not_taken_for_unknown(workspace):
    edit(workspace, "DELETE FROM records WHERE node = 'model:shop@2'")
    assert "record model:shop@2 is gone" in str(check(workspace, model=2).first_broken)


COLUMNS = {
    "ledger": "at kind actor subject detail record_digest previous hash",
    "records": "node kind name version fingerprint body seq",
    "edges": "parent child role",
    "aliases": "name alias target revision",
    "heads": "key value",
}
GARBAGE = [
    "NULL",
    "''",
    "'{}'",
    "'[1]'",
    "'null'",
    "x'ff00'",
    "-1",
    "1e999",
    "'a\nb'",
    "'NaN'",
    "'{\"to\": 5}'",
]


def test_no_garbage_in_any_cell_makes_verification_crash_or_passes_it(workspace):
    """Every column of every table is filled with something odd in a third of its rows."""
    rng = random.Random(7)
    saved = (workspace / "registry.db").read_bytes()
    unseen = []
    for table, names in COLUMNS.items():
        for name in names.split():
            (workspace / "registry.db").write_bytes(saved)
            garbage = rng.sample(GARBAGE, len(GARBAGE))
            count = next(
                count
                for value in garbage
                if (
                    count := edit(
                        workspace, f"UPDATE OR IGNORE {table} SET {name} = {value} WHERE rowid % 3 = 1"
                    )
                )
            )
            found = check(workspace)
            if count and found.ok:
                unseen.append(f"{table}.{name}")
    assert unseen == []
