"""Attention that keeps packed documents apart, registered with transformers under its own name.

One packed sequence holds several documents; each attends to itself only, by one call of scaled dot-product
attention a document. No mask tensor is built, and the CPU's fused kernel is used.

Shapes: B sequences (1 when packed), H query heads, K key heads, T tokens, D numbers a head.
"""
# pyright: reportUnknownMemberType=false, reportMissingTypeStubs=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

NAME = "tunewright_documents"
"""`attn_implementation` of models that the trainer loads."""


def document_attention(  # noqa: PLR0913  (the signature is transformers' own)
    module: nn.Module,
    query_BHTD: Tensor,
    key_BKTD: Tensor,
    value_BKTD: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    document_lengths: tuple[int, ...] | None = None,
    sliding_window: int | None = None,
    **unused: object,
) -> tuple[Tensor, None]:
    """Attend causally within each document.

    Args:
        module: the attention layer; only its dtype handling differs between models, so it is not read.
        query_BHTD: queries, positions already applied.
        key_BKTD: keys; H is a multiple of K.
        value_BKTD: values.
        attention_mask: None; packed sequences have no padding.
        scaling: factor on the scores; 1 / sqrt(D) when None.
        dropout: attention dropout.
        document_lengths: tokens of each document, in order, summing to T; None is one document.
        sliding_window: tokens a query may look back on, where the model has such layers.
        **unused: what transformers passes to every implementation.

    Returns:
        ((B, T, H, D) outputs, no weights).
    """
    lengths = list(document_lengths or (query_BHTD.shape[2],))
    groups = query_BHTD.shape[1] // key_BKTD.shape[1]
    if groups > 1:
        key_BKTD = key_BKTD.repeat_interleave(groups, dim=1)
        value_BKTD = value_BKTD.repeat_interleave(groups, dim=1)
    documents = zip(
        query_BHTD.split(lengths, dim=2),
        key_BKTD.split(lengths, dim=2),
        value_BKTD.split(lengths, dim=2),
        strict=True,
    )
    outputs: list[Tensor] = []
    for query, key, value in documents:
        mask = _window_mask(query, sliding_window)
        outputs.append(
            scaled_dot_product_attention(
                query, key, value, attn_mask=mask, dropout_p=dropout, is_causal=mask is None, scale=scaling
            )
        )
    return torch.cat(outputs, dim=2).transpose(1, 2).contiguous(), None


def _window_mask(query_BHTD: Tensor, sliding_window: int | None) -> Tensor | None:
    """Build the (T, T) band of a sliding window; None where the window covers the whole document."""
    num_tokens = query_BHTD.shape[2]
    if sliding_window is None or num_tokens <= sliding_window:
        return None
    at = torch.arange(num_tokens, device=query_BHTD.device)
    distance = at[:, None] - at[None, :]
    return (distance >= 0) & (distance < sliding_window)


def register() -> None:
    """Make the implementation known to transformers; calling it again changes nothing.

    No mask function is registered with it, so transformers builds no mask.
    """
    AttentionInterface.register(NAME, document_attention)
