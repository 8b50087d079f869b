"""Moves live rollouts on: extends their evidence, decides, and acts on what was decided.

A roll back takes the candidate's traffic away in memory first, before anything is written. Every other step
waits for a trace store that can be written, so that a replay finds what decided.
"""

import asyncio
import logging
import time
from functools import partial

from tunewright.deploy.canary import Step, next_step
from tunewright.errors import AliasConflict
from tunewright.ports import Clock
from tunewright.records import Rollout, RolloutState
from tunewright.server.conductor import Conductor
from tunewright.server.registry_view import Rollouts
from tunewright.server.rules import step_without_evidence
from tunewright.server.trace_writer import TraceWriter

logger = logging.getLogger(__name__)

BUSY_FRACTION = 0.1
"""Judging takes at most this share of the time, however much there is to judge."""


class RolloutJudge:
    """Confined to one event loop."""

    def __init__(
        self, conductor: Conductor, rollouts: Rollouts, writer: TraceWriter, clock: Clock, *, pause_s: float
    ) -> None:
        self._conductor = conductor
        self._rollouts = rollouts
        self._writer = writer
        self._clock = clock
        self._pause_s = pause_s

    async def run(self) -> None:
        """Judge all live rollouts for ever; run this as a task."""
        while True:
            started_s = time.monotonic()
            for rollout, state in list(self._conductor.registered.view.rollouts.values()):
                await self.judge(rollout, state)
            spent_s = time.monotonic() - started_s
            await asyncio.sleep(max(self._pause_s, spent_s / BUSY_FRACTION))

    async def judge(self, rollout: Rollout, state: RolloutState) -> None:
        """Decide about one rollout, and act."""
        step = await self._decide(rollout, state)
        if step.action == "wait" or (step.action != "roll_back" and self._writer.problem):
            return
        if step.action == "roll_back":
            self._conductor.halted.add(rollout.ref)
            self._conductor.rebuild()
        await self._conductor.problems.attempt(
            f"rollout {rollout.ref.name}",
            f"rollout {rollout.ref} cannot {step.action.replace('_', ' ')}",
            partial(self._take, rollout, state, step),
        )

    async def _decide(self, rollout: Rollout, state: RolloutState) -> Step:
        conductor = self._conductor
        step = step_without_evidence(rollout, state, conductor.registered.view, conductor.table)
        if step is not None:
            return step
        memory = conductor.memories.get(rollout.ref)
        if memory is None:
            await conductor.recall()
            return Step("wait", "its traces cannot be read", state.share, state.stage)
        if rollout.ref.name not in conductor.table.rollouts and rollout.ref not in conductor.halted:
            return Step("wait", "it is not served here", state.share, state.stage)
        now = self._clock()
        await memory.extend(state, now)
        return next_step(rollout, state, memory.evidence, now)

    async def _take(self, rollout: Rollout, state: RolloutState, step: Step) -> None:
        try:
            if step.action != "roll_back":
                await self._writer.flush()
            after = await asyncio.to_thread(self._rollouts.take, rollout, state, step)
            logger.info("rollout %s: %s, %s", rollout.ref, after.phase, after.reason)
        except AliasConflict as conflict:
            self._conductor.halted.discard(rollout.ref)
            logger.info("rollout %s was moved elsewhere first: %s", rollout.ref, conflict)
        await self._conductor.refresh()
