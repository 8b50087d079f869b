"""What is special about the SQLite trace store: processes, damage, full disks, and what its files hold."""

import multiprocessing
import os
import signal
import sqlite3
import tempfile
import time
from pathlib import Path

import pytest
from sqlalchemy import event
from tests.fakes import START
from tests.live_world import KEYS, a_feedback, a_text, a_trace

from tunewright.backends.sql_traces import open_traces
from tunewright.backends.trace_engine import open_trace_engine
from tunewright.backends.trace_tables import MIGRATIONS
from tunewright.errors import IntegrityError, SchemaTooNew, StorageError
from tunewright.values import Ref

SPAWN = multiprocessing.get_context("spawn")
ROLLOUT = Ref("shop", 1)


@pytest.fixture
def traces(tmp_path):
    store = open_traces(tmp_path / "traces.db", KEYS)
    yield store
    store.close()


def write_without_end(path: Path, said: Path) -> None:
    """Write batches of ten and say, outside the store, which one write() has returned for."""
    store = open_traces(path, KEYS)
    with said.open("w") as file:
        for batch in range(10_000):
            store.write([a_trace(batch * 10 + n, rollout=ROLLOUT) for n in range(1, 11)])
            file.write(f"{batch}\n")
            file.flush()


def test_a_reader_in_another_process_follows_and_a_kill_loses_nothing_that_was_written(tmp_path):
    path, said = tmp_path / "traces.db", tmp_path / "said"
    store = open_traces(path, KEYS)
    writer = SPAWN.Process(target=write_without_end, args=(path, said))
    writer.start()
    seen, deadline = 0, time.monotonic() + 60
    while seen < 200 and time.monotonic() < deadline:
        found = [trace.seq for trace in store.of_rollout(ROLLOUT, after_seq=seen)]
        assert found == list(range(seen + 1, seen + 1 + len(found))), "whole batches, in order"
        assert len(found) % 10 == 0
        seen += len(found)
    os.kill(writer.pid, signal.SIGKILL)
    writer.join(60)
    returned = [int(line) for line in said.read_text().splitlines() if line]
    store.close()
    store = open_traces(path, KEYS)
    last = store.last_seq()
    assert seen >= 200
    assert last % 10 == 0, "no batch is half there"
    assert last >= (returned[-1] + 1) * 10
    assert [trace.seq for trace in store.of_rollout(ROLLOUT)] == list(range(1, last + 1))
    store.write([a_trace(last + 1)])
    store.close()


def review_many(path: Path) -> None:
    store = open_traces(path, KEYS)
    for number in range(1, 31):
        store.review(f"fb_{number:032x}", "approved", reviewer="ann", note="", at=START)
    store.close()


def test_a_reviewer_in_another_process_and_the_writer_do_not_hinder_each_other(tmp_path, traces):
    traces.write([a_feedback(id=f"fb_{n:032x}", author=f"{n:032x}") for n in range(1, 31)])
    reviewer = SPAWN.Process(target=review_many, args=(tmp_path / "traces.db",))
    reviewer.start()
    seq = 0
    while reviewer.is_alive():
        seq += 1
        traces.write([a_trace(seq)])
    reviewer.join(60)
    assert reviewer.exitcode == 0
    assert len(traces.feedback(status="approved")) == 30
    assert traces.last_seq() == seq


def test_reading_is_fast_because_every_question_has_an_index(tmp_path, traces):
    plans = {
        "SELECT body FROM traces WHERE rollout = ? AND seq > ? ORDER BY seq": "rollout=? AND rowid>?",
        "SELECT body FROM traces WHERE tenant = ? ORDER BY seq DESC LIMIT ?": "tenant=?",
        "SELECT body FROM traces ORDER BY seq DESC LIMIT ?": "SCAN traces",
        "SELECT body FROM traces WHERE status = 'open'": "ix_traces_open",
        "SELECT body FROM feedback WHERE rollout = ? AND status <> ? ORDER BY number": "ix_feedback_rollout",
        "SELECT body FROM feedback WHERE status = ? ORDER BY number LIMIT ?": "ix_feedback_status",
        "SELECT body FROM feedback WHERE trace = ? ORDER BY number": "ix_feedback_trace",
        "SELECT body FROM feedback WHERE id >= ? AND id < ? ORDER BY id LIMIT ?": "autoindex_feedback",
    }
    connection = sqlite3.connect(tmp_path / "traces.db")
    for query, expected in plans.items():
        values = ["1"] * query.count("?")
        steps = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {query}", values)]
        assert expected in steps[0], (query, steps)
        assert query.endswith("number") or "TEMP" not in " ".join(steps), (query, steps)
    connection.close()


def test_the_pragmas_are_those_of_the_design(traces):
    with traces._engine.connect() as connection:
        names = ("journal_mode", "synchronous", "secure_delete", "busy_timeout")
        found = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in names]
    assert found == ["wal", 1, 1, 10_000]


