"""What is special about the SQLite registry: processes, damage, schema, and places it refuses to live."""

import multiprocessing
import os
import signal
import sqlite3
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine
from tests.registry_world import a_report

import tunewright
from tunewright.backends.file_blobs import FileBlobs
from tunewright.backends.sql_engine import SCHEMA, explain_failure, file_system_of, refuse_network_file_system
from tunewright.backends.sql_records import SqlRecords
from tunewright.backends.sql_tables import METADATA
from tunewright.core.ledger import alias_event, event_hash
from tunewright.errors import (
    AliasConflict,
    IntegrityError,
    LedgerBroken,
    SchemaTooNew,
    SettingsError,
    StorageError,
    WorkspaceBusy,
)
from tunewright.ports import Commit
from tunewright.records import Edge, EventDraft
from tunewright.values import Digest, Ref, digest_bytes

SPAWN = multiprocessing.get_context("spawn")
EVENT = EventDraft(kind="evaluate", actor="ann", subject="replaced")


def url_of(folder: Path) -> str:
    return f"sqlite:///{folder / 'registry.db'}"


@pytest.fixture
def store(tmp_path):
    opened = SqlRecords(url_of(tmp_path))
    yield opened
    opened.close()


def commit(store, mark: str):
    fingerprint = digest_bytes(mark.encode())
    make = lambda ref: a_report(ref, fingerprint=fingerprint)  # noqa: E731
    return store.commit(Commit(kind="evaluation", name="shop", make=make, event=EVENT))


def edit(folder: Path, *statements: str) -> None:
    """Do what an attacker with write access does: drop the triggers, then change rows."""
    connection = sqlite3.connect(folder / "registry.db")
    for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        connection.execute(f"DROP TRIGGER {name}")
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


def writer(url: str, who: str, count: int) -> None:
    store = SqlRecords(url)
    for number in range(count):
        commit(store, f"{who} {number}")
        commit(store, f"shared {number}")
    store.close()


def mover(url: str, target: int, barrier, results) -> None:
    store = SqlRecords(url)
    expected = store.alias("shop", "champion")
    barrier.wait(60)
    event = alias_event(expected, Ref("shop", target), action="set", actor="ann", reason="race")
    try:
        store.move_alias(expected, Ref("shop", target), event)
        results.put((target, "won"))
    except AliasConflict:
        results.put((target, "lost"))
    store.close()


def crasher(folder: Path) -> None:
    digest = FileBlobs(folder / "blobs").put(b"bytes of a stage")
    store = SqlRecords(url_of(folder))

    def die(ref):
        os.kill(os.getpid(), signal.SIGKILL)

    store.commit(Commit(kind="evaluation", name=digest[:8], make=die, event=EVENT))


def test_two_processes_committing_at_once_lose_and_duplicate_no_version(tmp_path):
    workers = [SPAWN.Process(target=writer, args=(url_of(tmp_path), who, 5)) for who in ("a", "b")]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0]
    store = SqlRecords(url_of(tmp_path))
    versions = sorted(record.ref.version for record in store.list("evaluation"))
    assert versions == list(range(1, 16)), "5 of each process and 5 shared, each once"
    events = store.events()
    assert [event.seq for event in events] == list(range(1, 16))
    assert [event.previous for event in events[1:]] == [event.hash for event in events[:-1]]
    store.close()


def test_two_processes_moving_one_alias_cannot_both_win(tmp_path, store):
    results = SPAWN.Queue()
    barrier = SPAWN.Barrier(2)
    workers = [SPAWN.Process(target=mover, args=(url_of(tmp_path), n, barrier, results)) for n in (1, 2)]
    for worker in workers:
        worker.start()
    outcome = dict(results.get(timeout=60) for _ in workers)
    for worker in workers:
        worker.join(60)
    assert sorted(outcome.values()) == ["lost", "won"]
    winner = next(target for target, what in outcome.items() if what == "won")
    assert store.alias("shop", "champion").target == Ref("shop", winner)
    assert len(store.events(kind="alias")) == 1


def test_a_kill_between_blob_and_record_leaves_only_orphan_bytes(tmp_path):
    worker = SPAWN.Process(target=crasher, args=(tmp_path,))
    worker.start()
    worker.join(60)
    assert worker.exitcode == -signal.SIGKILL
    store = SqlRecords(url_of(tmp_path))
    assert (list(store.list("evaluation")), list(store.events())) == ([], [])
    assert commit(store, "afterwards").ref == Ref("shop", 1)
    store.close()
    assert FileBlobs(tmp_path / "blobs").digests() == [digest_bytes(b"bytes of a stage")]


def test_the_database_is_durable_by_its_pragmas(tmp_path, store):
    commit(store, "1")
    with store._engine.connect() as connection:
        found = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        ]
    assert found == ["wal", 2, 1, 10_000]


@pytest.mark.parametrize("table", ["ledger", "records", "edges"])
@pytest.mark.parametrize("verb", ["UPDATE {} SET rowid = rowid", "DELETE FROM {}"])
def test_the_database_itself_refuses_to_change_what_was_written(tmp_path, store, table, verb):
    make = lambda ref: a_report(ref)  # noqa: E731
    edge = Edge(parent="a", child="b", role="c")
    store.commit(Commit(kind="evaluation", name="shop", make=make, event=EVENT, edges=lambda ref: [edge]))
    connection = sqlite3.connect(tmp_path / "registry.db")
    with pytest.raises(sqlite3.IntegrityError, match=f"{table} is append-only"):
        connection.execute(verb.format(table))
    connection.close()


