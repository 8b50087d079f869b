"""Packed micro-batches as tensors.

Shapes: T tokens of all documents of a micro-batch, S supervised positions among them.
"""
# pyright: reportUnknownMemberType=false

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tunewright.core.tokens import TokenRow
from tunewright.train.batches import pack


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Several documents in one sequence."""

    tokens_1T: Tensor
    positions_1T: Tensor
    """Restart at 0 with each document."""
    document_lengths: tuple[int, ...]
    supervised_S: Tensor
    """Positions whose next token carries a label."""
    labels_S: Tensor
    num_tokens: int
    """Tokens of the rows, the last one of each included though it is never an input."""


def micro_batch(rows: Sequence[TokenRow], device: torch.device) -> MicroBatch:
    """Join rows into one sequence; tokens behind the last label of a row are no inputs."""
    tokens: list[int] = []
    positions: list[int] = []
    lengths: list[int] = []
    supervised: list[int] = []
    labels: list[int] = []
    for row in rows:
        offset, length = len(tokens), row.spans[-1][1] - 1
        tokens += row.ids[:length]
        positions += range(length)
        lengths.append(length)
        targets = [at for start, end in row.spans for at in range(max(start, 1), end)]
        supervised += [offset + at - 1 for at in targets]
        labels += [row.ids[at] for at in targets]
    return MicroBatch(
        tokens_1T=torch.tensor([tokens], device=device),
        positions_1T=torch.tensor([positions], device=device),
        document_lengths=tuple(lengths),
        supervised_S=torch.tensor(supervised, device=device),
        labels_S=torch.tensor(labels, device=device),
        num_tokens=sum(len(row.ids) for row in rows),
    )


def micro_batches(rows: Sequence[TokenRow], micro_tokens: int, device: torch.device) -> list[MicroBatch]:
    """Pack rows into micro-batches of at most `micro_tokens`."""
    bins = pack([len(row.ids) for row in rows], micro_tokens)
    return [micro_batch([rows[index] for index in each], device) for each in bins]
