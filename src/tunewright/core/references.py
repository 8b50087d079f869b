"""Reading records by type, and errors for references that name nothing, with the nearest ones that exist."""

import difflib
from collections.abc import Sequence
from typing import TypeVar

from tunewright.errors import IntegrityError, UnknownReference
from tunewright.ports import Records
from tunewright.records import RECORD_KINDS, Record
from tunewright.values import Ref

_SHOWN = 3

R = TypeVar("R", bound=Record)


def get_record(records: Records, cls: type[R], ref: Ref) -> R:
    """Read one record as its type. Raises UnknownReference with the nearest known references."""
    return _typed(records.get(kind_of(cls), ref), cls)


def list_records(records: Records, cls: type[R], name: str | None = None) -> list[R]:
    """Read all records of a type, oldest first."""
    return [_typed(record, cls) for record in records.list(kind_of(cls), name)]


def kind_of(cls: type[Record]) -> str:
    """Say under which kind records of this type are stored."""
    return next(kind for kind, known in RECORD_KINDS.items() if known is cls)


def nearest(wanted: str, known: Sequence[str]) -> list[str]:
    """Pick the known texts that look most like the wanted one; the last ones when none looks alike."""
    return difflib.get_close_matches(wanted, known, n=_SHOWN, cutoff=0.5) or list(known[-_SHOWN:])


def unknown_reference(kind: str, wanted: str, known: Sequence[str]) -> UnknownReference:
    """Say that there is no such record and what there is instead.

    Args:
        kind: dataset, run, evaluation, model, ...
        wanted: what was asked for.
        known: every reference of this kind, oldest first.
    """
    if not known:
        return UnknownReference(
            f"there is no {kind} {wanted}; this workspace holds no {kind} yet. "
            "`tunewright run RECIPE` makes one."
        )
    return UnknownReference(
        f"there is no {kind} {wanted}; the nearest known: {', '.join(nearest(wanted, known))}. "
        "Check the name, the version and the workspace."
    )


def _typed(record: Record, cls: type[R]) -> R:
    if not isinstance(record, cls):
        raise IntegrityError(f"the store answered with a {type(record).__name__}; expected a {cls.__name__}")
    return record
