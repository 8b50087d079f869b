"""`tunewright keys`: API keys of the gateway."""

from typing import Annotated, Literal

import typer

from tunewright.cli.common import JsonOption, WorkspaceOption, opened, print_json, print_table, say

cli = typer.Typer(help="API keys of the gateway: list, add, revoke.", no_args_is_help=True)

RoleName = Literal["caller", "viewer", "trainer", "approver", "operator", "admin"]
ConsentName = Literal["none", "review", "train"]


@cli.command(name="list")
def list_keys(workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """List all API keys; secrets are not stored and cannot be shown again."""
    from tunewright.pipeline.show_rollout import key_json, key_row

    with opened(workspace) as app:
        keys = app.keys.all()
    if as_json:
        print_json([key_json(key) for key in keys])
        return
    columns = ["key", "role", "tenant", "consent", "", "made (UTC)", "by"]
    print_table("", columns, [key_row(key) for key in keys])


@cli.command()
def add(
    role: Annotated[RoleName, typer.Option("--role", help="What the key may do; each includes the former.")],
    tenant: Annotated[str, typer.Option("--tenant", help="Whose traces the key sees.")] = "default",
    consent: Annotated[
        ConsentName,
        typer.Option("--consent", help="What the end users agreed to: keep no text, review it, train on it."),
    ] = "none",
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make an API key and print its secret, once."""
    with opened(workspace) as app:
        key = app.keys.add(role, tenant, consent)
    if as_json:
        facts = {"id": key.id, "role": key.role, "tenant": key.tenant, "consent": key.consent}
        print_json({**facts, "secret": key.secret})
        return
    say(f"Key {key.id}: {key.role} of tenant {key.tenant}, consent {key.consent}.")
    say(f"  {key.secret}")
    say("This is the only time the secret is shown. A running gateway knows the key within a second.")


@cli.command()
def revoke(
    key: Annotated[str, typer.Argument(help="Key id, or its beginning.", show_default=False)],
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """End an API key; a running gateway refuses it within a second."""
    from tunewright.pipeline.show_rollout import key_json

    with opened(workspace) as app:
        ended = app.keys.revoke(key)
    print_json(key_json(ended)) if as_json else say(
        f"Revoked key {ended.id} ({ended.role} of {ended.tenant})."
    )
