"""ed25519 signatures: private key in the user's configuration folder, public keys in the workspace."""

import base64
import binascii
import re
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from tunewright.backends.disk import disk_error, write_first
from tunewright.backends.key_files import read_private
from tunewright.errors import SettingsError, SignatureInvalid
from tunewright.values import digest_bytes

_KEY_ID = re.compile(r"[0-9a-f]{32}")


class LocalSigner:
    """Implements `ports.Signer`.

    A key's id is the start of its public half's SHA-256, so a public key file that was exchanged is noticed.
    """

    def __init__(self, workspace: Path, config_dir: Path) -> None:
        self._public = workspace / "keys"
        self._private = config_dir / "signing" / "ed25519.pem"

    def sign(self, data: bytes) -> tuple[str, str]:
        """Return (signature in base64, key id); makes the key at the first call.

        Raises:
            SettingsError: the private key is damaged, or others may read it.
            StorageError: a key file cannot be written.
        """
        private = self._private_key()
        public = private.public_key()
        key_id = _key_id(public)
        pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        write_first(self._public / f"{key_id}.pem", pem, mode=0o644)
        return base64.b64encode(private.sign(data)).decode("ascii"), key_id

    def verify(self, data: bytes, signature: str, key_id: str) -> None:
        """Raise SignatureInvalid unless this signature by this known key fits."""
        public = self._public_key(key_id)
        try:
            public.verify(base64.b64decode(signature, validate=True), data)
        except (InvalidSignature, binascii.Error, ValueError) as error:
            raise SignatureInvalid(
                f"the signature by key {key_id} does not fit what is stored; expected an unchanged record. "
                "Do not load it; restore the registry from a backup, or register again."
            ) from error

    def _private_key(self) -> Ed25519PrivateKey:
        if not self._private.exists():
            made = Ed25519PrivateKey.generate()
            pem = made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            write_first(self._private, pem, mode=0o600)
        try:
            key = load_pem_private_key(read_private(self._private), password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise SettingsError(f"{self._private} is no private key; expected ed25519 in PEM.") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise SettingsError(f"{self._private} holds another kind of key; expected ed25519 in PEM.")
        return key

    def _public_key(self, key_id: str) -> Ed25519PublicKey:
        path = self._public / f"{key_id}.pem"
        if not _KEY_ID.fullmatch(key_id) or not path.exists():
            raise SignatureInvalid(
                f"signed by key {key_id[:80]!r}, which this workspace does not know; expected a file of that "
                f"name in {self._public}. Copy the public key there if you trust it."
            )
        try:
            key = load_pem_public_key(path.read_bytes())
        except OSError as error:
            raise disk_error(error, path) from error
        except (ValueError, UnsupportedAlgorithm) as error:
            raise SignatureInvalid(
                f"{path} is no public key; expected ed25519 in PEM. Restore it."
            ) from error
        if not isinstance(key, Ed25519PublicKey) or _key_id(key) != key_id:
            raise SignatureInvalid(f"{path} holds another key than its name says; expected key {key_id}.")
        return key


def _key_id(public: Ed25519PublicKey) -> str:
    return digest_bytes(public.public_bytes(Encoding.Raw, PublicFormat.Raw))[:32]
