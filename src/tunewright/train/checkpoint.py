"""Checkpoints of a running training: everything that decides the next bit, written atomically, rotated.

A checkpoint is a folder `step-00000040`: trained weights, optimiser moments and generator states as
safetensors, and `state.json` with the data position, the curves and the hash of every other file. It appears
by one rename; a damaged one is passed over for the one before it. Nothing is ever unpickled.
"""
# pyright: reportUnknownMemberType=false

import json
import os
import random
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from pydantic import Field, ValidationError
from safetensors.torch import load, save
from torch import Tensor, nn

from tunewright.errors import StorageError
from tunewright.records import MetricPoint, Record
from tunewright.values import Digest, Json, digest_bytes

STATE_FILE = "state.json"
WEIGHTS_FILE = "weights.safetensors"
MOMENTS_FILE = "optimizer.safetensors"
RANDOM_FILE = "random.safetensors"


class TrainState(Record):
    """Where a training stands after an optimiser step."""

    job: Digest
    """Identity of the job this belongs to."""
    step: int
    num_tokens: int
    wall_s: float
    """Time spent so far, all starts together."""
    peak_memory_bytes: int
    micro_tokens: int
    """Smaller than the recipe's after memory ran out."""
    first_losses: tuple[float, ...]
    init_digest: Digest
    """Hash of the trained tensors before step 1."""
    base_eval_loss: float | None
    metrics: tuple[MetricPoint, ...]
    python_random: Json = None
    files: dict[str, Digest] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint read back and verified."""

    state: TrainState
    weights: Mapping[str, Tensor]
    moments: Mapping[str, Tensor]
    generators: Mapping[str, Tensor]


def folder_of(root: Path, step: int) -> Path:
    """Name the folder of a step's checkpoint."""
    return root / f"step-{step:08d}"


def save_checkpoint(
    root: Path, state: TrainState, weights: Mapping[str, Tensor], optimizer: torch.optim.Optimizer
) -> Path:
    """Write a checkpoint: temporary folder, fsync, rename.

    Raises:
        StorageError: the disk is full or read-only; checkpoints written before stay.
    """
    target = folder_of(root, state.step)
    temporary = root / f"tmp-{state.step:08d}-{os.getpid()}"
    names = {id(value): name for name, value in _named(optimizer).items()}
    files = {
        WEIGHTS_FILE: save(dict(weights)),
        MOMENTS_FILE: save(_moments(optimizer, names)),
        RANDOM_FILE: save(_generators()),
    }
    state = state.model_copy(
        update={
            "python_random": _python_random(),
            "files": {name: digest_bytes(data) for name, data in files.items()},
        }
    )
    files[STATE_FILE] = state.model_dump_json().encode()
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        for name, data in files.items():
            _write_synced(temporary / name, data)
        if target.exists():  # the same step again, after a damaged checkpoint was passed over
            shutil.rmtree(target)
        temporary.rename(target)
        _sync_folder(root)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise StorageError(
            f"checkpoint of step {state.step} could not be written to {root}: {error.strerror}; expected a "
            "writable disk with free space. Earlier checkpoints are intact: the same command resumes."
        ) from error
    return target


def rotate(root: Path, keep: int, best_step: int | None) -> list[int]:
    """Remove all but the last `keep` checkpoints and the best one, and left-over temporary folders.

    Returns:
        Steps removed.
    """
    steps = list_steps(root)
    removed = [step for step in steps[:-keep] if step != best_step]
    for step in removed:
        shutil.rmtree(folder_of(root, step), ignore_errors=True)
    for left_over in root.glob("tmp-*"):
        shutil.rmtree(left_over, ignore_errors=True)
    return removed


def list_steps(root: Path) -> list[int]:
    """List the steps with a checkpoint, ascending."""
    return sorted(int(path.name.removeprefix("step-")) for path in root.glob("step-*"))


def load_latest(root: Path, job: Digest) -> tuple[Checkpoint | None, list[str]]:
    """Read the newest checkpoint of this job that is whole.

    Returns:
        (checkpoint or None, why newer ones were passed over).
    """
    passed_over: list[str] = []
    for step in reversed(list_steps(root)):
        found = load_checkpoint(root, step, job)
        if isinstance(found, Checkpoint):
            return found, passed_over
        passed_over.append(found)
    return None, passed_over


