import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes import InMemoryRecords, fake_ports

from tunewright.deploy.keys import ROLES, KeyRing, allows, first_keys, new_key
from tunewright.errors import LedgerBroken, UnknownReference, UsageError
from tunewright.pipeline.key_verbs import KeyVerbs
from tunewright.records import EventDraft


@pytest.fixture
def ports(tmp_path):
    return fake_ports(tmp_path)


def test_a_key_is_found_by_its_secret_only(ports):
    verbs = KeyVerbs(ports)
    key = verbs.add("caller", "acme", "train")
    verbs.add("operator", "acme", "none")
    found = verbs.ring().find(key.secret)
    assert found is not None
    assert (found.id, found.role, found.tenant, found.consent) == (key.id, "caller", "acme", "train")
    assert verbs.ring().find(key.secret[:-1]) is None
    assert verbs.ring().find("") is None
    assert verbs.ring().find(key.id) is None
    assert verbs.ring().find(hashlib.sha256(key.secret.encode()).hexdigest()) is None


def test_a_secret_is_43_random_characters_and_only_its_hash_is_in_the_ledger(ports):
    key = KeyVerbs(ports).add("viewer", "acme", "review")
    assert re.fullmatch(r"tw-[A-Za-z0-9_-]{43}", key.secret)
    [event] = ports.records.events()
    assert (event.kind, event.subject) == ("key", f"key:{key.id}")
    assert event.detail["sha256"] == hashlib.sha256(key.secret.encode()).hexdigest()
    assert key.secret not in event.model_dump_json()


def test_a_revoked_key_is_not_found_any_more_and_stays_listed(ports):
    verbs = KeyVerbs(ports)
    one, two = (verbs.add("caller", "acme", "none") for _ in range(2))
    ended = verbs.revoke(one.id[:8])
    assert ended.revoked_at == ports.clock()
    assert verbs.ring().find(one.secret) is None
    assert verbs.ring().find(two.secret) is not None
    assert [key.revoked_at is None for key in verbs.all()] == [False, True]
    with pytest.raises(UsageError, match=f"{one.id} was revoked at 2026-01-02"):
        verbs.revoke(one.id)


@pytest.mark.parametrize("prefix", ["", "zz", "key:"])
def test_revoking_needs_the_id_of_one_key(ports, prefix):
    key = KeyVerbs(ports).add("caller", "acme", "none")
    with pytest.raises(UnknownReference, match=key.id):
        KeyVerbs(ports).revoke(prefix)


def test_the_first_start_makes_a_callers_and_an_operators_key_and_no_other_start_does(ports):
    made = first_keys(ports)
    assert [(key.role, key.tenant, key.consent) for key in made] == [
        ("caller", "default", "review"),
        ("operator", "default", "review"),
    ]
    assert first_keys(ports) == []
    KeyVerbs(ports).revoke(made[0].id)
    assert first_keys(ports) == [], "revoking every key must not hand out new ones at the next start"


def test_of_two_gateways_that_start_at_once_one_makes_the_keys(ports):
    ports.records.append(
        EventDraft(kind="x", actor="a", subject="b"), heads={"first-key:caller": (None, "1")}
    )
    assert first_keys(ports) == []


@pytest.mark.parametrize(
    ("role", "tenant", "consent", "words"),
    [
        ("root", "acme", "none", "role 'root' is unknown; expected one of: caller, viewer"),
        ("caller", "../acme", "none", "tenant '../acme' is no name"),
        ("caller", "", "none", "tenant '' is no name"),
        ("caller", "acme", "all", "consent 'all' is unknown; expected one of: none, review, train"),
    ],
)
def test_an_unknown_role_tenant_or_consent_is_refused(ports, role, tenant, consent, words):
    with pytest.raises(UsageError, match=re.escape(words)):
        KeyVerbs(ports).add(role, tenant, consent)
    assert not ports.records.events()


@given(st.text(max_size=300))
def test_no_odd_secret_is_found_or_makes_the_ring_fail(secret):
    key = new_key("caller", "acme", "none", actor="ann")
    event = _appended(key.event)
    assert KeyRing.from_events([event]).find(secret) is None
    assert KeyRing.from_events([event]).find(key.secret) is not None


def test_an_event_that_tells_of_no_key_is_named(ports):
    ports.records.append(EventDraft(kind="key", actor="eve", subject="key:1", detail={"action": "add"}))
    with pytest.raises(LedgerBroken, match="event 1 tells of no API key"):
        KeyVerbs(ports).all()


def test_each_role_may_do_what_those_before_it_may():
    for index, role in enumerate(ROLES):
        assert [allows(role, needed) for needed in ROLES] == [n <= index for n in range(len(ROLES))]


def _appended(draft):
    return InMemoryRecords().append(draft)
