"""The real gateway in front of a canned engine that runs already: real runtime, keys and trace store.

    python benchmarks/canned_gateway.py --workspace DIR --keys DIR --engine-port N

Only `ports.engines` is replaced. When it is ready it prints one JSON line: url, port and the first keys.
With --profile FILE it writes what the process spent its time on when it ends.
"""

import argparse
import cProfile
import json
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from canned_engine import TOKEN
from tunewright.app import App
from tunewright.backends.engine.client import EngineClient
from tunewright.cli.progress import PlainProgress
from tunewright.ports import Ports
from tunewright.server.serve import ServeOptions, Started, serve
from tunewright.settings import load_settings


class CannedEngines:
    """Implements ports.Engines with an engine that somebody else has started."""

    def __init__(self, port: int) -> None:
        self._port = port

    @contextmanager
    def start(self, base: Path) -> Generator[EngineClient]:
        """Connect; the base does not matter to canned answers."""
        with EngineClient(f"http://127.0.0.1:{self._port}", TOKEN) as client:
            yield client


class CannedApp(App):
    """A workspace whose engine is canned."""

    engine_port = 0

    @cached_property
    def ports(self) -> Ports:
        """The real backends, but for the engine."""
        return replace(App(self.settings, PlainProgress()).ports, engines=CannedEngines(self.engine_port))


def _print_ready(started: Started) -> None:
    keys = {key.role: key.secret for key in started.first_keys}
    print(json.dumps({"url": started.url, "port": started.port, "keys": keys}), flush=True)


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--keys", type=Path, required=True, help="folder of private keys")
    parser.add_argument("--engine-port", type=int, required=True)
    parser.add_argument("--profile", type=Path, help="write cProfile's figures here")
    options = parser.parse_args()
    settings = load_settings({"TUNEWRIGHT_CONFIG": str(options.keys)}, workspace=options.workspace)
    app = CannedApp(settings, PlainProgress())
    app.engine_port = options.engine_port
    with app:
        if options.profile is None:
            sys.exit(serve(app, ServeOptions(port=0, base="tiny"), on_ready=_print_ready))
        profile = cProfile.Profile(time.thread_time)  # not what other processes took
        profile.runcall(serve, app, ServeOptions(port=0, base="tiny"), on_ready=_print_ready)
        profile.dump_stats(options.profile)


if __name__ == "__main__":
    main()
