"""`tunewright drill`: failures shown and survived, each in a scratch workspace of its own."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunewright.cli.common import (
    EXIT_NOT_PASSED,
    JsonOption,
    WorkspaceOption,
    print_json,
    say,
    shown_progress,
)

if TYPE_CHECKING:
    from tunewright.drills.report import Result
    from tunewright.settings import Settings

cli = typer.Typer(
    help="Drills: leak, rollback, crash. Exit code 1 when one did not show what it must.",
    no_args_is_help=True,
)

ReportOption = Annotated[
    Path | None,
    typer.Option("--report", help="Page to write (default: reports/ in the workspace).", show_default=False),
]


@cli.command()
def leak(report: ReportOption = None, workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """Copy held-out rows into training: the gate must say `void`, and fresh rows show why."""
    from tunewright.drills.leak import run_leak_drill

    settings = _settings(workspace)
    with shown_progress() as progress:
        result = run_leak_drill(settings, progress)
    _tell(result, "leak", report, settings, as_json=as_json)


@cli.command()
def rollback(
    report: ReportOption = None, workspace: WorkspaceOption = None, as_json: JsonOption = False
) -> None:
    """Roll out a bad candidate, waived past the gate, and watch it fall under live traffic."""
    from tunewright.drills.rollback import run_rollback_drill

    settings = _settings(workspace)
    with shown_progress() as progress:
        result = run_rollback_drill(settings, progress)
    _tell(result, "rollback", report, settings, as_json=as_json)


@cli.command()
def crash(
    report: ReportOption = None, workspace: WorkspaceOption = None, as_json: JsonOption = False
) -> None:
    """Kill (SIGKILL) a training, a commit and the engine under load; nothing may be lost."""
    from tunewright.drills.crash import run_crash_drill

    settings = _settings(workspace)
    with shown_progress() as progress:
        result = run_crash_drill(settings, progress)
    _tell(result, "crash", report, settings, as_json=as_json)


def _settings(workspace: Path | None) -> "Settings":
    from tunewright.settings import load_settings

    return load_settings(workspace=workspace)


def _tell(result: "Result", name: str, page: Path | None, settings: "Settings", *, as_json: bool) -> None:
    """Write the page, print the result, and end with code 1 when it is not what it must be."""
    from tunewright.drills.report import drill_text, write_drill_page

    path = write_drill_page(result, page or settings.workspace / "reports" / f"drill-{name}.html")
    if as_json:
        print_json({**result.to_json(), "report": str(path)})
    else:
        say(drill_text(result, path))
    if not result.is_shown:
        raise typer.Exit(EXIT_NOT_PASSED)
