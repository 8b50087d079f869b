"""Tables of the registry database as the code reads them; `migrations/` makes them. A test compares both."""

from sqlalchemy import Column, ForeignKey, Index, Integer, MetaData, Table, Text, UniqueConstraint

METADATA = MetaData()

LEDGER = Table(
    "ledger",
    METADATA,
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("at", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("record_digest", Text),
    Column("previous", Text, nullable=False),
    Column("hash", Text, nullable=False),
    UniqueConstraint("hash", name="uq_ledger_hash"),
    Index("ix_ledger_kind_subject", "kind", "subject"),
)
"""One row an event; `detail` is canonical JSON, `at` is text as it was hashed."""

RECORDS = Table(
    "records",
    METADATA,
    Column("node", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("seq", Integer, ForeignKey("ledger.seq", name="fk_records_ledger"), nullable=False),
    UniqueConstraint("kind", "name", "version", name="uq_records_version"),
    UniqueConstraint("kind", "fingerprint", name="uq_records_fingerprint"),
)
"""`body` is the record's canonical JSON; its hash stands in the event `seq`."""

EDGES = Table(
    "edges",
    METADATA,
    Column("parent", Text, primary_key=True),
    Column("child", Text, primary_key=True),
    Column("role", Text, primary_key=True),
    Index("ix_edges_child", "child"),
)

HEADS = Table(
    "heads",
    METADATA,
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

ALIASES = Table(
    "aliases",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("alias", Text, primary_key=True),
    Column("target", Text),
    Column("revision", Integer, nullable=False),
)
