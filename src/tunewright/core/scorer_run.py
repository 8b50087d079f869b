"""Scorers of how an answer was made: perplexity of the reference, stop rate, latency, answer length."""

import math

import numpy as np
from numpy.typing import NDArray

from tunewright.core.scorer_base import Answer, NoSettings, Traits, Value, always, scorer
from tunewright.records import Example


def perplexity_of(values: NDArray[np.float64]) -> float:
    """Exponential of the mean negative log-likelihood a token; values are (n, 2): nats, tokens."""
    nats, tokens = float(values[:, 0].sum()), float(values[:, 1].sum())
    return math.exp(min(nats / tokens, 700.0)) if tokens else math.inf


@scorer(
    Traits("aggregate", higher_is_better=False, needs_logprobs=True, is_share=False),
    NoSettings,
    combine=lambda settings: perplexity_of,
)
def perplexity(answer: Answer, example: Example, settings: NoSettings) -> Value | None:
    """How surprised the model is by the reference answer; only for arms that give log-probabilities."""
    if answer.nll is None or not answer.num_reference_tokens:
        return None
    return answer.nll, float(answer.num_reference_tokens)


@scorer(Traits("binary"), NoSettings, scores_alone=always)
def stop_rate(answer: Answer, example: Example, settings: NoSettings) -> bool | None:
    """The model ended its answer by itself instead of running into the limit."""
    return None if answer.finish_reason is None else answer.finish_reason == "stop"


@scorer(Traits("graded", higher_is_better=False, information_only=True, is_share=False), NoSettings)
def latency(answer: Answer, example: Example, settings: NoSettings) -> float | None:
    """Seconds from request to whole answer; depends on the machine and its load, for information."""
    return answer.latency_s


@scorer(Traits("graded", higher_is_better=False, is_share=False), NoSettings)
def num_tokens(answer: Answer, example: Example, settings: NoSettings) -> float | None:
    """Tokens of the answer."""
    return None if answer.num_tokens is None else float(answer.num_tokens)
