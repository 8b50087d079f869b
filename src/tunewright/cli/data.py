"""`tunewright data`: dataset versions."""

from collections import Counter
from collections.abc import Mapping
from typing import Annotated

import typer

from tunewright.cli.common import (
    EXIT_NOT_PASSED,
    DataOption,
    JsonOption,
    RecipeArgument,
    WorkspaceOption,
    opened,
    print_json,
    print_table,
    say,
)

cli = typer.Typer(help="Dataset versions: build, look into, explain.", no_args_is_help=True)

DatasetArgument = Annotated[
    str, typer.Argument(help="Dataset, such as support@2, or support.", show_default=False)
]


@cli.command()
def build(
    recipe: RecipeArgument,
    workspace: WorkspaceOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Curate the recipe's sources into a dataset version with a sealed held-out set."""
    from tunewright.pipeline.show import dataset_text

    with opened(workspace, data) as app:
        outcome, report = app.run(recipe, until="curate")
    if as_json:
        print_json(outcome.dataset.to_json())
    else:
        say(f"{dataset_text(outcome.dataset)}\nReport: {report}")


@cli.command(name="list")
def list_datasets(workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """List all dataset versions, oldest first."""
    with opened(workspace) as app:
        found = app.data.all()
    if as_json:
        print_json([{"dataset": str(d.ref), "digest": d.digest, "rows_kept": d.rows_kept} for d in found])
        return
    rows = [[str(d.ref), f"{d.rows_in:,}", f"{d.rows_kept:,}", d.digest[:12]] for d in found]
    print_table("", ["dataset", "rows in", "kept", "digest"], rows)


@cli.command()
def show(dataset: DatasetArgument, workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """Show the counts of one dataset version."""
    from tunewright.pipeline.show import dataset_text

    with opened(workspace) as app:
        found = app.data.find(dataset)
    if as_json:
        print_json(found.to_json())
        return
    say(dataset_text(found))
    for source in found.sources:
        say(f"  {source.path} ({source.digest[:12]}): {source.rows_kept:,} of {source.rows_in:,} rows kept")
    say(f"  digest {found.digest}")


@cli.command()
def why(
    row: Annotated[str, typer.Argument(help="FILE:LINE, or the start of a row's id.", show_default=False)],
    dataset: Annotated[
        str | None, typer.Option("--dataset", help="Default: the latest of each name.")
    ] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what became of a row: kept and on which side, or removed by which step and why."""
    with opened(workspace) as app:
        answers = app.data.why(row, dataset)
    if as_json:
        print_json(
            [
                {"dataset": str(d.ref), "place": a.place, "row": a.row, "outcome": a.outcome}
                | {"sentence": a.sentence, "detail": dict(a.detail)}
                for d, a in answers
            ]
        )
    for version, answer in () if as_json else answers:
        say(f"{version.ref}: {answer.sentence}")
    if all(answer.outcome == "unknown" for _, answer in answers):
        raise typer.Exit(EXIT_NOT_PASSED)


@cli.command()
def rejects(
    dataset: DatasetArgument,
    reason: Annotated[str | None, typer.Option("--reason", help="Only rows removed for this reason.")] = None,
    limit: Annotated[int, typer.Option("--limit", help="Rows to print.", min=1)] = 50,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """List removed rows with step, reason and evidence."""
    with opened(workspace) as app:
        found = app.data.rejects(dataset)
    shown = [one for one in found if reason is None or one.reason == reason]
    if as_json:
        print_json([one.to_json() for one in shown])
        return
    rows = [
        [f"{one.source.path}:{one.source.line}", one.step, one.reason, _facts(one.evidence)]
        for one in shown[:limit]
    ]
    print_table("", ["row", "step", "reason", "evidence"], rows)
    counts = Counter(one.reason for one in found)
    say(f"{len(shown):,} of {len(found):,} removed rows match; " + _counted(counts))


def _facts(evidence: Mapping[str, object]) -> str:
    return ", ".join(f"{key} {str(value)[:16]}" for key, value in evidence.items())


def _counted(counts: Counter[str]) -> str:
    return "by reason: " + (", ".join(f"{name} {n:,}" for name, n in counts.most_common()) or "none")


@cli.command()
def tokens(
    dataset: DatasetArgument,
    base: Annotated[str, typer.Option("--base", help="Base whose tokenizer and template are used.")] = "tiny",
    count: Annotated[int, typer.Option("--rows", help="Training rows to print.", min=1)] = 3,
    max_tokens: Annotated[int, typer.Option("--max-tokens", min=8)] = 512,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print the first training rows as the trainer sees them: ids, and which tokens are supervised."""
    with opened(workspace) as app:
        rows = app.data.tokens(dataset, base=base, count=count, max_tokens=max_tokens)
    if as_json:
        print_json(
            [
                {
                    "row": row.row,
                    "ids": [i for i, _, _ in row.tokens],
                    "mask": [int(m) for _, _, m in row.tokens],
                }
                for row in rows
            ]
        )
        return
    for row in rows:
        supervised = sum(mask for _, _, mask in row.tokens)
        say(f"row {row.row[:12]}: {len(row.tokens)} tokens, {supervised} supervised (marked with *)")
        say(" ".join(f"{id_}{'*' if mask else ''}:{text!r}" for id_, text, mask in row.tokens) + "\n")


@cli.command()
def card(dataset: DatasetArgument, workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """Print the dataset card (Markdown)."""
    with opened(workspace) as app:
        text = app.data.card(dataset)
    if as_json:
        print_json({"card": text})
    else:
        print(text)
