"""What an alias meant at a time, replayed from the ledger."""

from datetime import datetime

from tunewright.core.ledger import ALIAS_EVENT, replay_aliases
from tunewright.errors import UsageError
from tunewright.ports import Records
from tunewright.records import AliasState


def as_of(at: datetime, records: Records) -> list[AliasState]:
    """Say where every alias pointed at a time; aliases that did not exist yet are left out.

    Raises:
        UsageError: the time has no timezone.
    """
    if at.tzinfo is None:
        raise UsageError(f"{at.isoformat()} has no timezone; expected one, such as 2026-01-02T03:04:05+00:00")
    return replay_aliases(records.events(kind=ALIAS_EVENT), until=at)


def alias_as_of(name: str, alias: str, at: datetime, records: Records) -> AliasState:
    """Say where one alias pointed at a time; revision 0 and no target when it was not set yet."""
    found = (state for state in as_of(at, records) if (state.name, state.alias) == (name, alias))
    return next(found, AliasState(name=name, alias=alias, target=None, revision=0))
