"""`tunewright traces`: what was served."""

from typing import Annotated

import typer

from tunewright.cli.common import JsonOption, WorkspaceOption, opened, print_json, print_table, say

cli = typer.Typer(help="Traces of answered requests; their text is encrypted.", no_args_is_help=True)


@cli.command(name="list")
def list_traces(
    limit: Annotated[int, typer.Option("--limit", help="Traces to print.", min=1)] = 50,
    tenant: Annotated[str | None, typer.Option("--tenant", help="Only this tenant's.")] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the newest traces, newest first."""
    from tunewright.pipeline.trace_verbs import COLUMNS, trace_row

    with opened(workspace) as app:
        found = app.traces.newest(limit=limit, tenant=tenant)
    if as_json:
        print_json([trace.to_json() for trace in found])
    elif found:
        print_table("", list(COLUMNS), [trace_row(trace) for trace in found])
    else:
        say("No traces yet. `tunewright serve` answers requests and keeps a trace of each.")


@cli.command()
def show(
    trace: Annotated[
        str, typer.Argument(help="Trace id, or the beginning of a recent one.", show_default=False)
    ],
    text: Annotated[
        bool, typer.Option("--text", help="Decrypt what was said; the ledger records that you looked.")
    ] = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one trace, the feedback on it and the decisions on that."""
    from tunewright.pipeline.trace_verbs import shown_json, shown_text

    with opened(workspace) as app:
        shown = app.traces.show(trace, with_text=text)
    if as_json:
        print_json(shown_json(shown, with_text=text))
    else:
        say(shown_text(shown, with_text=text))


@cli.command()
def expire(workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """Remove texts and traces whose time is over; a running server does so by itself."""
    with opened(workspace) as app:
        removed = app.traces.expire()
    if as_json:
        print_json({"texts_removed": removed})
    else:
        say(f"Texts removed: {removed}. No text and no trace whose time is over is left.")
