"""`tunewright runs`: list and show training runs."""

from typing import Annotated

import typer

from tunewright.cli.common import JsonOption, WorkspaceOption, opened, print_json, print_table, say

cli = typer.Typer(help="Training runs.", no_args_is_help=True)


@cli.command(name="list")
def list_runs(workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """List all runs, oldest first."""
    with opened(workspace) as app:
        runs = app.runs()
    if as_json:
        print_json([{"run": str(r.ref), "dataset": str(r.dataset), "candidate": r.candidate} for r in runs])
        return
    rows = [
        [str(r.ref), str(r.dataset), r.base.name, r.method, str(r.best_step), f"{r.wall_s:.0f} s"]
        for r in runs
    ]
    print_table("", ["run", "dataset", "base", "method", "best step", "time"], rows)


@cli.command()
def show(
    run: Annotated[str, typer.Argument(help="Run, such as support@2 or support.", show_default=False)],
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one run: loss curves, settings, proofs."""
    from tunewright.pipeline.show import run_text

    with opened(workspace) as app:
        found = app.find_run(run)
    if as_json:
        print_json(found.to_json())
        return
    say(run_text(found))
    print_table("", ["setting", "value"], [[name, str(value)] for name, value in found.settings.items()])
    print_table("", ["proof", "numbers"], [[c.name, c.detail] for c in found.self_checks])