def load_checkpoint(root: Path, step: int, job: Digest) -> Checkpoint | str:
    """Read and verify one checkpoint, or say in one sentence what is wrong with it."""
    folder = folder_of(root, step)
    try:
        state = TrainState.model_validate_json((folder / STATE_FILE).read_bytes())
        data = {name: (folder / name).read_bytes() for name in (WEIGHTS_FILE, MOMENTS_FILE, RANDOM_FILE)}
    except (OSError, ValidationError) as error:
        return f"checkpoint of step {step} cannot be read ({type(error).__name__})"
    if state.job != job:
        return f"checkpoint of step {step} belongs to another job"
    damaged = [name for name, content in data.items() if digest_bytes(content) != state.files.get(name)]
    if damaged:
        return f"checkpoint of step {step} is damaged: {damaged[0]} does not hash to what was written"
    return Checkpoint(state, load(data[WEIGHTS_FILE]), load(data[MOMENTS_FILE]), load(data[RANDOM_FILE]))


def restore(checkpoint: Checkpoint, optimizer: torch.optim.Optimizer) -> None:
    """Put optimiser moments and generator states back; weights are the caller's."""
    for name, parameter in _named(optimizer).items():
        prefix = f"{name}|"
        optimizer.state[parameter] = {
            key.removeprefix(prefix): value.clone().to(parameter.device)
            for key, value in checkpoint.moments.items()
            if key.startswith(prefix)
        }
    torch.set_rng_state(checkpoint.generators["torch"])
    devices = [name for name in checkpoint.generators if name.startswith("cuda")]
    for name in devices:
        torch.cuda.set_rng_state(checkpoint.generators[name], int(name.removeprefix("cuda")))
    keys = checkpoint.generators["numpy_keys"].numpy()
    position, has_gauss, gauss = cast("list[float]", checkpoint.generators["numpy_rest"].tolist())
    np.random.set_state(("MT19937", keys, int(position), int(has_gauss), gauss))
    version, numbers, gauss_next = cast(
        "tuple[int, Sequence[int], float | None]", checkpoint.state.python_random
    )
    random.setstate((version, tuple(numbers), gauss_next))


def make_optimizer(
    parameters: Mapping[str, nn.Parameter], weight_decay: float, learning_rate: float
) -> torch.optim.AdamW:
    """Make the AdamW whose moments are saved under the parameters' names."""
    named = [(name, parameters[name]) for name in sorted(parameters)]
    return torch.optim.AdamW(named, lr=learning_rate, weight_decay=weight_decay, fused=True)


def _named(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    return {
        name: parameter
        for group in optimizer.param_groups
        for name, parameter in zip(group["param_names"], group["params"], strict=True)
    }


def _moments(optimizer: torch.optim.Optimizer, names: Mapping[int, str]) -> dict[str, Tensor]:
    return {
        f"{names[id(parameter)]}|{key}": value.detach().cpu().contiguous()
        for parameter, state in optimizer.state.items()
        for key, value in state.items()
    }


def _generators() -> dict[str, Tensor]:
    _, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    states = {
        "torch": torch.get_rng_state(),
        "numpy_keys": torch.from_numpy(np.asarray(keys)),
        "numpy_rest": torch.tensor([float(position), float(has_gauss), float(gauss)], dtype=torch.float64),
    }
    for device in range(torch.cuda.device_count()):
        states[f"cuda{device}"] = torch.cuda.get_rng_state(device)
    return states


def _python_random() -> Json:
    version, numbers, gauss_next = random.getstate()
    return cast("Json", [version, list(numbers), gauss_next])


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that it is there whole or not at all.

    Raises:
        StorageError: the disk is full or read-only.
    """
    temporary = path.with_name(f"{path.name}.tmp-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_synced(temporary, data)
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise StorageError(
            f"{path} could not be written: {error.strerror}; expected a writable disk with free space"
        ) from error


def append_line(path: Path, line: str) -> None:
    """Append to a file that only people read. Raises StorageError."""
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(line)
    except OSError as error:
        raise StorageError(
            f"{path} could not be written: {error.strerror}; expected a writable disk with free space. "
            "Checkpoints are intact: the same command resumes."
        ) from error


def to_json_line(value: Mapping[str, Json]) -> str:
    """Write one event as a line."""
    return json.dumps(value, allow_nan=False) + "\n"
