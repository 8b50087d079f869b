"""A real worker process on the tiny base: it learns, survives SIGTERM and kill -9 with the same bits."""

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from tests.fakes import SilentProgress, fake_ports
from tests.train_world import a_dataset, examples

from tunewright.backends.base_models import LocalBases
from tunewright.backends.local_executor import LocalExecutor
from tunewright.errors import TrainingInterrupted, WorkerFailed
from tunewright.ports import Ports
from tunewright.recipe import DataSection, LoraSettings, Recipe, SourceSpec, TrainSection
from tunewright.records import TrainingRun
from tunewright.train.train import train
from tunewright.trees import get_tree

RECIPE = Recipe(
    name="orders",
    data=DataSection(sources=(SourceSpec(path="orders.jsonl"),)),
    train=TrainSection(
        lora=LoraSettings(rank=4, dropout=0.05), epochs=2, batch_rows=8, eval_every_steps=3, patience=None
    ),
)


class ActAt(SilentProgress):
    """Does something once, when training reaches a step."""

    def __init__(self, step: int, act) -> None:
        super().__init__()
        self.step, self.act, self.done = step, act, False

    def update(self, done: int, note: str = "") -> None:
        super().update(done, note)
        if done >= self.step and "loss" in note and not self.done:
            self.done = True
            self.act()


def kill_workers() -> None:
    for child in psutil.Process().children():
        child.kill()


def real_ports(root: Path, progress: SilentProgress) -> Ports:
    return replace(
        fake_ports(root),
        executor=LocalExecutor(threads=1),
        bases=LocalBases(hub_cache=root / "hub"),
        progress=progress,
    )


def run_in(root: Path, progress: SilentProgress | None = None) -> tuple[Ports, TrainingRun]:
    ports = real_ports(root, progress or SilentProgress())
    dataset = a_dataset(ports.blobs, examples(40), examples(6, offset=100))
    return ports, train(RECIPE, dataset, ports)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Ports, TrainingRun]:
    return run_in(tmp_path_factory.mktemp("whole"))


def test_a_real_worker_learns_proves_itself_and_leaves_an_adapter(whole):
    ports, run = whole
    assert run.metrics[-1].eval_loss < run.report["base_eval_loss"] - 1.0
    assert [check.name for check in run.self_checks] == [
        "supervised_rows",
        "eos_is_label",
        "label_coverage",
        "packed_equals_unpacked",
        "adapter_off_equals_base",
        "accumulated_equals_big_batch",
    ]
    files = get_tree(ports.blobs, run.candidate)
    assert set(files) == {"adapter_config.json", "adapter_model.safetensors", "parity.json"}
    assert json.loads(files["adapter_config.json"])["base_model_name_or_path"] == "tiny"
    assert run.settings["learning_rate"] == pytest.approx(0.00249, rel=0.01)
    assert run.environment["threads"] == 1
    assert run.num_tokens == 2 * sum(
        len(json.loads(line)["ids"]) for line in ports.blobs.get(run.token_blobs["train"]).splitlines()
    )
    assert run.report["parameters"] > 5_800_000


def test_terminated_then_killed_then_finished_gives_the_same_bits(whole, tmp_path):
    _, expected = whole
    with pytest.raises(TrainingInterrupted, match="after step"):
        run_in(tmp_path, ActAt(2, lambda: os.kill(os.getpid(), signal.SIGTERM)))
    with pytest.raises(WorkerFailed, match="signal 9"):
        run_in(tmp_path, ActAt(7, kill_workers))
    last = SilentProgress()
    _, run = run_in(tmp_path, last)
    assert any(note == "resumed from a checkpoint" and done >= 3 for done, note in last.updates)
    assert run.candidate == expected.candidate
    assert run.order_digest == expected.order_digest
    assert [p.train_loss for p in run.metrics] == [p.train_loss for p in expected.metrics]
