"""Where a rollout stands after each step, and what the ledger is told. Pure; `rollout` does the writing."""

from datetime import datetime, timedelta

from tunewright.deploy.canary import Step
from tunewright.errors import UsageError
from tunewright.records import Phase, Rollout, RolloutPolicy, RolloutState
from tunewright.values import Json, Ref

_STEPS: dict[Phase, tuple[str, ...]] = {
    "shadow": ("advance", "promote", "hold", "roll_back"),
    "ramp": ("advance", "promote", "hold", "roll_back"),
    "held": ("advance", "promote", "roll_back"),
    "promoted": ("roll_back",),
    "rolled_back": (),
}
"""Phase -> what can be done in it; `advance` takes a held rollout up again."""

_SAID = {
    "advance": "be advanced",
    "promote": "be promoted",
    "hold": "be held",
    "roll_back": "be rolled back",
}


def first_state(rollout: Ref, policy: RolloutPolicy, now: datetime) -> RolloutState:
    """Say where a rollout begins: in shadow, with no user's traffic."""
    return RolloutState(
        rollout=rollout,
        phase="shadow",
        stage=0,
        share=0.0,
        revision=1,
        since=now,
        deadline=now + timedelta(seconds=policy.deadline_s),
        reason=f"Waits for {policy.shadow_requests:,} mirrored requests before any user is answered by it.",
    )


def next_state(rollout: Rollout, state: RolloutState, step: Step, now: datetime) -> RolloutState:
    """Say where a rollout stands after a step other than `wait`.

    Raises:
        UsageError: this cannot be done where the rollout stands.
    """
    if step.action not in _STEPS[state.phase]:
        asked = _SAID.get(step.action, step.action)
        raise UsageError(
            f"rollout {rollout.ref} is {words_of(state.phase)} and cannot {asked}. "
            f"{as_sentence(state.reason)} Look at it with `tunewright rollout status {rollout.ref.name}`."
        )
    phase, stage, share = _place(rollout, state, step)
    seconds = rollout.policy.hold_s if phase == "held" else rollout.policy.deadline_s
    return RolloutState(
        rollout=rollout.ref,
        phase=phase,
        stage=stage,
        share=share,
        revision=state.revision + 1,
        since=now,
        deadline=now + timedelta(seconds=seconds),
        baseline=step.baseline or state.baseline,
        reason=step.reason,
    )


def transition_detail(before: RolloutState | None, after: RolloutState, step: Step) -> dict[str, Json]:
    """Tell the ledger what moved, why, and by which numbers."""
    return {
        "action": step.action,
        "from": before.phase if before else None,
        "to": after.phase,
        "share": after.share,
        "stage": after.stage,
        "reason": step.reason,
        "numbers": dict(step.detail),
    }


def words_of(phase: Phase) -> str:
    """Name a phase for people."""
    return {"shadow": "in shadow", "ramp": "on the ramp", "rolled_back": "rolled back"}.get(phase, phase)


def as_sentence(reason: str) -> str:
    """End a reason, which a person may have typed, with a full stop."""
    return reason if reason.endswith((".", "!", "?")) else f"{reason}."


def _place(rollout: Rollout, state: RolloutState, step: Step) -> tuple[Phase, int, float]:
    """Phase, stage and share after a step; a held rollout keeps its share."""
    match step.action:
        case "promote":
            return "promoted", len(rollout.policy.ramp) - 1, 1.0
        case "roll_back":
            return "rolled_back", state.stage, 0.0
        case "hold":
            return "held", state.stage, state.share
        case _:
            return ("ramp" if step.share > 0 else "shadow"), step.stage, step.share