def test_a_full_disk_loses_the_batch_as_a_whole_and_the_store_recovers(tmp_path, traces):
    traces.write([a_trace(1)])
    limit = {"pages": 60}

    def keep_small(connection, _):
        connection.execute(f"PRAGMA max_page_count = {limit['pages']}")

    event.listen(traces._engine, "connect", keep_small)
    traces._engine.dispose()
    big = [a_text(n, text="x" * 5000) for n in range(2, 102)]
    with pytest.raises(StorageError, match=r"trace store .*the disk is full.*Free some space"):
        traces.write([*(a_trace(n) for n in range(2, 102)), *big, a_feedback()])
    assert [trace.seq for trace in traces.newest()] == [1]
    assert (traces.last_seq(), list(traces.feedback())) == (1, [])
    limit["pages"] = 100_000
    traces._engine.dispose()
    traces.write([a_trace(2), *big])
    assert traces.last_seq() == 2


def write_to_a_closed_folder(folder: Path, results) -> None:
    """Give up being root, who may write anywhere, then read and write."""
    if os.geteuid() == 0:
        os.setgid(65534)
        os.setuid(65534)
    store = open_traces(folder / "traces.db", KEYS)
    results.put([trace.seq for trace in store.newest()])
    results.put(store.text(a_trace(1).id, START).text)
    try:
        store.write([a_trace(2)])
    except StorageError as error:
        results.put(str(error))
    store.close()


def test_a_read_only_store_can_be_read_and_refuses_writes_by_name():
    with tempfile.TemporaryDirectory() as made:  # pytest's own folder is closed to other users
        folder = Path(made)
        store = open_traces(folder / "traces.db", KEYS)
        store.write([a_trace(1), a_text(1)])
        store.close()
        (folder / "traces.db").chmod(0o444)
        folder.chmod(0o555)
        results = SPAWN.Queue()
        reader = SPAWN.Process(target=write_to_a_closed_folder, args=(folder, results))
        reader.start()
        assert results.get(timeout=60) == [1]
        assert results.get(timeout=60) == "answer 1"
        assert "it is read-only" in results.get(timeout=60)
        reader.join(60)
        assert reader.exitcode == 0
        folder.chmod(0o755)


def test_a_locked_store_is_busy_and_nothing_is_written(tmp_path, traces):
    event.listen(traces._engine, "connect", lambda raw, _: raw.execute("PRAGMA busy_timeout = 20"))
    traces._engine.dispose()
    other = sqlite3.connect(tmp_path / "traces.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StorageError, match=r"trace store .* stayed locked"):
        traces.write([a_trace(1)])
    other.close()
    assert traces.last_seq() == 0


def test_a_file_that_is_no_database_is_refused_by_name(tmp_path):
    (tmp_path / "traces.db").write_bytes(b"this is no database at all " * 400)
    with pytest.raises(StorageError, match=r"trace store .*traces\.db: the file is damaged or no database"):
        open_traces(tmp_path / "traces.db", KEYS)


def test_a_damaged_file_is_named_and_not_read_as_something_else(tmp_path):
    path = tmp_path / "traces.db"
    store = open_traces(path, KEYS)
    store.write([a_trace(n) for n in range(1, 500)])
    store.close()
    data = bytearray(path.read_bytes())
    data[8192:-4096] = os.urandom(len(data) - 8192 - 4096)
    path.write_bytes(data)
    with pytest.raises(StorageError, match="damaged"):
        list(open_traces(path, KEYS).newest(limit=500))


def test_a_changed_row_is_named(tmp_path, traces):
    traces.write([a_trace(1)])
    connection = sqlite3.connect(tmp_path / "traces.db")
    connection.execute("UPDATE traces SET body = replace(body, '\"ok\"', '\"fine\"')")
    connection.commit()
    connection.close()
    with pytest.raises(IntegrityError, match="holds a row that is no Trace"):
        traces.newest()


def test_a_newer_schema_is_refused(tmp_path, traces):
    connection = sqlite3.connect(tmp_path / "traces.db")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(SchemaTooNew, match=f"schema 99; this Tunewright knows {len(MIGRATIONS)} and older"):
        open_traces(tmp_path / "traces.db", KEYS)


def test_an_older_schema_is_brought_up_to_date_and_keeps_its_rows(tmp_path, traces):
    traces.write([a_trace(1)])
    newer = (*MIGRATIONS, ("ALTER TABLE traces ADD COLUMN later TEXT",))
    engine = open_trace_engine(tmp_path / "traces.db", newer)
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT seq, later FROM traces").all() == [(1, None)]
    engine.dispose()
    with pytest.raises(SchemaTooNew):
        open_traces(tmp_path / "traces.db", KEYS)


def test_a_folder_that_cannot_be_made_is_refused_by_name(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match=r"cannot make .*file/workspace.*the trace store.*--workspace"):
        open_traces(tmp_path / "file" / "workspace" / "traces.db", KEYS)


def test_only_its_owner_may_read_the_files(tmp_path, traces):
    traces.write([a_trace(1)])
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


def test_a_path_with_odd_characters_is_one_file(tmp_path):
    path = tmp_path / "a b?c#d%20&mode=ro" / "traces.db"
    store = open_traces(path, KEYS)
    store.write([a_trace(1)])
    store.close()
    assert path.exists()
