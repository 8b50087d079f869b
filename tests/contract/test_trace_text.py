"""Text on disk: nobody without the key reads it, and nothing of it stays after its time."""

import sqlite3
import time
from datetime import timedelta
from pathlib import Path

import pytest
from tests.fakes import START
from tests.live_world import KEYS, a_feedback, a_text, a_trace, an_open_trace

from tunewright.backends.sql_traces import open_traces
from tunewright.errors import IntegrityError
from tunewright.live_ports import LiveKeys

PROBE = "probe-7f3a91c2-orange-elephant"
LATER = START + timedelta(days=365)


@pytest.fixture
def traces(tmp_path):
    store = open_traces(tmp_path / "traces.db", KEYS)
    yield store
    store.close()


def bytes_of(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file())


def test_a_probe_string_in_prompt_answer_or_comment_is_found_in_no_file(tmp_path, traces):
    turns = ({"role": "user", "content": f"{PROBE} please"},)
    traces.write([an_open_trace(1), a_text(1, messages=turns, text=f"{PROBE} is here")])
    traces.write([a_trace(1), a_feedback(kind="comment", value=None, is_bad=None, has_text=True)])
    traces.write([a_text(owner=a_feedback().id, messages=(), text=PROBE)])
    assert {path.name for path in tmp_path.iterdir()} == {"traces.db", "traces.db-wal", "traces.db-shm"}
    assert PROBE.encode() not in bytes_of(tmp_path)
    assert traces.text(a_trace(1).id, START).text == f"{PROBE} is here", "it is there for who has the key"
    assert traces.expire(LATER) == 2
    assert PROBE.encode() not in bytes_of(tmp_path)
    traces.close()
    assert PROBE.encode() not in bytes_of(tmp_path)


def test_what_expired_leaves_not_even_its_ciphertext_or_its_ids(tmp_path, traces):
    numbers = range(1, 2501)
    traces.write([a_trace(n) for n in numbers])
    traces.write([a_text(n, text="long " * 300) for n in numbers])
    traces.write([a_trace(9999, retain_until=LATER + timedelta(days=9))])
    connection = sqlite3.connect(tmp_path / "traces.db")
    sealed = [row[0] for row in connection.execute("SELECT sealed FROM texts WHERE rowid % 100 = 7")]
    connection.close()
    assert all(one[:16] in bytes_of(tmp_path) for one in sealed)
    assert traces.expire(LATER) == 2500
    left = bytes_of(tmp_path)
    assert not any(one[:16] in left or one[-16:] in left for one in sealed)
    assert a_trace(7).id.encode() not in left
    assert a_trace(9999).id.encode() in left


def test_a_reader_that_holds_on_does_not_stop_expiry(tmp_path, traces):
    traces.write([a_trace(1), a_text(1)])
    reader = sqlite3.connect(tmp_path / "traces.db", isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM traces").fetchall()
    started = time.monotonic()
    assert traces.expire(LATER) == 1
    assert time.monotonic() - started < 8
    reader.close()
    assert traces.expire(LATER) == 0
    assert (tmp_path / "traces.db-wal").stat().st_size == 0, "the next call empties the log"


def test_text_moved_to_another_trace_or_given_more_time_does_not_open(tmp_path, traces):
    traces.write([a_text(1), a_text(2)])
    connection = sqlite3.connect(tmp_path / "traces.db")
    connection.execute(
        "UPDATE texts SET sealed = (SELECT sealed FROM texts WHERE owner = ?) WHERE owner = ?",
        (a_trace(1).id, a_trace(2).id),
    )
    connection.execute("UPDATE texts SET expires_at = expires_at + 1 WHERE owner = ?", (a_trace(1).id,))
    connection.commit()
    connection.close()
    for number in (1, 2):
        with pytest.raises(IntegrityError, match=f"the text of {a_trace(number).id} does not open"):
            traces.text(a_trace(number).id, START)


def test_another_workspaces_key_opens_no_text_but_reads_traces(tmp_path, traces):
    traces.write([a_trace(1), a_text(1)])
    other = open_traces(tmp_path / "traces.db", LiveKeys(text=b"x" * 32, token=b"", unit=b""))
    assert other.get(a_trace(1).id) == a_trace(1)
    with pytest.raises(IntegrityError, match="another workspace's key"):
        other.text(a_trace(1).id, START)
    other.close()
