"""Records, lineage, aliases and ledger in one SQL database (SQLite, or PostgreSQL).

Every write is one transaction that ends with one ledger event. The event's `detail` also names the edges and
the heads of a commit, so that the hash chain covers everything in the database but the aliases, which are
replayed from their own events.
"""

from collections.abc import Callable, Sequence
from datetime import datetime

from sqlalchemy import Connection, func, insert, select, update

from tunewright.backends.sql_engine import open_engine, reading, where_is, writing
from tunewright.backends.sql_rows import event_fields, read_alias, read_event, read_record
from tunewright.backends.sql_tables import ALIASES, EDGES, HEADS, LEDGER, RECORDS
from tunewright.core.ledger import chain
from tunewright.core.references import unknown_reference
from tunewright.errors import AliasConflict, UnknownReference
from tunewright.ports import Commit, Heads, RawLedger
from tunewright.records import RECORD_KINDS, AliasState, Edge, EventDraft, LedgerEvent, Record
from tunewright.values import Digest, Json, Ref, canonical_json, digest_bytes, node, utc_now

_STORED = select(RECORDS, LEDGER.c.record_digest).select_from(
    RECORDS.outerjoin(LEDGER, RECORDS.c.seq == LEDGER.c.seq)
)


def open_records(url: str, clock: Callable[[], datetime] = utc_now) -> "SqlRecords":
    """Open, and make or migrate, the registry database at an SQLAlchemy URL.

    Raises:
        SettingsError, SchemaTooNew, StorageError: see `sql_engine.open_engine`.
    """
    return SqlRecords(url, clock)


