"""Finds base models on this machine and says what they are by content; downloads nothing.

A name is `tiny` (shipped), a local folder, or `org/model@revision` from the offline Hugging Face cache. Only
safetensors weights are accepted: pickled ones can run code when they are opened.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from pydantic import BaseModel, TypeAdapter, ValidationError

from tunewright.backends.base_config import config_problem
from tunewright.errors import BaseIncomplete, BaseNotFound, StorageError
from tunewright.ports import BaseFiles
from tunewright.records import BaseModelRef
from tunewright.values import Digest, Json, digest_bytes, digest_json

TINY = Path(__file__).parents[1] / "demo" / "base"
"""The shipped base."""

_SUPPLY = (
    "To supply one: copy the model's folder here and name its path, or run "
    "`hf download ORG/MODEL --revision REVISION` on a machine with a network and copy its cache folder."
)
_NAMED_FILES = (
    "config.json",
    "generation_config.json",
    "model.safetensors.index.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
)
_CHUNK_BYTES = 1 << 20
MAX_HEADER_BYTES = 100_000_000
"""What the safetensors format allows."""


class _TensorEntry(BaseModel):
    shape: list[int]
    data_offsets: tuple[int, int]


_HEADER = TypeAdapter(dict[str, _TensorEntry])


class LocalBases:
    """Implements ports.Bases on folders of this machine."""

    def __init__(
        self, *, hub_cache: Path, hash_cache: Path | None = None, beside: Path | None = None
    ) -> None:
        """Remember where to look.

        Args:
            hub_cache: the folder that holds `models--org--model` folders.
            hash_cache: JSON file in which hashes are kept by path, size, mtime and inode; None hashes anew.
            beside: absolute folder where relative names are looked up first; recorded by absolute path.
        """
        self._hub_cache = hub_cache
        self._beside = beside
        self._hashes = _HashCache(hash_cache)

    def resolve(self, name: str) -> BaseFiles:
        """Find and hash a base.

        Raises:
            BaseNotFound: nothing of this name; the message names the folders looked in.
            BaseIncomplete: configuration, weights, tokenizer or chat template are missing or damaged.
        """
        try:
            folder = self._find(name)
        except OSError as error:  # such as a name longer than the file system allows
            raise BaseNotFound(
                f"base {name!r:.100} cannot be looked up ({error.strerror}); expected `tiny`, a local "
                "folder, or org/model@revision"
            ) from error
        if self._beside is not None and folder == self._beside / name:
            name = str(folder)
        try:
            paths = _files_of(folder, name)
            files = {path.name: self._hashes.sha256(path) for path in paths}
        except OSError as error:
            raise BaseIncomplete(
                f"base {name!r}: {error.filename or folder} cannot be read ({error.strerror}); expected "
                "readable files. Check its permissions."
            ) from error
        self._hashes.save()
        config = _read_object(folder / "config.json", name)
        if "auto_map" in config:
            raise BaseIncomplete(
                f"base {name!r}: {folder / 'config.json'} has auto_map, so the model brings code of its own, "
                "which is never run; expected an architecture that the installed transformers knows. Choose "
                "another base."
            )
        tokenizer_config = _read_object(folder / "tokenizer_config.json", name)
        chat_template = _chat_template(folder, tokenizer_config, name)
        tokenizer = {
            "tokenizer.json": files["tokenizer.json"],
            "tokenizer_config.json": files["tokenizer_config.json"],
            "chat_template.jinja": digest_bytes(chat_template.encode()),
        }
        return BaseFiles(
            ref=BaseModelRef(name=name, digest=digest_json(files), tokenizer_digest=digest_json(tokenizer)),
            folder=folder,
            files=files,
            tokenizer_json=_read_text(folder / "tokenizer.json", name),
            tokenizer_config=tokenizer_config,
            chat_template=chat_template,
            config=config,
        )

    def _find(self, name: str) -> Path:
        if name == "tiny":
            return TINY
        if self._beside is not None and (self._beside / name).is_dir():
            return self._beside / name
        local = Path(name).expanduser()
        if local.is_dir():
            return local.absolute()
        repository, _, revision = name.partition("@")
        if ".." in Path(revision).parts or Path(revision).is_absolute():
            raise BaseNotFound(
                f"base {name!r:.200}: {revision!r:.100} is no revision; expected a branch or commit"
            )
        snapshots = self._hub_cache / f"models--{repository.replace('/', '--')}" / "snapshots"
        pinned = snapshots.parent / "refs" / revision
        commit = pinned.read_text("utf-8").strip() if revision and pinned.is_file() else revision
        if commit and (snapshots / commit).is_dir():
            return snapshots / commit
        present = sorted(path.name for path in snapshots.iterdir()) if snapshots.is_dir() else []
        hint = (
            f"this model is there at revision {', '.join(present)}: name it as {repository}@{present[0]}. "
            if present
            else ""
        )
        raise BaseNotFound(
            f"base {name!r} was not found; looked for a folder {local.absolute()} and for a snapshot in "
            f"{snapshots}. Expected `tiny`, a local folder, or org/model@revision. {hint}{_SUPPLY}"
        )


class _HashCache:
    """SHA-256 of files, remembered while path, size, mtime and inode stay."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._known = _read_hashes(path)
        self._changed = False

    def sha256(self, path: Path) -> Digest:
        target = path.resolve()
        stat = target.stat()
        key = f"{target}|{stat.st_size}|{stat.st_mtime_ns}|{stat.st_ino}"
        if key not in self._known:
            digest = hashlib.sha256()
            with target.open("rb") as file:
                while chunk := file.read(_CHUNK_BYTES):
                    digest.update(chunk)
            stale = [other for other in self._known if other.startswith(f"{target}|")]
            self._known = {k: v for k, v in self._known.items() if k not in stale} | {key: digest.hexdigest()}
            self._changed = True
        return Digest(self._known[key])

    def save(self) -> None:
        if self._path is None or not self._changed:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            temporary = self._path.with_name(f"{self._path.name}.{os.getpid()}")
            temporary.write_text(json.dumps(self._known, indent=1, sort_keys=True), encoding="utf-8")
            temporary.replace(self._path)
        except OSError as error:
            raise StorageError(
                f"cannot write {self._path}: {error.strerror}; expected a writable workspace with free "
                "space. Choose another with --workspace."
            ) from error
        self._changed = False


