"""Forward and backward passes over rows: the gradients of a step, and the loss of a split.

Shapes: S supervised positions of a micro-batch.
"""
# pyright: reportUnknownMemberType=false

from collections.abc import Generator, Sequence
from contextlib import contextmanager

import torch
from transformers import PreTrainedModel

from tunewright.core.tokens import TokenRow
from tunewright.train.job import TrainJob
from tunewright.train.objectives import Objective
from tunewright.train.packed import MicroBatch, micro_batches


@contextmanager
def precision(job: TrainJob, device: torch.device) -> Generator[None]:
    """Compute in the job's precision: bf16 autocast, or fp32 as it stands."""
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=job.settings.precision == "bf16"):
        yield


def accumulate(
    model: PreTrainedModel,
    objective: Objective,
    rows: Sequence[TokenRow],
    micro_tokens: int,
    job: TrainJob,
    device: torch.device,
) -> float:
    """Add up the gradients of one step, normalised by the label count of the whole step; returns its loss."""
    batches = micro_batches(rows, micro_tokens, device)
    num_labels = sum(len(batch.labels_S) for batch in batches)
    total = torch.zeros((), device=device)
    for batch in batches:
        with precision(job, device):
            loss = objective(model, batch) / num_labels
        loss.backward()
        total += loss.detach()
    return total.item()


def evaluate(
    model: PreTrainedModel,
    objective: Objective,
    batches: Sequence[MicroBatch],
    job: TrainJob,
    device: torch.device,
) -> float | None:
    """Compute the mean loss a supervised token over the validation rows; None when there are none."""
    if not batches:
        return None
    model.eval()
    total = torch.zeros((), device=device)
    with torch.inference_mode(), precision(job, device):
        for batch in batches:
            total += objective(model, batch)
    return total.item() / sum(len(batch.labels_S) for batch in batches)
