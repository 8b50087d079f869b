"""Reading private key files: only where nobody else may."""

import stat
from pathlib import Path

from tunewright.backends.disk import disk_error
from tunewright.errors import SettingsError


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
