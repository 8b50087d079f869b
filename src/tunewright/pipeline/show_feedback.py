"""Feedback, reviews and harvests in words and as JSON. Pure; what users wrote cannot steer a terminal."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from tunewright.pipeline.feedback_verbs import Shown, Used
from tunewright.pipeline.trace_verbs import printable
from tunewright.records import Feedback, Harvest
from tunewright.values import Json

SHOWN_CHARS = 160
"""Characters of a text in a table."""
ID_CHARS = 15
"""Of an id in a table; its beginning is enough to name it."""

REASONS: Mapping[str, str] = {
    "not_a_target": "says what was wrong but not what is right (only edits, thumbs up and ratings of 4 and 5 "
    "hold an answer)",
    "other_model": "is about another model",
    "already_harvested": "was harvested before",
    "no_consent": "has no consent to train",
    "text_expired": "its text was not kept, or its time is over",
    "unfinished_answer": "praises an answer that was cut off",
    "older_correction": "was followed by a newer correction of the same answer",
    "author_cap": "would give one author too large a share (flywheel.author_cap)",
    "model_answer_cap": "would make the model's own answers too large a share (flywheel.model_answer_cap)",
    "secret": "holds a secret",
    "personal_data": "holds personal data, and the recipe drops such rows",
}


COLUMNS = ("feedback", "at (UTC)", "kind", "value", "model", "consent", "status")


def shown_row(shown: Shown) -> list[str]:
    """Say one feedback in one line of a table; see COLUMNS."""
    one = shown.feedback
    return [
        one.id[:ID_CHARS],
        f"{one.at:%Y-%m-%d %H:%M}",
        one.kind + (" (sample)" if shown.is_sample else ""),
        _value(one),
        _model(shown),
        one.consent,
        one.status,
    ]


def shown_block(shown: Shown) -> str:
    """Say one feedback in a line, and what was said, shortened, below it."""
    texts = {"prompt": _prompt(shown), "answer": _answer(shown), "said": _said(shown)}
    lines = [f"    {name:7} {_shortened(text)}" for name, text in texts.items() if text]
    return "\n".join(["  ".join(cell for cell in shown_row(shown) if cell), *lines])


def shown_json(shown: Shown, *, with_text: bool) -> dict[str, Json]:
    """Give one feedback; prompt, answer and text only where they were asked for."""
    made: dict[str, Json] = {
        **shown.feedback.to_json(),
        "model": _model(shown),
        "is_sample": shown.is_sample,
    }
    if with_text:
        made |= {
            "prompt": [dict(turn) for turn in shown.said.messages] if shown.said else None,
            "answer": shown.said.text if shown.said else None,
            "text": shown.text.text if shown.text else None,
        }
    return made


def shown_text(shown: Shown, uses: Sequence[Used], *, with_text: bool) -> str:
    """Tell one feedback line by line, and where it went."""
    one = shown.feedback
    lines = [
        f"{one.id}: {one.kind} {_value(one)}".rstrip(),
        f"  {one.at:%Y-%m-%d %H:%M:%S} UTC on {one.trace}",
    ]
    lines.append(
        f"  answer by {_model(shown)}; author {one.author[:12]}; consent {one.consent}; {one.source}"
    )
    if one.edit_distance is not None:
        lines.append(f"  {one.edit_distance:.0%} of the text was changed")
    lines.append(f"  {_reviewed(one)}")
    if with_text:
        texts = {"prompt": _prompt(shown), "answer": _answer(shown), "said": _said(shown)}
        lines += [f"  {name}: {printable(text)}" for name, text in texts.items()]
    for use in uses:
        lines.append(f"  harvested in {use.harvest}: {use.place}")
        lines += [f"    {dataset}: {sentence}" for dataset, sentence in use.fates]
        if not use.fates:
            lines.append("    in no dataset version yet; `tunewright data build RECIPE` makes the next one")
    return "\n".join(lines)


def uses_json(uses: Sequence[Used]) -> list[Json]:
    """Give where a feedback went."""
    return [
        {
            "harvest": str(use.harvest),
            "place": use.place,
            "datasets": [{"dataset": str(ref), "sentence": sentence} for ref, sentence in use.fates],
        }
        for use in uses
    ]


def harvest_text(made: Harvest, path: Path, recipe: Path) -> str:
    """Tell what was harvested, what was not, and what to do next."""
    by = ", ".join(f"{name} {rows:,}" for name, rows in made.reviewers.items())
    return "\n".join(
        [
            f"Harvested {made.ref}: {made.rows:,} {'row' if made.rows == 1 else 'rows'} (approved by {by})",
            f"  file {path}",
            *_left_out(made.left_out),
            f"Next: tunewright data build {recipe}",
        ]
    )


def nothing_text(left_out: Mapping[str, int]) -> str:
    """Tell why there was nothing to harvest."""
    if not left_out:
        return (
            "Nothing to harvest: no feedback is approved yet. `tunewright feedback list --text` shows what "
            "waits, `tunewright feedback approve ID` approves it."
        )
    return "\n".join(["Nothing new to harvest.", *_left_out(left_out)])


def _left_out(counts: Mapping[str, int]) -> list[str]:
    return [
        f"  left out: {count:,} {reason} ({REASONS[reason]})"
        if reason in REASONS
        else f"  left out: {count:,} {reason}"
        for reason, count in counts.items()
    ]


def _value(one: Feedback) -> str:
    if one.kind == "thumb":
        return "up" if one.value == 1 else "down"
    return "" if one.value is None else f"{one.value:g}"


def _model(shown: Shown) -> str:
    if shown.trace is None:
        return "-"
    return str(shown.trace.model or shown.trace.digest)


def _reviewed(one: Feedback) -> str:
    if one.reviewed_at is None:
        return one.status
    note = f": {printable(one.note)}" if one.note else ""
    return f"{one.status} by {printable(one.reviewer or '-')} at {one.reviewed_at:%Y-%m-%d %H:%M} UTC{note}"


def _prompt(shown: Shown) -> str:
    turns = shown.said.messages if shown.said else ()
    if len(turns) == 1:
        return turns[0].get("content", "")
    return "\n".join(f"{turn.get('role', '')}: {turn.get('content', '')}" for turn in turns)


def _answer(shown: Shown) -> str:
    return shown.said.text if shown.said else "(not kept)"


def _said(shown: Shown) -> str:
    return shown.text.text if shown.text else ""


def _shortened(text: str) -> str:
    plain = printable(" ".join(text.split()))
    return plain if len(plain) <= SHOWN_CHARS else plain[: SHOWN_CHARS - 3] + "..."
