"""The local executor: a made environment, JSON lines, signals passed on, and no worker without a parent."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tunewright.backends.local_executor import STDERR_FILE, LocalExecutor, worker_environment
from tunewright.errors import StorageError

TALK = """
import json, os, sys
print(json.dumps({"argv": sys.argv[1:], "env": dict(os.environ), "cwd": os.getcwd()}), flush=True)
print("a library says hello", flush=True)
print("and complains", file=sys.stderr)
sys.exit(int(open("code").read()) if os.path.exists("code") else 0)
"""
SAVE_ON_SIGTERM = """
import json, signal, sys, time
def save(*_):
    open("saved", "w").close()
    sys.exit(143)
signal.signal(signal.SIGTERM, save)
print(json.dumps({"event": "ready"}), flush=True)
time.sleep(60)
"""
IGNORE_SIGTERM = """
import json, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(json.dumps({"event": "ready"}), flush=True)
time.sleep(60)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / "run"
    found.mkdir()
    return found


def executor(tmp_path: Path, source: str, grace_s: float = 20.0) -> LocalExecutor:
    """An executor whose workers can import the module `a_worker`, and nothing else of ours."""
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "a_worker.py").write_text(source)
    return LocalExecutor(threads=3, grace_s=grace_s, passed_on={"PYTHONPATH": str(modules)})


def wait_for(path: Path, timeout_s: float = 20.0) -> bool:
    until = time.monotonic() + timeout_s
    while not path.exists() and time.monotonic() < until:
        time.sleep(0.02)
    return path.exists()


def test_worker_gets_its_folder_speaks_lines_and_sees_nothing_of_the_parent(tmp_path, folder, monkeypatch):
    monkeypatch.setenv("TUNEWRIGHT_HOME", "/secret/workspace")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    (folder / "code").write_text("7")
    lines = []
    code = executor(tmp_path, TALK).run("a_worker", folder, on_line=lines.append)
    assert code == 7
    (line,) = lines
    assert line["argv"] == [str(folder)]
    assert line["cwd"] == str(folder)
    expected = set(worker_environment(folder, 3)) | {"PYTHONPATH", "LC_CTYPE"}
    assert set(line["env"]) <= expected
    assert line["env"]["OMP_NUM_THREADS"] == "3"
    assert line["env"]["OMP_WAIT_POLICY"] == "PASSIVE"
    stderr = (folder / STDERR_FILE).read_text()
    assert "a library says hello" in stderr
    assert "and complains" in stderr


def test_a_callback_that_raises_ends_the_worker(tmp_path, folder):
    def refuse(line):
        raise KeyError("the parent's own trouble")

    with pytest.raises(KeyError):
        executor(tmp_path, SAVE_ON_SIGTERM).run("a_worker", folder, on_line=refuse)
    assert (folder / "saved").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_of_the_parent_reaches_the_worker_as_sigterm_once_and_handlers_come_back(
    tmp_path, folder, number
):
    before = signal.getsignal(number)

    def interrupt(line):
        for _ in range(3):
            os.kill(os.getpid(), number)

    assert executor(tmp_path, SAVE_ON_SIGTERM).run("a_worker", folder, on_line=interrupt) == 143
    assert (folder / "saved").exists()
    assert signal.getsignal(number) is before


def test_a_worker_that_does_not_end_is_killed_after_the_grace_time(tmp_path, folder):
    started = time.monotonic()

    def interrupt(line):
        os.kill(os.getpid(), signal.SIGTERM)

    code = executor(tmp_path, IGNORE_SIGTERM, grace_s=0.3).run("a_worker", folder, on_line=interrupt)
    assert code == -signal.SIGKILL
    assert time.monotonic() - started < 20


def test_a_parent_that_is_killed_takes_its_worker_along_and_the_worker_saves(tmp_path, folder):
    executor(tmp_path, SAVE_ON_SIGTERM)
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from pathlib import Path\n"
            "from tunewright.backends.local_executor import LocalExecutor\n"
            "e = LocalExecutor(threads=1, passed_on={'PYTHONPATH': sys.argv[2]})\n"
            "e.run('a_worker', Path(sys.argv[1]), on_line=lambda line: Path(sys.argv[1], 'ready').touch())\n",
            str(folder),
            str(tmp_path / "modules"),
        ]
    )
    assert wait_for(folder / "ready")
    parent.kill()
    parent.wait()
    assert wait_for(folder / "saved")


def test_it_runs_in_another_thread_too(tmp_path, folder):
    codes = []
    runner = executor(tmp_path, TALK)
    thread = threading.Thread(
        target=lambda: codes.append(runner.run("a_worker", folder, on_line=lambda _: None))
    )
    thread.start()
    thread.join()
    assert codes == [0]


def test_a_module_that_does_not_exist_ends_with_its_error_in_the_file(tmp_path, folder):
    code = LocalExecutor(threads=1).run("no_such_module", folder, on_line=lambda _: None)
    assert code == 1
    assert "no_such_module" in (folder / STDERR_FILE).read_text()


def test_a_missing_folder_is_a_storage_error(tmp_path):
    with pytest.raises(StorageError, match="cannot write"):
        LocalExecutor(threads=1).run("a_worker", tmp_path / "missing", on_line=lambda _: None)
