"""A process that kills itself between blobs and record: `python -m tunewright.drills.doomed RECIPE KIND`.

Walks a recipe with the real stages up to its training run, over records that end the process (SIGKILL)
inside the commit of the first record of KIND. By then the bytes are stored and the record is not. Workspace,
keys and data come from the environment, as for every command.
"""

import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType

from tunewright.app import open_app
from tunewright.curate.curate import curate
from tunewright.pipeline.load import load_recipe
from tunewright.ports import Commit, Heads, RawLedger, Records
from tunewright.records import AliasState, Edge, EventDraft, LedgerEvent, Record
from tunewright.settings import load_settings
from tunewright.train.train import train
from tunewright.values import Digest, Ref


class KillingRecords:
    """Implements ports.Records on another; kills this process instead of committing one kind of record."""

    def __init__(self, inner: Records, kind: str) -> None:
        self._inner = inner
        self._kind = kind

    def commit(self, commit: Commit) -> Record:
        """Commit, or die."""
        if commit.kind == self._kind:
            os.kill(os.getpid(), signal.SIGKILL)
        return self._inner.commit(commit)

    def append(self, event: EventDraft, *, heads: Heads | None = None) -> LedgerEvent:
        """Pass on."""
        return self._inner.append(event, heads=heads)

    def tip(self) -> int:
        """Pass on."""
        return self._inner.tip()

    def get(self, kind: str, ref: Ref) -> Record:
        """Pass on."""
        return self._inner.get(kind, ref)

    def latest(self, kind: str, name: str) -> Record | None:
        """Pass on."""
        return self._inner.latest(kind, name)

    def find(self, kind: str, fingerprint: Digest) -> Record | None:
        """Pass on."""
        return self._inner.find(kind, fingerprint)

    def list(self, kind: str, name: str | None = None) -> Sequence[Record]:
        """Pass on."""
        return self._inner.list(kind, name)

    def parents(self, node: str) -> Sequence[Edge]:
        """Pass on."""
        return self._inner.parents(node)

    def children(self, node: str) -> Sequence[Edge]:
        """Pass on."""
        return self._inner.children(node)

    def events(self, *, kind: str | None = None, subject: str | None = None) -> Sequence[LedgerEvent]:
        """Pass on."""
        return self._inner.events(kind=kind, subject=subject)

    def head(self, key: str) -> str | None:
        """Pass on."""
        return self._inner.head(key)

    def alias(self, name: str, alias: str) -> AliasState:
        """Pass on."""
        return self._inner.alias(name, alias)

    def aliases(self) -> Sequence[AliasState]:
        """Pass on."""
        return self._inner.aliases()

    def move_alias(
        self, expected: AliasState, target: Ref | None, event: EventDraft, *, heads: Heads | None = None
    ) -> AliasState:
        """Pass on."""
        return self._inner.move_alias(expected, target, event, heads=heads)

    def raw(self) -> RawLedger:
        """Pass on."""
        return self._inner.raw()


class _Silence:
    """Implements ports.Progress; whoever started this process tells the story."""

    def start(self, stage: str, total: int | None = None, unit: str = "rows") -> None:
        """Say nothing."""

    def update(self, done: int, note: str = "") -> None:
        """Say nothing."""

    def finish(self, summary: str) -> None:
        """Say nothing."""


def main() -> None:
    """Walk, and die on the way."""
    recipe_path, kind = Path(sys.argv[1]), sys.argv[2]
    signal.signal(signal.SIGTERM, _end)
    with open_app(load_settings(), _Silence()) as app:
        ports = replace(app.ports, records=KillingRecords(app.ports.records, kind))
        recipe = load_recipe(recipe_path)
        train(recipe, curate(recipe, ports), ports)


def _end(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    main()
