"""API keys of the gateway: roles, new keys, and the ring of valid ones as the ledger tells.

A secret is shown once and never stored: the ledger holds its SHA-256, which cannot be turned back because the
secret is 256 random bits. Roles ascend; `allows` is the one place that compares them.
"""

import hashlib
import hmac
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pydantic import Field, ValidationError

from tunewright.errors import AliasConflict, LedgerBroken, UsageError
from tunewright.ports import Ports
from tunewright.records import Consent, EventDraft, LedgerEvent, Record
from tunewright.values import NAME, node

KEY_EVENT = "key"

Role = Literal["caller", "viewer", "trainer", "approver", "operator", "admin"]
ROLES: tuple[Role, ...] = ("caller", "viewer", "trainer", "approver", "operator", "admin")
"""Ascending: each may do what those before it may."""

CONSENTS: tuple[Consent, ...] = ("none", "review", "train")

FIRST_ROLES: tuple[Role, ...] = ("caller", "operator")
FIRST_TENANT = "default"
_PREFIX = "tw-"
_SECRET_BYTES = 32


class KeyFacts(Record):
    """One API key; holds no secret."""

    id: str = Field(pattern=r"^[0-9a-f]{12}$")
    role: Role
    tenant: str = Field(pattern=f"^{NAME.pattern}$")
    consent: Consent
    """What the key's owner has agreed with the end users about the text of their requests."""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Of the secret."""
    made_at: datetime
    made_by: str
    revoked_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key just made: the only time its secret is there."""

    id: str
    role: Role
    tenant: str
    consent: Consent
    secret: str
    """`tw-` and 43 characters; to be shown once."""
    event: EventDraft


@dataclass(frozen=True, slots=True)
class KeyRing:
    """Every key the ledger tells of, revoked ones included."""

    keys: tuple[KeyFacts, ...]
    """In the order they were made."""

    @classmethod
    def from_events(cls, events: Iterable[LedgerEvent]) -> "KeyRing":
        """Replay the ledger; events of other kinds are skipped. Raises LedgerBroken."""
        found: dict[str, KeyFacts] = {}
        for event in events:
            if event.kind != KEY_EVENT:
                continue
            key_id = event.subject.partition(":")[2]
            if event.detail.get("action") == "revoke" and key_id in found:
                found[key_id] = found[key_id].model_copy(update={"revoked_at": event.at})
            elif event.detail.get("action") == "add":
                found[key_id] = _facts(key_id, event)
        return cls(tuple(found.values()))

    def find(self, secret: str) -> KeyFacts | None:
        """Say whose secret this is; None for an unknown or a revoked one.

        Takes the same time whichever key fits, and whether one does.
        """
        given = _sha256(secret)
        match: KeyFacts | None = None
        for key in self.keys:
            is_it = hmac.compare_digest(key.sha256, given)
            match = key if is_it else match
        return None if match is None or match.revoked_at is not None else match


def allows(role: Role, needed: Role) -> bool:
    """Say whether a role may do what needs at least the role `needed`."""
    return ROLES.index(role) >= ROLES.index(needed)


def new_key(role: Role, tenant: str, consent: Consent, *, actor: str) -> NewKey:
    """Make a key; append its event, then show its secret once.

    Raises:
        UsageError: the role, the tenant's name or the consent is none that we know.
    """
    _check(role, tenant, consent)
    key_id, secret = secrets.token_hex(6), _PREFIX + secrets.token_urlsafe(_SECRET_BYTES)
    event = EventDraft(
        kind=KEY_EVENT,
        actor=actor,
        subject=node("key", key_id),
        detail={
            "action": "add",
            "role": role,
            "tenant": tenant,
            "consent": consent,
            "sha256": _sha256(secret),
        },
    )
    return NewKey(key_id, role, tenant, consent, secret, event)


def revoke_event(key: KeyFacts, *, actor: str) -> EventDraft:
    """Draft the end of a key."""
    detail = {"role": key.role, "tenant": key.tenant, "consent": key.consent, "sha256": key.sha256}
    return EventDraft(
        kind=KEY_EVENT, actor=actor, subject=node("key", key.id), detail={"action": "revoke", **detail}
    )


def read_keys(ports: Ports) -> KeyRing:
    """Read all keys from the ledger."""
    return KeyRing.from_events(ports.records.events(kind=KEY_EVENT))


def first_keys(ports: Ports) -> Sequence[NewKey]:
    """Make one caller's and one operator's key where the workspace never had any; else none.

    Of two gateways that start at the same time one makes them.
    """
    if read_keys(ports).keys:
        return []
    made = [new_key(role, FIRST_TENANT, "review", actor=ports.actor) for role in FIRST_ROLES]
    for key in made:
        try:
            ports.records.append(key.event, heads={f"first-key:{key.role}": (None, key.id)})
        except AliasConflict:
            return []
    return made


def _check(role: str, tenant: str, consent: str) -> None:
    if role not in ROLES:
        raise UsageError(f"role {role!r} is unknown; expected one of: {', '.join(ROLES)}")
    if not NAME.fullmatch(tenant):
        raise UsageError(
            f"tenant {tenant!r} is no name; expected 1 to 64 of a-z, 0-9, '.', '_', '-', starting and ending "
            "with a letter or digit"
        )
    if consent not in CONSENTS:
        raise UsageError(f"consent {consent!r} is unknown; expected one of: {', '.join(CONSENTS)}")


def _sha256(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _facts(key_id: str, event: LedgerEvent) -> KeyFacts:
    fields = {name: event.detail.get(name) for name in ("role", "tenant", "consent", "sha256")}
    try:
        return KeyFacts.model_validate({"id": key_id, **fields, "made_at": event.at, "made_by": event.actor})
    except ValidationError as error:
        raise LedgerBroken(
            f"event {event.seq} tells of no API key that we can read; expected role, tenant, consent and "
            "sha256. `tunewright models verify` names the first broken link."
        ) from error
