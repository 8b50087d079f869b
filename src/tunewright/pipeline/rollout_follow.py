"""Following a rollout until it is decided: for `run --wait`."""

import time
from collections.abc import Callable

from tunewright.deploy.rollout import last_state
from tunewright.deploy.transitions import as_sentence, words_of
from tunewright.live_ports import Live
from tunewright.ports import Ports
from tunewright.records import RolloutState
from tunewright.values import Ref

POLL_S = 1.0
QUIET_S = 15.0
"""After so long without a request or a move the person is told what moves rollouts."""

_NOTHING_MOVES = (
    "Nothing has moved for {seconds:.0f} s. Requests move a rollout: `tunewright serve` must be running in "
    "this workspace and be asked for {name}."
)


def follow_rollout(
    rollout: Ref,
    ports: Ports,
    live: Callable[[], Live],
    *,
    say: Callable[[str], None],
    sleep: Callable[[float], None] = time.sleep,
) -> RolloutState:
    """Poll until a rollout is promoted, rolled back or held; say every change in a line.

    Returns:
        Where it stands then.
    """
    traces = live().traces
    seen: tuple[int, int] | None = None
    quiet_s = 0.0
    while True:
        state = last_state(ports.records, rollout)
        if seen is None or state.revision != seen[0]:
            say(describe(state))
        if state.phase not in ("shadow", "ramp"):
            return state
        now = (state.revision, traces.last_seq())
        quiet_s = quiet_s + POLL_S if now == seen else 0.0
        seen = now
        if quiet_s == QUIET_S:
            say(_NOTHING_MOVES.format(seconds=QUIET_S, name=rollout.name))
        sleep(POLL_S)


def describe(state: RolloutState) -> str:
    """Say in one line where a rollout stands."""
    share = f" at {state.share:.0%} of users" if state.phase in ("ramp", "held") else ""
    return f"rollout {state.rollout} is {words_of(state.phase)}{share}: {as_sentence(state.reason)}"