class SqlRecords:
    """Implements `ports.Records`."""

    def __init__(self, url: str, clock: Callable[[], datetime] = utc_now) -> None:
        self._engine = open_engine(url)
        self._clock = clock

    def close(self) -> None:
        """Release all connections."""
        self._engine.dispose()

    def commit(self, commit: Commit) -> Record:
        """Write record, edges, heads and event in one transaction; see `ports.Records`."""
        _check_kind(commit.kind)
        with writing(self._engine) as connection:
            ref = Ref(commit.name, _next_version(connection, commit.kind, commit.name))
            record = commit.make(ref)
            fields = record.to_json()
            made = _first(connection, kind=commit.kind, fingerprint=fields["fingerprint"])
            if made is not None:
                return made
            _swap_heads(connection, commit.heads)
            edges = list(dict.fromkeys(commit.edges(ref)))
            body = canonical_json(fields)
            event = self._append(connection, _draft(commit, ref, edges), digest_bytes(body))
            row = {
                "node": node(commit.kind, ref),
                "kind": commit.kind,
                "name": ref.name,
                "version": ref.version,
            }
            row |= {"fingerprint": fields["fingerprint"], "body": body.decode(), "seq": event.seq}
            connection.execute(insert(RECORDS).values(row))
            if edges:
                connection.execute(insert(EDGES), [dict(edge.to_json()) for edge in edges])
        return record

    def append(self, event: EventDraft, *, heads: Heads | None = None) -> LedgerEvent:
        """Append one event that carries no record, and move heads with it; see `ports.Records`."""
        with writing(self._engine) as connection:
            _swap_heads(connection, heads or {})
            return self._append(connection, _naming_heads(event, heads or {}), None)

    def tip(self) -> int:
        """Read the number of the newest event; 0 for an empty ledger."""
        with reading(self._engine) as connection:
            return int(connection.scalar(select(func.max(LEDGER.c.seq))) or 0)

    def get(self, kind: str, ref: Ref) -> Record:
        """Read one record; see `ports.Records`."""
        _check_kind(kind)
        with reading(self._engine) as connection:
            found = _first(connection, node=node(kind, ref))
            if found is None:
                query = select(RECORDS.c.node).where(RECORDS.c.kind == kind).order_by(RECORDS.c.seq)
                known = [str(name).partition(":")[2] for name in connection.scalars(query)]
                raise unknown_reference(kind, str(ref), known)
            return found

    def latest(self, kind: str, name: str) -> Record | None:
        """Read the highest version of a name."""
        with reading(self._engine) as connection:
            return _first(connection, kind=kind, name=name)

    def find(self, kind: str, fingerprint: Digest) -> Record | None:
        """Read the record with this fingerprint."""
        with reading(self._engine) as connection:
            return _first(connection, kind=kind, fingerprint=fingerprint)

    def list(self, kind: str, name: str | None = None) -> Sequence[Record]:
        """Read all records of a kind, oldest first."""
        query = _STORED.where(RECORDS.c.kind == kind).order_by(RECORDS.c.seq)
        if name is not None:
            query = query.where(RECORDS.c.name == name)
        with reading(self._engine) as connection:
            return [read_record(row) for row in connection.execute(query).mappings()]

    def parents(self, node: str) -> Sequence[Edge]:
        """Edges into a node."""
        return self._edges(child=node)

    def children(self, node: str) -> Sequence[Edge]:
        """Edges out of a node."""
        return self._edges(parent=node)

    def events(self, *, kind: str | None = None, subject: str | None = None) -> Sequence[LedgerEvent]:
        """Read the ledger, oldest first. Raises LedgerBroken where a row cannot be an event."""
        query = select(LEDGER).order_by(LEDGER.c.seq)
        if kind is not None:
            query = query.where(LEDGER.c.kind == kind)
        if subject is not None:
            query = query.where(LEDGER.c.subject == subject)
        with reading(self._engine) as connection:
            rows = [event_fields(row) for row in connection.execute(query).mappings()]
        return [read_event(row, where_is(self._engine)) for row in rows]

    def head(self, key: str) -> str | None:
        """Read a head."""
        with reading(self._engine) as connection:
            return connection.scalar(select(HEADS.c.value).where(HEADS.c.key == key))

    def alias(self, name: str, alias: str) -> AliasState:
        """Read where an alias points."""
        with reading(self._engine) as connection:
            return _alias(connection, name, alias)

    def aliases(self) -> Sequence[AliasState]:
        """Read all aliases, sorted."""
        with reading(self._engine) as connection:
            return _aliases(connection)

    def move_alias(
        self, expected: AliasState, target: Ref | None, event: EventDraft, *, heads: Heads | None = None
    ) -> AliasState:
        """Move an alias, and heads with it, by compare-and-swap; see `ports.Records`."""
        moved = expected.model_copy(update={"target": target, "revision": expected.revision + 1})
        values = {"target": str(target) if target else None, "revision": moved.revision}
        here = (ALIASES.c.name == expected.name) & (ALIASES.c.alias == expected.alias)
        with writing(self._engine) as connection:
            found = _alias(connection, expected.name, expected.alias)
            if found != expected:
                raise AliasConflict(
                    f"alias {expected.name}/{expected.alias} points to {found.target} (revision "
                    f"{found.revision}); expected {expected.target} (revision {expected.revision}): another "
                    "process moved it first. Look at it again and repeat the move if it is still wanted."
                )
            if connection.execute(update(ALIASES).where(here).values(values)).rowcount == 0:
                row = {"name": expected.name, "alias": expected.alias, **values}
                connection.execute(insert(ALIASES).values(row))
            _swap_heads(connection, heads or {})
            self._append(connection, _naming_heads(event, heads or {}), None)
        return moved

    def raw(self) -> RawLedger:
        """Read everything unparsed, in one snapshot."""
        with reading(self._engine) as connection:
            events = [
                event_fields(row)
                for row in connection.execute(select(LEDGER).order_by(LEDGER.c.seq)).mappings()
            ]
            query = select(RECORDS.c.node, RECORDS.c.body).order_by(RECORDS.c.seq)
            records = {str(row[0]): str(row[1]) for row in connection.execute(query)}
            return RawLedger(events=events, records=records, aliases=_aliases(connection))

    def _append(self, connection: Connection, draft: EventDraft, digest: Digest | None) -> LedgerEvent:
        query = select(LEDGER.c.seq, LEDGER.c.hash).order_by(LEDGER.c.seq.desc()).limit(1)
        last = connection.execute(query).first()
        head = (int(last[0]), Digest(str(last[1]))) if last else None
        event = chain(head, draft, at=self._clock(), record_digest=digest)
        row = {**event.to_json(), "detail": canonical_json(event.to_json()["detail"]).decode()}
        connection.execute(insert(LEDGER).values(row))
        return event

    def _edges(self, **side: str) -> Sequence[Edge]:
        query = select(EDGES).filter_by(**side).order_by(EDGES.c.role, EDGES.c.parent, EDGES.c.child)
        with reading(self._engine) as connection:
            rows = connection.execute(query).mappings()
            return [Edge(parent=str(r["parent"]), child=str(r["child"]), role=str(r["role"])) for r in rows]


