"""Encryption of what was said: AES-256-GCM, each text bound to its owner and to the time it expires.

A ciphertext that is moved to another trace, or whose time is put off, does not open.
"""

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic import ValidationError

from tunewright.errors import IntegrityError
from tunewright.records import TraceText

_NONCE_BYTES = 12


class TextCipher:
    """Seals and opens texts with the workspace's text key."""

    def __init__(self, key: bytes) -> None:
        """Take the 32-byte key of `LiveKeys.text`."""
        self._cipher = AESGCM(key)

    def seal(self, text: TraceText, expires_us: int) -> bytes:
        """Encrypt; equal texts give different bytes.

        Args:
            text: what was said.
            expires_us: the expiry as it is stored in clear beside the ciphertext.

        Returns:
            Nonce, ciphertext and tag.
        """
        nonce = os.urandom(_NONCE_BYTES)
        plain = text.model_dump_json().encode()
        return nonce + self._cipher.encrypt(nonce, plain, _bound_to(text.owner, expires_us))

    def unseal(self, sealed: bytes, *, owner: str, expires_us: int) -> TraceText:
        """Decrypt. Raises IntegrityError when bytes, owner or expiry are not those that were sealed."""
        nonce, ciphertext = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
        try:
            if len(nonce) < _NONCE_BYTES:
                raise InvalidTag
            plain = self._cipher.decrypt(nonce, ciphertext, _bound_to(owner, expires_us))
            return TraceText.model_validate_json(plain)
        except (InvalidTag, ValidationError) as error:
            raise IntegrityError(
                f"the text of {owner} does not open: it was changed, moved from another trace, or written "
                "with another workspace's key; expected bytes sealed for it by this one. Restore the trace "
                "store, or the key, from a backup."
            ) from error


def _bound_to(owner: str, expires_us: int) -> bytes:
    return f"TWT1 {expires_us} {owner}".encode()
