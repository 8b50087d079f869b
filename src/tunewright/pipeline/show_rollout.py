"""Words and JSON for rollouts and API keys. Pure."""

from collections.abc import Mapping

from tunewright.deploy.keys import KeyFacts
from tunewright.deploy.rollout import step_of
from tunewright.deploy.transitions import words_of
from tunewright.pipeline.rollout_verbs import RolloutStatus
from tunewright.records import LedgerEvent, Rollout, RolloutState
from tunewright.values import Json


def rollout_json(rollout: Rollout, state: RolloutState) -> dict[str, Json]:
    """What commands print of a rollout; references as name@n."""
    return {
        "rollout": str(rollout.ref),
        "candidate": str(rollout.candidate),
        "incumbent": str(rollout.incumbent),
        "phase": state.phase,
        "stage": state.stage,
        "share": state.share,
        "since": state.to_json()["since"],
        "deadline": state.to_json()["deadline"],
        "reason": state.reason,
    }


def status_json_of(status: RolloutStatus) -> dict[str, Json]:
    """What `rollout status --json` prints."""
    return {**status.figures, "history": [_event_json(event) for event in status.history]}


def status_text(status: RolloutStatus) -> str:
    """One screen: where it stands, what is known and missing, how it came there."""
    first, *rest = status.sentences
    lines = [first, *(f"  {sentence}" for sentence in rest), "", "What happened:"]
    return "\n".join([*lines, *(f"  {_event_text(event)}" for event in status.history)])


def rollout_row(rollout: Rollout, state: RolloutState) -> list[str]:
    """One line of `rollout list`."""
    return [
        str(rollout.ref),
        str(rollout.candidate),
        str(rollout.incumbent),
        words_of(state.phase),
        f"{state.share:.0%}",
        f"{rollout.started_at:%Y-%m-%d %H:%M}",
        state.reason.partition(":")[0].partition(" (")[0],  # `rollout status` has the figures
    ]


def key_json(key: KeyFacts) -> dict[str, Json]:
    """What `keys list --json` prints of a key; never a secret or its hash."""
    return {name: value for name, value in key.to_json().items() if name != "sha256"}


def key_row(key: KeyFacts) -> list[str]:
    """One line of `keys list`."""
    made = f"{key.made_at:%Y-%m-%d %H:%M}"
    ended = f"revoked {key.revoked_at:%Y-%m-%d %H:%M}" if key.revoked_at else "in use"
    return [key.id, key.role, key.tenant, key.consent, ended, made, key.made_by]


def _event_json(event: LedgerEvent) -> dict[str, Json]:
    return {"seq": event.seq, "at": event.to_json()["at"], "actor": event.actor, **step_of(event)}


def _event_text(event: LedgerEvent) -> str:
    step: Mapping[str, Json] = step_of(event)
    share = step.get("share")
    percent = f" {share:.0%}" if isinstance(share, int | float) and step.get("to") in ("ramp", "held") else ""
    move = f"{str(step.get('action')).replace('_', ' ')} -> {str(step.get('to')).replace('_', ' ')}{percent}"
    return f"{event.at:%Y-%m-%d %H:%M:%S}  {move}, by {event.actor}: {step.get('reason')}"
