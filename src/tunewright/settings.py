"""Where things are: workspace, database, blobs, keys, data. Never part of what is made, never hashed.

The only module that reads the environment.
"""

import getpass
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tunewright.errors import SettingsError

_KNOWN = {
    "TUNEWRIGHT_HOME",
    "TUNEWRIGHT_DATA",
    "TUNEWRIGHT_CONFIG",
    "TUNEWRIGHT_RECORDS",
    "TUNEWRIGHT_BLOBS",
    "TUNEWRIGHT_THREADS",
    "TUNEWRIGHT_ACTOR",
}


_ACCELERATOR = ("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "LD_LIBRARY_PATH")


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that says where and with what, nothing that says what is made."""

    workspace: Path
    """Folder of the registry database, blobs, run folders and reports."""
    config_dir: Path
    """The user's folder for private keys, outside the workspace."""
    data_root: Path | None
    """Where relative source paths are looked up; the recipe's own folder when absent."""
    records_url: str
    """SQLAlchemy URL of the registry database."""
    blobs_url: str
    """`file:///folder`, or any fsspec URL."""
    hub_cache: Path
    """The offline Hugging Face cache, as its own tools place it."""
    threads: int
    """Threads of the worker and the engine; part of the environment record, since it changes bits."""
    accelerator: Mapping[str, str]
    """Variables that choose an accelerator; all that worker and engine get of the environment."""
    actor: str
    """Who is written into the ledger."""


def load_settings(
    environment: Mapping[str, str] = os.environ,
    *,
    workspace: Path | None = None,
    data: Path | None = None,
) -> Settings:
    """Read settings: arguments first, then the environment, then defaults.

    Raises:
        SettingsError: an unknown TUNEWRIGHT_ variable, a bad number, or a data folder that does not exist.
    """
    unknown = sorted(key for key in environment if key.startswith("TUNEWRIGHT_") and key not in _KNOWN)
    if unknown:
        raise SettingsError(f"unknown setting {unknown[0]}; expected one of {', '.join(sorted(_KNOWN))}")
    home = (workspace or Path(environment.get("TUNEWRIGHT_HOME") or ".tunewright")).absolute()
    data_root = data or (Path(environment["TUNEWRIGHT_DATA"]) if environment.get("TUNEWRIGHT_DATA") else None)
    if data_root is not None and not data_root.is_dir():
        found = "is a file" if data_root.exists() else "does not exist"
        raise SettingsError(
            f"data folder {data_root} {found}; expected an existing folder (--data or TUNEWRIGHT_DATA)"
        )
    _refuse_file(home)
    return Settings(
        workspace=home,
        config_dir=_config_dir(environment),
        data_root=data_root.absolute() if data_root else None,
        records_url=environment.get("TUNEWRIGHT_RECORDS") or f"sqlite:///{home / 'registry.db'}",
        blobs_url=environment.get("TUNEWRIGHT_BLOBS") or f"file://{home / 'blobs'}",
        hub_cache=hub_cache_folder(environment),
        threads=_threads(environment.get("TUNEWRIGHT_THREADS")),
        accelerator={name: environment[name] for name in _ACCELERATOR if name in environment},
        actor=environment.get("TUNEWRIGHT_ACTOR") or _user(),
    )


def _refuse_file(workspace: Path) -> None:
    """Raise SettingsError when the workspace is a file, or would lie below one."""
    nearest = next(path for path in (workspace, *workspace.parents) if path.exists())
    if not nearest.is_dir():
        raise SettingsError(
            f"workspace {workspace}: {nearest} is a file; expected a folder, or a path where one can be "
            "made. Choose another with --workspace or TUNEWRIGHT_HOME."
        )


def _config_dir(environment: Mapping[str, str]) -> Path:
    if environment.get("TUNEWRIGHT_CONFIG"):
        return Path(environment["TUNEWRIGHT_CONFIG"]).absolute()
    base = environment.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "tunewright"


def hub_cache_folder(environment: Mapping[str, str]) -> Path:
    """Say where the Hugging Face cache is: HF_HUB_CACHE, else HF_HOME/hub, else the library's default."""
    if environment.get("HF_HUB_CACHE"):
        return Path(environment["HF_HUB_CACHE"])
    home = environment.get("HF_HOME")
    return (Path(home) if home else Path.home() / ".cache" / "huggingface") / "hub"


def _threads(value: str | None) -> int:
    if not value:
        return os.cpu_count() or 1
    if not value.isdecimal() or int(value) < 1:
        raise SettingsError(f"TUNEWRIGHT_THREADS is {value!r}; expected a whole number of 1 or more")
    return int(value)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no such user in a bare container
        return "unknown"
