"""Writing files so that they are there whole or not at all, and saying in plain words why a disk refused."""

import errno
import os
import secrets
from pathlib import Path

from tunewright.errors import StorageError

_REASONS = {
    errno.ENOSPC: ("the disk is full", "Free some space and run the same command again; nothing was lost."),
    errno.EDQUOT: ("your disk quota is used up", "Free some space and run the same command again."),
    errno.EROFS: ("it is on a read-only file system", "Choose a writable folder with --workspace."),
    errno.EACCES: ("permission denied", "Make it readable and writable for you, or choose another folder."),
    errno.EPERM: ("permission denied", "Make it readable and writable for you, or choose another folder."),
}


def disk_error(error: OSError, path: Path) -> StorageError:
    """Say what the operating system's refusal means and what to do."""
    fallback = (error.strerror or type(error).__name__, "Check the disk and run the same command again.")
    reason, step = _REASONS.get(error.errno or 0, fallback)
    return StorageError(f"cannot use {path}: {reason}; expected a healthy, writable folder. {step}")


def make_folder(folder: Path, mode: int = 0o777) -> None:
    """Make a folder and its parents. Raises StorageError."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=mode)
    except OSError as error:
        raise disk_error(error, folder) from error


def write_whole(path: Path, data: bytes, *, scratch: Path, mode: int = 0o444) -> None:
    """Write a file by temporary file, fsync, rename and fsync of the folder; replaces what is there.

    Args:
        path: where; its folder is made.
        data: what.
        scratch: folder for the temporary file, on the same file system.
        mode: permissions of the file.

    Raises:
        StorageError: full, read-only, not allowed. Nothing is left behind.
    """
    make_folder(path.parent)
    temporary = _write_temporary(data, scratch=scratch, mode=mode)
    try:
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise disk_error(error, path) from error


def write_first(path: Path, data: bytes, *, mode: int) -> bool:
    """Write a file unless it exists, also when two processes try at once.

    Returns:
        True when this call made the file.

    Raises:
        StorageError: full, read-only, not allowed.
    """
    make_folder(path.parent)
    temporary = _write_temporary(data, scratch=path.parent, mode=mode)
    try:
        os.link(temporary, path)
        _sync_folder(path.parent)
    except FileExistsError:
        return False
    except OSError as error:
        raise disk_error(error, path) from error
    finally:
        temporary.unlink(missing_ok=True)
    return True


def _write_temporary(data: bytes, *, scratch: Path, mode: int) -> Path:
    make_folder(scratch)
    temporary = scratch / f".{os.getpid()}-{secrets.token_hex(8)}.tmp"
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise disk_error(error, scratch) from error
    return temporary


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
