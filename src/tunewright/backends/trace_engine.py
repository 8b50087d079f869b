"""Opening the trace store's SQLite file: pragmas, schema version, read-only places, and overwriting.

WAL with synchronous=NORMAL: what a write returned for survives the death of the process, not always a power
failure. `secure_delete` overwrites removed rows with zeros, and `wipe_log` empties the write-ahead log.
"""

import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, create_engine, event

from tunewright.backends.disk import disk_error
from tunewright.backends.sql_engine import (
    WHAT,
    begin_sqlite,
    guarded,
    prepare_connection,
    prepare_folder,
    reading,
    switch_to_wal,
    writing,
)
from tunewright.backends.trace_tables import MIGRATIONS
from tunewright.errors import SchemaTooNew, StorageError

_STORE = "trace store"
_WIPE_TIMEOUT_MS = 1000


def open_trace_engine(path: Path, migrations: Sequence[Sequence[str]] = MIGRATIONS) -> Engine:
    """Connect to the file, make it or bring it up to date; where nothing can be written, open it for reading.

    Args:
        path: the database's file; its folder is made.
        migrations: the statements of each version, oldest first.

    Raises:
        SchemaTooNew: a newer Tunewright wrote it.
        StorageError: full, damaged, on a network file system, or read-only and of an older version.
    """
    is_read_only = path.exists() and not (_is_writable(path) and _is_writable(path.parent))
    if not is_read_only:
        prepare_folder(path, what=_STORE)
        _make_private(path)
    uri = _uri_of(path, is_read_only=is_read_only)
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        creator=lambda: sqlite3.connect(uri, uri=True, check_same_thread=False),
        execution_options={WHAT: _STORE},
    )
    event.listen(engine, "connect", _set_pragmas)
    event.listen(engine, "begin", begin_sqlite)
    try:
        with guarded(engine):
            if not is_read_only:
                switch_to_wal(engine)
        _migrate(engine, path, migrations)
    except StorageError:
        engine.dispose()
        raise
    return engine


def wipe_log(engine: Engine) -> None:
    """Move the write-ahead log into the file and empty it, unless a reader holds on to it right now.

    Raises:
        StorageError: the disk refused.
    """
    with guarded(engine):
        raw = engine.raw_connection()
        try:
            cursor = raw.cursor()
            before = cursor.execute("PRAGMA busy_timeout").fetchone()[0]
            cursor.execute(f"PRAGMA busy_timeout = {_WIPE_TIMEOUT_MS}")
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            cursor.execute(f"PRAGMA busy_timeout = {before}")
            cursor.close()
        finally:
            raw.close()


def _make_private(path: Path) -> None:
    """Make the file, an empty database, so that only its owner may read it; its log inherits that."""
    try:
        path.touch(mode=0o600)
    except OSError as error:
        raise disk_error(error, path) from error


def _is_writable(path: Path) -> bool:
    return os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids)


def _uri_of(path: Path, *, is_read_only: bool) -> str:
    uri = f"file:{quote(str(path.absolute()))}"
    if not is_read_only:
        return uri
    # A log that is still there must be read too; without one SQLite would try to make it.
    has_log = path.with_name(path.name + "-wal").exists()
    return f"{uri}?mode=ro" if has_log else f"{uri}?mode=ro&immutable=1"


def _set_pragmas(connection: sqlite3.Connection, _: object) -> None:
    prepare_connection(connection)
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA secure_delete = ON")


def _migrate(engine: Engine, path: Path, migrations: Sequence[Sequence[str]]) -> None:
    newest = len(migrations)
    with reading(engine) as connection:
        if _version(connection, path, newest) == newest:
            return
    with writing(engine) as connection:  # another process may have been faster
        for statements in migrations[_version(connection, path, newest) :]:
            for statement in statements:
                connection.exec_driver_sql(statement)
        connection.exec_driver_sql(f"PRAGMA user_version = {newest}")


def _version(connection: Connection, path: Path, newest: int) -> int:
    found = int(connection.exec_driver_sql("PRAGMA user_version").scalar_one())
    if found > newest:
        raise SchemaTooNew(
            f"{_STORE} {path} has schema {found}; this Tunewright knows {newest} and older. "
            "Install the newer Tunewright that wrote it."
        )
    return found
