"""The workspace's key to its held-out rows: one 256-bit key in the user's configuration folder.

This prevents accidents, not a hostile process of the same user, who may read the key file. The guarantee
against contamination is detection at the gate.
"""

import os
import re
import secrets
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tunewright.backends.disk import disk_error, write_first
from tunewright.backends.key_files import read_private
from tunewright.errors import IntegrityError, SettingsError
from tunewright.ports import Purpose, Records
from tunewright.records import EventDraft

_MAGIC = b"TWV1"
_NONCE_BYTES = 12
_KEY_BYTES = 32
_ID = re.compile(r"[0-9a-f]{32}")


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
        path = self._key_file()
        self._records.append(
            EventDraft(kind="look", actor=actor, subject=subject, detail={"purpose": purpose})
        )
        key = read_private(path)
        if len(key) != _KEY_BYTES:
            raise SettingsError(
                f"{path} holds {len(key)} bytes; expected a key of {_KEY_BYTES}. Restore it from a backup."
            )
        return LocalVaultSession(key)

    def _key_file(self) -> Path:
        """Find the key's file; makes key and id for a new workspace only."""
        if not self._id_file.exists():
            self._make_key()
        try:
            identity = self._id_file.read_text("ascii", errors="replace").strip()
        except OSError as error:
            raise disk_error(error, self._id_file) from error
        if not _ID.fullmatch(identity):
            raise SettingsError(
                f"{self._id_file} is damaged; expected 32 hexadecimal characters. Restore it."
            )
        path = self._keys / f"{identity}.key"
        if not path.exists():
            raise SettingsError(
                f"the key to this workspace's held-out rows is not on this machine; expected it at {path}. "
                "Copy it from the machine or user that made the workspace; without it nobody can read them."
            )
        return path

    def _make_key(self) -> None:
        identity = secrets.token_hex(16)
        path = self._keys / f"{identity}.key"
        write_first(path, secrets.token_bytes(_KEY_BYTES), mode=0o600)
        if not write_first(self._id_file, f"{identity}\n".encode(), mode=0o644):
            path.unlink()  # another process was first; its key counts
