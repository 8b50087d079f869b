"""Every Records backend keeps the same promises."""

import os
import uuid
from datetime import timedelta

import pytest
from tests.fakes import FixedClock, InMemoryRecords
from tests.registry_world import a_report

from tunewright.backends.sql_records import SqlRecords
from tunewright.core.ledger import GENESIS, alias_event, event_hash
from tunewright.errors import AliasConflict, UnknownReference
from tunewright.ports import Commit
from tunewright.records import Edge, EventDraft
from tunewright.values import Digest, Ref, digest_json

DRAFT = EventDraft(kind="evaluate", actor="ann", subject="replaced", detail={"why": "test", "n": 1.5})


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def clock_and_records(request, tmp_path):
    clock = FixedClock()
    if request.param == "memory":
        yield clock, InMemoryRecords(clock)
        return
    url = f"sqlite:///{tmp_path / 'registry.db'}" if request.param == "sqlite" else a_postgresql_database()
    store = SqlRecords(url, clock)
    yield clock, store
    store.close()


@pytest.fixture
def records(clock_and_records):
    return clock_and_records[1]


def a_postgresql_database() -> str:
    """A fresh schema on the server that POSTGRESQL_URL names."""
    url = os.environ.get("POSTGRESQL_URL")
    if not url:
        pytest.skip("POSTGRESQL_URL is not set")
    psycopg = pytest.importorskip("psycopg")
    schema = f"t{uuid.uuid4().hex}"
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {schema}")
    return f"{url}{'&' if '?' in url else '?'}options=-csearch_path%3D{schema}"


def a_commit(letter: str, name: str = "shop", **rest) -> Commit:
    return Commit(
        kind="evaluation",
        name=name,
        make=lambda ref: a_report(ref, fingerprint=Digest(letter * 64)),
        event=DRAFT,
        **rest,
    )


def test_versions_count_up_for_each_name(records):
    refs = [
        records.commit(a_commit(c, name)).ref for c, name in (("1", "shop"), ("2", "bank"), ("3", "shop"))
    ]
    assert [str(ref) for ref in refs] == ["shop@1", "bank@1", "shop@2"]


def test_a_record_reads_back_as_it_was_committed(records):
    stored = records.commit(a_commit("1"))
    assert records.get("evaluation", Ref("shop", 1)) == stored
    assert records.find("evaluation", Digest("1" * 64)) == stored
    assert records.latest("evaluation", "shop") == stored
    assert list(records.list("evaluation")) == [stored]


def test_the_same_fingerprint_is_returned_unchanged_and_writes_nothing(records):
    first = records.commit(a_commit("1", heads={"vault": (None, "a")}))
    again = records.commit(a_commit("1", heads={"vault": ("something else", "b")}))
    assert again == first
    assert (records.head("vault"), len(records.events())) == ("a", 1)


def test_an_unknown_reference_names_the_nearest_known(records):
    records.commit(a_commit("1"))
    with pytest.raises(UnknownReference, match="shop@1"):
        records.get("evaluation", Ref("shop", 2))


def test_absent_things_are_none_or_empty(records):
    assert records.latest("model", "shop") is None
    assert records.find("model", Digest("1" * 64)) is None
    assert records.head("vault") is None
    assert list(records.list("model")) == list(records.parents("x")) == list(records.aliases()) == []
    assert records.alias("shop", "champion").revision == 0


def test_edges_lead_both_ways(records):
    edge = Edge(parent="run:shop@1", child="evaluation:shop@1", role="run")
    records.commit(a_commit("1", edges=lambda ref: [edge]))
    assert list(records.parents("evaluation:shop@1")) == [edge]
    assert list(records.children("run:shop@1")) == [edge]
    assert list(records.children("evaluation:shop@1")) == []


def test_a_head_moves_only_from_what_was_expected(records):
    records.commit(a_commit("1", heads={"vault": (None, "a")}))
    with pytest.raises(AliasConflict, match="vault"):
        records.commit(a_commit("2", heads={"vault": (None, "b")}))
    assert records.find("evaluation", Digest("2" * 64)) is None, "the record must not outlive its lost head"
    assert len(records.events()) == 1
    records.commit(a_commit("2", heads={"vault": ("a", "b")}))
    assert records.head("vault") == "b"


def test_an_event_moves_heads_with_it_and_names_them(records):
    made = records.append(DRAFT, heads={"rollout:shop": (None, "a")})
    assert records.head("rollout:shop") == "a"
    assert made.detail["heads"] == {"rollout:shop": "a"}
    assert (made.detail["why"], made.hash) == ("test", event_hash(made.to_json()))
    with pytest.raises(AliasConflict, match="rollout:shop"):
        records.append(DRAFT, heads={"rollout:shop": (None, "b")})
    with pytest.raises(AliasConflict, match="rollout:shop"):
        records.append(DRAFT, heads={"other": (None, "x"), "rollout:shop": ("b", "c")})
    assert (records.head("rollout:shop"), records.head("other"), len(records.events())) == ("a", None, 1)
    assert "heads" not in records.append(DRAFT).detail


