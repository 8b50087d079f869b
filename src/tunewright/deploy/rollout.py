"""Rollouts: start one, move it step by step, read where it stands and what happened.

Where a rollout stands is the head `rollout:<name>`; every move compares and swaps it and is one ledger event.
A promotion moves the alias `champion` in the same transaction, so that no crash can part the two. Rolling a
live rollout back moves the head alone: nothing is loaded, nothing restarted.
"""

from collections.abc import Mapping

from pydantic import ValidationError

from tunewright.core.ledger import ALIAS_EVENT, AliasAction, alias_event
from tunewright.core.references import get_record
from tunewright.deploy.canary import Step
from tunewright.deploy.transitions import (
    as_sentence,
    first_state,
    next_state,
    transition_detail,
    words_of,
)
from tunewright.errors import AliasConflict, BaseMismatch, LedgerBroken, UnknownReference, UsageError
from tunewright.ports import Commit, Ports, Records
from tunewright.records import (
    LIVE_PHASES,
    Edge,
    EventDraft,
    LedgerEvent,
    ModelVersion,
    Rollout,
    RolloutPolicy,
    RolloutState,
)
from tunewright.values import Json, Ref, canonical_json, fingerprint, node

CODE_VERSION = 1
ROLLOUT_EVENT = "rollout"
CHAMPION = "champion"


def head_key(name: str) -> str:
    """Name the head that holds where a name's newest rollout stands."""
    return f"rollout:{name}"


def read_state(records: Records, name: str) -> RolloutState | None:
    """Read where a name's newest rollout stands; None when there never was one. Raises LedgerBroken."""
    text = records.head(head_key(name))
    return None if text is None else _decoded(text, name)


def find_rollout(records: Records, ref: Ref) -> Rollout:
    """Read a rollout. Raises UnknownReference."""
    return get_record(records, Rollout, ref)


def history(records: Records, rollout: Ref) -> list[LedgerEvent]:
    """List every move of a rollout, oldest first; promotions are moves of the alias that name the rollout."""
    own = records.events(kind=ROLLOUT_EVENT, subject=node("rollout", rollout))
    moves = records.events(kind=ALIAS_EVENT, subject=f"alias:{rollout.name}/{CHAMPION}")
    named = [event for event in moves if event.detail.get("rollout") == str(rollout)]
    return sorted([*own, *named], key=lambda event: event.seq)


def step_of(event: LedgerEvent) -> Mapping[str, Json]:
    """Read {action, from, to, share, stage, reason, numbers} out of an event of `history`."""
    step = event.detail.get("step") if event.kind == ALIAS_EVENT else event.detail
    return {key: value for key, value in step.items() if key != "heads"} if isinstance(step, dict) else {}


def last_state(records: Records, rollout: Ref) -> RolloutState:
    """Say where a rollout stands, or stood when a newer one of its name began. Raises UnknownReference."""
    moves = history(records, rollout)
    if not moves:
        raise UnknownReference(f"there is no rollout {rollout}; `tunewright rollout list` names all")
    heads = moves[-1].detail.get("heads")
    text = heads.get(head_key(rollout.name)) if isinstance(heads, dict) else None
    return _decoded(str(text), rollout.name)


def start_rollout(
    candidate: ModelVersion, incumbent: ModelVersion, policy: RolloutPolicy, ports: Ports
) -> tuple[Rollout, RolloutState]:
    """Begin to let a candidate take over from the incumbent, in shadow.

    Raises:
        UsageError: both are the same, or of different names, or another rollout of the name is live.
        BaseMismatch: one engine cannot serve both.
        AliasConflict: another process started or moved a rollout of this name first.
    """
    name, records = candidate.ref.name, ports.records
    _check_pair(candidate, incumbent)
    before = records.head(head_key(name))
    _refuse_second(records, name)
    earlier = records.latest("rollout", name)
    number = earlier.ref.version + 1 if isinstance(earlier, Rollout) else 1
    state = first_state(Ref(name, number), policy, ports.clock())
    planned = _planned(candidate, incumbent, policy, state)
    commit = Commit(
        kind="rollout",
        name=name,
        make=lambda ref: planned.model_copy(update={"ref": ref}),
        event=EventDraft(
            kind=ROLLOUT_EVENT,
            actor=ports.actor,
            subject=node("rollout", name),
            detail=_start_detail(planned, state),
        ),
        edges=lambda ref: [
            Edge(parent=node("model", candidate.ref), child=node("rollout", ref), role="candidate"),
            Edge(parent=node("model", incumbent.ref), child=node("rollout", ref), role="incumbent"),
        ],
        heads={head_key(name): (before, _encoded(state))},
    )
    try:
        made = records.commit(commit)
    except AliasConflict:
        _refuse_second(records, name)
        raise
    assert isinstance(made, Rollout)
    return made, last_state(records, made.ref)


def take_step(rollout: Rollout, state: RolloutState, step: Step, ports: Ports, *, actor: str) -> RolloutState:
    """Move a rollout from exactly `state`; `wait` changes nothing.

    Args:
        rollout: which.
        state: where it stood when the step was decided.
        step: what to do.
        ports: records and clock are used.
        actor: who decided, such as `gateway`.

    Raises:
        AliasConflict: it stands elsewhere by now, or `champion` is not what the rollout compares with;
            nothing was changed.
        UsageError: this cannot be done where it stands.
    """
    if step.action == "wait":
        return state
    after = next_state(rollout, state, step, ports.clock())
    heads = {head_key(rollout.ref.name): (_encoded(state), _encoded(after))}
    detail = transition_detail(state, after, step)
    target = _champion_after(rollout, state, after)
    try:
        if target is None:
            subject = node("rollout", rollout.ref)
            event = EventDraft(kind=ROLLOUT_EVENT, actor=actor, subject=subject, detail=detail)
            ports.records.append(event, heads=heads)
        else:
            _move_champion(rollout, target, detail, ports.records, actor=actor, heads=heads)
    except AliasConflict as error:
        raise _lost(rollout, state, ports.records, error) from error
    return after


