"""What the gate decides on: items, values of every arm, contamination and parity findings. No logic."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tunewright.records import Arm


@dataclass(frozen=True, slots=True)
class Item:
    """One row to be judged on."""

    row: str
    cluster: str
    """Group joined with near-duplicate cluster; standard errors are clustered on it."""
    prompt_digest: str
    """SHA-256 of the item's own messages; equal in every arm, or the comparison is refused."""
    slices: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class Metric:
    """How per-item values become one number."""

    name: str
    suite: str
    kind: Literal["binary", "graded", "aggregate"]
    """binary: one value 0 or 1 an item; graded: one real value an item, averaged; aggregate: `combine`."""
    higher_is_better: bool = True
    combine: Callable[[NDArray[np.float64]], float] | None = None
    """For aggregate metrics: values (n items, k numbers) -> metric, e.g. macro F1 or perplexity."""

    @property
    def key(self) -> str:
        """`suite/name`, unique."""
        return f"{self.suite}/{self.name}"


@dataclass(frozen=True, slots=True)
class ArmEvidence:
    """What one arm scored."""

    arm: Arm
    model: str
    """`base`, an adapter digest, `few_shot:k=3`, `nearest_example`."""
    prompts: Mapping[str, Mapping[str, str]]
    """Suite -> row -> prompt digest of the item that was scored."""
    values: Mapping[str, Mapping[str, tuple[float, ...]]]
    """Metric key -> row -> value (k numbers; one for binary and graded). A missing row is missing."""


@dataclass(frozen=True, slots=True)
class Contamination:
    """Held-out rows that training may have seen, recomputed from the tokens really trained."""

    num_rows: int
    exact_rows: tuple[str, ...] = ()
    """Held-out rows whose prompt was trained on word for word."""
    dirty_rows: tuple[str, ...] = ()
    """exact_rows and rows with a verified near-duplicate, or a lexical score above stored and threshold."""
    evidence: Mapping[str, Mapping[str, str | float]] = field(
        default_factory=dict[str, Mapping[str, str | float]]
    )
    """Dirty row -> {trained: row id, detector, score}."""
    chain_breaks: tuple[str, ...] = ()
    """Sentences: where the chain from dataset to trained tokens breaks; any makes the verdict void."""
    unknown: tuple[str, ...] = ()
    """Sentences: what cannot be known, such as an imported adapter's data."""


@dataclass(frozen=True, slots=True)
class Parity:
    """Do the engine's tokens and log-probabilities equal the trainer's?"""

    num_rows: int
    token_mismatches: tuple[str, ...] = ()
    """Rows whose ids through the wire differ from the stored ids."""
    max_logprob_difference: float | None = None
    tolerance: float = 1e-3
    """1e-3 for fp32 serving of fp32 training; wider where the record says bf16."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything `decide` may look at."""

    items: Mapping[str, tuple[Item, ...]]
    """Suite -> items."""
    metrics: tuple[Metric, ...]
    arms: tuple[ArmEvidence, ...]
    contamination: Contamination
    parity: Parity
    missing_arms: Mapping[Arm, str] = field(default_factory=dict[Arm, str])
    """Arm -> why it was not run, such as "there is no champion yet"."""
