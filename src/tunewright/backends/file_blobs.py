"""Content-addressed, write-once bytes: in a local folder, or anywhere fsspec reaches.

Layout: `ab/cd/abcd...`, the name is the SHA-256 of the bytes. Every read hashes what it read.
"""
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# (fsspec carries no types)

import fcntl
import os
import re
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit

import fsspec

from tunewright.backends.disk import disk_error, make_folder, write_whole
from tunewright.errors import BlobCorrupt, BlobMissing, SettingsError, StorageError
from tunewright.values import Digest, digest_bytes

_NAME = re.compile(r"[0-9a-f]{64}")
_SCRATCH = "tmp"


def open_blobs(url: str) -> "FileBlobs":
    """Open `file:///folder`. Raises SettingsError, StorageError."""
    parts = urlsplit(url)
    if parts.scheme != "file" or parts.netloc or not parts.path:
        raise SettingsError(f"{url!r} is no folder of blobs; expected file:///folder")
    return FileBlobs(Path(unquote(parts.path)))


def open_fsspec_blobs(url: str) -> "FsspecBlobs":
    """Open any URL that fsspec understands, such as `s3://bucket/blobs`. Raises SettingsError."""
    return FsspecBlobs(url)


class FileBlobs:
    """Implements `ports.Blobs` in a folder, and what the orphan sweep needs of it.

    Writers hold a shared lock, the sweep an exclusive one. Storing a blob again makes it young, so that a
    sweep cannot take what a stage is about to name in a record.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        make_folder(folder)

    def put(self, data: bytes) -> Digest:
        """Store bytes under their hash; a damaged copy is replaced by the good one."""
        digest = digest_bytes(data)
        path = self._path(digest)
        with self._lock(fcntl.LOCK_SH):
            try:
                if path.is_file() and path.read_bytes() == data:
                    os.utime(path)
                    return digest
            except OSError as error:
                raise disk_error(error, path) from error
            write_whole(path, data, scratch=self._folder / _SCRATCH)
        return digest

    def get(self, digest: Digest) -> bytes:
        """Read and verify."""
        path = self._path(digest)
        try:
            data = path.read_bytes()
        except FileNotFoundError as error:
            raise _missing(digest, str(path)) from error
        except OSError as error:
            raise disk_error(error, path) from error
        return _verified(data, digest, str(path))

    def has(self, digest: Digest) -> bool:
        """Say whether a blob of this name exists; does not verify."""
        return self._path(digest).is_file()

    def digests(self) -> Sequence[Digest]:
        """List every stored name, sorted."""
        return sorted(
            Digest(path.name) for path in self._folder.glob("??/??/*") if _NAME.fullmatch(path.name)
        )

    def written_at(self, digest: Digest) -> datetime:
        """Say when a blob was stored last, UTC."""
        return datetime.fromtimestamp(self._path(digest).stat().st_mtime, UTC)

    def remove(self, digest: Digest) -> None:
        """Delete a blob; only the sweep does that, under `exclusive`."""
        self._path(digest).unlink(missing_ok=True)

    def remove_scratch(self, before: datetime) -> int:
        """Delete temporary files that a crash left behind; returns how many."""
        old = [
            path
            for path in (self._folder / _SCRATCH).glob(".*.tmp")
            if datetime.fromtimestamp(path.stat().st_mtime, UTC) < before
        ]
        for path in old:
            path.unlink(missing_ok=True)
        return len(old)

    @contextmanager
    def exclusive(self) -> Generator[None]:
        """Keep every writer out for the duration of the block."""
        with self._lock(fcntl.LOCK_EX):
            yield

    @contextmanager
    def _lock(self, kind: int) -> Generator[None]:
        path = self._folder / ".lock"
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise disk_error(error, path) from error
        try:
            fcntl.flock(descriptor, kind)
            yield
        finally:
            os.close(descriptor)

    def _path(self, digest: Digest) -> Path:
        return self._folder / _relative(digest)


class FsspecBlobs:
    """Implements `ports.Blobs` on any fsspec file system; object stores write whole objects or none."""

    def __init__(self, url: str) -> None:
        try:
            self._files, self._root = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise SettingsError(
                f"cannot open blobs at {url}: {error}; expected a URL fsspec understands. "
                "For s3:// install s3fs: pip install s3fs."
            ) from error

    def put(self, data: bytes) -> Digest:
        """Store bytes under their hash; what is there already is left alone."""
        digest = digest_bytes(data)
        path = self._path(digest)
        try:
            if not self._files.exists(path):
                self._files.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
                self._files.pipe_file(path, data)
        except OSError as error:
            raise StorageError(
                f"cannot write {path}: {error}; expected a writable store. Check the URL and your access."
            ) from error
        return digest

    def get(self, digest: Digest) -> bytes:
        """Read and verify."""
        path = self._path(digest)
        try:
            return _verified(bytes(self._files.cat_file(path)), digest, path)
        except FileNotFoundError as error:
            raise _missing(digest, path) from error
        except OSError as error:
            raise StorageError(f"cannot read {path}: {error}; expected a store that answers.") from error

    def has(self, digest: Digest) -> bool:
        """Say whether a blob of this name exists; does not verify."""
        return bool(self._files.exists(self._path(digest)))

    def digests(self) -> Sequence[Digest]:
        """List every stored name, sorted."""
        names = (str(path).rsplit("/", 1)[-1] for path in self._files.find(self._root))
        return sorted(Digest(name) for name in names if _NAME.fullmatch(name))

    def _path(self, digest: Digest) -> str:
        return f"{self._root}/{_relative(digest)}"


def _relative(digest: Digest) -> str:
    """Turn a digest into a path; names come from stored manifests, so nothing else may pass."""
    if not _NAME.fullmatch(digest):
        raise BlobMissing(f"{digest[:80]!r} is not the name of a blob; expected 64 hexadecimal characters")
    return f"{digest[:2]}/{digest[2:4]}/{digest}"


def _missing(digest: Digest, path: str) -> BlobMissing:
    return BlobMissing(
        f"blob {digest} is not in the store; expected it at {path}. Restore it from a backup, or run the "
        "recipe in a new workspace (--workspace); `tunewright models verify` lists what is missing."
    )


def _verified(data: bytes, digest: Digest, path: str) -> bytes:
    found = digest_bytes(data)
    if found != digest:
        raise BlobCorrupt(
            f"blob {digest} is damaged: its {len(data)} bytes at {path} hash to {found}. Restore it from a "
            "backup, or run the recipe in a new workspace (--workspace); `tunewright models verify` lists "
            "what is damaged."
        )
    return data
