"""`tunewright models`: registered model versions."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from tunewright.cli.common import (
    EXIT_NOT_PASSED,
    DataOption,
    JsonOption,
    WorkspaceOption,
    opened,
    print_json,
    print_table,
    say,
)
from tunewright.errors import UsageError

cli = typer.Typer(help="Registered models: explain, verify, point aliases to.", no_args_is_help=True)

ModelArgument = Annotated[
    str, typer.Argument(help="Model, such as support@2 or support.", show_default=False)
]
ReasonOption = Annotated[str, typer.Option("--reason", help="One sentence for the ledger.")]


@cli.command(name="list")
def list_models(workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """List all model versions with their aliases."""
    from tunewright.pipeline.show import model_row

    with opened(workspace) as app:
        found, aliases = app.models.all(), app.models.aliases()
    if as_json:
        print_json(
            [
                {"model": str(m.ref), "aliases": aliases.get(str(m.ref), []), "verdict": m.verdict}
                for m in found
            ]
        )
        return
    columns = ["model", "version", "aliases", "verdict", "dataset", "base", "registered (UTC)"]
    print_table("", columns, [model_row(model, aliases) for model in found])


@cli.command()
def show(model: ModelArgument, workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """Show one model: verdict, digests, signature."""
    with opened(workspace) as app:
        found, aliases = app.models.find(model), app.models.aliases()
    fields = dict(found.to_json())
    if as_json:
        print_json({**fields, "aliases": aliases.get(str(found.ref), [])})
        return
    rows = [[name, str(value)] for name, value in fields.items() if name not in ("probes", "report")]
    print_table("", ["", ""], [*rows, ["aliases", ", ".join(aliases.get(str(found.ref), [])) or "none"]])


@cli.command()
def explain(
    subject: Annotated[str, typer.Argument(help="Model, or a row as FILE:LINE or id.", show_default=False)],
    limit: Annotated[int, typer.Option("--limit", help="Rows to print.", min=1)] = 10,
    workspace: WorkspaceOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Walk a model back to the lines of the raw files, or a row forward to every model."""
    from tunewright.pipeline.show_lineage import model_json, model_text, row_json, row_text

    is_model = "@" in subject or (":" not in subject and not _looks_like_id(subject))
    with opened(workspace, data) as app:
        if is_model:
            found = app.models.explain(subject)
            print_json(model_json(found)) if as_json else say(model_text(found, limit))
            return
        uses = app.models.explain_row(subject)
    print_json(row_json(uses)) if as_json else say(row_text(subject, uses))


def _looks_like_id(text: str) -> bool:
    return len(text) >= 6 and all(char in "0123456789abcdef" for char in text)


@cli.command()
def verify(
    model: Annotated[str | None, typer.Argument(help="Model; default: the whole workspace.")] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Re-hash ledger, records, blobs and signatures; name the first broken link. Exit code 1 if broken."""
    with opened(workspace) as app:
        found = app.models.verify(model)
    if as_json:
        print_json(
            {
                "ok": found.ok,
                "links": found.links,
                "first_broken": found.first_broken,
                "problems": list(found.problems),
                "newest_hash": found.newest_hash,
                "proves": list(found.proves),
            }
        )
    else:
        say(f"{'ok' if found.ok else 'BROKEN'}: {found.links} ledger events looked at")
        say(f"newest hash: {found.newest_hash}")
        for sentence in found.problems or found.proves:
            say(f"  - {sentence}")
    if not found.ok:
        raise typer.Exit(EXIT_NOT_PASSED)


@cli.command(name="as-of")
def as_of(
    time: Annotated[str, typer.Argument(help="ISO 8601; without a zone it is UTC.", show_default=False)],
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say which model every alias pointed to at a time."""
    with opened(workspace) as app:
        states = app.models.as_of(_parse_time(time))
    if as_json:
        print_json([state.to_json() for state in states])
        return
    print_table("", ["name", "alias", "model"], [[s.name, s.alias, str(s.target or "-")] for s in states])


def _parse_time(text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"{text!r} is no time; expected ISO 8601, such as 2026-11-20T14:00+01:00") from error
    return at if at.tzinfo else at.replace(tzinfo=UTC)


@cli.command()
def card(model: ModelArgument, workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """Print the model card (Markdown, as on Hugging Face)."""
    with opened(workspace) as app:
        text = app.models.card(model)
    if as_json:
        print_json({"card": text})
    else:
        print(text)


@cli.command()
def waive(
    evaluation: Annotated[str, typer.Argument(help="Evaluation, such as support@2.", show_default=False)],
    reason: ReasonOption,
    author: Annotated[str | None, typer.Option("--author", help="Your name; default: the user.")] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take responsibility for a verdict that is not pass; the next `run` registers the model."""
    with opened(workspace) as app:
        waiver = app.models.waive(evaluation, reason, author)
    if as_json:
        print_json(waiver.to_json())
    else:
        say(f"Waived {waiver.evaluation} as {waiver.author}. Register it with `tunewright run RECIPE`.")


@cli.command()
def alias(
    name: Annotated[str, typer.Argument(help="Model name, such as support.", show_default=False)],
    alias: Annotated[str, typer.Argument(help="Alias, such as champion.", show_default=False)],
    reason: ReasonOption,
    target: Annotated[str | None, typer.Argument(help="Model version; absent with --back.")] = None,
    back: Annotated[bool, typer.Option("--back", help="Point it to the version before.")] = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Point an alias to a model version (compare-and-swap), or back to the one before."""
    if back == (target is not None):
        raise UsageError("expected either a model version or --back")
    with opened(workspace) as app:
        state = app.models.move_alias(alias, target, name=name, reason=reason)
    if as_json:
        print_json(state.to_json())
    else:
        say(f"{state.name}/{state.alias} now points to {state.target} (revision {state.revision}).")


@cli.command()
def revoke(
    model: ModelArgument, reason: ReasonOption, workspace: WorkspaceOption = None, as_json: JsonOption = False
) -> None:
    """Take a model out of use for good: it is never served or pointed to again. Ends its live rollout."""
    with opened(workspace) as app:
        found = app.models.revoke(model, reason)
    ref, ended = found.model.ref, found.ended
    if as_json:
        rollout = str(ended.rollout) if ended else None
        print_json({"model": str(ref), "aliases": list(found.aliases), "rolled_back": rollout})
        return
    say(f"Revoked {ref}. It is never loaded again.")
    if ended:
        say(f"Rollout {ended.rollout} was rolled back.")
    for alias in found.aliases:
        say(
            f"{ref.name}/{alias} still points to it. Move it: "
            f'tunewright models alias {ref.name} {alias} --back --reason "..."'
        )


@cli.command()
def sweep(workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """Remove stored bytes that no record names and that are older than a day, as a crash leaves them."""
    with opened(workspace) as app:
        found = app.models.sweep()
    if as_json:
        counts = {"young": found.num_young, "referenced": found.num_referenced, "scratch": found.num_scratch}
        print_json({"removed": list(found.removed), **counts})
        return
    say(
        f"Removed {len(found.removed)} orphan blobs and {found.num_scratch} temporary files; "
        f"{found.num_referenced} blobs are in use, {found.num_young} orphans are younger than a day."
    )
