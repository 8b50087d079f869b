"""The workspace's key to its held-out rows: one 256-bit key in the user's configuration folder.

This prevents accidents, not a hostile process of the same user, who may read the key file. The guarantee
against contamination is detection at the gate.
"""

import os
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tunewright.backends.key_files import read_secret, secret_file
from tunewright.errors import IntegrityError
from tunewright.ports import Purpose, Records
from tunewright.records import EventDraft

_MAGIC = b"TWV1"
_NONCE_BYTES = 12


class LocalVaultSession:
    """An opened vault; implements `ports.VaultSession`. Sealed bytes: magic, nonce, ciphertext and tag."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def seal(self, plaintext: bytes) -> bytes:
        """Encrypt and authenticate; equal plaintexts give different bytes."""
        nonce = os.urandom(_NONCE_BYTES)
        return _MAGIC + nonce + self._cipher.encrypt(nonce, plaintext, _MAGIC)

    def unseal(self, ciphertext: bytes) -> bytes:
        """Decrypt. Raises IntegrityError."""
        body = len(_MAGIC) + _NONCE_BYTES
        try:
            if not ciphertext.startswith(_MAGIC) or len(ciphertext) < body:
                raise InvalidTag
            return self._cipher.decrypt(ciphertext[len(_MAGIC) : body], ciphertext[body:], _MAGIC)
        except InvalidTag as error:
            raise IntegrityError(
                "sealed bytes do not open: they were changed, or sealed with another workspace's key; "
                "expected bytes sealed by this one. Restore the blob, or the key, from a backup."
            ) from error


class LocalVault:
    """Implements `ports.Vault`: the look is in the ledger before the key leaves its file."""

    def __init__(self, records: Records, workspace: Path, config_dir: Path) -> None:
        self._records = records
        self._id_file = workspace / "vault_id"
        self._keys = config_dir / "vault"

    def open(self, purpose: Purpose, subject: str, actor: str) -> LocalVaultSession:
        """Append the look to the ledger, then release the key.

        Raises:
            SettingsError: the workspace is known but its key is not on this machine, or others may read it.
            StorageError: the configuration folder or the ledger cannot be written.
        """
        path = secret_file(self._id_file, self._keys, opens="held-out rows")
        self._records.append(
            EventDraft(kind="look", actor=actor, subject=subject, detail={"purpose": purpose})
        )
        return LocalVaultSession(read_secret(path))
