"""Runs a worker module and ends it when the parent dies: `python -m tunewright.backends.child MODULE FOLDER`.

The parent holds the other end of this process's standard input. When that closes while the worker still runs,
the parent is gone: the worker gets SIGTERM, so that it can save, and after the grace time it is ended.
"""

import os
import runpy
import signal
import sys
import threading
import time

GRACE_S = 60.0
"""How long a worker without a parent may take to save."""


def watch_parent() -> None:
    """Wait until standard input closes, then end this process."""
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_S)
    os._exit(1)


def main() -> None:
    """Start the watch, then become the worker."""
    module = sys.argv[1]
    threading.Thread(target=watch_parent, name="watch-parent", daemon=True).start()
    sys.argv = sys.argv[1:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
