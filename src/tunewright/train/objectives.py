"""What is minimised. Supervised fine-tuning: the negative log-likelihood of the supervised tokens.

The language-model head runs only where a token carries a label, and in chunks, so that no tensor of
vocabulary x tokens is ever held.

Shapes: T tokens of a micro-batch, S supervised positions, H hidden size, V vocabulary, C a chunk of S.
"""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear
from transformers import PreTrainedModel

from tunewright.train.packed import MicroBatch

CHUNK_LOGITS = 1 << 22
"""Logits held at once: 16 MiB in fp32."""

Objective = Callable[[PreTrainedModel, MicroBatch], Tensor]
"""Sum of the loss over a micro-batch's supervised tokens, in nats; the loop divides by the step's count."""


def sft_loss(model: PreTrainedModel, batch: MicroBatch) -> Tensor:
    """Sum the negative log-likelihood of every supervised token of a micro-batch.

    Args:
        model: a causal language model with the document attention, adapters already inside.
        batch: packed documents.
    """
    hidden_1TH = model.get_decoder()(
        input_ids=batch.tokens_1T,
        position_ids=batch.positions_1T,
        use_cache=False,
        document_lengths=batch.document_lengths,
    ).last_hidden_state
    hidden_SH = hidden_1TH[0].index_select(0, batch.supervised_S)
    head = cast("nn.Linear", model.get_output_embeddings())
    return chunked_cross_entropy(hidden_SH, head.weight, batch.labels_S)


def chunked_cross_entropy(hidden_SH: Tensor, weight_VH: Tensor, labels_S: Tensor) -> Tensor:
    """Sum the cross-entropy of a linear head, chunk by chunk; gradients are made on the way forward."""
    return _ChunkedCrossEntropy.apply(hidden_SH, weight_VH, labels_S)


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Sum of cross-entropies whose backward pass only scales what the forward pass has computed."""

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx, hidden_SH: Tensor, weight_VH: Tensor, labels_S: Tensor
    ) -> Tensor:
        needs_hidden, needs_weight = ctx.needs_input_grad[:2]  # pyright: ignore[reportAttributeAccessIssue]
        weight = weight_VH.to(hidden_SH.dtype)
        grad_SH = torch.empty_like(hidden_SH) if needs_hidden else None
        grad_VH = torch.zeros_like(weight_VH) if needs_weight else None
        total = hidden_SH.new_zeros((), dtype=torch.float32)
        chunk = max(1, CHUNK_LOGITS // weight_VH.shape[0])
        for start in range(0, hidden_SH.shape[0], chunk):
            hidden_CH = hidden_SH[start : start + chunk]
            labels_C = labels_S[start : start + chunk]
            logits_CV = linear(hidden_CH, weight).float()
            total += cross_entropy(logits_CV, labels_C, reduction="sum")
            if grad_SH is None and grad_VH is None:
                continue
            grad_CV = torch.softmax(logits_CV, dim=-1)
            grad_CV[torch.arange(len(labels_C), device=labels_C.device), labels_C] -= 1.0
            grad_CV = grad_CV.to(hidden_SH.dtype)
            if grad_SH is not None:
                grad_SH[start : start + chunk] = grad_CV @ weight
            if grad_VH is not None:
                grad_VH += (grad_CV.T @ hidden_CH).to(grad_VH.dtype)
        ctx.save_for_backward(grad_SH, grad_VH)  # pyright: ignore[reportArgumentType]  (None is allowed)
        return total

    @staticmethod
    def backward(
        ctx: torch.autograd.function.FunctionCtx, *grads: Tensor
    ) -> tuple[Tensor | None, Tensor | None, None]:
        grad_SH, grad_VH = ctx.saved_tensors  # pyright: ignore[reportAttributeAccessIssue]
        scale = grads[0]
        return (
            None if grad_SH is None else grad_SH * scale.to(grad_SH.dtype),
            None if grad_VH is None else grad_VH * scale.to(grad_VH.dtype),
            None,
        )
