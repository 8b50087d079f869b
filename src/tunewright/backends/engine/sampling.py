"""Draw the next tokens from logits, each row by its own rules and its own random numbers.

A row's draw depends on its logits and its seed only, never on the rows beside it. Shapes: B rows, V
vocabulary.
"""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tunewright.backends.engine.answer import Draw, Sampling


@dataclass(frozen=True, slots=True)
class Chooser:
    """A row's rules and its random numbers so far."""

    sampling: Sampling
    uniforms: random.Random

    @classmethod
    def of(cls, sampling: Sampling) -> "Chooser":
        """Start a row's random numbers from its seed."""
        return cls(sampling, random.Random(sampling.seed))


def draw(logits_BV: Tensor, choosers: Sequence[Chooser]) -> tuple[Tensor, list[Draw]]:
    """Draw one token for each row.

    Returns:
        (tokens_B, draws); the tensor is what goes into the model next.
    """
    best_B = logits_BV.argmax(-1)
    sampled = [index for index, chooser in enumerate(choosers) if chooser.sampling.temperature > 0]
    for index in sampled:
        best_B[index] = _sample(logits_BV[index], choosers[index])
    finite = torch.isfinite(logits_BV.amax(-1)).tolist()
    draws = [
        Draw(token, is_finite=is_finite) for token, is_finite in zip(best_B.tolist(), finite, strict=True)
    ]
    for index, chooser in enumerate(choosers):
        if chooser.sampling.num_logprobs is not None:
            draws[index] = _with_logprobs(logits_BV[index], draws[index], chooser.sampling.num_logprobs)
    return best_B, draws


def _sample(logits_V: Tensor, chooser: Chooser) -> int:
    """Draw by the inverse of the cumulative distribution over the likeliest tokens that make up `top_p`."""
    sampling = chooser.sampling
    uniform = chooser.uniforms.random()
    probs_V, order_V = torch.softmax(logits_V.float() / sampling.temperature, -1).sort(
        descending=True, stable=True
    )
    below_V = probs_V.cumsum(-1)
    num_kept = int((below_V - probs_V < sampling.top_p).sum())
    place = int(torch.searchsorted(below_V, uniform * float(below_V[max(num_kept, 1) - 1]), right=True))
    return int(order_V[min(place, max(num_kept, 1) - 1)])


def _with_logprobs(logits_V: Tensor, drawn: Draw, num_top: int) -> Draw:
    logprobs_V = torch.log_softmax(logits_V.float(), -1)
    values, tokens = logprobs_V.topk(num_top)
    top = tuple(zip(tokens.tolist(), values.tolist(), strict=True))
    return Draw(drawn.token, float(logprobs_V[drawn.token]), top, drawn.is_finite)


def scored(logits_TV: Tensor, tokens_T: Tensor) -> list[float]:
    """Natural-log probability of each token given those before it; 0.0 for the first."""
    if tokens_T.shape[0] < 2:
        return [0.0] * tokens_T.shape[0]
    logprobs_TV = torch.log_softmax(logits_TV[:-1].float(), -1)
    return [0.0, *logprobs_TV.gather(-1, tokens_T[1:, None]).squeeze(-1).tolist()]
