"""Checkpoints: whole or absent, verified when read, rotated, and exact."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch

from tunewright.errors import StorageError
from tunewright.train.checkpoint import (
    Checkpoint,
    TrainState,
    folder_of,
    list_steps,
    load_checkpoint,
    load_latest,
    make_optimizer,
    restore,
    rotate,
    save_checkpoint,
    write_atomically,
)
from tunewright.values import digest_bytes

JOB = digest_bytes(b"job")


def state(step: int, job=JOB) -> TrainState:
    return TrainState(
        job=job,
        step=step,
        num_tokens=10 * step,
        wall_s=1.5,
        peak_memory_bytes=1,
        micro_tokens=64,
        first_losses=(1.0,),
        init_digest=JOB,
        base_eval_loss=None,
        metrics=(),
    )


def trained(num_steps: int = 3):
    torch.manual_seed(0)
    parameters = {"b": torch.nn.Parameter(torch.ones(3)), "a": torch.nn.Parameter(torch.ones(2, 2))}
    optimizer = make_optimizer(parameters, 0.0, 0.1)
    for _ in range(num_steps):
        step(parameters, optimizer)
    return parameters, optimizer


def step(parameters, optimizer) -> None:
    sum((value * torch.randn_like(value)).sum() for value in parameters.values()).backward()
    optimizer.step()
    optimizer.zero_grad()


def weights(parameters):
    return {name: value.detach().clone() for name, value in parameters.items()}


def test_a_restored_training_goes_on_with_the_same_bits(tmp_path: Path):
    parameters, optimizer = trained()
    save_checkpoint(tmp_path, state(3), weights(parameters), optimizer)
    step(parameters, optimizer)
    draws = (random.random(), np.random.random(), torch.rand(1).item())

    others, fresh = trained(0)
    found, passed_over = load_latest(tmp_path, JOB)
    assert found is not None and not passed_over
    assert found.state.model_copy(update={"files": {}, "python_random": None}) == state(3)
    with torch.no_grad():
        for name, value in others.items():
            value.copy_(found.weights[name])
    restore(found, fresh)
    step(others, fresh)
    for name in parameters:
        assert torch.equal(parameters[name], others[name])
    assert (random.random(), np.random.random(), torch.rand(1).item()) == draws


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before_and_said(tmp_path: Path):
    parameters, optimizer = trained()
    for at in (2, 4):
        save_checkpoint(tmp_path, state(at), weights(parameters), optimizer)
    damaged = folder_of(tmp_path, 4) / "weights.safetensors"
    data = bytearray(damaged.read_bytes())
    data[-1] ^= 1
    damaged.write_bytes(data)
    found, passed_over = load_latest(tmp_path, JOB)
    assert found is not None and found.state.step == 2
    assert passed_over == [
        "checkpoint of step 4 is damaged: weights.safetensors does not hash to what was written"
    ]
    (folder_of(tmp_path, 2) / "state.json").write_text("{")
    assert load_latest(tmp_path, JOB)[0] is None


def test_a_checkpoint_of_another_job_is_not_used(tmp_path: Path):
    parameters, optimizer = trained()
    save_checkpoint(tmp_path, state(2), weights(parameters), optimizer)
    found = load_checkpoint(tmp_path, 2, digest_bytes(b"other"))
    assert found == "checkpoint of step 2 belongs to another job"
    assert isinstance(load_checkpoint(tmp_path, 2, JOB), Checkpoint)


def test_rotation_keeps_the_newest_and_the_best_and_sweeps_what_a_crash_left(tmp_path: Path):
    parameters, optimizer = trained()
    for at in range(1, 7):
        save_checkpoint(tmp_path, state(at), weights(parameters), optimizer)
    (tmp_path / "tmp-00000007-99").mkdir()
    assert rotate(tmp_path, 2, 3) == [1, 2, 4]
    assert list_steps(tmp_path) == [3, 5, 6]
    assert not list(tmp_path.glob("tmp-*"))


def test_a_step_saved_twice_replaces_the_first(tmp_path: Path):
    parameters, optimizer = trained()
    save_checkpoint(tmp_path, state(1), weights(parameters), optimizer)
    step(parameters, optimizer)
    save_checkpoint(tmp_path, state(1), weights(parameters), optimizer)
    found = load_checkpoint(tmp_path, 1, JOB)
    assert isinstance(found, Checkpoint)
    assert torch.equal(found.weights["a"], parameters["a"])


def test_a_disk_that_refuses_leaves_earlier_checkpoints_and_says_so(tmp_path: Path):
    parameters, optimizer = trained()
    save_checkpoint(tmp_path / "ok", state(1), weights(parameters), optimizer)
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="Earlier checkpoints are intact"):
        save_checkpoint(tmp_path / "file", state(2), weights(parameters), optimizer)
    with pytest.raises(StorageError, match="could not be written"):
        write_atomically(tmp_path / "file" / "x", b"")
    assert list_steps(tmp_path / "ok") == [1]
