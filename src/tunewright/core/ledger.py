"""The hash chain and what can be read out of it: links, alias moves and their replay. Pure.

Stores append with `chain`, verification re-computes `event_hash`, and every move of an alias is drafted by
`alias_event`, so that the ledger alone tells what an alias meant at any time.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Literal

from tunewright.records import AliasState, EventDraft, LedgerEvent
from tunewright.values import Digest, Json, Ref, digest_json

GENESIS = Digest("0" * 64)
"""What the first link names as the one before."""

ALIAS_EVENT = "alias"
WAIVE_EVENT = "waive"
REVOKE_EVENT = "revoke"

AliasAction = Literal["set", "first", "roll_back"]


def event_hash(fields: Mapping[str, Json]) -> Digest:
    """Hash all fields of an event but `hash` itself.

    Raises:
        ValueError: a field holds NaN or infinity.
        TypeError: a field is not JSON.
    """
    return digest_json({key: value for key, value in fields.items() if key != "hash"})


def chain(
    last: tuple[int, Digest] | None,
    draft: EventDraft,
    *,
    at: datetime,
    record_digest: Digest | None = None,
) -> LedgerEvent:
    """Make the next link.

    Args:
        last: number and hash of the link before; absent for the first.
        draft: what happened.
        at: when, UTC and aware. The number orders events, time does not: clocks jump.
        record_digest: content digest of the record committed with it.
    """
    seq, previous = last or (0, GENESIS)
    unhashed = LedgerEvent(
        seq=seq + 1,
        at=at,
        kind=draft.kind,
        actor=draft.actor,
        subject=draft.subject,
        detail=draft.detail,
        record_digest=record_digest,
        previous=previous,
        hash=GENESIS,
    )
    return unhashed.model_copy(update={"hash": event_hash(unhashed.to_json())})


def alias_event(
    expected: AliasState, target: Ref | None, *, action: AliasAction, actor: str, reason: str
) -> EventDraft:
    """Draft the event of an alias move; holds everything needed to replay it."""
    return EventDraft(
        kind=ALIAS_EVENT,
        actor=actor,
        subject=f"alias:{expected.name}/{expected.alias}",
        detail={
            "name": expected.name,
            "alias": expected.alias,
            "from": str(expected.target) if expected.target else None,
            "to": str(target) if target else None,
            "revision": expected.revision + 1,
            "action": action,
            "reason": reason,
        },
    )


def replay_aliases(events: Iterable[LedgerEvent], until: datetime | None = None) -> list[AliasState]:
    """Say where every alias pointed after the last event that was not later than `until`.

    Args:
        events: the ledger, oldest first; events of other kinds are skipped.
        until: absent replays everything.

    Returns:
        One state an alias, sorted by name and alias.
    """
    states: dict[tuple[str, str], AliasState] = {}
    for event in events:
        if event.kind == ALIAS_EVENT and (until is None or event.at <= until):
            state = _state(event)
            states[state.name, state.alias] = state
    return [states[key] for key in sorted(states)]


def alias_stack(events: Iterable[LedgerEvent], name: str, alias: str) -> list[Ref]:
    """List the targets an alias can be rolled back through, the present one last.

    A roll-back takes targets off, so that rolling back twice goes back two steps instead of to and fro.
    """
    stack: list[Ref] = []
    for event in events:
        if event.kind != ALIAS_EVENT or event.subject != f"alias:{name}/{alias}":
            continue
        target = _state(event).target
        if target is None:
            continue
        if event.detail.get("action") == "roll_back" and target in stack:
            while stack[-1] != target:
                stack.pop()
        elif not stack or stack[-1] != target:
            stack.append(target)
    return stack


def _state(event: LedgerEvent) -> AliasState:
    """Read a move back; raises pydantic's ValidationError or UsageError when the event holds none."""
    detail = event.detail
    return AliasState.model_validate(
        {
            "name": detail.get("name"),
            "alias": detail.get("alias"),
            "target": detail.get("to"),
            "revision": detail.get("revision"),
        }
    )
