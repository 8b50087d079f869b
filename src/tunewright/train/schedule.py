"""Learning rate: the `auto` rule, warm-up and decay. Pure."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from tunewright.recipe import TrainSection
from tunewright.values import Json

FULL_RATE = 5e-5
LORA_FACTOR = 10.0
REFERENCE_HIDDEN = 2000
WIDTH_POWER = {"llama": 0.781, "mistral": 0.781, "qwen2": 0.0775, "qwen3": 0.0775}
DEFAULT_POWER = 0.0775
"""The smaller power for families without a measured one: it gives the smaller rate on narrow models."""
HIGHEST_RATE = 3e-3
"""No rule is trusted above this; it binds only for models narrower than about 200."""


@dataclass(frozen=True, slots=True)
class RateChoice:
    """The peak learning rate and how it was found."""

    rate: float
    formula: str


def choose_rate(settings: TrainSection, config: Mapping[str, Json]) -> RateChoice:
    """Resolve `learning_rate: auto` for a base.

    Args:
        settings: the recipe's training section.
        config: the base's config.json; `hidden_size` and `model_type` are read.

    Source: Thinking Machines, "LoRA Without Regret" (2025) and the tinker cookbook's fit of rate over width.
    """
    if settings.learning_rate != "auto":
        return RateChoice(settings.learning_rate, "given in the recipe")
    hidden = config.get("hidden_size")
    width = hidden if isinstance(hidden, int) and hidden > 0 else REFERENCE_HIDDEN
    power = WIDTH_POWER.get(str(config.get("model_type")), DEFAULT_POWER)
    factor = LORA_FACTOR if settings.method == "lora" else 1.0
    raw = FULL_RATE * factor * (REFERENCE_HIDDEN / width) ** power
    rate = min(raw, HIGHEST_RATE)
    cap = f", capped at {HIGHEST_RATE:g}" if raw > HIGHEST_RATE else ""
    formula = f"{FULL_RATE:g} x {factor:g} x ({REFERENCE_HIDDEN} / {width})^{power:g} = {raw:.3g}{cap}"
    return RateChoice(rate, formula)


def rate_at(
    step: int,
    *,
    num_steps: int,
    peak: float,
    warmup_fraction: float,
    kind: Literal["cosine", "linear", "constant"],
) -> float:
    """Give the learning rate of one step.

    Args:
        step: 1 for the first optimiser step, num_steps for the last.
        num_steps: steps of the whole run.
        peak: the highest rate.
        warmup_fraction: share of the steps over which the rate rises linearly from peak / steps.
        kind: what follows the warm-up; cosine and linear end close above zero.
    """
    warmup = math.ceil(warmup_fraction * num_steps)
    if step <= warmup:
        return peak * step / warmup
    if kind == "constant":
        return peak
    left = (num_steps - step + 1) / (num_steps - warmup)
    return peak * (left if kind == "linear" else 0.5 * (1 + math.cos(math.pi * (1 - left))))
