"""Hands an adapter's verified bytes to the engine as files that only this user can read."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from tunewright.errors import EngineFailed

MAX_NAME_BYTES = 255

_DIGEST = re.compile(r"[0-9a-f]{64}")
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW


def write_adapter(parent: Path, digest: str, files: Mapping[str, bytes]) -> Path:
    """Write an adapter's files into a folder of their own; the engine hashes what it reads there.

    Args:
        parent: an existing folder that nobody else can write to.
        digest: of the manifest; the folder's name.
        files: name -> bytes.

    Raises:
        EngineFailed: a name is no plain file name, or the disk refused. No file lies outside the folder.
    """
    if not _DIGEST.fullmatch(digest):
        raise EngineFailed(f"an adapter is named {digest!r:.100}; expected the digest of its manifest")
    for name in files:
        if not _is_plain(name):
            raise EngineFailed(f"adapter {digest} has a file named {name!r:.100}; expected plain file names")
    folder = parent / digest
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        for name, data in files.items():
            with os.fdopen(os.open(folder / name, _WRITE, 0o600), "wb") as file:
                file.write(data)
    except OSError as error:
        raise EngineFailed(
            f"adapter {digest} cannot be handed over in {folder}: {error.strerror}; expected free space in "
            "the temporary folder"
        ) from error
    return folder


def _is_plain(name: str) -> bool:
    """Say whether a file name stays in its folder on every system, and is one at all."""
    if name in ("", ".", "..") or set(name) & set("/\\") or not name.isprintable():
        return False
    return len(name.encode("utf-8", errors="replace")) <= MAX_NAME_BYTES
