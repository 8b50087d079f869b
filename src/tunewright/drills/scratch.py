"""A workspace of a drill's own: folder, database, blobs and keys that are gone when the drill ends."""

import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from tunewright.settings import Settings


@contextmanager
def scratch(settings: Settings, name: str) -> Generator[Settings]:
    """Give settings that point to an empty workspace; everything below it is removed on exit.

    Args:
        settings: threads, accelerator and actor are taken over, places are not.
        name: of the drill.
    """
    with tempfile.TemporaryDirectory(prefix=f"tunewright-drill-{name}-") as made:
        folder = Path(made)
        (folder / "data").mkdir()
        yield replace(
            settings,
            workspace=folder / "workspace",
            config_dir=folder / "keys",
            data_root=folder / "data",
            records_url=f"sqlite:///{folder / 'workspace' / 'registry.db'}",
            blobs_url=f"file://{folder / 'workspace' / 'blobs'}",
        )


def data_of(settings: Settings) -> Path:
    """The data folder of a scratch workspace."""
    assert settings.data_root is not None, "a scratch workspace has a data folder"
    return settings.data_root
