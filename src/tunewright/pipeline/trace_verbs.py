"""Verbs on traces: list, show with or without text, remove what is over; and their words for people."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from tunewright.errors import UnknownReference
from tunewright.live_ports import Live
from tunewright.ports import Ports
from tunewright.records import EventDraft, Feedback, Trace, TraceText
from tunewright.values import Json, node

PURPOSE = "trace text"
"""Purpose of the ledger event that precedes every reading of text."""

_RECENT = 5000
"""Newest traces among which the beginning of an id is looked up."""
_ID_SHOWN, _ID_LENGTH = 15, 35

COLUMNS = ("at (UTC)", "trace", "model", "arm", "status", "tokens", "seconds", "tenant")


@dataclass(frozen=True, slots=True)
class ShownTrace:
    """A trace and what was said of it."""

    trace: Trace
    feedback: tuple[Feedback, ...]
    """Oldest first, superseded ones too."""
    reviews: tuple[Feedback, ...]
    """Feedback as it was after each decision on it."""
    texts: dict[str, TraceText] = field(default_factory=dict[str, TraceText])
    """Trace or feedback id -> text; empty unless it was asked for."""


class TraceVerbs:
    """What a user asks of traces."""

    def __init__(self, ports: Ports, live: Live) -> None:
        self._ports = ports
        self._live = live

    def newest(self, *, limit: int = 50, tenant: str | None = None) -> list[Trace]:
        """List the newest traces, newest first."""
        return list(self._live.traces.newest(limit=limit, tenant=tenant))

    def show(self, trace: str, *, with_text: bool = False) -> ShownTrace:
        """Read one trace with the feedback on it; a look at its text goes to the ledger first.

        Args:
            trace: its id, or the beginning of the id of a recent one.
            with_text: whether to decrypt what was said.

        Raises:
            UnknownReference: no such trace, or several.
            IntegrityError: its text was changed.
        """
        traces = self._live.traces
        found = self._find(trace)
        counting = traces.feedback(trace=found.id)
        superseded = traces.feedback(trace=found.id, status="superseded")
        feedback = tuple(sorted([*superseded, *counting], key=lambda one: one.at))
        reviews = tuple(decision for one in feedback for decision in traces.reviews(one.id))
        texts = self._texts(found, feedback) if with_text else {}
        return ShownTrace(found, feedback, reviews, texts)

    def expire(self) -> int:
        """Remove texts and traces whose time is over; returns the number of texts removed."""
        return self._live.traces.expire(self._ports.clock())

    def _find(self, wanted: str) -> Trace:
        recent = self._live.traces.newest(limit=_RECENT) if wanted and len(wanted) < _ID_LENGTH else ()
        found = [trace for trace in recent if trace.id.startswith(wanted)]
        if len(found) > 1:
            raise UnknownReference(
                f"{wanted!r} is the beginning of {len(found)} recent trace ids, such as {found[0].id} and "
                f"{found[1].id}; expected one. Give more of it."
            )
        return found[0] if found else self._live.traces.get(wanted)

    def _texts(self, trace: Trace, feedback: Sequence[Feedback]) -> dict[str, TraceText]:
        subject = node("trace", trace.id)
        detail: dict[str, Json] = {"purpose": PURPOSE}
        self._ports.records.append(
            EventDraft(kind="look", actor=self._ports.actor, subject=subject, detail=detail)
        )
        now = self._ports.clock()
        owners = [trace.id, *(one.id for one in feedback if one.has_text)]
        found = {owner: self._live.traces.text(owner, now) for owner in owners}
        return {owner: text for owner, text in found.items() if text is not None}


def trace_row(trace: Trace) -> list[str]:
    """Say a trace in one line of a table; see COLUMNS."""
    return [
        _time(trace.at),
        trace.id[:_ID_SHOWN],
        str(trace.model or trace.digest),
        (trace.arm or "-") + (" (mirrored)" if trace.shadow_of else ""),
        trace.status if trace.error is None else f"{trace.status}: {trace.error}",
        str(trace.num_tokens),
        "-" if trace.latency_s is None else f"{trace.latency_s:.2f}",
        trace.tenant,
    ]


def shown_json(shown: ShownTrace, *, with_text: bool) -> dict[str, Json]:
    """Say a trace as JSON; `texts` only where text was asked for."""
    made: dict[str, Json] = {
        "trace": dict(shown.trace.to_json()),
        "feedback": [dict(one.to_json()) for one in shown.feedback],
        "reviews": [dict(one.to_json()) for one in shown.reviews],
    }
    if with_text:
        made["texts"] = [dict(text.to_json()) for text in shown.texts.values()]
    return made


def shown_text(shown: ShownTrace, *, with_text: bool) -> str:
    """Say a trace for a person, line by line; what users wrote cannot move the terminal's cursor."""
    fields = shown.trace.to_json().items()
    lines = [f"{name:18} {value}" for name, value in fields if value not in (None, {}, False)]
    lines += [_feedback_line(one) for one in shown.feedback]
    lines += [_review_line(one) for one in shown.reviews]
    for text in shown.texts.values():
        lines += ["", f"text of {text.owner}, removed after {_time(text.expires_at)} UTC"]
        lines += [f"  {turn.get('role', '')}: {printable(turn.get('content', ''))}" for turn in text.messages]
        lines.append(f"  answer: {printable(text.text)}" if text.messages else f"  {printable(text.text)}")
    if with_text and shown.trace.id not in shown.texts:
        lines += ["", "no text of this trace is kept: its consent is `none`, or its time is over"]
    return "\n".join(lines)


def printable(text: str) -> str:
    r"""Replace control characters by their escapes, so that text cannot steer a terminal; keeps \n and \t."""
    return "".join(char if char.isprintable() or char in "\n\t" else ascii(char)[1:-1] for char in text)


def _feedback_line(one: Feedback) -> str:
    value = "" if one.value is None else f" {one.value:g}"
    return f"feedback           {_time(one.at)} {one.id} {one.kind}{value}, {one.status}"


def _review_line(one: Feedback) -> str:
    at = _time(one.reviewed_at) if one.reviewed_at else "-"
    return f"review             {at} {one.id} {one.status} by {one.reviewer}: {printable(one.note or '')}"


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}"
