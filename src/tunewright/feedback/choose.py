"""Which reviewed feedback becomes training rows, and why the rest does not. Pure.

A target is a correction that a reviewer approved, or the model's own answer where a person praised it *and* a
reviewer approved that. Nothing else ever becomes a target.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from tunewright.feedback.attach import GOOD_RATING
from tunewright.recipe import FlywheelSection
from tunewright.records import Feedback, Trace, TraceText
from tunewright.values import Json

_ASKED_FOR = re.compile("[:@]")
"""Ends the name in `shop:champion` and `shop@2`."""

Turns = tuple[dict[str, str], ...]
"""Turns of a chat, {role, content} each."""

Mask = Callable[[Turns], Turns | str]
"""Masks personal data in a whole row; gives a reason instead where the recipe's rules refuse the row."""


@dataclass(frozen=True, slots=True)
class Before:
    """What there is already when a harvest begins."""

    dataset_rows: int = 0
    """Rows kept in the newest dataset version."""
    feedback: frozenset[str] = frozenset()
    """Harvested earlier."""
    traces: frozenset[str] = frozenset()
    """Traces that gave a row earlier."""
    rows_by_author: Mapping[str, int] = field(default_factory=dict[str, int])
    """Author -> rows harvested earlier."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What a harvest goes by."""

    name: str
    """Recipe, dataset and model share it."""
    policy: FlywheelSection
    mask: Mask
    before: Before = Before()


@dataclass(frozen=True, slots=True)
class Row:
    """One row to train on, masked."""

    turns: Turns
    user: str
    time: datetime
    trace: str
    feedback: str
    author: str
    reviewer: str
    is_own: bool
    """The target is what the model said itself."""
    reviewed: tuple[datetime, str]
    """When the feedback was given, and its id: the order rows are taken in."""

    def to_json(self) -> dict[str, Json]:
        """Write the line of the source file."""
        turns: list[Json] = [{"role": turn["role"], "content": turn["content"]} for turn in self.turns]
        return {
            "messages": turns,
            "user": self.user,
            "time": self.time.isoformat(),
            "trace": self.trace,
            "feedback": self.feedback,
            "author": self.author,
            "source": "trace",
        }


@dataclass(frozen=True, slots=True)
class Chosen:
    """What is harvested, oldest feedback first, and how much is left out, by reason."""

    rows: tuple[Row, ...]
    left_out: Mapping[str, int]


def choose(
    approved: Sequence[Feedback],
    traces: Mapping[str, Trace],
    texts: Mapping[str, TraceText],
    rules: Rules,
) -> Chosen:
    """Choose the rows of a harvest.

    Args:
        approved: feedback; whatever is not approved is left out, so that no caller can slip it in.
        traces: trace id -> trace, as far as they are still kept.
        texts: trace or feedback id -> text, as far as it is still kept.
        rules: caps, masking, and what was harvested before.

    Returns:
        Rows, and counts by: `not_approved`, `not_a_target`, `other_model`, `already_harvested`, `no_consent`,
        `text_expired`, `unfinished_answer`, `older_correction`, `author_cap`, `model_answer_cap`, and the
        reasons of `rules.mask`.
    """
    left_out: Counter[str] = Counter()
    rows: list[Row] = []
    for one in sorted(approved, key=lambda one: (one.at, one.id)):
        found = _row(one, traces.get(one.trace), texts, rules)
        if isinstance(found, str):
            left_out[found] += 1
        else:
            rows.append(found)
    newest = _newest_of_each_trace(rows)
    left_out["older_correction"] += len(rows) - len(newest)
    kept = _capped(newest, rules, left_out)
    return Chosen(tuple(kept), {reason: count for reason, count in sorted(left_out.items()) if count})


def author_limit(policy: FlywheelSection, num_rows: int) -> int:
    """Say how many rows of a dataset one author may have; at least one."""
    return max(1, int(policy.author_cap * num_rows))


