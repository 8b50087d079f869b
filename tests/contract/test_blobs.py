"""Every Blobs backend keeps the same promises."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import fsspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.fakes import InMemoryBlobs

from tunewright.backends.disk import disk_error, write_first, write_whole
from tunewright.backends.file_blobs import FileBlobs, FsspecBlobs, open_blobs, open_fsspec_blobs
from tunewright.errors import BlobCorrupt, BlobMissing, SettingsError, StorageError
from tunewright.trees import get_tree, put_tree
from tunewright.values import Digest, digest_bytes


@pytest.fixture(params=["memory", "file", "fsspec", "fsspec_local"])
def blobs(request, tmp_path):
    match request.param:
        case "memory":
            yield InMemoryBlobs()
        case "file":
            yield FileBlobs(tmp_path / "blobs")
        case "fsspec":
            yield FsspecBlobs(f"memory://{tmp_path.name}")
            fsspec.filesystem("memory").store.clear()
        case "fsspec_local":
            yield FsspecBlobs(f"local://{tmp_path}/blobs")


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=300))
def test_what_is_put_comes_back_under_its_hash(blobs, data):
    digest = blobs.put(data)
    assert digest == digest_bytes(data)
    assert blobs.get(digest) == data
    assert blobs.has(digest)


def test_putting_again_changes_nothing(blobs):
    first = blobs.put(b"same")
    assert blobs.put(b"same") == first
    assert list(blobs.digests()) == [first]


def test_names_are_listed_sorted(blobs):
    names = [blobs.put(bytes([n])) for n in range(20)]
    assert list(blobs.digests()) == sorted(names)


def test_a_missing_blob_is_missing_by_name(blobs):
    absent = digest_bytes(b"never stored")
    assert not blobs.has(absent)
    with pytest.raises(BlobMissing, match=absent):
        blobs.get(absent)


def test_a_tree_comes_back_file_by_file(blobs):
    files = {"b/weights": b"1", "a.json": b"{}"}
    assert get_tree(blobs, put_tree(blobs, files)) == files


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: b"X" + data[1:], lambda data: b""])
def test_truncated_and_bit_flipped_blobs_are_found_and_mended_by_storing_again(tmp_path, damage):
    blobs = FileBlobs(tmp_path)
    digest = blobs.put(b"the right bytes")
    damaged = damage(b"the right bytes")
    replace_file(file_of(tmp_path, digest), damaged)
    with pytest.raises(BlobCorrupt, match=rf"{digest} is damaged: its {len(damaged)} bytes"):
        blobs.get(digest)
    blobs.put(b"the right bytes")
    assert blobs.get(digest) == b"the right bytes"


def test_files_lie_in_two_levels_and_nothing_temporary_stays(tmp_path):
    digest = FileBlobs(tmp_path).put(b"data")
    files = [path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()]
    assert sorted(map(str, files)) == [".lock", f"{digest[:2]}/{digest[2:4]}/{digest}"]


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "ab", "A" * 64, "0" * 63 + "/", "0" * 64 + "\n"])
def test_a_name_that_is_no_digest_never_becomes_a_path(tmp_path, name):
    for blobs in (FileBlobs(tmp_path), FsspecBlobs("memory://paths")):
        with pytest.raises(BlobMissing, match="not the name of a blob"):
            blobs.get(Digest(name))


def test_a_store_that_cannot_be_written_says_where(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match=r"file/blobs"):
        FileBlobs(tmp_path / "file" / "blobs")


def test_a_write_that_fails_leaves_nothing_behind(tmp_path):
    (tmp_path / "taken" / "inside").mkdir(parents=True)
    with pytest.raises(StorageError, match=r"cannot use .*taken"):
        write_whole(tmp_path / "taken", b"data", scratch=tmp_path / "tmp")
    assert list((tmp_path / "tmp").iterdir()) == []


def test_the_first_of_two_writers_wins(tmp_path):
    path = tmp_path / "keys" / "one"
    assert write_first(path, b"first", mode=0o600)
    assert not write_first(path, b"second", mode=0o600)
    assert path.read_bytes() == b"first"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("code", "words"),
    [("ENOSPC", "the disk is full"), ("EROFS", "read-only"), ("EACCES", "permission denied")],
)
def test_a_refusing_disk_is_explained(code, words):
    import errno

    number = getattr(errno, code)
    message = str(disk_error(OSError(number, os.strerror(number)), Path("/w/blobs")))
    assert words in message
    assert "/w/blobs" in message


def test_storing_again_makes_a_blob_young(tmp_path):
    blobs = FileBlobs(tmp_path)
    digest = blobs.put(b"data")
    old = datetime.now(UTC) - timedelta(days=3)
    os.utime(file_of(tmp_path, digest), (old.timestamp(), old.timestamp()))
    assert blobs.written_at(digest) == pytest.approx(old, abs=timedelta(seconds=1))
    blobs.put(b"data")
    assert datetime.now(UTC) - blobs.written_at(digest) < timedelta(minutes=1)


@pytest.mark.parametrize("url", ["file://host/folder", "file:", "/folder"])
def test_a_url_that_is_no_folder_is_refused(url):
    with pytest.raises(SettingsError, match="file:///folder"):
        open_blobs(url)


def test_urls_choose_the_place(tmp_path):
    digest = open_blobs(f"file://{tmp_path}/with%20space").put(b"data")
    assert FileBlobs(tmp_path / "with space").has(digest)
    assert open_fsspec_blobs("memory://here").put(b"data") == digest
    with pytest.raises(SettingsError, match="nowhere"):
        open_fsspec_blobs("nowhere://bucket")


def file_of(folder: Path, digest: str) -> Path:
    return folder / digest[:2] / digest[2:4] / digest


def replace_file(path: Path, data: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(data)
