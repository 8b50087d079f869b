"""Reads what the gateway needs of the registry, as of one event of the ledger."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from tunewright.core.ledger import ALIAS_EVENT, REVOKE_EVENT
from tunewright.core.references import list_records
from tunewright.deploy.canary import Step
from tunewright.deploy.keys import KEY_EVENT, KeyRing
from tunewright.errors import UsageError
from tunewright.ports import Records
from tunewright.records import LedgerEvent, ModelVersion, Rollout, RolloutState
from tunewright.server.routing import CHAMPION, View
from tunewright.values import Ref

STAYS_LOADED = timedelta(hours=24)
"""A version that was champion can take over again at once for so long."""

_ATTEMPTS = 5


class Rollouts(Protocol):
    """What the gateway asks of the rollout verbs."""

    def active(self) -> Sequence[tuple[Rollout, RolloutState]]:
        """List live rollouts."""
        ...

    def take(self, rollout: Rollout, state: RolloutState, step: Step) -> RolloutState:
        """Record a step and act on it. Raises AliasConflict when another process was first."""
        ...


@dataclass(frozen=True, slots=True)
class Registered:
    """The registry at one event."""

    tip: int
    view: View
    keys: KeyRing


def read_registry(records: Records, rollouts: Rollouts, now: datetime) -> Registered:
    """Read everything; again when the ledger moved meanwhile, so that aliases and rollouts fit each other.

    Under constant writes the last reading is taken; its number is older than the ledger's, so that the next
    look reads again.
    """
    for _ in range(_ATTEMPTS - 1):
        found = _read(records, rollouts, now)
        if records.tip() == found.tip:
            return found
    return _read(records, rollouts, now)


def _read(records: Records, rollouts: Rollouts, now: datetime) -> Registered:
    tip = records.tip()
    keys = KeyRing.from_events(records.events(kind=KEY_EVENT))
    return Registered(tip, _view(records, rollouts, now), keys)


def _view(records: Records, rollouts: Rollouts, now: datetime) -> View:
    models = {model.ref: model for model in list_records(records, ModelVersion)}
    return View(
        models=models,
        revoked={
            str(event.detail.get("adapter")): _why(event) for event in records.events(kind=REVOKE_EVENT)
        },
        aliases={(s.name, s.alias): s.target for s in records.aliases() if s.target is not None},
        rollouts={rollout.ref.name: (rollout, state) for rollout, state in rollouts.active()},
        former=former_champions(records.events(kind=ALIAS_EVENT), now),
    )


def former_champions(events: Sequence[LedgerEvent], now: datetime) -> dict[Ref, datetime]:
    """Say which versions ceased to be champion lately, and until when they stay loaded."""
    found: dict[Ref, datetime] = {}
    for event in events:
        before, until = event.detail.get("from"), event.at + STAYS_LOADED
        if event.detail.get("alias") == CHAMPION and isinstance(before, str) and now < until:
            try:
                found[Ref.parse(before)] = until
            except UsageError:  # an edited ledger; `models verify` names it
                continue
    return found


def _why(event: LedgerEvent) -> str:
    return f"revoked by {event.actor} on {event.at:%Y-%m-%d}: {event.detail.get('reason')}"
