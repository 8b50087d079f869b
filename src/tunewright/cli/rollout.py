"""`tunewright rollout`: which candidate takes over from which champion, and how far that is."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunewright.cli.common import JsonOption, WorkspaceOption, opened, print_json, print_table, say

if TYPE_CHECKING:
    from tunewright.records import RolloutState

cli = typer.Typer(
    help="Rollouts: a candidate takes over from the champion by evidence, or falls.", no_args_is_help=True
)

NameArgument = Annotated[str, typer.Argument(help="Model name, such as support.", show_default=False)]
ReasonOption = Annotated[str, typer.Option("--reason", help="One sentence for the ledger.")]


@cli.command()
def start(
    model: Annotated[str, typer.Argument(help="Candidate, such as support@2.", show_default=False)],
    recipe: Annotated[
        Path | None,
        typer.Option("--recipe", help="Recipe whose `deploy` section rules; else the last rollout's."),
    ] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Start a rollout in shadow; a running `tunewright serve` moves it on."""
    from tunewright.pipeline.rollout_start import what_next
    from tunewright.pipeline.show_rollout import rollout_json

    with opened(workspace) as app:
        rollout, state = app.rollouts.start(model, recipe)
    print_json(rollout_json(rollout, state)) if as_json else say(what_next(rollout, state))


@cli.command()
def status(
    name: Annotated[str | None, typer.Argument(help="Name, or rollout such as support@2.")] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say where a rollout stands, what is known, what is missing, and how many users that needs."""
    from tunewright.pipeline.show_rollout import status_json_of, status_text

    with opened(workspace) as app:
        found = app.rollouts.status(name)
    print_json(status_json_of(found)) if as_json else say(status_text(found))


@cli.command()
def promote(
    name: NameArgument, reason: ReasonOption, workspace: WorkspaceOption = None, as_json: JsonOption = False
) -> None:
    """Make the candidate champion now, whatever the evidence says; your reason goes to the ledger."""
    with opened(workspace) as app:
        state = app.rollouts.promote(name, reason)
    _show(state, as_json=as_json)


@cli.command()
def rollback(
    name: NameArgument, reason: ReasonOption, workspace: WorkspaceOption = None, as_json: JsonOption = False
) -> None:
    """Take the candidate's traffic away now; after a promotion the former champion is champion again."""
    with opened(workspace) as app:
        state = app.rollouts.roll_back(name, reason)
    _show(state, as_json=as_json)


@cli.command()
def hold(
    name: NameArgument, reason: ReasonOption, workspace: WorkspaceOption = None, as_json: JsonOption = False
) -> None:
    """Keep the candidate's share as it is; after `hold_s` without a word it is rolled back."""
    with opened(workspace) as app:
        state = app.rollouts.hold(name, reason)
    _show(state, as_json=as_json)


@cli.command()
def resume(
    name: NameArgument, reason: ReasonOption, workspace: WorkspaceOption = None, as_json: JsonOption = False
) -> None:
    """Let a held rollout go on where it stood."""
    with opened(workspace) as app:
        state = app.rollouts.resume(name, reason)
    _show(state, as_json=as_json)


@cli.command(name="list")
def list_rollouts(workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """List all rollouts, oldest first, with where they stand or ended."""
    from tunewright.pipeline.show_rollout import rollout_json, rollout_row

    with opened(workspace) as app:
        found = app.rollouts.all()
    if as_json:
        print_json([rollout_json(rollout, state) for rollout, state in found])
        return
    columns = ["rollout", "candidate", "against", "phase", "share", "started (UTC)", "why"]
    print_table("", columns, [rollout_row(rollout, state) for rollout, state in found])


def _show(state: "RolloutState", *, as_json: bool) -> None:
    from tunewright.pipeline.rollout_follow import describe

    print_json(state.to_json()) if as_json else say(describe(state))
