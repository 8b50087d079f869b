"""Ends of a rollout that need no statistics: its candidate must not be served, or its champion moved. Pure.

They act as kill switches do; what the traces say is decided in `deploy.canary`.
"""

from tunewright.deploy.canary import Step
from tunewright.records import Rollout, RolloutState
from tunewright.server.routing import CHAMPION, PROBE_MISMATCH, UNAVAILABLE, Table, View


def step_without_evidence(rollout: Rollout, state: RolloutState, view: View, table: Table) -> Step | None:
    """Say why a rollout must be rolled back whatever its traces say; None when nothing speaks against it.

    Args:
        rollout: a live one.
        state: where it stands.
        view: what the registry says.
        table: what is served.
    """
    champion = view.aliases.get((rollout.ref.name, CHAMPION))
    if champion != rollout.incumbent:
        now = f"points to {champion}" if champion else "points nowhere"
        return _roll_back(
            state, "champion_moved", f"{CHAMPION} {now}, and not to {rollout.incumbent} it is compared with"
        )
    if rollout.candidate_digest in view.revoked:
        return _roll_back(
            state, "revoked", f"{rollout.candidate} was {view.revoked[rollout.candidate_digest]}"
        )
    left_out = table.left_out.get(rollout.candidate_digest)
    if left_out is not None and left_out.status == UNAVAILABLE:
        cause = PROBE_MISMATCH if PROBE_MISMATCH in left_out.reason else "cannot_be_loaded"
        return _roll_back(state, cause, left_out.reason)
    return None


def _roll_back(state: RolloutState, cause: str, sentence: str) -> Step:
    reason = f"kill switch: {sentence}"
    detail = {"action": "roll_back", "rule": "kill_switch", "cause": cause}
    return Step("roll_back", reason, 0.0, state.stage, dict(detail))
