"""Opening the registry database: pragmas, transactions, migrations, and what went wrong in plain words.

SQLite runs in WAL mode with synchronous=FULL; writers take the write lock at once (BEGIN IMMEDIATE) and wait
at most ten seconds for it. PostgreSQL serialises writers with one advisory lock.
"""

import os
import re
import sqlite3
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from alembic import command
from alembic.config import Config
from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError

from tunewright.errors import SchemaTooNew, SettingsError, StorageError, WorkspaceBusy

SCHEMA = "0001"
"""The newest migration this code knows."""

BUSY_TIMEOUT_S = 10.0
WHAT = "tunewright_what"
"""Execution option of an engine: what messages call its database; `registry` when absent."""

_ADVISORY_LOCK = 0x74756E65
_WRITES = "tunewright_writes"
_OR_POSTGRESQL = ", or set TUNEWRIGHT_RECORDS to a PostgreSQL URL"
_NETWORK_FILE_SYSTEMS = frozenset(
    {
        "afpfs", "afs", "beegfs", "ceph", "cifs", "davfs", "fuse.ceph", "fuse.davfs2", "fuse.glusterfs",
        "fuse.s3fs", "fuse.sshfs", "glusterfs", "lustre", "ncpfs", "nfs", "nfs4", "smb3", "smbfs",
    }
)  # fmt: skip


def open_engine(url: str) -> Engine:
    """Connect, and bring the schema up to date.

    Raises:
        SettingsError: not a URL of a database we can use.
        SchemaTooNew: a newer Tunewright wrote the database.
        StorageError: read-only, full, damaged, or on a network file system.
    """
    target = _parse(url)
    is_sqlite, file = target.get_backend_name() == "sqlite", Path(str(target.database))
    is_read_only = is_sqlite and file.exists() and not os.access(file.parent, os.W_OK)
    if is_sqlite:
        prepare_folder(file, what="registry", otherwise=_OR_POSTGRESQL)
    engine = (
        create_engine(target, creator=lambda: connect_read_only(file))
        if is_read_only
        else create_engine(target)
    )
    _listen(engine)
    try:
        with guarded(engine):
            if is_sqlite and not is_read_only:
                switch_to_wal(engine)
            _migrate(engine)
    except StorageError:
        engine.dispose()
        raise
    return engine


def connect_read_only(file: Path) -> sqlite3.Connection:
    """Connect to a database in a folder that cannot be written; every write is refused.

    Without a log beside it nobody is writing, so the file is read as it lies, without locks.
    """
    log = file.with_name(f"{file.name}-wal")
    is_quiet = not log.exists() or log.stat().st_size == 0
    options = "mode=ro&immutable=1" if is_quiet else "mode=ro"
    return sqlite3.connect(f"file:{quote(str(file))}?{options}", uri=True, check_same_thread=False)


@contextmanager
def writing(engine: Engine) -> Generator[Connection]:
    """Open the one write transaction; what is read inside it cannot change before it ends."""
    with (
        guarded(engine),
        engine.connect().execution_options(**{_WRITES: True}) as connection,
        connection.begin(),
    ):
        yield connection


@contextmanager
def reading(engine: Engine) -> Generator[Connection]:
    """Open a read transaction: one snapshot of the whole database."""
    with guarded(engine), engine.connect() as connection, connection.begin():
        yield connection


@contextmanager
def guarded(engine: Engine) -> Generator[None]:
    """Turn the driver's errors into ours."""
    what = str(engine.get_execution_options().get(WHAT, "registry"))
    try:
        yield
    except DBAPIError as error:
        raise explain_failure(str(error.orig), where_is(engine), what) from error
    except sqlite3.Error as error:  # while connecting, before SQLAlchemy wraps what the driver says
        raise explain_failure(str(error), where_is(engine), what) from error


def where_is(engine: Engine) -> str:
    """Name the database for people, without its password."""
    if engine.dialect.name == "sqlite":
        return str(engine.url.database)
    return engine.url.render_as_string(hide_password=True)


def explain_failure(message: str, where: str, what: str = "registry") -> StorageError:
    """Say in plain words what the database's message means and what to do."""
    lowered = message.lower()
    if "locked" in lowered or "lock timeout" in lowered:
        return WorkspaceBusy(
            f"{what} {where} stayed locked for {BUSY_TIMEOUT_S:.0f} s; expected other writers to be done. "
            "Wait for the other `tunewright` process, or stop it, and run the same command again."
        )
    if "full" in lowered or "no space" in lowered:
        fact, step = "the disk is full", "Free some space and run the same command again; nothing was lost"
    elif "readonly" in lowered or "read-only" in lowered:
        fact, step = "it is read-only", "Make the workspace writable, or choose another with --workspace"
    elif "disk i/o" in lowered:
        fact = "the disk refused to read or write (often because it is full)"
        step = "Free some space, or check the disk, and run the same command again; nothing was lost"
    elif "unable to open" in lowered:
        fact = "it cannot be opened for writing"
        step = "Make its folder writable (a read-only disk will not do), or choose another with --workspace"
    elif "malformed" in lowered or "not a database" in lowered:
        fact, step = (
            "the file is damaged or no database",
            "Restore it from a backup; blobs are kept apart from it",
        )
    elif "traces.seq" in lowered:
        fact = "a sequence number was given to another trace before"
        step = "Stop all but one of the servers of this workspace"
    elif "append-only" in lowered:
        fact, step = "ledger, records and lineage are never changed", "Register something new instead"
    else:
        fact, step = message.strip(), "Check the disk, or the server, and run the same command again"
    return StorageError(f"{what} {where}: {fact}; expected a healthy, writable database. {step}.")


