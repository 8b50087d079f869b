"""Ending live rollouts for what happens outside them: a revocation, an alias moved by hand."""

from tunewright.deploy.canary import Step
from tunewright.deploy.rollout import find_rollout, last_state, read_state, take_step
from tunewright.errors import AliasConflict
from tunewright.ports import Ports
from tunewright.records import LIVE_PHASES, AliasState, ModelVersion, Rollout, RolloutState


def end_for_revoked(model: ModelVersion, reason: str, ports: Ports) -> RolloutState | None:
    """Roll back the live rollout whose candidate was revoked; None when there is none."""
    found = _live(model.ref.name, ports)
    if found is None or found[0].candidate_digest != model.adapter:
        return None
    return _end(*found, f"Model {model.ref} was revoked: {reason}", ports)


def end_for_moved_champion(champion: AliasState, reason: str, ports: Ports) -> RolloutState | None:
    """Roll back the live rollout that compares with another champion than now; None without one."""
    found = _live(champion.name, ports)
    if found is None or found[0].incumbent == champion.target:
        return None
    return _end(*found, f"The champion was moved to {champion.target} by hand: {reason}", ports)


def _live(name: str, ports: Ports) -> tuple[Rollout, RolloutState] | None:
    state = read_state(ports.records, name)
    if state is None or state.phase not in LIVE_PHASES:
        return None
    return find_rollout(ports.records, state.rollout), state


def _end(rollout: Rollout, state: RolloutState, reason: str, ports: Ports) -> RolloutState:
    step = Step("roll_back", reason, 0.0, state.stage)
    try:
        return take_step(rollout, state, step, ports, actor=ports.actor)
    except AliasConflict:
        now = _live(rollout.ref.name, ports)
        if now is None:  # it ended by itself meanwhile
            return last_state(ports.records, rollout.ref)
        return take_step(*now, step, ports, actor=ports.actor)
