"""What the worker runs on: device, versions, threads, and how fast it multiplies. Never part of identity."""
# pyright: reportUnknownMemberType=false

import os
import platform
import time
from importlib.metadata import version
from typing import Literal

import torch

from tunewright.values import Json

LIBRARIES = ("torch", "transformers", "peft", "tokenizers", "safetensors", "numpy")
MATMUL_SIZE = 768
MATMUL_REPEATS = 4


def pick_device() -> torch.device:
    """Take the accelerator that is visible, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def describe_machine(device: torch.device) -> dict[str, Json]:
    """Collect versions, threads and device for the run record; the thread count decides bits."""
    is_cuda = device.type == "cuda"
    return {
        **{name: version(name) for name in LIBRARIES},
        "python": platform.python_version(),
        "system": platform.system(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if is_cuda else "cpu",
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }


def matmul_flops_per_s(device: torch.device, precision: Literal["fp32", "bf16"]) -> float:
    """Measure square matrix products, the ceiling that model FLOP/s are compared with."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    matrix = torch.ones((MATMUL_SIZE, MATMUL_SIZE), dtype=dtype, device=device)
    best_s = float("inf")
    for _ in range(MATMUL_REPEATS):
        started = time.perf_counter()
        (matrix @ matrix)[0, 0].item()
        best_s = min(best_s, time.perf_counter() - started)
    return 2 * MATMUL_SIZE**3 / best_s