def own_limit(policy: FlywheelSection, num_corrections: int) -> int | None:
    """Say how many of the model's own answers may stand beside so many corrections; None for any number."""
    cap = policy.model_answer_cap
    return None if cap >= 1 else int(cap * num_corrections / (1 - cap) + 1e-9)


def _row(one: Feedback, trace: Trace | None, texts: Mapping[str, TraceText], rules: Rules) -> Row | str:
    """Make the row of one feedback, or say why there is none."""
    reason = _refusal(one, rules)
    if reason:
        return reason
    prompt = texts.get(one.trace)
    said = texts.get(one.id) if one.kind == "edit" else prompt
    if trace is None:
        return "text_expired"
    if _name_of(trace) != rules.name:
        return "other_model"
    if one.consent != "train":
        return "no_consent"
    if prompt is None or said is None:
        return "text_expired"
    is_own = one.kind != "edit" or one.edit_distance == 0 or said.text.strip() == prompt.text.strip()
    if is_own and (trace.status != "ok" or trace.finish_reason == "length"):
        return "unfinished_answer"
    masked = rules.mask((*prompt.messages, {"role": "assistant", "content": said.text}))
    if isinstance(masked, str):
        return masked
    return Row(
        turns=masked,
        user=f"u:{trace.unit}",
        time=trace.at,
        trace=trace.id,
        feedback=one.id,
        author=one.author,
        reviewer=one.reviewer or "",
        is_own=is_own,
        reviewed=(one.at, one.id),
    )


def _refusal(one: Feedback, rules: Rules) -> str | None:
    """Say why a feedback alone, whatever was said in its trace, is no target."""
    if one.status != "approved":
        return "not_approved"
    praises = (one.kind == "thumb" and one.value == 1) or (
        one.kind == "rating" and (one.value or 0) >= GOOD_RATING
    )
    if one.kind != "edit" and not praises:
        return "not_a_target"
    if one.id in rules.before.feedback or (one.kind != "edit" and one.trace in rules.before.traces):
        return "already_harvested"
    return None


def _name_of(trace: Trace) -> str | None:
    """Name the model a trace belongs to; where the base answered, the one that was asked for."""
    if trace.shadow_of is not None:
        return None  # nobody saw that answer
    return trace.name or _ASKED_FOR.split(trace.asked)[0]


def _newest_of_each_trace(rows: Sequence[Row]) -> list[Row]:
    """Keep one row a trace: corrections outrank praise, the newest wins."""
    best: dict[str, Row] = {}
    for row in rows:
        known = best.get(row.trace)
        if known is None or (not row.is_own, row.reviewed) > (not known.is_own, known.reviewed):
            best[row.trace] = row
    return sorted(best.values(), key=lambda row: row.reviewed)


def _capped(rows: Sequence[Row], rules: Rules, left_out: Counter[str]) -> list[Row]:
    """Apply both caps until nothing more goes: each row left out makes the shares of the others larger."""
    kept = list(rows)
    while True:
        limit = author_limit(rules.policy, rules.before.dataset_rows + len(kept))
        within = _within_author_cap(kept, limit, rules.before)
        corrections = sum(not row.is_own for row in within)
        fewer = _within_own_cap(within, own_limit(rules.policy, corrections))
        left_out["author_cap"] += len(kept) - len(within)
        left_out["model_answer_cap"] += len(within) - len(fewer)
        if len(fewer) == len(kept):
            return fewer
        kept = fewer


def _within_author_cap(rows: Sequence[Row], limit: int, before: Before) -> list[Row]:
    """Take each author's rows, oldest first, up to the limit; rows harvested earlier count."""
    counts: defaultdict[str, int] = defaultdict(int, before.rows_by_author)
    kept: list[Row] = []
    for row in rows:
        counts[row.author] += 1
        if counts[row.author] <= limit:
            kept.append(row)
    return kept


def _within_own_cap(rows: Sequence[Row], limit: int | None) -> list[Row]:
    own = [row for row in rows if row.is_own]
    if limit is None or len(own) <= limit:
        return list(rows)
    allowed = {row.feedback for row in own[:limit]}
    return [row for row in rows if not row.is_own or row.feedback in allowed]