def test_the_tip_is_the_number_of_the_newest_event(records):
    assert records.tip() == 0
    records.commit(a_commit("1"))
    assert records.tip() == 1
    event = records.append(DRAFT)
    assert records.tip() == event.seq == 2


def test_an_alias_and_a_head_move_together_or_not_at_all(records):
    nothing = records.alias("shop", "champion")
    one = move(records, nothing, Ref("shop", 1), heads={"rollout:shop": (None, "a")})
    assert (records.head("rollout:shop"), records.alias("shop", "champion")) == ("a", one)
    assert records.events(kind="alias")[-1].detail["heads"] == {"rollout:shop": "a"}
    with pytest.raises(AliasConflict, match="rollout:shop"):
        move(records, one, Ref("shop", 2), heads={"rollout:shop": ("stale", "b")})
    assert records.alias("shop", "champion") == one, "an alias must not move without its head"
    with pytest.raises(AliasConflict, match="shop/champion"):
        move(records, nothing, Ref("shop", 2), heads={"rollout:shop": ("a", "b")})
    assert (records.head("rollout:shop"), records.tip()) == ("a", 1)


def test_a_record_that_cannot_be_made_leaves_nothing(records):
    def fail(ref):
        raise ArithmeticError("no record")

    with pytest.raises(ArithmeticError):
        records.commit(Commit(kind="evaluation", name="shop", make=fail, event=DRAFT))
    assert not records.events()
    assert records.commit(a_commit("1")).ref == Ref("shop", 1)


def test_events_form_a_chain_and_carry_the_records_digest(records):
    stored = records.commit(a_commit("1"))
    look = records.append(EventDraft(kind="look", actor="bob", subject="dataset:shop@1"))
    first, second = records.events()
    assert (first.seq, second.seq) == (1, 2)
    assert (first.previous, second.previous) == (GENESIS, first.hash)
    assert (first.record_digest, second.record_digest) == (stored.content_digest(), None)
    assert first.subject == "evaluation:shop@1", "the draft's subject is replaced by the record's node"
    assert (first.detail["why"], first.detail["n"]) == ("test", 1.5)
    assert second == look
    for event in (first, second):
        assert event.hash == event_hash(event.to_json())


def test_events_are_found_by_kind_and_subject(records):
    for subject in ("a", "b"):
        records.append(EventDraft(kind="look", actor="ann", subject=subject))
    records.append(EventDraft(kind="waive", actor="ann", subject="a"))
    assert [e.seq for e in records.events(kind="look")] == [1, 2]
    assert [e.seq for e in records.events(kind="look", subject="b")] == [2]
    assert [e.seq for e in records.events(subject="a")] == [1, 3]


def test_numbers_order_events_when_the_clock_jumps_backwards(clock_and_records):
    clock, records = clock_and_records
    records.append(EventDraft(kind="look", actor="ann", subject="first"))
    clock.now -= timedelta(days=400)
    records.append(EventDraft(kind="look", actor="ann", subject="second"))
    assert [(e.seq, e.subject) for e in records.events()] == [(1, "first"), (2, "second")]
    assert records.events()[1].at < records.events()[0].at


def test_an_alias_moves_only_from_what_was_expected(records):
    nothing = records.alias("shop", "champion")
    one = move(records, nothing, Ref("shop", 1))
    assert (one.target, one.revision) == (Ref("shop", 1), 1)
    with pytest.raises(AliasConflict, match="shop/champion"):
        move(records, nothing, Ref("shop", 2))
    assert records.alias("shop", "champion") == one
    two = move(records, one, Ref("shop", 2))
    assert list(records.aliases()) == [two]
    assert [event.detail["to"] for event in records.events(kind="alias")] == ["shop@1", "shop@2"]


def test_a_move_there_and_back_is_no_reason_to_let_a_stale_move_win(records):
    stale = move(records, records.alias("shop", "champion"), Ref("shop", 1))
    there = move(records, stale, Ref("shop", 2))
    move(records, there, Ref("shop", 1))
    with pytest.raises(AliasConflict):
        move(records, stale, Ref("shop", 3))


def test_raw_shows_every_event_and_record_as_stored(records):
    import json

    stored = records.commit(a_commit("1"))
    raw = records.raw()
    assert [event["hash"] for event in raw.events] == [event_hash(event) for event in raw.events]
    assert digest_json(json.loads(raw.records["evaluation:shop@1"])) == stored.content_digest()


def move(records, expected, target, heads=None):
    event = alias_event(expected, target, action="set", actor="ann", reason="test")
    return records.move_alias(expected, target, event, heads=heads)
