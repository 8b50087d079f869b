"""How a registered model begins to take over: by itself at the end of a run, or when a person says so."""

from dataclasses import dataclass

from tunewright.core.ledger import ALIAS_EVENT
from tunewright.core.references import get_record, list_records
from tunewright.deploy.policy import policy_of
from tunewright.deploy.rollout import CHAMPION, last_state, read_state, start_rollout
from tunewright.deploy.transitions import as_sentence, words_of
from tunewright.errors import AliasConflict, BaseMismatch, UsageError
from tunewright.ports import Ports
from tunewright.recipe import Recipe
from tunewright.records import LIVE_PHASES, ModelVersion, Rollout, RolloutPolicy, RolloutState
from tunewright.registry.aliases import require_servable
from tunewright.values import Ref


@dataclass(frozen=True, slots=True)
class Begun:
    """What became of a model that was just registered."""

    rollout: Rollout | None
    state: RolloutState | None
    next: str
    """What happens next, in words."""


def begin_rollout(recipe: Recipe, model: ModelVersion, ports: Ports) -> Begun:
    """Start a rollout of a model just registered, or say why there is none; again changes nothing.

    A model starts by itself once, and only when it passed the gate, is newer than the champion, was never
    champion before, and no other rollout of its name is live.
    """
    earlier = _newest_of(model.ref, ports)
    if earlier is not None:
        state = last_state(ports.records, earlier.ref)
        return Begun(earlier, state, what_next(earlier, state))
    reason = _why_not(model, ports)
    if reason is not None:
        return Begun(None, None, reason)
    try:
        rollout, state = start_with(model, policy_of(recipe), ports)
    except (
        UsageError,
        AliasConflict,
        BaseMismatch,
    ) as error:  # another was first, or one engine cannot hold both
        return Begun(None, None, f"No rollout was started: {error}")
    ports.progress.finish(f"rollout {rollout.ref} of {model.ref} against {rollout.incumbent} is in shadow")
    return Begun(rollout, state, what_next(rollout, state))


def start_with(candidate: ModelVersion, policy: RolloutPolicy, ports: Ports) -> tuple[Rollout, RolloutState]:
    """Start a rollout of a model against the champion of its name.

    Raises:
        UsageError: there is no champion, the model is it already, or another rollout is live.
        BaseMismatch, AliasConflict: see `deploy.rollout.start_rollout`.
        GateNotPassed, SignatureInvalid, ModelRevoked, BlobMissing, BlobCorrupt: it must not be served.
    """
    name = candidate.ref.name
    champion = ports.records.alias(name, CHAMPION).target
    if champion is None:
        raise UsageError(
            f"{name} has no champion that {candidate.ref} could take over from; expected one. Make it the "
            f"first: `tunewright models alias {name} {CHAMPION} {candidate.ref} --reason TEXT`."
        )
    require_servable(candidate, ports)
    return start_rollout(candidate, get_record(ports.records, ModelVersion, champion), policy, ports)


def _newest_of(model: Ref, ports: Ports) -> Rollout | None:
    """Find the newest rollout with this candidate."""
    mine = [one for one in list_records(ports.records, Rollout, model.name) if one.candidate == model]
    return mine[-1] if mine else None


def _why_not(model: ModelVersion, ports: Ports) -> str | None:
    """Say why this model starts no rollout by itself; None when it does."""
    name, records = model.ref.name, ports.records
    by_hand = f"`tunewright rollout start {model.ref}`"
    champion = records.alias(name, CHAMPION).target
    if champion is None:
        return (
            f"{name} has no champion: a waived model does not become it by itself. Make it so with "
            f"`tunewright models alias {name} {CHAMPION} {model.ref} --reason TEXT`."
        )
    if champion == model.ref:
        return f"{model.ref} is the champion: `tunewright serve` answers with it."
    if model.waiver is not None:
        return (
            f"No rollout was started, because {model.ref} was waived past the gate. Start one with {by_hand}."
        )
    if model.ref.version < champion.version or _was_champion(model.ref, ports):
        return (
            f"No rollout was started: {champion} is the champion now. Bring {model.ref} back with {by_hand}."
        )
    live = read_state(records, name)
    if live is not None and live.phase in LIVE_PHASES:
        return (
            f"No rollout was started: rollout {live.rollout} is {words_of(live.phase)}. When it has ended, "
            f"{by_hand} can follow."
        )
    return None


def _was_champion(model: Ref, ports: Ports) -> bool:
    events = ports.records.events(kind=ALIAS_EVENT, subject=f"alias:{model.name}/{CHAMPION}")
    return any(event.detail.get("to") == str(model) for event in events)


def what_next(rollout: Rollout, state: RolloutState) -> str:
    """Say where a rollout stands and what moves it on."""
    reason = as_sentence(state.reason)
    if state.phase == "promoted":
        return f"Rollout {rollout.ref} promoted {rollout.candidate}: {reason}"
    if state.phase == "rolled_back":
        return (
            f"Rollout {rollout.ref} of {rollout.candidate} was rolled back: {reason} "
            f"Try once more with `tunewright rollout start {rollout.candidate}`."
        )
    pair = f"{rollout.candidate} against {rollout.incumbent}"
    return (
        f"Rollout {rollout.ref} of {pair} is {words_of(state.phase)}: {reason} A running `tunewright serve` "
        f"moves it on; `tunewright rollout status {rollout.ref.name}` says how far it is."
    )
