"""The one way to a model's bytes: signature, revocations, manifest and every file are checked first."""

from tunewright.core.ledger import REVOKE_EVENT
from tunewright.errors import ModelRevoked
from tunewright.ports import Ports, Records, Signer
from tunewright.records import ModelVersion
from tunewright.trees import get_tree
from tunewright.values import Digest, canonical_json


def signed_bytes(model: ModelVersion) -> bytes:
    """Encode what the signature covers: every field but the signature itself."""
    return canonical_json({key: value for key, value in model.to_json().items() if key != "signature"})


def check_signature(model: ModelVersion, signer: Signer) -> None:
    """Raise SignatureInvalid unless this very record was signed by a known key."""
    signer.verify(signed_bytes(model), model.signature, model.key_id)


def revocation(records: Records, adapter: Digest) -> str | None:
    """Say why an adapter was revoked; None when it was not."""
    for event in records.events(kind=REVOKE_EVENT):
        if event.detail.get("adapter") == adapter:
            return f"revoked by {event.actor} on {event.at:%Y-%m-%d}: {event.detail.get('reason')}"
    return None


def load_verified(model: ModelVersion, ports: Ports) -> dict[str, bytes]:
    """Read a model's files, everything checked; load from these bytes and never from a path.

    Returns:
        File name -> bytes, as the manifest names them.

    Raises:
        SignatureInvalid: the record was changed, or signed by an unknown key.
        ModelRevoked: the adapter was taken out of use.
        BlobMissing, BlobCorrupt: the files are not what was registered.
    """
    check_signature(model, ports.signer)
    reason = revocation(ports.records, model.adapter)
    if reason is not None:
        raise ModelRevoked(
            f"model {model.ref} is {reason}; expected a model in use. Roll back to another version, or "
            "train anew."
        )
    return get_tree(ports.blobs, model.adapter)