def file_system_of(folder: str, mounts: str) -> str | None:
    """Find the type of the file system a folder lies on.

    Args:
        folder: absolute path, links resolved.
        mounts: text in the form of /proc/mounts.

    Returns:
        Such as `ext4` or `nfs4`; None when no mount covers the folder.
    """
    best: tuple[int, str] | None = None
    for line in mounts.splitlines():
        fields = line.split()
        if len(fields) < 3:
            continue
        mount = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), fields[1])
        covers = folder == mount or folder.startswith(mount.rstrip("/") + "/")
        if covers and (best is None or len(mount) >= best[0]):
            best = (len(mount), fields[2])
    return best[1] if best else None


def refuse_network_file_system(folder: str, mounts: str, otherwise: str = "") -> None:
    """Raise StorageError where file locks cannot be trusted; `otherwise` is another way out."""
    kind = file_system_of(folder, mounts)
    if kind in _NETWORK_FILE_SYSTEMS:
        raise StorageError(
            f"{folder} lies on a network file system ({kind}); expected a local disk, because locks there do "
            f"not protect a database. Choose a local folder with --workspace{otherwise}."
        )


def _parse(url: str) -> URL:
    try:
        target = make_url(url)
    except ArgumentError as error:
        raise SettingsError(
            f"{url!r} is no database URL; expected sqlite:////folder/registry.db or postgresql+psycopg://host/name"
        ) from error
    if target.get_backend_name() == "sqlite" and target.database in (None, "", ":memory:"):
        raise SettingsError(
            "a registry in memory would be lost; expected a file, sqlite:////folder/registry.db"
        )
    return target


def prepare_folder(path: Path, *, what: str, otherwise: str = "") -> None:
    """Make the folder of a database file, unless it lies where no database should.

    Args:
        path: the database's file.
        what: what messages call the database.
        otherwise: another way out for a network file system.

    Raises:
        StorageError: it cannot be made, or is on a network file system.
    """
    mounts = Path("/proc/mounts")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = str(path.parent.resolve())
        table = mounts.read_text("utf-8", errors="replace") if mounts.exists() else ""
    except OSError as error:
        raise StorageError(
            f"cannot make {path.parent}: {error.strerror}; expected a writable folder for the {what}. "
            "Choose another with --workspace."
        ) from error
    refuse_network_file_system(folder, table, otherwise)


def _listen(engine: Engine) -> None:
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _set_pragmas)
        event.listen(engine, "begin", begin_sqlite)
    else:
        event.listen(engine, "begin", _begin_postgresql)


def _set_pragmas(connection: sqlite3.Connection, _: object) -> None:
    prepare_connection(connection)
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA synchronous = FULL")


def prepare_connection(connection: sqlite3.Connection) -> None:
    """Set on a new SQLite connection what all our databases share."""
    connection.isolation_level = None  # we begin transactions ourselves
    connection.text_factory = _decode
    connection.execute(f"PRAGMA busy_timeout = {int(BUSY_TIMEOUT_S * 1000)}")


def _decode(data: bytes) -> str:
    """Read text even where somebody wrote garbage into the file, so that verification can name it."""
    return data.decode("utf-8", errors="replace")


def begin_sqlite(connection: Connection) -> None:
    """Begin a transaction, with the write lock at once where `writing` asked for it."""
    writes = connection.get_execution_options().get(_WRITES)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _begin_postgresql(connection: Connection) -> None:
    if connection.get_execution_options().get(_WRITES):
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{BUSY_TIMEOUT_S:.0f}s'")
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})")


def switch_to_wal(engine: Engine) -> None:
    """Turn on write-ahead logging, which the file remembers; needs a moment alone with it."""
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        raw = engine.raw_connection()
        try:
            cursor = raw.cursor()
            cursor.execute("PRAGMA journal_mode = WAL")
            cursor.close()
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        finally:
            raw.close()


def _migrate(engine: Engine) -> None:
    with reading(engine) as connection:
        if _is_current(connection, where_is(engine)):
            return
    with writing(engine) as connection:
        if not _is_current(connection, where_is(engine)):  # another process may have been faster
            config = Config()
            folder = Path(__file__).parent / "migrations"
            config.set_main_option("script_location", str(folder).replace("%", "%%"))
            config.attributes["connection"] = connection
            command.upgrade(config, SCHEMA)


def _is_current(connection: Connection, where: str) -> bool:
    if not inspect(connection).has_table("alembic_version"):
        return False
    found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    if found is not None and str(found) > SCHEMA:
        raise SchemaTooNew(
            f"registry {where} has schema {found}; this Tunewright knows {SCHEMA} and older. "
            "Install the newer Tunewright that wrote it."
        )
    return found == SCHEMA
