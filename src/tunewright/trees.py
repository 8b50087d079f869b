"""Folders of files as blobs: a manifest and its files; stored, read back verified, written out to serve."""

import shutil
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from pydantic import TypeAdapter, ValidationError

from tunewright.errors import BlobCorrupt
from tunewright.ports import BaseFiles, Blobs
from tunewright.values import Digest, canonical_json

_MANIFEST = TypeAdapter(dict[str, str])
_WEIGHTS = (".safetensors", ".bin", ".gguf")


def put_tree(blobs: Blobs, files: Mapping[str, bytes]) -> Digest:
    """Store files and then their manifest; the manifest's digest names the tree."""
    manifest = {name: blobs.put(files[name]) for name in sorted(files)}
    return blobs.put(canonical_json(manifest))


def get_tree(blobs: Blobs, digest: Digest) -> dict[str, bytes]:
    """Read a tree back, every name and every file verified. Raises BlobMissing, BlobCorrupt."""
    try:
        manifest = _MANIFEST.validate_json(blobs.get(digest))
    except ValidationError as error:
        raise BlobCorrupt(
            f"blob {digest} is not a manifest; expected a JSON object of file names and digests"
        ) from error
    refuse_unsafe_names(manifest, digest)
    return {name: blobs.get(Digest(file)) for name, file in manifest.items()}


def refuse_unsafe_names(files: Mapping[str, object], tree: Digest) -> None:
    """Raise BlobCorrupt for a manifest that names a file outside its own folder."""
    for name in files:
        path = PurePosixPath(name)
        plain = name == str(path) and not path.is_absolute() and ".." not in path.parts
        if not plain or "\\" in name or "\0" in name or name == ".":
            raise BlobCorrupt(
                f"manifest {tree} names a file {name!r:.200}; expected plain names inside the folder. "
                "Do not load it; train the model again."
            )


def write_tree(folder: Path, tree: Mapping[str, bytes], base: BaseFiles) -> None:
    """Write a fully tuned model to a folder, with the base's tokenizer and configuration where it has none.

    Args:
        folder: an empty folder of our own.
        tree: as `get_tree` read it.
        base: what to take missing files from.
    """
    for name, data in tree.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    for name in base.files:
        if name not in tree and not name.endswith((*_WEIGHTS, ".index.json")):
            shutil.copyfile(base.folder / name, folder / name)
