"""Signers: only the same bytes, signature and key fit."""

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from tests.fakes import FakeSigner

from tunewright.backends.signer import LocalSigner
from tunewright.errors import SettingsError, SignatureInvalid


@pytest.fixture(params=["memory", "local"])
def signer(request, tmp_path):
    return FakeSigner() if request.param == "memory" else local(tmp_path)


def local(tmp_path, user="ann", workspace="workspace"):
    return LocalSigner(tmp_path / workspace, tmp_path / user)


def test_a_signature_fits_what_was_signed(signer):
    signature, key_id = signer.sign(b"record")
    signer.verify(b"record", signature, key_id)


@pytest.mark.parametrize(
    "forge",
    [
        lambda data, signature, key: (data + b" ", signature, key),
        lambda data, signature, key: (data, base64.b64encode(b"0" * 64).decode(), key),
        lambda data, signature, key: (data, "", key),
        lambda data, signature, key: (data, "no base64!", key),
        lambda data, signature, key: (data, signature, "0" * 32),
        lambda data, signature, key: (data, signature, "../../config/signing/ed25519"),
    ],
    ids=["data", "signature", "none", "garbage", "unknown key", "path as key"],
)
def test_anything_else_is_refused(signer, forge):
    signature, key_id = signer.sign(b"record")
    with pytest.raises(SignatureInvalid):
        signer.verify(*forge(b"record", signature, key_id))


def test_the_private_key_stays_with_the_user_and_the_public_one_with_the_workspace(tmp_path):
    _, key_id = local(tmp_path).sign(b"record")
    private = tmp_path / "ann" / "signing" / "ed25519.pem"
    assert private.stat().st_mode & 0o777 == 0o600
    assert b"PUBLIC KEY" in (tmp_path / "workspace" / "keys" / f"{key_id}.pem").read_bytes()
    assert [path.name for path in (tmp_path / "workspace" / "keys").iterdir()] == [f"{key_id}.pem"]


def test_another_user_verifies_with_the_public_key_alone(tmp_path):
    signature, key_id = local(tmp_path, "ann").sign(b"record")
    local(tmp_path, "bob").verify(b"record", signature, key_id)
    assert not (tmp_path / "bob").exists()


def test_a_key_of_another_workspace_is_not_known_here(tmp_path):
    signature, key_id = local(tmp_path, "ann", "one").sign(b"record")
    with pytest.raises(SignatureInvalid, match="does not know"):
        local(tmp_path, "ann", "two").verify(b"record", signature, key_id)


def test_a_public_key_file_that_was_exchanged_is_noticed(tmp_path):
    signature, _ = local(tmp_path, "eve").sign(b"forged record")
    _, ann = local(tmp_path, "ann").sign(b"record")
    keys = tmp_path / "workspace" / "keys"
    eve = next(path for path in keys.iterdir() if path.stem != ann)
    (keys / f"{ann}.pem").write_bytes(eve.read_bytes())
    with pytest.raises(SignatureInvalid, match="another key than its name says"):
        local(tmp_path).verify(b"forged record", signature, ann)


def test_damaged_key_files_are_named(tmp_path):
    signature, key_id = local(tmp_path).sign(b"record")
    (tmp_path / "workspace" / "keys" / f"{key_id}.pem").write_text("garbage")
    with pytest.raises(SignatureInvalid, match="is no public key"):
        local(tmp_path).verify(b"record", signature, key_id)
    private = tmp_path / "ann" / "signing" / "ed25519.pem"
    private.write_text("garbage")
    with pytest.raises(SettingsError, match=r"ed25519\.pem is no private key"):
        local(tmp_path).sign(b"record")
    rsa = generate_private_key(public_exponent=65537, key_size=1024)
    private.write_bytes(rsa.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(SettingsError, match="another kind of key"):
        local(tmp_path).sign(b"record")


def test_a_private_key_that_others_may_read_is_refused(tmp_path):
    local(tmp_path).sign(b"record")
    (tmp_path / "ann" / "signing" / "ed25519.pem").chmod(0o640)
    with pytest.raises(SettingsError, match="0640; expected 0600"):
        local(tmp_path).sign(b"record")
