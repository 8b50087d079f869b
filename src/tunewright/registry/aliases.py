"""Aliases: names such as `champion` that point to one version. Denied unless every rule holds.

A target must exist, carry a valid signature, not be revoked, have passed the gate (or be waived) for exactly
its adapter and held-out rows, and have all its files. Moves are compare-and-swap, one ledger event each.
"""

from contextlib import suppress

from tunewright.core.ledger import (
    ALIAS_EVENT,
    REVOKE_EVENT,
    AliasAction,
    alias_event,
    alias_stack,
    replay_aliases,
)
from tunewright.core.references import get_record
from tunewright.errors import AliasConflict, UnknownReference, UsageError
from tunewright.ports import Ports
from tunewright.records import AliasState, EvalReport, EventDraft, ModelVersion
from tunewright.registry.load import load_verified, revocation
from tunewright.registry.waive import require_permission
from tunewright.values import NAME, Ref, node

CANDIDATE = "candidate"
CHAMPION = "champion"


def set_alias(name: str, alias: str, *, target: Ref, actor: str, reason: str, ports: Ports) -> AliasState:
    """Point an alias of `name` to a version, if policy allows it.

    Raises:
        UsageError: the alias is no name, the target belongs to another name, or the reason is empty.
        UnknownReference: no such model version.
        GateNotPassed, SignatureInvalid, ModelRevoked, BlobMissing, BlobCorrupt: policy refuses.
        AliasConflict: another process moved it first.
    """
    _check_names(name, alias, target, reason)
    expected = ports.records.alias(name, alias)
    require_servable(get_record(ports.records, ModelVersion, target), ports)
    return _move(expected, target, action="set", actor=actor, reason=reason, ports=ports)


def roll_back(name: str, alias: str, *, actor: str, reason: str, ports: Ports) -> AliasState:
    """Point an alias back to the version before, as the ledger tells; revoked versions are passed over.

    Raises:
        UnknownReference: there is no earlier target that may be served.
        AliasConflict: another process moved it first.
    """
    expected = ports.records.alias(name, alias)
    stack = alias_stack(ports.records.events(kind=ALIAS_EVENT), name, alias)
    models = [get_record(ports.records, ModelVersion, ref) for ref in stack[:-1]]
    usable = [model for model in models if revocation(ports.records, model.adapter) is None]
    if not usable:
        raise UnknownReference(
            f"alias {name}/{alias} has no earlier version to go back to; expected at least two moves in "
            f"the ledger. Set it to a version with `tunewright models alias {name} {alias} VERSION`."
        )
    require_servable(usable[-1], ports)
    return _move(expected, usable[-1].ref, action="roll_back", actor=actor, reason=reason, ports=ports)


def revoke(ref: Ref, *, actor: str, reason: str, ports: Ports) -> None:
    """Take a model out of use for good: its adapter is never loaded or pointed to again.

    Raises:
        UsageError: the reason is empty.
        UnknownReference: no such model version.
    """
    model = get_record(ports.records, ModelVersion, ref)
    if not reason.strip():
        raise UsageError(f"revoking model {ref} needs a reason; expected one sentence for the ledger")
    detail = {"adapter": model.adapter, "reason": reason.strip()}
    ports.records.append(
        EventDraft(kind=REVOKE_EVENT, actor=actor, subject=node("model", ref), detail=dict(detail))
    )


def require_servable(model: ModelVersion, ports: Ports) -> None:
    """Raise unless signature, files, revocations and the gate's verdict let this model be served."""
    load_verified(model, ports)
    report = get_record(ports.records, EvalReport, model.evaluation)
    require_permission(report, candidate=model.adapter, held_out=model.held_out, records=ports.records)


def point_new_model(model: ModelVersion, ports: Ports) -> None:
    """Point `candidate` to a model just registered, and `champion` too where there is none yet.

    A waived model never becomes champion by itself. Calling it again for the same model changes nothing, so a
    crash between commit and alias is mended by running the recipe again.
    """
    candidate = ports.records.alias(model.ref.name, CANDIDATE)
    champion = ports.records.alias(model.ref.name, CHAMPION)
    if model.ref in _targets_so_far(candidate, ports):
        return
    require_servable(model, ports)
    if model.waiver is None and champion.target is None:
        with suppress(AliasConflict):  # another process was first, so there is a champion now
            _move(champion, model.ref, action="first", actor=ports.actor, reason="first", ports=ports)
    _move(candidate, model.ref, action="set", actor=ports.actor, reason="registered", ports=ports)


def _targets_so_far(alias: AliasState, ports: Ports) -> set[Ref]:
    """Collect every version an alias ever pointed to."""
    events = ports.records.events(kind=ALIAS_EVENT, subject=f"alias:{alias.name}/{alias.alias}")
    return {state.target for event in events for state in replay_aliases([event]) if state.target}


def _move(
    expected: AliasState, target: Ref, *, action: AliasAction, actor: str, reason: str, ports: Ports
) -> AliasState:
    event = alias_event(expected, target, action=action, actor=actor, reason=reason)
    return ports.records.move_alias(expected, target, event)


def _check_names(name: str, alias: str, target: Ref, reason: str) -> None:
    if not NAME.fullmatch(alias):
        raise UsageError(f"{alias!r} is no alias; expected lower-case letters, digits, dots and dashes")
    if target.name != name:
        raise UsageError(f"alias {name}/{alias} cannot point to {target}; expected a version of {name}")
    if not reason.strip():
        raise UsageError(f"moving {name}/{alias} needs a reason; expected one sentence for the ledger")
