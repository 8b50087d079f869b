"""Removing what is over from the trace store, in small transactions, so that its writer never waits long."""

from sqlalchemy import Engine

from tunewright.backends.sql_engine import writing

_ROWS = 2000
"""Texts, or traces, of one transaction."""

_TEXTS_OVER = "DELETE FROM texts WHERE owner IN (SELECT owner FROM texts WHERE expires_at <= ? LIMIT ?)"
_TRACES_OVER = "SELECT id FROM traces WHERE retain_until <= ? LIMIT ?"
_TEXTS_OF = "DELETE FROM texts WHERE owner = ?1 OR owner IN (SELECT id FROM feedback WHERE trace = ?1)"
_REST_OF = (
    "DELETE FROM reviews WHERE feedback IN (SELECT id FROM feedback WHERE trace = ?1)",
    "DELETE FROM feedback WHERE trace = ?1",
    "DELETE FROM traces WHERE id = ?1",
)


def remove_texts(engine: Engine, now_us: int) -> int:
    """Remove texts whose time is over; returns their number. Raises StorageError."""
    removed = 0
    while True:
        with writing(engine) as connection:
            found = connection.exec_driver_sql(_TEXTS_OVER, (now_us, _ROWS)).rowcount
        removed += found
        if found < _ROWS:
            return removed


def remove_traces(engine: Engine, now_us: int) -> int:
    """Remove traces whose time is over, with the feedback on them and all their texts.

    Returns:
        Texts removed.

    Raises:
        StorageError: the transaction that failed removed nothing.
    """
    removed = 0
    while True:
        with writing(engine) as connection:
            found = connection.exec_driver_sql(_TRACES_OVER, (now_us, _ROWS)).scalars().all()
            rows = [(trace,) for trace in found]
            if rows:
                removed += connection.exec_driver_sql(_TEXTS_OF, rows).rowcount
            for statement in _REST_OF if rows else ():
                connection.exec_driver_sql(statement, rows)
        if len(found) < _ROWS:
            return removed
