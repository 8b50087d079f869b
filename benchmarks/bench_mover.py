"""Moves an alias in a process of its own, as another person's command would; one line in, one line out.

    python benchmarks/bench_mover.py --workspace DIR --keys DIR

Reads `NAME@VERSION`, moves `champion` of NAME there, and answers {"began_s", "ended_s"} by the monotonic
clock, which all processes of a machine share.
"""

import argparse
import json
import sys
import time
from pathlib import Path

from tunewright.app import open_app
from tunewright.cli.progress import PlainProgress
from tunewright.settings import load_settings


def main() -> None:
    """Move as told until the input ends."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--keys", type=Path, required=True)
    options = parser.parse_args()
    settings = load_settings({"TUNEWRIGHT_CONFIG": str(options.keys)}, workspace=options.workspace)
    with open_app(settings, PlainProgress()) as app:
        _ = app.models.all()
        print(json.dumps({"ready": True}), flush=True)
        for line in sys.stdin:
            ref = line.strip()
            began_s = time.monotonic()
            app.models.move_alias("champion", ref, name=ref.partition("@")[0], reason="benchmark")
            print(json.dumps({"began_s": began_s, "ended_s": time.monotonic()}), flush=True)


if __name__ == "__main__":
    main()
