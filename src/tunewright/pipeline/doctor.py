"""`doctor`: is this machine able to run Tunewright, and if not, what to do."""

import json
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import psutil

from tunewright.errors import BaseModelError
from tunewright.ports import Bases

_PACKAGES = ("torch", "transformers", "peft", "tokenizers", "safetensors", "numba", "polars", "sqlalchemy")
_MIN_MEMORY_BYTES = 4 * 2**30
_MIN_DISK_BYTES = 2 * 2**30


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    name: str
    ok: bool
    detail: str
    """What was found; where it is not ok, also what to do."""


def examine(bases: Bases, *, workspace: Path, config_dir: Path, threads: int) -> list[Finding]:
    """Look at everything a run needs, without changing anything."""
    return [
        _python(sys.version_info[:3]),
        *[_package(name) for name in _PACKAGES],
        _memory(psutil.virtual_memory().available),
        _disk(workspace),
        _writable("workspace", workspace),
        _writable("configuration folder", config_dir),
        _private(config_dir),
        _base(bases),
        Finding("threads", True, f"{threads} of {os.cpu_count()} cores will be used"),
    ]


def _python(version: Sequence[int]) -> Finding:
    text = ".".join(str(part) for part in version)
    ok = tuple(version) >= (3, 11)
    return Finding("python", ok, text if ok else f"{text}; expected 3.11 or newer")


def _package(name: str) -> Finding:
    try:
        return Finding(name, True, metadata.version(name))
    except metadata.PackageNotFoundError:
        return Finding(name, False, "not installed; run `pip install -c constraints.txt .` again")


def _memory(available_bytes: int) -> Finding:
    text = f"{available_bytes / 2**30:.1f} GiB free"
    ok = available_bytes >= _MIN_MEMORY_BYTES
    return Finding(
        "memory", ok, text if ok else f"{text}; expected 4 GiB. Close programs or use a smaller base"
    )


def _disk(folder: Path) -> Finding:
    free = shutil.disk_usage(_existing(folder)).free
    text = f"{free / 2**30:.1f} GiB free at {_existing(folder)}"
    ok = free >= _MIN_DISK_BYTES
    return Finding("disk", ok, text if ok else f"{text}; expected 2 GiB. Choose another --workspace")


def _writable(name: str, folder: Path) -> Finding:
    place = _existing(folder)
    ok = os.access(place, os.W_OK | os.X_OK)
    where = str(folder) if folder.exists() else f"{folder} (will be made in {place})"
    return Finding(name, ok, where if ok else f"{place} is not writable; choose another folder")


def _private(folder: Path) -> Finding:
    open_to_others = [
        path.name
        for path in (folder.rglob("*") if folder.is_dir() else ())
        if path.is_file() and path.stat().st_mode & 0o077 and path.suffix in {".key", ".pem"}
    ]
    if open_to_others:
        return Finding("keys", False, f"{open_to_others[0]} can be read by others; run chmod 600 on it")
    return Finding("keys", True, "private keys can be read by you alone")


def _base(bases: Bases) -> Finding:
    try:
        files = bases.resolve("tiny")
    except BaseModelError as error:
        return Finding("tiny base", False, str(error))
    card = json.loads((files.folder / "card.json").read_text(encoding="utf-8"))
    changed = sorted(
        name for name, digest in card["sha256"].items() if files.files.get(name, digest) != digest
    )
    if changed:
        return Finding("tiny base", False, f"{changed[0]} differs from its card; install Tunewright again")
    return Finding("tiny base", True, f"{files.ref.digest[:12]} as its card says")


def _existing(folder: Path) -> Path:
    return next(place for place in (folder, *folder.parents) if place.exists())
