"""`tunewright serve`: answer requests in the OpenAI wire format."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from tunewright.cli.common import JsonOption, WorkspaceOption, opened, say

if TYPE_CHECKING:
    from tunewright.server.serve import Started


def serve(
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; default: this machine only.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="Port; 0 takes a free one.")] = 8080,
    base: Annotated[
        str | None, typer.Option("--base", help="Base to run (default: the champions').", show_default=False)
    ] = None,
    retention_days: Annotated[
        int, typer.Option("--retention-days", help="Days that traces and their text are kept.")
    ] = 30,
    open_metrics: Annotated[
        bool, typer.Option("--open-metrics", help="Give /metrics without a key.")
    ] = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Serve champions and rollouts to OpenAI clients until Ctrl-C; the first start prints API keys."""
    from tunewright.server import serve as server

    options = server.ServeOptions(host, port, base, retention_days, open_metrics)
    with opened(workspace) as app:
        code = server.serve(app, options, on_ready=_print_line if as_json else _print_text)
    if not as_json:
        say("Stopped; every trace is stored.")
    raise typer.Exit(code)


def _print_line(started: "Started") -> None:
    ready: dict[str, object] = {"url": started.url, "port": started.port}
    if started.first_keys:
        ready["keys"] = {key.role: key.secret for key in started.first_keys}
    print(json.dumps(ready), flush=True)


def _print_text(started: "Started") -> None:
    models = [f"{model.id} ({model.model})" if model.model else model.id for model in started.models]
    say(f"Serving at {started.url}/v1; Ctrl-C stops.")
    say(f"Models: {', '.join(models)}")
    if not started.is_loopback:
        say(
            "WARNING: other machines can reach this address, which speaks plain HTTP. TLS and a firewall are "
            "the operator's."
        )
    if started.first_keys:
        say(
            "\nThe first API keys. They are shown this once and not stored; `tunewright keys add` makes more:"
        )
        for key in started.first_keys:
            say(f"  {key.role:<9} {key.secret}")
    else:
        say("API keys: `tunewright keys list` shows which exist; `tunewright keys add` makes one.")
    say(_example(started))


def _example(started: "Started") -> str:
    secret = started.first_keys[0].secret if started.first_keys else "YOUR KEY"
    name = next((model.id for model in started.models if model.model is not None), "base")
    messages = '[{"role": "user", "content": "hello"}]'
    return f"""
Try it:
  from openai import OpenAI
  client = OpenAI(base_url="{started.url}/v1", api_key="{secret}")
  reply = client.chat.completions.create(model="{name}", messages={messages}, max_tokens=32)
  print(reply.choices[0].message.content)
"""
