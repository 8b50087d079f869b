"""No engine outlives whoever started it."""

import os
import signal
import subprocess
import sys
import time

CHILD = (
    "import os, time; from tunewright.backends.engine.lifeline import call_when_orphaned; "
    "call_when_orphaned({parent}, lambda: os._exit(0)); time.sleep(60)"
)

PARENT = """
import subprocess, sys, time, os
program = {child!r}.replace("PARENT", str(os.getpid()))
child = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE)
{also}
print(child.pid, flush=True)
time.sleep(60)
"""

HOLD_THE_PIPE = "subprocess.Popen(['sleep', '20'], pass_fds=[child.stdin.fileno()])"
"""Another child that keeps the pipe open after the parent is gone."""


def is_running(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def outlives_a_killed_parent(also: str) -> bool:
    script = PARENT.format(child=CHILD.format(parent="PARENT"), also=also)
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert is_running(child)
        os.kill(parent.pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while is_running(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    survived = is_running(child)
    if survived:
        os.kill(child, signal.SIGKILL)
    return survived


def test_the_child_ends_when_its_parent_is_killed_outright():
    assert not outlives_a_killed_parent("")


def test_the_child_ends_even_if_another_process_holds_its_pipe():
    assert not outlives_a_killed_parent(HOLD_THE_PIPE)