def test_an_edited_record_is_not_handed_out(tmp_path, store):
    commit(store, "1")
    edit(tmp_path, 'UPDATE records SET body = replace(body, \'"verdict":"fail"\', \'"verdict":"pass"\')')
    with pytest.raises(IntegrityError, match="evaluation:shop@1 was changed"):
        store.get("evaluation", Ref("shop", 1))


def test_a_ledger_row_that_is_no_event_is_named(tmp_path, store):
    commit(store, "1")
    edit(tmp_path, "UPDATE ledger SET at = 'yesterday'")
    with pytest.raises(LedgerBroken, match="row 1 is no event: at"):
        store.events()
    assert store.raw().events[0]["at"] == "yesterday", "verification must still see it"


def test_bytes_that_are_no_text_are_read_as_broken_and_do_not_crash(tmp_path, store):
    commit(store, "1")
    edit(tmp_path, "UPDATE ledger SET actor = CAST(x'ff00fe' AS TEXT), detail = x'00ff'")
    row = store.raw().events[0]
    assert event_hash(row) != row["hash"]


def test_a_newer_schema_is_refused(tmp_path, store):
    edit(tmp_path, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(SchemaTooNew, match=f"9999; this Tunewright knows {SCHEMA}"):
        SqlRecords(url_of(tmp_path))


def test_migrations_make_exactly_the_tables_the_code_reads(tmp_path, store):
    engine = create_engine(url_of(tmp_path))
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []
    engine.dispose()


def test_the_newest_migration_is_the_schema_the_code_names():
    folder = Path(tunewright.__file__).parent / "backends" / "migrations"
    assert ScriptDirectory(str(folder)).get_current_head() == SCHEMA


def test_a_file_that_is_no_database_is_refused_by_name(tmp_path):
    (tmp_path / "registry.db").write_bytes(b"this is no database at all " * 100)
    with pytest.raises(StorageError, match=r"registry\.db: the file is damaged or no database"):
        SqlRecords(url_of(tmp_path))


def test_a_folder_that_cannot_be_made_is_refused_by_name(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match=r"cannot make .*file/workspace.*--workspace"):
        SqlRecords(url_of(tmp_path / "file" / "workspace"))


@pytest.mark.parametrize("url", ["nonsense", "sqlite://", "sqlite:///:memory:"])
def test_a_url_that_keeps_nothing_is_refused(url):
    with pytest.raises(SettingsError, match="registry"):
        SqlRecords(url)


def test_a_locked_registry_is_busy_and_says_what_to_do(tmp_path, store):
    with store._engine.connect() as reader:
        reader.exec_driver_sql("PRAGMA busy_timeout = 20")
        reader.rollback()
        other = sqlite3.connect(tmp_path / "registry.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
    try:
        with pytest.raises(WorkspaceBusy, match=r"locked.*run the same command again"):
            commit(store, "1")
    finally:
        other.close()


def test_a_full_disk_is_said_as_such():
    connection = sqlite3.connect(":memory:")
    connection.execute("PRAGMA max_page_count = 2")
    with pytest.raises(sqlite3.OperationalError) as caught:
        connection.execute("CREATE TABLE t AS SELECT zeroblob(100000)")
    connection.close()
    assert "the disk is full" in str(explain_failure(str(caught.value), "/w/registry.db"))


def test_a_read_only_database_is_said_as_such(tmp_path, store):
    connection = sqlite3.connect(f"file:{tmp_path / 'registry.db'}?mode=ro", uri=True)
    with pytest.raises(sqlite3.OperationalError) as caught:
        connection.execute("CREATE TABLE t (a)")
    connection.close()
    assert "it is read-only" in str(explain_failure(str(caught.value), "/w/registry.db"))


MOUNTS = (
    "/dev/vda / ext4 rw 0 0\nserver:/home /home nfs4 rw 0 0\n/dev/vdb /home/ann/local xfs rw 0 0\n"
    "//nas/x /mnt/with\\040space cifs rw 0 0\nbroken line\n"
)


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/srv/w", "ext4"),
        ("/home/bob/w", "nfs4"),
        ("/home/ann/local/w", "xfs"),
        ("/homes/w", "ext4"),
        ("/mnt/with space/w", "cifs"),
    ],
)
def test_the_deepest_mount_decides_the_file_system(folder, kind):
    assert file_system_of(folder, MOUNTS) == kind


def test_network_file_systems_are_refused_and_local_ones_are_not():
    with pytest.raises(StorageError, match=r"/home/bob lies on a network file system \(nfs4\)"):
        refuse_network_file_system("/home/bob", MOUNTS)
    refuse_network_file_system("/srv", MOUNTS)
    assert file_system_of("/srv", "") is None


def test_the_event_of_a_commit_names_edges_and_heads_so_that_the_chain_covers_them(store):
    edge = Edge(parent="run:shop@1", child="evaluation:shop@1", role="run")
    store.commit(
        Commit(
            kind="evaluation",
            name="shop",
            make=lambda ref: a_report(ref, fingerprint=Digest("1" * 64)),
            event=EVENT,
            edges=lambda ref: [edge],
            heads={"vault": (None, "a:b")},
        )
    )
    detail = store.events()[0].detail
    assert detail["edges"] == [["run:shop@1", "evaluation:shop@1", "run"]]
    assert detail["heads"] == {"vault": "a:b"}
