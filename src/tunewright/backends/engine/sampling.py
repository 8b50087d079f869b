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

_BELOW_ONE = 1 - 2**-24
"""The largest fp32 number below 1: a draw of 1 would fall behind the last token."""


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
    for is_cut in (False, True):
        rows = [
            index
            for index, chooser in enumerate(choosers)
            if chooser.sampling.temperature > 0 and (chooser.sampling.top_p < 1) == is_cut
        ]
        if rows:
            best_B[rows] = _sample(logits_BV[rows], [choosers[row] for row in rows], is_cut=is_cut)
    finite = torch.isfinite(logits_BV.amax(-1)).tolist()
    draws = [
        Draw(token, is_finite=is_finite) for token, is_finite in zip(best_B.tolist(), finite, strict=True)
    ]
    for index, chooser in enumerate(choosers):
        if chooser.sampling.num_logprobs is not None:
            draws[index] = _with_logprobs(logits_BV[index], draws[index], chooser.sampling.num_logprobs)
    return best_B, draws


def _sample(logits_BV: Tensor, choosers: Sequence[Chooser], *, is_cut: bool) -> Tensor:
    """Draw by the inverse of the cumulative distribution; over the likeliest tokens only, if cut by top_p."""
    temperature_B1 = torch.tensor([[chooser.sampling.temperature] for chooser in choosers])
    uniform_B1 = torch.tensor([[min(chooser.uniforms.random(), _BELOW_ONE)] for chooser in choosers])
    probs_BV = torch.softmax(logits_BV.float() / temperature_B1, -1)
    if not is_cut:
        below_BV = probs_BV.cumsum(-1)
        return _place(below_BV, uniform_B1 * below_BV[:, -1:], probs_BV.shape[-1] - 1).squeeze(-1)
    top_p_B1 = torch.tensor([[chooser.sampling.top_p] for chooser in choosers])
    sorted_BV, order_BV = probs_BV.sort(descending=True, stable=True)
    below_BV = sorted_BV.cumsum(-1)
    last_B1 = (below_BV - sorted_BV < top_p_B1).sum(-1, keepdim=True).clamp(min=1) - 1
    place_B1 = _place(below_BV, uniform_B1 * below_BV.gather(-1, last_B1), last_B1)
    return order_BV.gather(-1, place_B1).squeeze(-1)


def _place(below_BV: Tensor, wanted_B1: Tensor, last: Tensor | int) -> Tensor:
    """Find the first place where the cumulative distribution exceeds what is wanted, B1."""
    found_B1 = torch.searchsorted(below_BV, wanted_B1, right=True)
    return torch.minimum(found_B1, torch.as_tensor(last))


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
