"""Ends the engine when whoever started it is gone, killed outright included.

The parent holds the other end of standard input; the system closes it when the parent dies. Where another
child of the parent has inherited that end, the parent's process id is watched as well.
"""

import os
import threading
import time
from collections.abc import Callable

POLL_S = 0.5


def call_when_orphaned(parent: int, orphaned: Callable[[], None], *, stdin: int = 0) -> None:
    """Watch from two daemon threads; call `orphaned` at least once when the parent is gone.

    Args:
        parent: process id of the parent.
        orphaned: what to do, from a thread; must be safe to call twice.
        stdin: file descriptor of a pipe whose other end the parent holds.
    """

    def watch_pipe() -> None:
        while os.read(stdin, 4096):
            pass
        orphaned()

    def watch_process() -> None:
        while os.getppid() == parent:
            time.sleep(POLL_S)
        orphaned()

    for watch in (watch_pipe, watch_process):
        threading.Thread(target=watch, name=f"lifeline-{watch.__name__}", daemon=True).start()
