"""Memory and time of a training before it runs, from the base's config, the recipe and row lengths. Pure.

The arithmetic fits decoder-only models with gated feed-forward layers (Llama and its relatives); for others
it is a rough guess. Printed by `plan`, and against what was measured in the run's report.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tunewright.recipe import TrainSection
from tunewright.train.watch import every_steps
from tunewright.values import Json

FLOPS_PER_S_A_THREAD = 5e10
"""What the loop reaches in fp32 on one thread of a small CPU with the tiny base; `plan` may pass its own."""
BF16_SPEEDUP = 1.3
PROCESS_BYTES = 560 << 20
"""Interpreter and libraries of the worker."""
START_S = 12.0
"""Imports, loading and self-checks on a small CPU."""
LABEL_FRACTION = 0.4
"""Share of tokens with a label where the rows are not tokenised yet."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The numbers of a model that decide cost."""

    hidden: int
    intermediate: int
    layers: int
    head_outputs: int
    """Query heads x numbers a head."""
    key_outputs: int
    """Key heads x numbers a head."""
    vocabulary: int
    is_tied: bool

    @property
    def linear_parameters(self) -> int:
        """Weights of all linear layers below the head."""
        attention = 2 * self.hidden * self.head_outputs + 2 * self.hidden * self.key_outputs
        return self.layers * (attention + 3 * self.hidden * self.intermediate)

    @property
    def parameters(self) -> int:
        """All weights."""
        embeddings = self.vocabulary * self.hidden * (1 if self.is_tied else 2)
        return self.linear_parameters + embeddings + self.hidden * (2 * self.layers + 1)

    def lora_parameters(self, rank: int) -> int:
        """Weights of adapters on all linear layers."""
        attention = 2 * (self.hidden + self.head_outputs) + 2 * (self.hidden + self.key_outputs)
        return self.layers * rank * (attention + 3 * (self.hidden + self.intermediate))


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a training will need."""

    num_steps: int
    num_tokens: int
    parameters: int
    trained_parameters: int
    weights_bytes: int
    optimizer_bytes: int
    """Gradients and both moments of what is trained, and the adapter itself."""
    activation_bytes: int
    memory_bytes: int
    """Everything, libraries included."""
    flops: float
    flops_a_token: float
    """Of a training step, forward and backward."""
    wall_s: float


def shape_of(config: Mapping[str, Json]) -> Shape:
    """Read the shape from a config.json; missing numbers are taken as Llama's defaults."""

    def number(name: str, default: int) -> int:
        value = config.get(name)
        return value if isinstance(value, int) and value > 0 else default

    hidden, heads = number("hidden_size", 4096), number("num_attention_heads", 32)
    head_size = number("head_dim", hidden // heads)
    return Shape(
        hidden=hidden,
        intermediate=number("intermediate_size", 4 * hidden),
        layers=number("num_hidden_layers", 32),
        head_outputs=heads * head_size,
        key_outputs=number("num_key_value_heads", heads) * head_size,
        vocabulary=number("vocab_size", 32_000),
        is_tied=bool(config.get("tie_word_embeddings", False)),
    )


def forecast(
    config: Mapping[str, Json],
    settings: TrainSection,
    train_lengths: Sequence[int],
    *,
    validation_tokens: int = 0,
    label_fraction: float = LABEL_FRACTION,
    threads: int = 1,
    flops_per_s: float | None = None,
) -> Forecast:
    """Forecast a training.

    Args:
        config: the base's config.json.
        settings: the recipe's training section.
        train_lengths: tokens of each training row.
        validation_tokens: tokens of all validation rows.
        label_fraction: share of tokens that carry a label.
        threads: threads of the worker.
        flops_per_s: speed to reckon with; None takes a small CPU's.
    """
    shape = shape_of(config)
    num_rows = math.ceil(settings.epochs * len(train_lengths))
    num_steps = min(math.ceil(num_rows / settings.batch_rows), settings.max_steps or num_rows)
    mean = sum(train_lengths) / max(1, len(train_lengths))
    num_tokens = round(min(num_rows, num_steps * settings.batch_rows) * mean)
    is_lora, is_bf16 = settings.method == "lora", settings.precision == "bf16"
    trained = shape.lora_parameters(settings.lora.rank) if is_lora else shape.parameters
    weights_bytes = shape.parameters * (2 if is_lora and is_bf16 else 4)
    optimizer_bytes = trained * (16 if is_lora else 12)
    step_tokens = max(max(train_lengths, default=0), min(settings.micro_tokens, settings.batch_rows * mean))
    activation_bytes = round(step_tokens * _activation_bytes(shape, settings))
    evaluations = math.ceil(num_steps / every_steps(settings.eval_every_steps, num_steps)) + 1
    a_token = _flops_a_token(shape, settings, mean, label_fraction)
    flops = num_tokens * a_token + evaluations * validation_tokens * a_token / 2.5
    speed = flops_per_s or FLOPS_PER_S_A_THREAD * threads * (BF16_SPEEDUP if is_bf16 else 1.0)
    return Forecast(
        num_steps=num_steps,
        num_tokens=num_tokens,
        parameters=shape.parameters,
        trained_parameters=trained,
        weights_bytes=weights_bytes,
        optimizer_bytes=optimizer_bytes,
        activation_bytes=activation_bytes,
        memory_bytes=PROCESS_BYTES + weights_bytes + optimizer_bytes + activation_bytes,
        flops=flops,
        flops_a_token=a_token,
        wall_s=START_S + flops / speed,
    )


def _flops_a_token(shape: Shape, settings: TrainSection, mean_tokens: float, label_fraction: float) -> float:
    """Count forward and backward; frozen weights need no gradient, and the head runs on labels only."""
    head = 2 * shape.vocabulary * shape.hidden * label_fraction
    attention = 4 * (mean_tokens / 2) * shape.head_outputs * shape.layers
    if settings.method == "full":
        return 6 * shape.linear_parameters + 3 * attention + 3 * head
    adapter = 6 * shape.lora_parameters(settings.lora.rank)
    return 4 * shape.linear_parameters + adapter + 3 * attention + 2 * head


def _activation_bytes(shape: Shape, settings: TrainSection) -> float:
    """Count what the backward pass keeps a token: inputs of norms, attention, activation and adapters."""
    number_bytes = 2 if settings.precision == "bf16" else 4
    a_layer = 8 * shape.hidden + 3 * shape.head_outputs + 2 * shape.key_outputs + 5 * shape.intermediate
    adapter = 7 * settings.lora.rank if settings.method == "lora" else 0
    return number_bytes * shape.layers * (a_layer + adapter)
