"""The trace store in one SQLite file: traces, encrypted text, feedback with its history, reviews.

`expire` takes a trace at its `retain_until` together with its text, the feedback on it and the reviews of
that. An approval puts nothing off: what is to be kept must be harvested before.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import ValidationError
from sqlalchemy import Connection, Engine

from tunewright.backends.sql_engine import reading, where_is, writing
from tunewright.backends.trace_cipher import TextCipher
from tunewright.backends.trace_engine import open_trace_engine, wipe_log
from tunewright.backends.trace_expiry import remove_texts, remove_traces
from tunewright.backends.trace_tables import (
    ADD_REVIEW,
    PUT_FEEDBACK,
    PUT_TEXT,
    PUT_TRACE,
    RAISE_LAST_SEQ,
    REVIEW_FEEDBACK,
    SUPERSEDE,
    microseconds,
)
from tunewright.errors import IntegrityError, UnknownReference
from tunewright.live_ports import LiveKeys, TraceEntry
from tunewright.records import Feedback, FeedbackKind, Record, ReviewStatus, Trace, TraceText
from tunewright.values import Ref

_SHOWN = 3

Value = str | int | bytes | None
R = TypeVar("R", bound=Record)


def open_traces(path: Path, keys: LiveKeys) -> "SqlTraces":
    """Open, and make or migrate, the trace store; where nothing can be written it opens for reading.

    Args:
        path: the database's file.
        keys: of the workspace; only the text key is used.

    Raises:
        SchemaTooNew, StorageError: see `trace_engine.open_trace_engine`.
    """
    return SqlTraces(open_trace_engine(path), TextCipher(keys.text))


class SqlTraces:
    """Implements `live_ports.Traces`; safe to use from several threads."""

    def __init__(self, engine: Engine, cipher: TextCipher) -> None:
        self._engine = engine
        self._cipher = cipher

    def close(self) -> None:
        """Release all connections."""
        self._engine.dispose()

    def write(self, entries: Sequence[TraceEntry]) -> None:
        """Write all entries in one transaction; see `live_ports.Traces`.

        Feedback of a known id changes nothing, so that a batch may be written again.
        """
        traces = [_trace_row(entry) for entry in entries if isinstance(entry, Trace)]
        texts = [self._text_row(entry) for entry in entries if isinstance(entry, TraceText)]
        feedback = [entry for entry in entries if isinstance(entry, Feedback)]
        if not entries:
            return
        with writing(self._engine) as connection:
            if traces:
                connection.exec_driver_sql(PUT_TRACE, traces)
                connection.exec_driver_sql(RAISE_LAST_SEQ, (max(row[0] for row in traces),))
            if texts:
                connection.exec_driver_sql(PUT_TEXT, texts)
            for one in feedback:
                _put_feedback(connection, one)

    def last_seq(self) -> int:
        """Read the highest sequence number ever written, also of traces that were removed."""
        with reading(self._engine) as connection:
            query = "SELECT value FROM counters WHERE name = 'last_seq'"
            return int(connection.exec_driver_sql(query).scalar_one())

    def get(self, trace: str) -> Trace:
        """Read one trace. Raises UnknownReference."""
        found = self._records(Trace, "SELECT body FROM traces WHERE id = ?", (trace,))
        if not found:
            raise UnknownReference(
                f"there is no trace {trace!r}; expected the whole id, tr_ and 32 characters. It may "
                "have been removed when its time was over; `tunewright traces list` shows the newest."
            )
        return found[0]

    def text(self, owner: str, now: datetime) -> TraceText | None:
        """Read a text that is kept and whose time is not over. Raises IntegrityError when it was changed."""
        query = "SELECT sealed, expires_at FROM texts WHERE owner = ? AND expires_at > ?"
        with reading(self._engine) as connection:
            row = connection.exec_driver_sql(query, (owner, microseconds(now))).first()
        return None if row is None else self._cipher.unseal(row[0], owner=owner, expires_us=row[1])

    def of_rollout(self, rollout: Ref, *, after_seq: int = 0) -> Sequence[Trace]:
        """Read a rollout's traces beyond a sequence number, in order of assignment."""
        query = "SELECT body FROM traces WHERE rollout = ? AND seq > ? ORDER BY seq"
        return self._records(Trace, query, (str(rollout), after_seq))

    def newest(self, *, limit: int = 50, tenant: str | None = None) -> Sequence[Trace]:
        """Read the newest traces, newest first by assignment, whatever the clock did."""
        where = "" if tenant is None else "WHERE tenant = ? "
        values = (limit,) if tenant is None else (tenant, limit)
        query = f"SELECT body FROM traces {where}ORDER BY seq DESC LIMIT ?"
        return self._records(Trace, query, values)

    def feedback(
        self,
        *,
        status: ReviewStatus | None = None,
        kind: FeedbackKind | None = None,
        trace: str | None = None,
        rollout: Ref | None = None,
        limit: int | None = None,
    ) -> Sequence[Feedback]:
        """Read feedback in the order it came; superseded only when asked for."""
        wanted = {"status": status, "kind": kind, "trace": trace, "rollout": rollout and str(rollout)}
        given = {column: value for column, value in wanted.items() if value is not None}
        tests = [f"{column} = ?" for column in given]
        if status is None:
            tests.append("status <> 'superseded'")
        query = f"SELECT body FROM feedback WHERE {' AND '.join(tests)} ORDER BY number LIMIT ?"
        return self._records(Feedback, query, (*given.values(), -1 if limit is None else limit))

    def get_feedback(self, feedback: str) -> Feedback:
        """Read one feedback by id, or by a prefix that only it has. Raises UnknownReference."""
        with reading(self._engine) as connection:
            return self._find_feedback(connection, feedback)

    def review(
        self,
        feedback: str,
        decision: Literal["approved", "rejected"],
        *,
        reviewer: str,
        note: str,
        at: datetime,
    ) -> Feedback:
        """Record a decision; the one before stays in `reviews`.

        Raises:
            UnknownReference: no such feedback, or its author has said something newer.
            StorageError: nothing was written.
        """
        changes = {"status": decision, "reviewer": reviewer, "note": note, "reviewed_at": at}
        with writing(self._engine) as connection:
            found = self._find_feedback(connection, feedback)
            if found.status == "superseded":
                raise UnknownReference(
                    f"feedback {found.id} does not count any more: its author said something newer of the "
                    f"same kind on {found.trace}. Review that; `tunewright feedback list` shows it."
                )
            reviewed = found.model_copy(update=changes)
            body = reviewed.model_dump_json()
            connection.exec_driver_sql(REVIEW_FEEDBACK, (decision, body, found.id))
            connection.exec_driver_sql(ADD_REVIEW, (found.id, body))
        return reviewed

    def reviews(self, feedback: str) -> Sequence[Feedback]:
        """Read a feedback as it was after each decision on it, oldest first."""
        query = "SELECT body FROM reviews WHERE feedback = ? ORDER BY number"
        return self._records(Feedback, query, (feedback,))

    def interrupt_open(self, at: datetime) -> int:
        """Mark every open trace as interrupted, with error `gateway_stopped`; returns their number."""
        with writing(self._engine) as connection:
            rows = connection.exec_driver_sql("SELECT body FROM traces WHERE status = 'open'").scalars()
            stopped = [_interrupted(trace, at) for trace in self._parsed(Trace, rows)]
            if stopped:
                connection.exec_driver_sql(PUT_TRACE, [_trace_row(trace) for trace in stopped])
        return len(stopped)

    def expire(self, now: datetime) -> int:
        """Remove texts and traces whose time is over, and their bytes from the files.

        Removes in several transactions; what a failure leaves is removed by the next call.

        Returns:
            Texts removed.
        """
        removed = remove_texts(self._engine, microseconds(now)) + remove_traces(
            self._engine, microseconds(now)
        )
        wipe_log(self._engine)
        return removed

    def _text_row(self, text: TraceText) -> tuple[str, int, bytes]:
        expires_us = microseconds(text.expires_at)
        return text.owner, expires_us, self._cipher.seal(text, expires_us)

    def _records(self, cls: type[R], query: str, values: tuple[Value, ...]) -> list[R]:
        with reading(self._engine) as connection:
            bodies = connection.exec_driver_sql(query, values).scalars().all()
        return self._parsed(cls, bodies)

    def _parsed(self, cls: type[R], bodies: Iterable[str]) -> list[R]:
        try:
            return [cls.model_validate_json(body) for body in bodies]
        except ValidationError as error:
            raise IntegrityError(
                f"trace store {where_is(self._engine)} holds a row that is no {cls.__name__}: "
                f"{error.errors()[0]['msg']}; expected what Tunewright wrote. Restore it from a backup."
            ) from error

    def _find_feedback(self, connection: Connection, wanted: str) -> Feedback:
        query = "SELECT body FROM feedback WHERE id >= ? AND id < ? ORDER BY id LIMIT ?"
        end = wanted + chr(0x10FFFF) if wanted else ""
        bodies = connection.exec_driver_sql(query, (wanted, end, _SHOWN)).scalars()
        found = self._parsed(Feedback, bodies)
        if len(found) == 1 or (found and found[0].id == wanted):
            return found[0]
        if not found:
            raise UnknownReference(
                f"there is no feedback {wanted!r}; expected an id, or the beginning of one, such as fb_3c91. "
                "`tunewright feedback list` shows them."
            )
        raise UnknownReference(
            f"{wanted!r} is the beginning of several feedback ids: {', '.join(one.id for one in found)}; "
            "expected one. Give more of it."
        )


def _trace_row(trace: Trace) -> tuple[int, str, str, str | None, str, int, str]:
    rollout = None if trace.rollout is None else str(trace.rollout)
    retain_until = microseconds(trace.retain_until)
    body = trace.model_dump_json()
    return trace.seq, trace.id, trace.tenant, rollout, trace.status, retain_until, body


def _put_feedback(connection: Connection, one: Feedback) -> None:
    known = "SELECT 1 FROM feedback WHERE id = ?"
    if connection.exec_driver_sql(known, (one.id,)).first() is not None:
        return
    connection.exec_driver_sql(SUPERSEDE, (one.trace, one.author, one.kind))
    row = (one.id, one.trace, one.author, one.kind, one.trace, one.status, one.model_dump_json())
    connection.exec_driver_sql(PUT_FEEDBACK, row)


def _interrupted(trace: Trace, at: datetime) -> Trace:
    changes = {"status": "interrupted", "error": "gateway_stopped", "closed_at": max(at, trace.at)}
    return trace.model_copy(update=changes)
