"""Takes feedback: finds the trace, checks token and rate, and answers only once it is stored."""

import asyncio
import math
import time
from datetime import timedelta

from tunewright.errors import RequestRefused, StorageError, UnknownReference
from tunewright.feedback.attach import Given, attach, author_hash
from tunewright.feedback.limits import FeedbackLimits
from tunewright.feedback.tokens import check_token
from tunewright.live_ports import Live
from tunewright.ports import Clock
from tunewright.records import Feedback, Trace
from tunewright.server.seams import Caller, FeedbackDraft
from tunewright.server.trace_writer import TraceWriter

COMMIT_TIMEOUT_S = 10.0


class FeedbackDesk:
    """Confined to one event loop."""

    def __init__(self, live: Live, writer: TraceWriter, clock: Clock, *, retain: timedelta) -> None:
        self._live = live
        self._writer = writer
        self._clock = clock
        self._retain = retain
        self._limits = FeedbackLimits()

    async def take(self, draft: FeedbackDraft, caller: Caller) -> tuple[Feedback, Trace]:
        """Store feedback and give it back with its trace.

        Raises:
            RequestRefused: 404, 403, 422, 429 or 503, see `seams.GatewayRuntime.give_feedback`.
        """
        try:
            trace = await self._find(draft.trace, caller)
            now = self._clock()
            check_token(self._live.keys.token, draft.token, trace=trace.id, tenant=caller.tenant, now=now)
            self._limit(draft, trace, caller)
            given = Given(
                trace=draft.trace,
                token=draft.token,
                kind=draft.kind,
                value=draft.value,
                text=draft.text,
                author=draft.author,
                consent=draft.consent,
            )
            feedback, text = attach(
                given,
                trace,
                await self._answer(draft, trace),
                keys=self._live.keys,
                at=now,
                retain_until=now + self._retain,
            )
            is_queued = self._writer.add(feedback) and (text is None or self._writer.add(text))
            if not is_queued:
                raise StorageError("too much waits for the trace store")
            async with asyncio.timeout(COMMIT_TIMEOUT_S):
                await self._writer.flush()
        except (StorageError, TimeoutError) as error:
            raise RequestRefused(
                "the feedback cannot be stored now; try again in a few seconds", 503, "store_unavailable"
            ) from error
        return feedback, trace

    async def _find(self, trace: str, caller: Caller) -> Trace:
        """Find a trace; another tenant's, and a mirrored one, look as if they were not there."""
        found = self._writer.trace(trace)
        if found is None:
            try:
                found = await asyncio.to_thread(self._live.traces.get, trace)
            except UnknownReference:
                found = None
        if found is None or found.tenant != caller.tenant or found.shadow_of is not None:
            raise RequestRefused(
                "there is no such trace; expected the id that came with an answer, as long as it is kept",
                404,
                "trace_not_found",
                "trace",
            )
        return found

    def _limit(self, draft: FeedbackDraft, trace: Trace, caller: Caller) -> None:
        author = author_hash(self._live.keys, trace, draft.author)
        allowed = self._limits.take(
            trace=trace.id, author=author, tenant=caller.tenant, now_s=time.monotonic()
        )
        if allowed.is_allowed:
            return
        wait_s = allowed.retry_after_s
        when = "" if wait_s is None else f"; try again in {math.ceil(wait_s)} s"
        raise RequestRefused(
            f"too much feedback by one {allowed.limit}{when}"
            if allowed.limit != "trace"
            else "too much feedback on one trace",
            429,
            "feedback_limit",
        )

    async def _answer(self, draft: FeedbackDraft, trace: Trace) -> str | None:
        """Read the answer that an edit corrects, where it was kept."""
        if draft.kind != "edit":
            return None
        kept = self._writer.text(trace.id)
        if kept is None:
            kept = await asyncio.to_thread(self._live.traces.text, trace.id, self._clock())
        return kept.text if kept else None
