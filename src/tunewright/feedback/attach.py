"""One person's word on one trace: checked, cleaned, and made a record. Pure.

The token was checked before (`tokens`), and so was the rate (`limits`); the caller stores what is returned.
"""

import math
import re
import unicodedata
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from tunewright.core.keyed import keyed_hash
from tunewright.errors import RequestRefused
from tunewright.feedback.distance import edit_distance
from tunewright.live_ports import LiveKeys
from tunewright.records import Consent, Feedback, FeedbackKind, Trace, TraceText

UNPROCESSABLE = 422
MAX_EDIT_CHARS = 32_768
MAX_TEXT_CHARS = 4_096
"""Longest text beside a thumb, a rating, an escalation or a harm report, and longest comment."""
MAX_AUTHOR_CHARS = 256
RATINGS = (1.0, 5.0)
GOOD_RATING, BAD_RATING = 4.0, 2.0
"""At or above, an answer counts as good; at or below, as bad; between them as neither."""

_UNSEEN = re.compile(
    "[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069\\ufeff\\ud800-\\udfff]"
)
"""Control characters, marks that turn the direction of text, and halves of characters."""


@dataclass(frozen=True, slots=True)
class Given:
    """Feedback as it came, by the gateway or from a file."""

    trace: str
    token: str
    """Checked before; empty for an import by an operator."""
    kind: FeedbackKind
    value: float | None = None
    text: str | None = None
    author: str | None = None
    """Whoever speaks, as the caller names them; absent: the user of the trace."""
    consent: Consent | None = None
    """For this correction only; absent: as the trace has it."""
    source: Literal["api", "import"] = "api"


def attach(
    draft: Given,
    trace: Trace,
    answer: str | None,
    *,
    keys: LiveKeys,
    at: datetime,
    retain_until: datetime,
) -> tuple[Feedback, TraceText | None]:
    """Check feedback against its trace and make the record, and the text to keep beside it.

    The id follows from the content (and, but for imports, the time), so that the same word twice is one.

    Args:
        draft: what was said.
        trace: what it was said about.
        answer: the answer's text; absent when it was not kept.
        keys: hashes the author.
        at: when.
        retain_until: when the text is removed.

    Raises:
        RequestRefused: 422; the message names the field and what was expected.
    """
    text = _text(draft)
    value = _value(draft)
    consent = draft.consent or trace.consent
    distance = (
        None if draft.kind != "edit" or answer is None else edit_distance(clean_text(answer), text or "")
    )
    author = author_hash(keys, trace, draft.author)
    is_kept = text is not None and consent != "none"
    feedback = Feedback(
        id="fb_" + _identity(keys, trace, (draft, author, value, text), at),
        at=at,
        trace=trace.id,
        tenant=trace.tenant,
        author=author,
        kind=draft.kind,
        value=value,
        is_bad=is_bad(draft.kind, value, distance),
        edit_distance=distance,
        has_text=is_kept,
        consent=consent,
        source=draft.source,
    )
    kept = TraceText(owner=feedback.id, text=text or "", expires_at=retain_until) if is_kept else None
    return feedback, kept


def author_hash(keys: LiveKeys, trace: Trace, author: str | None) -> str:
    """Hash an author's name within their tenant; without a name it is the user of the trace.

    Raises:
        RequestRefused: 422, the name is longer than 256 characters.
    """
    name = clean_text(author or "")
    if len(name) > MAX_AUTHOR_CHARS:
        raise _refused(f"author has {len(name):,} characters; expected {MAX_AUTHOR_CHARS} or fewer", "author")
    return keyed_hash(keys.unit, trace.tenant, name) if name else trace.unit


def is_bad(kind: FeedbackKind, value: float | None, distance: float | None) -> bool | None:
    """Say whether feedback calls the answer bad; None where it says neither.

    Args:
        kind: what kind of word it is.
        value: of a thumb or a rating.
        distance: of an edit; absent when the answer is not known, and then an edit counts as a correction.
    """
    match kind:
        case "thumb":
            return value == 0
        case "rating":
            rating = value or 0.0
            return True if rating <= BAD_RATING else False if rating >= GOOD_RATING else None
        case "edit":
            return distance is None or distance > 0
        case "escalation" | "harm":
            return True
        case "comment":
            return None


def clean_text(text: str) -> str:
    """Take out what no reader sees or what would steer a terminal; NFC, line ends as LF, both ends bare."""
    plain = _UNSEEN.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    return unicodedata.normalize("NFC", plain).strip()


def _text(draft: Given) -> str | None:
    limit = MAX_EDIT_CHARS if draft.kind == "edit" else MAX_TEXT_CHARS
    given = draft.text or ""
    if len(given) > limit:
        raise _refused(f"text has {len(given):,} characters; expected {limit:,} or fewer", "text")
    text = clean_text(given)
    if draft.kind in ("edit", "comment") and not text:
        wanted = "the corrected answer" if draft.kind == "edit" else "what you have to say"
        raise _refused(f"a feedback of kind {draft.kind!r} needs a text; expected {wanted}", "text")
    return text or None


def _value(draft: Given) -> float | None:
    value = draft.value
    if draft.kind not in ("thumb", "rating"):
        if value is not None:
            raise _refused(f"a feedback of kind {draft.kind!r} has no value; expected none", "value")
        return None
    expected = "1 (up) or 0 (down)" if draft.kind == "thumb" else "a number from 1 to 5"
    if value is None or not math.isfinite(value):
        raise _refused(f"a {draft.kind} needs a value; expected {expected}", "value")
    low, high = RATINGS
    if (draft.kind == "thumb" and value not in (0, 1)) or (
        draft.kind == "rating" and not low <= value <= high
    ):
        raise _refused(f"{draft.kind} {value:g} is out of range; expected {expected}", "value")
    return float(value)


def _identity(
    keys: LiveKeys, trace: Trace, said: tuple[Given, str, float | None, str | None], at: datetime
) -> str:
    draft, author, value, text = said
    when = "" if draft.source == "import" else at.isoformat()
    return keyed_hash(
        keys.unit, "feedback", draft.source, trace.id, author, draft.kind, repr(value), text or "", when
    )


def _refused(sentence: str, param: str) -> RequestRefused:
    return RequestRefused(f"{sentence}.", UNPROCESSABLE, f"feedback_{param}_invalid", param)