def _check_kind(kind: str) -> None:
    if kind not in RECORD_KINDS:
        raise UnknownReference(
            f"there are no records of kind {kind!r}; expected one of {', '.join(RECORD_KINDS)}"
        )


def _draft(commit: Commit, ref: Ref, edges: Sequence[Edge]) -> EventDraft:
    """Complete a commit's event: its subject, and the edges and heads that the chain is to cover."""
    detail: dict[str, Json] = dict(commit.event.detail)
    if edges:
        detail["edges"] = [[edge.parent, edge.child, edge.role] for edge in edges]
    event = commit.event.model_copy(update={"subject": node(commit.kind, ref), "detail": detail})
    return _naming_heads(event, commit.heads)


def _naming_heads(event: EventDraft, heads: Heads) -> EventDraft:
    """Name the heads that move with an event in its detail, from where verification replays them."""
    if not heads:
        return event
    named: Json = {key: new for key, (_, new) in heads.items()}
    return event.model_copy(update={"detail": {**event.detail, "heads": named}})


def _next_version(connection: Connection, kind: str, name: str) -> int:
    query = select(func.max(RECORDS.c.version)).where(RECORDS.c.kind == kind, RECORDS.c.name == name)
    return int(connection.scalar(query) or 0) + 1


def _first(connection: Connection, **equal: str) -> Record | None:
    """Read the highest version among the records whose columns have these values."""
    query = _STORED.order_by(RECORDS.c.version.desc()).limit(1)
    for column, value in equal.items():
        query = query.where(RECORDS.c[column] == value)
    row = connection.execute(query).mappings().first()
    return read_record(row) if row else None


def _swap_heads(connection: Connection, heads: Heads) -> None:
    for key, (expected, new) in heads.items():
        _swap_head(connection, key, expected, new)


def _swap_head(connection: Connection, key: str, expected: str | None, new: str) -> None:
    found = connection.scalar(select(HEADS.c.value).where(HEADS.c.key == key))
    if found != expected:
        raise AliasConflict(
            f"head {key!r} moved: expected {expected or 'nothing'}, found {found or 'nothing'}; another "
            "process committed first. Run the same command again, it starts from what is there now."
        )
    if connection.execute(update(HEADS).where(HEADS.c.key == key).values(value=new)).rowcount == 0:
        connection.execute(insert(HEADS).values(key=key, value=new))


def _alias(connection: Connection, name: str, alias: str) -> AliasState:
    query = select(ALIASES).where(ALIASES.c.name == name, ALIASES.c.alias == alias)
    row = connection.execute(query).mappings().first()
    return read_alias(row) if row else AliasState(name=name, alias=alias, target=None, revision=0)


def _aliases(connection: Connection) -> Sequence[AliasState]:
    query = select(ALIASES).order_by(ALIASES.c.name, ALIASES.c.alias)
    return [read_alias(row) for row in connection.execute(query).mappings()]
