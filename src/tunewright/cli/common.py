"""What every command shares: options, opening the app, JSON output, and errors as one clear line."""

import json
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tunewright.cli.progress import BarProgress, PlainProgress

if TYPE_CHECKING:
    from tunewright.app import App

WorkspaceOption = Annotated[
    Path | None,
    typer.Option("--workspace", "-w", help="Workspace (default: TUNEWRIGHT_HOME, else ./.tunewright)."),
]
DataOption = Annotated[
    Path | None,
    typer.Option("--data", help="Folder that source paths are relative to (default: the recipe's folder)."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON value on standard output.")]
RecipeArgument = Annotated[Path, typer.Argument(help="Recipe file (YAML).", show_default=False)]

EXIT_NOT_PASSED, EXIT_ERROR = 1, 2

stdout = Console(soft_wrap=False)


@contextmanager
def opened(workspace: Path | None, data: Path | None = None) -> "Generator[App]":
    """Open the app for the duration of a command; bars only where a person watches."""
    from tunewright.app import open_app  # heavy; --help must not pay for it
    from tunewright.settings import load_settings

    settings = load_settings(workspace=workspace, data=data)
    with shown_progress() as progress, open_app(settings, progress) as app:
        yield app


@contextmanager
def shown_progress() -> Generator[BarProgress | PlainProgress]:
    """Show bars where a person watches, lines elsewhere."""
    if sys.stderr.isatty():
        with BarProgress() as progress:
            yield progress
    else:
        yield PlainProgress()


def print_json(value: object) -> None:
    """Print one JSON value, keys sorted as given, and nothing else on standard output."""
    print(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False, default=str))


def print_table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """Print a plain table; cells are taken word for word."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    stdout.print(table)


def say(text: str) -> None:
    """Print text for a person on standard output, word for word."""
    stdout.print(text, markup=False, highlight=False, soft_wrap=True)
