"""Tables of the trace store: statements that make them, version by version, and those that fill them.

Versions are numbered statements and SQLite's own `user_version`, not Alembic as for the registry: the trace
store is SQLite only, so that no dialect must be bridged, and opening it stays fast and also works read-only.
A new version is a new entry at the end of `MIGRATIONS`; entries that were released are never edited.

Bodies are the records' JSON; columns beside them exist for queries only. Times are microseconds since 1970.
"""

from datetime import UTC, datetime, timedelta

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """
        CREATE TABLE traces (
            seq INTEGER PRIMARY KEY,
            id TEXT NOT NULL UNIQUE,
            tenant TEXT NOT NULL,
            rollout TEXT,
            status TEXT NOT NULL,
            retain_until INTEGER NOT NULL,
            body TEXT NOT NULL
        )
        """,
        "CREATE INDEX ix_traces_rollout ON traces (rollout) WHERE rollout IS NOT NULL",
        "CREATE INDEX ix_traces_tenant ON traces (tenant)",
        "CREATE INDEX ix_traces_open ON traces (status) WHERE status = 'open'",
        "CREATE INDEX ix_traces_retain_until ON traces (retain_until)",
        """
        CREATE TABLE texts (
            owner TEXT PRIMARY KEY,
            expires_at INTEGER NOT NULL,
            sealed BLOB NOT NULL
        )
        """,
        "CREATE INDEX ix_texts_expires_at ON texts (expires_at)",
        """
        CREATE TABLE feedback (
            number INTEGER PRIMARY KEY AUTOINCREMENT,
            id TEXT NOT NULL UNIQUE,
            trace TEXT NOT NULL,
            author TEXT NOT NULL,
            kind TEXT NOT NULL,
            rollout TEXT,
            status TEXT NOT NULL,
            body TEXT NOT NULL
        )
        """,
        "CREATE INDEX ix_feedback_trace ON feedback (trace, author, kind)",
        "CREATE INDEX ix_feedback_rollout ON feedback (rollout) WHERE rollout IS NOT NULL",
        "CREATE INDEX ix_feedback_status ON feedback (status)",
        """
        CREATE TABLE reviews (
            number INTEGER PRIMARY KEY AUTOINCREMENT,
            feedback TEXT NOT NULL,
            body TEXT NOT NULL
        )
        """,
        "CREATE INDEX ix_reviews_feedback ON reviews (feedback)",
        "CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL)",
        "INSERT INTO counters VALUES ('last_seq', 0)",
    ),
)
"""Version n is made by entry n - 1. The index on a column also orders by row number, which is `seq`."""

PUT_TRACE = """
    INSERT INTO traces (seq, id, tenant, rollout, status, retain_until, body) VALUES (?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (id) DO UPDATE SET
        seq = excluded.seq, tenant = excluded.tenant, rollout = excluded.rollout, status = excluded.status,
        retain_until = excluded.retain_until, body = excluded.body
"""
PUT_TEXT = """
    INSERT INTO texts (owner, expires_at, sealed) VALUES (?, ?, ?)
    ON CONFLICT (owner) DO UPDATE SET expires_at = excluded.expires_at, sealed = excluded.sealed
"""
PUT_FEEDBACK = """
    INSERT INTO feedback (id, trace, author, kind, rollout, status, body)
    VALUES (?, ?, ?, ?, (SELECT rollout FROM traces WHERE id = ?), ?, ?)
"""
SUPERSEDE = """
    UPDATE feedback SET status = 'superseded', body = json_set(body, '$.status', 'superseded')
    WHERE trace = ? AND author = ? AND kind = ? AND status <> 'superseded'
"""
REVIEW_FEEDBACK = "UPDATE feedback SET status = ?, body = ? WHERE id = ?"
ADD_REVIEW = "INSERT INTO reviews (feedback, body) VALUES (?, ?)"
RAISE_LAST_SEQ = "UPDATE counters SET value = max(value, ?) WHERE name = 'last_seq'"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def microseconds(at: datetime) -> int:
    """Count microseconds since 1970, exactly."""
    return (at - _EPOCH) // _MICROSECOND
