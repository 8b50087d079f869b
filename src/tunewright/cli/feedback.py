"""`tunewright feedback`: what users said of answers, and the review of it; and `tunewright harvest`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tunewright.cli.common import (
    EXIT_NOT_PASSED,
    JsonOption,
    RecipeArgument,
    WorkspaceOption,
    opened,
    print_json,
    print_table,
    say,
)

if TYPE_CHECKING:
    from tunewright.records import Feedback

cli = typer.Typer(help="Feedback on answers: review, import, export.", no_args_is_help=True)

Status = Literal["pending", "approved", "rejected", "superseded", "all"]
Kind = Literal["thumb", "rating", "edit", "escalation", "harm", "comment"]

IdsArgument = Annotated[
    list[str], typer.Argument(help="Feedback ids, or the beginning of them.", show_default=False)
]
TextOption = Annotated[
    bool, typer.Option("--text", help="Decrypt what was said; the ledger records that you looked.")
]
NoteOption = Annotated[str, typer.Option("--note", help="Why you decide so.")]
ReviewerOption = Annotated[
    str | None, typer.Option("--reviewer", help="Your name (default: the user, or TUNEWRIGHT_ACTOR).")
]
MAX_BAD_SHOWN = 20


@cli.command(name="list")
def list_feedback(
    status: Annotated[Status, typer.Option("--status", help="Which.")] = "pending",
    kind: Annotated[Kind | None, typer.Option("--kind", help="Only of this kind.")] = None,
    rollout: Annotated[
        str | None, typer.Option("--rollout", help="Only of this one, such as shop@2.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", help="Most to print.", min=1)] = 50,
    text: TextOption = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """List feedback; what is pending comes in the order of review, with a uniform sample mixed in."""
    from tunewright.pipeline.show_feedback import COLUMNS, shown_block, shown_json, shown_row

    with opened(workspace) as app:
        shown = app.feedback.list(
            status=None if status == "all" else status,
            kind=kind,
            rollout=rollout,
            limit=limit,
            with_text=text,
        )
    if as_json:
        print_json([shown_json(one, with_text=text) for one in shown])
    elif not shown:
        say("No such feedback." if status == "all" else f"No {status} feedback; --status all lists the rest.")
    elif text:
        say("\n\n".join(map(shown_block, shown)))
    else:
        print_table("", list(COLUMNS), [shown_row(one) for one in shown])


@cli.command()
def show(
    feedback: Annotated[str, typer.Argument(help="Id, or the beginning of it.", show_default=False)],
    text: TextOption = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one feedback: what it says, who decided on it, and which dataset versions hold it."""
    from tunewright.pipeline.show_feedback import shown_json, shown_text, uses_json

    with opened(workspace) as app:
        shown = app.feedback.show(feedback, with_text=text)
        uses = app.feedback.uses(shown.feedback.id)
    if as_json:
        print_json({**shown_json(shown, with_text=text), "uses": uses_json(uses)})
    else:
        say(shown_text(shown, uses, with_text=text))


@cli.command()
def approve(
    ids: IdsArgument,
    note: NoteOption = "",
    reviewer: ReviewerOption = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Approve feedback: the next harvest may turn it into training rows."""
    with opened(workspace) as app:
        _say_decided(app.feedback.approve(ids, note=note, reviewer=reviewer), as_json)


@cli.command()
def reject(
    ids: IdsArgument,
    note: NoteOption = "",
    reviewer: ReviewerOption = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Reject feedback: it is never harvested, and still counts as what a user said."""
    with opened(workspace) as app:
        _say_decided(app.feedback.reject(ids, note=note, reviewer=reviewer), as_json)


@cli.command(name="import")
def import_feedback(
    file: Annotated[Path, typer.Argument(help="JSONL or CSV: trace, kind, value, text, author.")],
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Import feedback that was collected elsewhere. Exit code 1 when rows were left out."""
    with opened(workspace) as app:
        done = app.feedback.import_(file)
    if as_json:
        bad = [{"line": one.line, "reason": one.reason} for one in done.bad]
        print_json({"added": done.added, "known": done.known, "bad": bad})
    else:
        say(f"{done.added:,} imported, {done.known:,} known already, {len(done.bad):,} left out.")
        for one in done.bad[:MAX_BAD_SHOWN]:
            say(f"  {file}:{one.line}: {one.reason}")
        if len(done.bad) > MAX_BAD_SHOWN:
            say(f"  ... {len(done.bad) - MAX_BAD_SHOWN:,} more; --json lists them")
    if done.bad:
        raise typer.Exit(EXIT_NOT_PASSED)


@cli.command()
def export(
    file: Annotated[Path, typer.Argument(help="File to write; .jsonl or .csv.", show_default=False)],
    form: Annotated[
        Literal["jsonl", "csv"] | None, typer.Option("--format", help="Default: by the file's name.")
    ] = None,
    status: Annotated[Status, typer.Option("--status", help="Which.")] = "all",
    text: TextOption = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Export feedback to a file, whole or not at all."""
    with opened(workspace) as app:
        rows = app.feedback.export(file, form, status=None if status == "all" else status, with_text=text)
    if as_json:
        print_json({"file": str(file), "rows": rows})
    else:
        say(f"Wrote {rows:,} rows to {file}.")


def harvest(recipe: RecipeArgument, workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """Turn approved corrections into a source of the recipe's next dataset version."""
    from tunewright.pipeline.show_feedback import harvest_text, nothing_text

    with opened(workspace) as app:
        made = app.feedback.harvest(recipe)
        path = app.feedback.file_of(made) if made else None
        left_out = made.left_out if made else app.feedback.left_out(recipe)
    if as_json:
        fields = made.to_json() if made else {"ref": None, "rows": 0}
        print_json({**fields, "left_out": dict(left_out), "file": str(path) if path else None})
    elif made and path:
        say(harvest_text(made, path, recipe))
    else:
        say(nothing_text(left_out))


def _say_decided(found: Sequence["Feedback"], as_json: bool) -> None:
    if as_json:
        print_json([one.to_json() for one in found])
        return
    for one in found:
        say(f"{one.status.capitalize()} {one.id} ({one.kind}), reviewer {one.reviewer}.")
    if any(one.status == "approved" for one in found):
        say("Next: tunewright harvest RECIPE")
