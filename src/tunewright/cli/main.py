"""`tunewright`: the command line. Parses, calls the app, prints; every command takes --json.

Exit codes: 0 done, 1 the gate said something else than pass (or findings), 2 an error, 130 interrupted,
143 told to end (SIGTERM).
"""

import json
import logging
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from tunewright import __version__
from tunewright.cli import data, drill, feedback, keys, models, rollout, runs, serve, traces
from tunewright.cli.common import (
    EXIT_ERROR,
    EXIT_NOT_PASSED,
    DataOption,
    JsonOption,
    RecipeArgument,
    WorkspaceOption,
    opened,
    print_json,
    print_table,
    say,
    shown_progress,
)
from tunewright.errors import TrainingInterrupted, TunewrightError

EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143

cli = typer.Typer(
    name="tunewright",
    help="A governed model factory: curate, train, gate, register. Start with `tunewright init FILE`.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
cli.add_typer(data.cli, name="data")
cli.add_typer(feedback.cli, name="feedback")
cli.add_typer(runs.cli, name="runs")
cli.add_typer(models.cli, name="models")
cli.add_typer(rollout.cli, name="rollout")
cli.add_typer(keys.cli, name="keys")
cli.add_typer(traces.cli, name="traces")
cli.add_typer(drill.cli, name="drill")

cli.command(name="harvest")(feedback.harvest)
cli.command(name="serve")(serve.serve)


def main() -> None:
    """Run the command line; the one place where errors become a line and an exit code."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    signal.signal(signal.SIGTERM, _end_in_order)
    try:
        cli()
    except TrainingInterrupted as error:
        _report(error)
        sys.exit(EXIT_INTERRUPTED)
    except TunewrightError as error:
        _report(error)
        sys.exit(EXIT_ERROR)
    except SystemExit as ending:
        if ending.code in (EXIT_INTERRUPTED, EXIT_TERMINATED):  # typer turns Ctrl-C into the first
            print("interrupted; the same command goes on where it stopped", file=sys.stderr)
        if (
            ending.code == EXIT_ERROR and "--json" in sys.argv
        ):  # typer has said on standard error what is wrong
            _print_error("UsageError", "the command line is not understood; standard error says why")
        raise
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output is gone; say nothing more
        sys.exit(EXIT_ERROR)


def _end_in_order(number: int, frame: FrameType | None) -> None:
    """End on SIGTERM as on Ctrl-C: through every `finally`, so that no process or scratch folder stays."""
    raise SystemExit(EXIT_TERMINATED)


def _report(error: TunewrightError) -> None:
    if "--json" in sys.argv:
        _print_error(type(error).__name__, str(error))
    print(f"{type(error).__name__}: {error}", file=sys.stderr)


def _print_error(kind: str, message: str) -> None:
    print(json.dumps({"error": {"type": kind, "message": message}}))


@cli.callback(invoke_without_command=True)
def options(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
) -> None:
    """Options before the command."""
    if version:
        print(__version__)
        raise typer.Exit


@cli.command()
def init(
    file: Annotated[Path, typer.Argument(help="Data file: JSONL, CSV or Parquet.", show_default=False)],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Recipe to write.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing recipe.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Draft a recipe from a data file: format, fields, scorers, with the reasons beside each choice."""
    from tunewright.pipeline.init import write_draft

    path = write_draft(file, output, force=force)
    if as_json:
        print_json({"recipe": str(path)})
    else:
        say(f"Wrote {path}. Read it, then: tunewright plan {path}; tunewright run {path}")


@cli.command()
def run(
    recipe: RecipeArgument,
    wait: Annotated[bool, typer.Option("--wait", help="Follow the rollout until it is decided.")] = False,
    workspace: WorkspaceOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Do everything: curate, train, evaluate, register, start the rollout; re-use what is made.

    Exit code 1 when the verdict is not pass; with --wait, also when the rollout was not promoted.
    """
    from tunewright.pipeline.show import outcome_json, outcome_text

    with opened(workspace, data) as app:
        outcome, report = app.run(recipe)
        outcome = app.follow(outcome) if wait else outcome
    if as_json:
        print_json(outcome_json(outcome))
    else:
        say(outcome_text(outcome, report))
    is_stopped = wait and outcome.rollout_state is not None and outcome.rollout_state.phase != "promoted"
    if outcome.report is None or outcome.report.verdict != "pass" or is_stopped:
        raise typer.Exit(EXIT_NOT_PASSED)


@cli.command()
def train(
    recipe: RecipeArgument,
    workspace: WorkspaceOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Curate and train; the candidate is not judged yet."""
    from tunewright.pipeline.show import run_text

    with opened(workspace, data) as app:
        outcome, _ = app.run(recipe, until="train")
    assert outcome.run is not None
    if as_json:
        print_json({"dataset": str(outcome.dataset.ref), "run": str(outcome.run.ref)})
    else:
        say(run_text(outcome.run))


@cli.command()
def evaluate(
    recipe: RecipeArgument,
    workspace: WorkspaceOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Curate, train and judge; register nothing. Exit code 1 when the verdict is not pass."""
    from tunewright.pipeline.show import outcome_json, verdict_text

    with opened(workspace, data) as app:
        outcome, _ = app.run(recipe, until="evaluate")
    assert outcome.report is not None
    if as_json:
        print_json(outcome_json(outcome))
    else:
        say(verdict_text(outcome.report))
    if outcome.report.verdict != "pass":
        raise typer.Exit(EXIT_NOT_PASSED)


@cli.command()
def register(
    evaluation: Annotated[str, typer.Argument(help="Evaluation, such as support@2.", show_default=False)],
    recipe: RecipeArgument,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Register the candidate of an evaluation that passed, or that somebody waived."""
    with opened(workspace) as app:
        model = app.models.register(evaluation, recipe)
    if as_json:
        print_json({"model": str(model.ref)})
    else:
        say(f"Registered {model.ref} ({model.semantic_version}).")


@cli.command()
def plan(
    recipe: RecipeArgument,
    workspace: WorkspaceOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say before anything runs: rows, tokens, steps, memory, time, and the held-out rows the margins need."""
    with opened(workspace, data) as app:
        found = app.plan(recipe)
    if as_json:
        print_json(found.to_json())
    else:
        say(found.to_text())


@cli.command()
def advise(
    recipe: RecipeArgument,
    workspace: WorkspaceOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say whether fine-tuning is the right tool, from the data and a measured few-shot prompt."""
    with opened(workspace, data) as app:
        advice = app.advise(recipe)
    if as_json:
        print_json(advice.to_json())
    else:
        say(advice.to_text())


@cli.command(name="try")
def try_model(
    model: Annotated[str, typer.Argument(help="Model, such as support@2 or support.", show_default=False)],
    prompts: Annotated[list[str] | None, typer.Argument(help="Prompts; default: validation rows.")] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show base and tuned answers side by side."""
    with opened(workspace) as app:
        rows = app.try_model(model, prompts or [])
    if as_json:
        print_json([{"prompt": r.prompt, "base": r.base.text, "tuned": r.tuned.text} for r in rows])
        return
    print_table("", ["prompt", "base", "tuned"], [[r.prompt, r.base.text, r.tuned.text] for r in rows])


@cli.command()
def doctor(workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """Check this machine: packages, memory, disk, keys, the shipped base. Exit code 1 on findings."""
    with opened(workspace) as app:
        findings = app.doctor()
    if as_json:
        print_json([{"name": f.name, "ok": f.ok, "detail": f.detail} for f in findings])
    else:
        print_table("", ["", "what", "found"], [["ok" if f.ok else "!!", f.name, f.detail] for f in findings])
    if not all(finding.ok for finding in findings):
        raise typer.Exit(EXIT_NOT_PASSED)


@cli.command()
def demo(
    folder: Annotated[Path, typer.Option("--folder", help="Where the report goes.")] = Path("demo-report"),
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Forget the demo's workspace and start again.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Run the whole loop on the shipped tiny base and a generated shop; nothing is downloaded."""
    from tunewright.demo.run import run_demo

    with shown_progress() as progress:
        summary = run_demo(folder, progress, fresh=fresh)
    if as_json:
        print_json(summary.values)
    else:
        say(summary.text)


if __name__ == "__main__":
    main()
