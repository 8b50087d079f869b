"""The gateway measured: what it adds to an answer, how fast an alias flips, and whether it lasts.

    python benchmarks/gateway.py overhead [--rate 300] [--seconds 4] [--rounds 4] [--json]
    python benchmarks/gateway.py flip --workspace demo-report/workspace --keys demo-report/keys [--json]
    python benchmarks/gateway.py soak [--requests 100000] [--json]

`overhead` and `soak` run the real gateway (runtime, keys, trace store) in a process of its own in front of an
engine with canned answers; `flip` runs the real engine on a copy of a workspace with two versions of a model.
Exit code 1 when a target is missed.
"""

import argparse
import json
import sys
from pathlib import Path

from gateway_flip import Flips, measure_flips
from gateway_overhead import Load, measure_overhead
from gateway_soak import measure_soak


def main() -> None:
    """Measure and print."""
    options = _options()
    if options.what == "overhead":
        load = Load(options.rate, options.seconds, options.rounds)
        measured = measure_overhead(load, options.profile)
    elif options.what == "flip":
        flips = Flips(options.flips, options.polled_flips, options.rollbacks)
        measured = measure_flips(options.workspace, options.keys, flips)
    else:
        measured = measure_soak(options.requests, options.concurrency)
    print(json.dumps(measured.to_json(), indent=1) if options.json else measured.text())
    sys.exit(0 if measured.is_met else 1)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    subcommands = parser.add_subparsers(dest="what", required=True)
    overhead = subcommands.add_parser("overhead", help="added latency at a fixed rate")
    overhead.add_argument("--rate", type=float, default=Load.rate, help="requests a second")
    overhead.add_argument("--seconds", type=float, default=Load.seconds, help="of each round")
    overhead.add_argument("--rounds", type=int, default=Load.rounds)
    overhead.add_argument("--profile", type=Path, help="write cProfile's figures of the gateway here")
    flip = subcommands.add_parser("flip", help="alias flips and roll backs")
    flip.add_argument("--workspace", type=Path, required=True, help="with two versions of one model")
    flip.add_argument("--keys", type=Path, required=True, help="folder of its private keys")
    flip.add_argument("--flips", type=int, default=Flips.here)
    flip.add_argument("--polled-flips", type=int, default=Flips.polled)
    flip.add_argument("--rollbacks", type=int, default=Flips.rollbacks)
    soak = subcommands.add_parser("soak", help="mixed traffic for long")
    soak.add_argument("--requests", type=int, default=100_000)
    soak.add_argument("--concurrency", type=int, default=32)
    for one in (overhead, flip, soak):
        one.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