def _read_hashes(path: Path | None) -> dict[str, str]:
    if path is None or not path.is_file():
        return {}
    try:
        return TypeAdapter(dict[str, str]).validate_json(path.read_bytes())
    except ValidationError:  # a cache that cannot be read is a cache that is empty
        return {}


def _files_of(folder: Path, name: str) -> list[Path]:
    """List the files that make the base, sorted by name; the required ones are there and whole."""
    for required in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        if not (folder / required).is_file():
            raise BaseIncomplete(
                f"base {name!r} at {folder} has no {required}; expected config.json, tokenizer.json, "
                "tokenizer_config.json and *.safetensors weights. Save it again with save_pretrained."
            )
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        pickles = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth") for path in folder.glob(pattern))
        found = f"only pickled weights ({', '.join(pickles)})" if pickles else "no weights"
        raise BaseIncomplete(
            f"base {name!r} at {folder} has {found}; expected *.safetensors. Pickled weights are "
            "refused, since opening them can run code: convert them with "
            "save_pretrained(safe_serialization=True)."
        )
    _check_shards(folder, {path.name for path in weights}, name)
    shapes = {tensor: shape for path in weights for tensor, shape in _check_whole(path, name).items()}
    if problem := config_problem(_read_object(folder / "config.json", name), shapes):
        raise BaseIncomplete(
            f"base {name!r}: {folder / 'config.json'} {problem}; expected the configuration of these "
            "weights. Copy both from one place."
        )
    named = [folder / file for file in _NAMED_FILES if (folder / file).is_file()]
    return sorted([*named, *weights], key=lambda path: path.name)


def _check_shards(folder: Path, present: set[str], name: str) -> None:
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return
    weight_map = _read_object(index, name).get("weight_map")
    shards = {str(shard) for shard in weight_map.values()} if isinstance(weight_map, dict) else set[str]()
    if missing := sorted(shards - present):
        raise BaseIncomplete(
            f"base {name!r} at {folder} lacks the weight file {missing[0]} ({len(missing)} missing of "
            f"{len(shards)}); expected all that {index.name} names. Copy the folder again."
        )


def _check_whole(path: Path, name: str) -> dict[str, list[int]]:
    """Compare a safetensors file's length with what its header promises; give the shape of each tensor."""
    with path.open("rb") as file:
        header_bytes = int.from_bytes(file.read(8), "little")
        size = path.stat().st_size
        if header_bytes > MAX_HEADER_BYTES:
            raise BaseIncomplete(
                f"base {name!r}: the header of {path} claims {header_bytes:,} bytes; expected at most "
                f"{MAX_HEADER_BYTES:,}, as the format allows. It is damaged or no safetensors file."
            )
        try:
            header = json.loads(file.read(header_bytes))
            entries = _HEADER.validate_python(
                {key: entry for key, entry in header.items() if key != "__metadata__"}
            )
        except (ValueError, AttributeError, RecursionError) as error:
            raise BaseIncomplete(
                f"base {name!r}: the header of {path} cannot be read ({error!s:.300}); expected a "
                "safetensors file. Copy it again."
            ) from error
    shapes = {key: entry.shape for key, entry in entries.items()}
    promised = 8 + header_bytes + max((entry.data_offsets[1] for entry in entries.values()), default=0)
    if size != promised:
        raise BaseIncomplete(
            f"base {name!r}: {path} has {size} bytes, expected {promised}; it is truncated or damaged. "
            "Copy it again."
        )
    return shapes


def _chat_template(folder: Path, tokenizer_config: Mapping[str, Json], name: str) -> str:
    file = folder / "chat_template.jinja"
    if file.is_file():
        return _read_text(file, name)
    template = tokenizer_config.get("chat_template")
    if isinstance(template, list):  # several named templates: the default one
        named = [entry for entry in template if isinstance(entry, dict) and entry.get("name") == "default"]
        template = named[0].get("template") if named else None
    if not isinstance(template, str):
        raise BaseIncomplete(
            f"base {name!r} at {folder} has no chat template; expected chat_template.jinja, or "
            "`chat_template` in tokenizer_config.json. Choose an instruction-tuned base, or add the template "
            "that its authors name."
        )
    return template


def _read_text(path: Path, name: str) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BaseIncomplete(
            f"base {name!r}: {path} cannot be read as UTF-8 text ({error}). Copy it again."
        ) from error


def _read_object(path: Path, name: str) -> dict[str, Json]:
    try:
        value = json.loads(_read_text(path, name))
    except (ValueError, RecursionError) as error:
        raise BaseIncomplete(
            f"base {name!r}: {path} is not JSON ({error}); expected an object. Copy it again."
        ) from error
    if not isinstance(value, dict):
        raise BaseIncomplete(f"base {name!r}: {path} is not a JSON object. Copy it again.")
    return cast("dict[str, Json]", value)
