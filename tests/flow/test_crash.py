"""What a user may do to a running command: kill it outright, press Ctrl-C, start it twice. Real processes."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tunewright.demo.shop import write_shop

RECIPE = """
name: shop
data:
  sources: [{path: orders-1.jsonl}]
  max_rows: 60
  max_rejected_fraction: 0.3
  split: {held_out: 0.2, validation: 0.2}
train:
  max_steps: 16
  batch_rows: 2
  learning_rate: 3.0e-3
  checkpoint_every_steps: 2
  eval_every_steps: 8
  lora: {rank: 4, alpha: 8}
"""
PATIENCE_S = 60.0
"""More than any step here takes on a busy machine."""

WORKER_ENDS_WITHIN_S = 20.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("crash")
    write_shop(made / "data")
    (made / "shop.yaml").write_text(RECIPE, encoding="utf-8")
    return made


@pytest.fixture(scope="module")
def undisturbed(folder: Path) -> str:
    """Digest of the candidate of a training that nobody disturbed."""
    command = start_training(folder, "undisturbed")
    shown, said = command.communicate(timeout=PATIENCE_S)
    assert command.returncode == 0, said
    return candidate_of(folder, "undisturbed", json.loads(shown)["run"])


def start_training(folder: Path, workspace: str) -> "subprocess.Popen[str]":
    """Start `tunewright train` as a terminal does: in a process group of its own."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("TUNEWRIGHT_")}
    environment |= {"TUNEWRIGHT_CONFIG": str(folder / "keys"), "TUNEWRIGHT_THREADS": "1"}
    words = ["train", "shop.yaml", "--data", "data", "--workspace", workspace, "--json"]
    return subprocess.Popen(
        [sys.executable, "-m", "tunewright.cli.main", *words],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def candidate_of(folder: Path, workspace: str, run: str) -> str:
    from tunewright.backends.sql_records import open_records
    from tunewright.values import Ref

    records = open_records(f"sqlite:///{folder / workspace / 'registry.db'}")
    found = records.get("run", Ref.parse(run)).to_json()
    assert len(records.list("run")) == 1, "one training, one record"
    records.close()
    return str(found["candidate"])


def wait_until(holds: Callable[[], object], limit_s: float) -> None:
    end_s = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < end_s, f"waited {limit_s:.0f} s in vain"
        time.sleep(0.02)


def wait_for_checkpoint(folder: Path, workspace: str) -> None:
    runs = folder / workspace / "runs"
    wait_until(lambda: list(runs.glob("*/checkpoints/step-*")), PATIENCE_S)


def is_worker_gone(folder: Path, workspace: str) -> bool:
    """Say whether nobody holds the lock that a worker holds as long as it lives."""
    [path] = (folder / workspace / "runs").glob("*/worker.lock")
    with path.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def trained_steps(folder: Path, workspace: str) -> list[int]:
    [path] = (folder / workspace / "runs").glob("*/metrics.jsonl")
    return [json.loads(line)["step"] for line in path.read_text("utf-8").splitlines()]


def test_a_killed_training_goes_on_bit_for_bit_and_two_at_once_share_it(folder: Path, undisturbed: str):
    command = start_training(folder, "killed")
    wait_for_checkpoint(folder, "killed")
    command.kill()
    command.communicate(timeout=PATIENCE_S)
    wait_until(lambda: is_worker_gone(folder, "killed"), WORKER_ENDS_WITHIN_S)
    assert max(trained_steps(folder, "killed")) < 16, "it was killed on the way"

    both = [start_training(folder, "killed") for _ in range(2)]
    ended = [(*one.communicate(timeout=PATIENCE_S), one.returncode) for one in both]

    assert [code for _, _, code in ended] == [0, 0], ended
    assert ended[0][0] == ended[1][0], "both name the same dataset and run"
    waited = [said for _, said, _ in ended if "waiting for it to finish" in said]
    assert len(waited) == 1
    assert "re-used run shop@1" in waited[0]
    assert trained_steps(folder, "killed").count(1) == 1, "it went on instead of starting again"
    assert candidate_of(folder, "killed", json.loads(ended[0][0])["run"]) == undisturbed


def test_ctrl_c_saves_says_how_to_go_on_and_leaves_no_process(folder: Path):
    command = start_training(folder, "interrupted")
    wait_for_checkpoint(folder, "interrupted")
    os.killpg(command.pid, signal.SIGINT)
    shown, said = command.communicate(timeout=PATIENCE_S)
    assert command.returncode == 130
    assert "The same command resumes" in said
    assert "Traceback" not in said
    assert json.loads(shown)["error"]["type"] == "TrainingInterrupted"
    assert is_worker_gone(folder, "interrupted"), "the command ends after its worker"
    [checkpoints] = (folder / "interrupted" / "runs").glob("*/checkpoints")
    assert {path.name.partition("-")[0] for path in checkpoints.iterdir()} == {"step"}, "nothing half-written"


def test_sigterm_before_there_is_a_worker_ends_in_order_and_says_so(folder: Path):
    command = start_training(folder, "told-to-end")
    stderr = command.stderr
    assert stderr is not None
    assert stderr.readline().startswith("curate")
    command.terminate()
    _, said = command.communicate(timeout=PATIENCE_S)
    assert command.returncode == 143
    assert said.strip().endswith("interrupted; the same command goes on where it stopped")
    assert not (folder / "told-to-end" / "runs").exists()
