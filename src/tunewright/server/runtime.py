"""The gateway's runtime: models, rollouts, traces and the engine behind `seams.GatewayRuntime`.

Routing, assignment and closing of traces touch memory only; databases and the engine's process are reached
from tasks and threads. One runtime a workspace: it holds the lock `serve`.
"""

from collections.abc import Sequence
from contextlib import AsyncExitStack

from tunewright.deploy.keys import allows
from tunewright.errors import RequestRefused
from tunewright.records import Feedback
from tunewright.server.chores import Chores
from tunewright.server.engine_wire import EngineWire
from tunewright.server.listing import champion_problems, served_models
from tunewright.server.opening import House, RuntimeOptions, ServedApp, open_house
from tunewright.server.routing import route
from tunewright.server.seams import (
    Asked,
    Caller,
    Counts,
    FeedbackDraft,
    Finish,
    Readiness,
    ServedModel,
    Ticket,
    Upstream,
)

VIEWER = "viewer"
WRITING, WATCHING = "trace writer", "engine watch"
"""Tasks that end by themselves when they are told to."""


class Runtime:
    """Implements GatewayRuntime; confined to one event loop."""

    def __init__(
        self, app: ServedApp, options: RuntimeOptions | None = None, *, wire: EngineWire | None = None
    ) -> None:
        """Remember what to serve; `start` opens it.

        Args:
            app: the workspace.
            options: see there.
            wire: how the engine is spoken to; HTTP when absent.
        """
        self._app = app
        self._options = options or RuntimeOptions()
        self._wire = wire
        self._stack = AsyncExitStack()
        self._opened: House | None = None
        self._chores = Chores()

    async def start(self) -> None:
        """Take the workspace's lock, start the engine, load the champions, and begin to look after them.

        Raises:
            WorkspaceBusy: another process serves this workspace.
            StorageError: registry or trace store cannot be opened.
            BaseModelError, EngineFailed: the base cannot be served.
        """
        try:
            house = await open_house(self._app, self._options, self._stack, wire=self._wire)
        except BaseException:
            await self._stack.aclose()
            raise
        self._opened = house
        self._chores.begin(WRITING, house.writer.run())
        self._chores.begin(WATCHING, house.rooms.engine.watch())
        self._chores.begin("registry", house.conductor.follow())
        self._chores.begin("rollouts", house.judge.run())
        self._chores.begin("loading", house.conductor.load())
        self._chores.begin("tidying", house.conductor.tidy())
        self._chores.begin("shadow", house.shadow.run())

    async def stop(self) -> None:
        """End in order: no request may be in flight any more; what waits for the store is written."""
        house = self._opened
        if house is not None:
            self._opened = None
            self._chores.cancel_but((WRITING, WATCHING))
            await house.shadow.stop()
            house.writer.stop()
            house.rooms.engine.ask_to_stop()
            await self._chores.wait()
        await self._stack.aclose()

    @property
    def house(self) -> House:
        """Everything inside, while it runs. Raises RequestRefused (503) before and after."""
        if self._opened is None:
            raise RequestRefused("the server is not ready; try again in a few seconds", 503, "not_ready")
        return self._opened

    def caller(self, secret: str) -> Caller | None:
        """Say whose key this is; None for an unknown or revoked one."""
        key = self.house.conductor.registered.keys.find(secret)
        return None if key is None else Caller(key.id, key.role, key.tenant, key.consent)

    def models(self, caller: Caller) -> Sequence[ServedModel]:
        """List what a caller may ask for: names and the base; versions and aliases from viewer on."""
        return served_models(self.house.conductor.table, sees_versions=allows(caller.role, VIEWER))

    def admit(self, asked: Asked, caller: Caller) -> Ticket:
        """Route and assign a request, and open its trace. Raises RequestRefused (404, 403, 503)."""
        house = self.house
        sees_versions = allows(caller.role, VIEWER)
        found = route(asked.model, house.conductor.table, sees_versions=sees_versions)
        house.rooms.adapters.use(found.digest)
        return house.traffic.admit(asked, caller, found)

    async def upstream(self, digest: str) -> Upstream:
        """Say where the engine is that holds this adapter, or the base. Raises RequestRefused (503)."""
        return await self.house.access.upstream(digest)

    def engine_failed(self, upstream: Upstream) -> None:
        """Look at the engine at once."""
        self.house.rooms.engine.failed(upstream)

    def finish(self, ticket: Ticket, finish: Finish) -> None:
        """Close the trace, and mirror the request where a rollout is in its shadow phase."""
        house = self.house
        mirror = house.traffic.finish(ticket, finish)
        if mirror is not None:
            house.shadow.offer(mirror)

    async def give_feedback(self, draft: FeedbackDraft, caller: Caller) -> Feedback:
        """Check and store feedback. Raises RequestRefused (404, 403, 422, 429, 503)."""
        house = self.house
        feedback, trace = await house.feedback.take(draft, caller)
        house.traffic.note_feedback(feedback, trace)
        return feedback

    def readiness(self) -> Readiness:
        """Say whether traffic may come, and what is wrong."""
        house = self._opened
        if house is None:
            return Readiness(False, ("the server is starting or stopping",))
        engine, writer = house.rooms.engine.problem, house.writer
        champions, keeps_away = champion_problems(house.conductor.table)
        lost = f"{writer.num_lost} trace entries were lost, the buffer was full" if writer.num_lost else None
        problems = [engine, writer.problem, lost, *champions]
        problems += [*house.conductor.problems.sentences, *self._chores.crashed]
        is_ready = engine is None and not keeps_away and not self._chores.crashed
        return Readiness(is_ready, tuple(problem for problem in problems if problem))

    def counts(self) -> Counts:
        """Read figures for /metrics."""
        house = self.house
        conductor = house.conductor
        return Counts(
            traces_waiting=house.writer.num_waiting,
            traces_lost=house.writer.num_lost,
            engine_restarts=house.rooms.engine.num_restarts,
            adapters_resident=len(house.rooms.adapters.resident),
            shadow_running=house.shadow.num_running,
            rollouts=tuple(conductor.registered.view.rollouts.values()),
            log_e={
                (str(ref), guardrail, kind): value
                for ref, memory in conductor.memories.items()
                for (guardrail, kind), value in memory.evidence.log_e.items()
            },
        )
