import pytest
from tests.fakes import FakeSigner, fake_ports
from tests.registry_world import RECIPE, TunedEngine, make_world

from tunewright.errors import BlobCorrupt, BlobMissing, ModelRevoked, SignatureInvalid
from tunewright.registry.aliases import revoke
from tunewright.registry.load import load_verified, signed_bytes
from tunewright.registry.register import register
from tunewright.trees import put_tree
from tunewright.values import Digest


@pytest.fixture
def ports(tmp_path):
    return fake_ports(tmp_path, TunedEngine())


@pytest.fixture
def model(ports):
    return register(RECIPE, make_world(ports).report, ports)


def sign(model, ports):
    signature, key_id = ports.signer.sign(signed_bytes(model))
    return model.model_copy(update={"signature": signature, "key_id": key_id})


@pytest.mark.parametrize(
    "change",
    [
        {"adapter": Digest("0" * 64)},
        {"verdict": "fail"},
        {"semantic_version": "9.9.9"},
        {"signature": ""},
        {"key_id": "another"},
        {"probes": ()},
    ],
)
def test_a_record_changed_in_any_field_is_not_loaded(ports, model, change):
    with pytest.raises(SignatureInvalid):
        load_verified(model.model_copy(update=change), ports)


def test_a_signature_by_another_key_is_not_accepted(ports, model):
    signature, _ = FakeSigner(b"other key").sign(signed_bytes(model))
    with pytest.raises(SignatureInvalid):
        load_verified(model.model_copy(update={"signature": signature}), ports)


def test_a_file_swapped_after_signing_is_not_loaded(ports, model):
    manifest = ports.blobs.get(model.adapter).decode()
    digest = Digest(manifest.split('"')[3])
    ports.blobs.stored[digest] = b"swapped"
    with pytest.raises(BlobCorrupt, match=digest):
        load_verified(model, ports)
    del ports.blobs.stored[digest]
    with pytest.raises(BlobMissing, match=digest):
        load_verified(model, ports)


def test_a_revoked_adapter_is_not_loaded(ports, model):
    revoke(model.ref, actor="ann", reason="leaks addresses", ports=ports)
    with pytest.raises(ModelRevoked, match="revoked by ann on 2026-01-02: leaks addresses"):
        load_verified(model, ports)


@pytest.mark.parametrize(
    "name", ["../evil", "/etc/passwd", "a/../../b", "a\\..\\b", "nul\0byte", ".", "", "a//b", "./a"]
)
def test_file_names_that_leave_their_folder_are_refused(ports, model, name):
    tree = put_tree(ports.blobs, {name: b"x", "adapter_config.json": b"{}"})
    with pytest.raises(BlobCorrupt, match="expected plain names inside the folder"):
        load_verified(sign(model.model_copy(update={"adapter": tree}), ports), ports)


def test_file_names_in_folders_are_fine(ports, model):
    tree = put_tree(ports.blobs, {"onnx/model.onnx": b"x", "..a": b"y"})
    assert set(load_verified(sign(model.model_copy(update={"adapter": tree}), ports), ports)) == {
        "onnx/model.onnx",
        "..a",
    }
