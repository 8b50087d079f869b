"""Secrets in the user's configuration folder: read only where nobody else may, one to a workspace.

A workspace holds the id of its secret, never the secret; a copy of the workspace alone cannot be read.
"""

import re
import secrets
import stat
from pathlib import Path

from tunewright.backends.disk import disk_error, write_first
from tunewright.errors import SettingsError

SECRET_BYTES = 32

_ID = re.compile(r"[0-9a-f]{32}")


def read_private(path: Path) -> bytes:
    """Read a private file.

    Raises:
        SettingsError: other users may read or write it.
        StorageError: it cannot be read.
    """
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        data = path.read_bytes()
    except OSError as error:
        raise disk_error(error, path) from error
    if mode & 0o077:
        raise SettingsError(
            f"{path} has permissions {mode:04o}; expected 0600, because it is a private key. "
            f"Run `chmod 600 {path}`; replace the key if others may have read it."
        )
    return data


def secret_file(id_file: Path, folder: Path, *, opens: str) -> Path:
    """Find the file of a workspace's secret; makes secret and id for a new workspace only.

    Args:
        id_file: in the workspace; names the secret.
        folder: where secrets lie, outside the workspace.
        opens: what the secret opens, for the message, such as `held-out rows`.

    Raises:
        SettingsError: the workspace is known but its secret is not on this machine, or the id is damaged.
        StorageError: a folder cannot be written or read.
    """
    if not id_file.exists():
        _make_secret(id_file, folder)
    try:
        identity = id_file.read_text("ascii", errors="replace").strip()
    except OSError as error:
        raise disk_error(error, id_file) from error
    if not _ID.fullmatch(identity):
        raise SettingsError(f"{id_file} is damaged; expected 32 hexadecimal characters. Restore it.")
    path = folder / f"{identity}.key"
    if not path.exists():
        raise SettingsError(
            f"the key to this workspace's {opens} is not on this machine; expected it at {path}. "
            "Copy it from the machine or user that made the workspace; without it nobody can read them."
        )
    return path


def read_secret(path: Path) -> bytes:
    """Read a secret that `secret_file` found.

    Raises:
        SettingsError: others may read it, or it has another length.
        StorageError: it cannot be read.
    """
    secret = read_private(path)
    if len(secret) != SECRET_BYTES:
        raise SettingsError(
            f"{path} holds {len(secret)} bytes; expected a key of {SECRET_BYTES}. Restore it from a backup."
        )
    return secret


def _make_secret(id_file: Path, folder: Path) -> None:
    identity = secrets.token_hex(16)
    path = folder / f"{identity}.key"
    write_first(path, secrets.token_bytes(SECRET_BYTES), mode=0o600)
    if not write_first(id_file, f"{identity}\n".encode(), mode=0o644):
        path.unlink()  # another process was first; its secret counts
