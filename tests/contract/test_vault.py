"""Vaults: the look comes before the key, and sealed bytes open only with it."""

import pytest
from tests.fakes import FakeVault, InMemoryRecords

from tunewright.backends.vault import LocalVault
from tunewright.errors import IntegrityError, SettingsError, StorageError


@pytest.fixture(params=["memory", "local"])
def vault_and_records(request, tmp_path):
    records = InMemoryRecords()
    if request.param == "memory":
        return FakeVault(records), records
    return local(tmp_path, records), records


def local(tmp_path, records, workspace="workspace"):
    return LocalVault(records, tmp_path / workspace, tmp_path / "config")


class BrokenLedger(InMemoryRecords):
    def append(self, event):
        raise StorageError("the disk is full")


def test_sealed_bytes_open_in_a_later_session(vault_and_records):
    vault, _ = vault_and_records
    sealed = vault.open("curate", "dataset:shop", "ann").seal(b"held-out rows")
    assert b"held-out" not in sealed
    assert vault.open("evaluate", "run:shop@1", "ann").unseal(sealed) == b"held-out rows"


def test_equal_bytes_are_sealed_differently_each_time(vault_and_records):
    session = vault_and_records[0].open("curate", "dataset:shop", "ann")
    assert session.seal(b"x") != session.seal(b"x")


def test_every_opening_is_one_event_with_who_why_and_what(vault_and_records):
    vault, records = vault_and_records
    vault.open("curate", "dataset:shop", "ann")
    vault.open("evaluate", "run:shop@1", "bob")
    found = [(e.kind, e.actor, e.subject, e.detail["purpose"]) for e in records.events()]
    assert found == [("look", "ann", "dataset:shop", "curate"), ("look", "bob", "run:shop@1", "evaluate")]


@pytest.mark.parametrize("position", [0, 5, 20, -1])
def test_a_flipped_bit_is_found(vault_and_records, position):
    session = vault_and_records[0].open("curate", "dataset:shop", "ann")
    sealed = bytearray(session.seal(b"held-out rows"))
    sealed[position] ^= 1
    with pytest.raises(IntegrityError):
        session.unseal(bytes(sealed))


@pytest.mark.parametrize("keep", [0, 3, 15, 20])
def test_truncated_bytes_are_found(vault_and_records, keep):
    session = vault_and_records[0].open("curate", "dataset:shop", "ann")
    with pytest.raises(IntegrityError):
        session.unseal(session.seal(b"held-out rows")[:keep])


def test_no_key_is_released_when_the_look_cannot_be_written(tmp_path):
    with pytest.raises(StorageError, match="full"):
        local(tmp_path, BrokenLedger()).open("evaluate", "run:shop@1", "ann")


def test_each_workspace_has_its_own_key(tmp_path):
    records = InMemoryRecords()
    sealed = local(tmp_path, records, "one").open("curate", "d", "ann").seal(b"rows")
    with pytest.raises(IntegrityError, match="another workspace's key"):
        local(tmp_path, records, "two").open("curate", "d", "ann").unseal(sealed)


def test_the_key_lies_outside_the_workspace_and_only_the_user_may_read_it(tmp_path):
    local(tmp_path, InMemoryRecords()).open("curate", "d", "ann")
    (key,) = (tmp_path / "config" / "vault").iterdir()
    assert key.stat().st_mode & 0o777 == 0o600
    assert len(key.read_bytes()) == 32
    for path in (tmp_path / "workspace").rglob("*"):
        assert key.read_bytes() not in path.read_bytes()


def test_a_lost_key_is_named_and_never_replaced_by_a_new_one(tmp_path):
    records = InMemoryRecords()
    local(tmp_path, records).open("curate", "d", "ann")
    (key,) = (tmp_path / "config" / "vault").iterdir()
    key.unlink()
    with pytest.raises(SettingsError, match=rf"not on this machine; expected it at {key}"):
        local(tmp_path, records).open("evaluate", "d", "ann")
    assert not key.exists()
    assert len(records.events()) == 1, "a look that could not happen must not use up the budget of looks"


def test_a_key_that_others_may_read_is_refused(tmp_path):
    records = InMemoryRecords()
    local(tmp_path, records).open("curate", "d", "ann")
    (key,) = (tmp_path / "config" / "vault").iterdir()
    key.chmod(0o644)
    with pytest.raises(SettingsError, match="0644; expected 0600"):
        local(tmp_path, records).open("evaluate", "d", "ann")


def test_a_damaged_key_or_id_is_named(tmp_path):
    records = InMemoryRecords()
    local(tmp_path, records).open("curate", "d", "ann")
    (key,) = (tmp_path / "config" / "vault").iterdir()
    key.write_bytes(b"short")
    with pytest.raises(SettingsError, match="holds 5 bytes; expected a key of 32"):
        local(tmp_path, records).open("evaluate", "d", "ann")
    identity = tmp_path / "workspace" / "vault_id"
    identity.write_text("../../other")
    with pytest.raises(SettingsError, match="vault_id is damaged"):
        local(tmp_path, records).open("evaluate", "d", "ann")
