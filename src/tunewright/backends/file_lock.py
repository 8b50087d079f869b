"""One lock a fingerprint, across processes: flock on a file of the workspace, freed when the process dies."""

import fcntl
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from tunewright.errors import StorageError


@contextmanager
def file_lock(folder: Path, name: str, *, on_wait: Callable[[], None]) -> Generator[None]:
    """Hold the lock `name` for the duration of the block; calls on_wait once when another process has it.

    Raises:
        StorageError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = (folder / f"{name}.lock").open("a")
    except OSError as error:
        raise StorageError(
            f"cannot write locks to {folder}: {error.strerror}; expected a writable workspace. "
            "Choose another with --workspace."
        ) from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_wait()
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