def _champion_after(rollout: Rollout, before: RolloutState, after: RolloutState) -> Ref | None:
    """Say where `champion` must point after a move; None where it stays."""
    if after.phase == "promoted":
        return rollout.candidate
    return rollout.incumbent if before.phase == "promoted" else None


def _move_champion(
    rollout: Rollout,
    target: Ref,
    detail: dict[str, Json],
    records: Records,
    *,
    actor: str,
    heads: Mapping[str, tuple[str | None, str]],
) -> None:
    """Move alias and head in one transaction, as one event that names the rollout."""
    is_promotion = target == rollout.candidate
    found = records.alias(rollout.ref.name, CHAMPION)
    needed = rollout.incumbent if is_promotion else rollout.candidate
    if found.target != needed:
        raise AliasConflict(
            f"{CHAMPION} of {rollout.ref.name} points to {found.target}, and not to {needed} as rollout "
            f"{rollout.ref} left it: somebody moved it by hand"
        )
    action: AliasAction = "set" if is_promotion else "roll_back"
    event = alias_event(found, target, action=action, actor=actor, reason=str(detail["reason"]))
    told = event.model_copy(update={"detail": {**event.detail, "rollout": str(rollout.ref), "step": detail}})
    records.move_alias(found, target, told, heads=heads)


def _lost(rollout: Rollout, state: RolloutState, records: Records, error: AliasConflict) -> AliasConflict:
    """Say in words who was first."""
    name = rollout.ref.name
    now = read_state(records, name)
    if now == state:
        return AliasConflict(
            f"{error}. End it with `tunewright rollout rollback {name} --reason TEXT`, then start another."
        )
    stands = "gone." if now is None else f"{words_of(now.phase)}, because: {as_sentence(now.reason)}"
    which = now.rollout if now else rollout.ref
    return AliasConflict(
        f"rollout {rollout.ref} was moved by another process first: {which} is {stands} Nothing was changed "
        f"here; look with `tunewright rollout status {name}` and repeat the command if it is still wanted."
    )


def _check_pair(candidate: ModelVersion, incumbent: ModelVersion) -> None:
    if candidate.ref.name != incumbent.ref.name:
        raise UsageError(
            f"model {candidate.ref} cannot take over from {incumbent.ref}; expected two versions of one name"
        )
    if candidate.ref == incumbent.ref:
        raise UsageError(
            f"model {candidate.ref} is the {CHAMPION} already; expected another version. Make one with "
            "`tunewright run RECIPE`, or name it: `tunewright rollout start NAME@N`."
        )
    if candidate.base.digest != incumbent.base.digest:
        raise BaseMismatch(
            f"model {candidate.ref} is made for base {candidate.base.name} and {incumbent.ref} for "
            f"{incumbent.base.name}; expected one base, because one engine serves both. Move the alias by "
            f"hand: `tunewright models alias {candidate.ref.name} {CHAMPION} {candidate.ref} --reason TEXT`."
        )
    for model in (candidate, incumbent):
        if model.report.get("method") == "full":
            raise BaseMismatch(
                f"model {model.ref} is a full fine-tune; expected adapters, because a rollout serves both "
                "versions on one base. Train it with `method: lora`."
            )


def _refuse_second(records: Records, name: str) -> None:
    state = read_state(records, name)
    if state is not None and state.phase in LIVE_PHASES:
        live = find_rollout(records, state.rollout)
        raise UsageError(
            f"rollout {live.ref} of {live.candidate} against {live.incumbent} is {words_of(state.phase)}; "
            f"expected no live rollout of {name}. Wait for it, or end it with `tunewright rollout promote "
            f"{name}` or `tunewright rollout rollback {name}`."
        )


def _planned(
    candidate: ModelVersion, incumbent: ModelVersion, policy: RolloutPolicy, state: RolloutState
) -> Rollout:
    """Build the record; its number is part of its fingerprint, so that a model can be tried again."""
    inputs = {
        "rollout": str(state.rollout),
        "candidate": candidate.adapter,
        "incumbent": incumbent.adapter,
        "policy": policy.to_json(),
    }
    made_by = fingerprint("rollout", CODE_VERSION, inputs)
    return Rollout(
        ref=state.rollout,
        fingerprint=made_by,
        candidate=candidate.ref,
        candidate_digest=candidate.adapter,
        incumbent=incumbent.ref,
        incumbent_digest=incumbent.adapter,
        salt=made_by[:16],
        policy=policy,
        started_at=state.since,
    )


def _start_detail(rollout: Rollout, state: RolloutState) -> dict[str, Json]:
    return {
        "action": "start",
        "from": None,
        "to": state.phase,
        "share": state.share,
        "stage": state.stage,
        "reason": state.reason,
        "numbers": {},
        "candidate": str(rollout.candidate),
        "incumbent": str(rollout.incumbent),
    }


def _encoded(state: RolloutState) -> str:
    return canonical_json(state.to_json()).decode()


def _decoded(text: str, name: str) -> RolloutState:
    try:
        return RolloutState.model_validate_json(text)
    except (ValidationError, UsageError) as error:
        raise LedgerBroken(
            f"head {head_key(name)!r} holds no state of a rollout: it was changed in the database. "
            "`tunewright models verify` names the first broken link; restore the registry from a backup."
        ) from error
