"""Verbs on API keys: list, add, revoke, and the first ones."""

from collections.abc import Sequence

from tunewright.deploy.keys import (
    KeyFacts,
    KeyRing,
    NewKey,
    Role,
    first_keys,
    new_key,
    read_keys,
    revoke_event,
)
from tunewright.errors import UnknownReference, UsageError
from tunewright.ports import Ports
from tunewright.records import Consent


class KeyVerbs:
    """What an administrator does with API keys."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports

    def ring(self) -> KeyRing:
        """Read all keys, revoked ones included."""
        return read_keys(self._ports)

    def all(self) -> Sequence[KeyFacts]:
        """List all keys in the order they were made."""
        return self.ring().keys

    def add(self, role: Role, tenant: str, consent: Consent) -> NewKey:
        """Make a key; its secret is in the result and nowhere else. Raises UsageError."""
        key = new_key(role, tenant, consent, actor=self._ports.actor)
        self._ports.records.append(key.event)
        return key

    def first(self) -> Sequence[NewKey]:
        """Make a caller's and an operator's key where there never was any; else none."""
        return first_keys(self._ports)

    def revoke(self, key: str) -> KeyFacts:
        """End a key, by its id or the beginning of it; a running gateway refuses it within a second.

        Raises:
            UnknownReference: no key, or more than one, begins so.
            UsageError: it is revoked already.
        """
        keys = self.all()
        found = [one for one in keys if key and one.id.startswith(key)]
        if len(found) != 1:
            known = ", ".join(one.id for one in keys if one.revoked_at is None) or "none"
            raise UnknownReference(
                f"{len(found) or 'no'} API keys begin with {key!r}; expected the id of one. "
                f"Keys in use: {known}"
            )
        if found[0].revoked_at is not None:
            raise UsageError(
                f"API key {found[0].id} was revoked at {found[0].revoked_at:%Y-%m-%d %H:%M} UTC already"
            )
        event = self._ports.records.append(revoke_event(found[0], actor=self._ports.actor))
        return found[0].model_copy(update={"revoked_at": event.at})
