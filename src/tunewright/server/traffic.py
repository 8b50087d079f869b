"""Requests on their way: assigned, counted, closed, mirrored. Touches memory only, but for the mirror."""

import random
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta

from tunewright.core.keyed import keyed_hash
from tunewright.deploy.assignment import Assignment, assign
from tunewright.errors import RequestRefused
from tunewright.feedback.tokens import make_token
from tunewright.live_ports import LiveKeys
from tunewright.ports import Clock
from tunewright.records import Feedback, Trace
from tunewright.server.conductor import Conductor
from tunewright.server.engine_wire import EngineWire, mirrored_body
from tunewright.server.live_scoring import LiveScoring
from tunewright.server.routing import Route
from tunewright.server.seams import Asked, Caller, Finish, Ticket, Upstream
from tunewright.server.shadow import Mirror
from tunewright.server.trace_facts import Identity, close_trace, open_mirrored, open_trace, text_of
from tunewright.server.trace_writer import TraceWriter

MIRRORED_STATUSES = ("ok", "error")
"""Requests that the incumbent was given the time to answer."""


@dataclass(frozen=True, slots=True)
class Desk:
    """What traffic needs of the others."""

    conductor: Conductor
    writer: TraceWriter
    keys: LiveKeys
    clock: Clock
    retain: timedelta
    upstream: Callable[[str], Awaitable[Upstream]]
    wire: EngineWire
    in_use: Counter[str]
    """Digest -> requests it answers now; live and mirrored."""


class Traffic:
    """Confined to one event loop."""

    def __init__(self, desk: Desk, *, last_seq: int) -> None:
        """Begin behind the last sequence number ever used."""
        self._desk = desk
        self._seq = last_seq
        self._scoring = LiveScoring()
        # names are no secrets, and a system call for each would cost more than all else here
        self._names = random.Random(secrets.randbits(256))
        self.num_live = 0
        """Live requests in flight."""

    def admit(self, asked: Asked, caller: Caller, found: Route) -> Ticket:
        """Assign a request and open its trace."""
        desk, trace_id = self._desk, self._new_id()
        unit = keyed_hash(desk.keys.unit, caller.tenant, asked.unit or trace_id)
        now = desk.clock()
        self._seq += 1
        identity = Identity(trace_id, self._seq, now, unit, now + desk.retain)
        trace = open_trace(identity, found, self._assign(found, unit), asked=asked, caller=caller)
        self._write(trace)
        desk.in_use[trace.digest] += 1
        self.num_live += 1
        token = make_token(desk.keys.token, trace.id, trace.tenant, trace.retain_until)
        return Ticket(trace, asked, token, found.note)

    def finish(self, ticket: Ticket, finish: Finish) -> Mirror | None:
        """Close a request's trace; gives what is to be mirrored, if it is."""
        desk, trace = self._desk, ticket.trace
        self.num_live -= 1
        self._release(trace.digest)
        closed = self._close(trace, finish)
        text = text_of(closed, ticket.asked, finish)
        if text is not None:
            desk.writer.add(text)
        rollout = desk.conductor.table.rollouts.get(trace.name or "")
        is_shadowed = (
            rollout is not None
            and rollout[0].ref == trace.rollout
            and rollout[1].phase == "shadow"
            and closed.status in MIRRORED_STATUSES
        )
        return Mirror(closed, ticket.asked, rollout[0]) if rollout is not None and is_shadowed else None

    async def mirror(self, mirror: Mirror) -> None:
        """Ask the candidate the same, unless its rollout has left the shadow phase."""
        desk, rollout = self._desk, mirror.rollout
        now = desk.conductor.table.rollouts.get(rollout.ref.name)
        if now is None or now[0].ref != rollout.ref or now[1].phase != "shadow":
            return
        self._seq += 1
        trace = open_mirrored(mirror.original, rollout, id=self._new_id(), seq=self._seq, at=desk.clock())
        self._write(trace)
        desk.in_use[trace.digest] += 1
        finish = Finish("interrupted", error="gateway_stopped")
        try:
            body = mirrored_body(mirror.asked.body, trace.digest)
            finish = await desk.wire.mirror(await desk.upstream(trace.digest), mirror.asked.path, body)
        except RequestRefused as refused:
            finish = Finish("interrupted", error=refused.code)
        finally:
            self._release(trace.digest)
            self._close(trace, finish)

    def note_feedback(self, feedback: Feedback, trace: Trace) -> None:
        """Let a rollout's evidence know of feedback that is stored."""
        memory = self._desk.conductor.memories.get(trace.rollout) if trace.rollout else None
        if memory is not None:
            memory.note_feedback(feedback)

    def _assign(self, found: Route, unit: str) -> Assignment | None:
        """Assign a unit; while nothing can be learnt of it, nobody is moved to the candidate."""
        if found.rollout is None:
            return None
        rollout, state = found.rollout
        memory = self._desk.conductor.memories.get(rollout.ref)
        if memory is None:
            return None  # its past cannot be read yet
        if state.phase == "shadow":
            return Assignment("incumbent", None, None)
        is_loaded = rollout.candidate_digest in self._desk.conductor.table.resident
        seen = memory.seen.get(unit)
        if is_loaded and self._desk.writer.problem is None:
            return assign(rollout, state, unit, seen)
        stays = is_loaded and seen is not None and seen.arm == "candidate"
        return Assignment("candidate" if stays else "incumbent", state.stage, None)

    def _close(self, trace: Trace, finish: Finish) -> Trace:
        memory = self._desk.conductor.memories.get(trace.rollout) if trace.rollout else None
        scores = self._scoring.score(memory.rollout, finish) if memory else {}
        closed = close_trace(trace, finish, scores, self._desk.clock())
        self._write(closed)
        return closed

    def _write(self, trace: Trace) -> None:
        self._desk.writer.add(trace)
        memory = self._desk.conductor.memories.get(trace.rollout) if trace.rollout else None
        if memory is not None:
            memory.note(trace)

    def _release(self, digest: str) -> None:
        self._desk.in_use[digest] -= 1
        if not self._desk.in_use[digest]:
            del self._desk.in_use[digest]

    def _new_id(self) -> str:
        return f"tr_{self._names.getrandbits(128):032x}"
