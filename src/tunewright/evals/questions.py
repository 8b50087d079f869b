"""A requirement with everything it refers to looked up: rows, metric, arms. No statistics."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from tunewright.evals.evidence import ArmEvidence, Item, Metric
from tunewright.evals.requirements import against, describe
from tunewright.recipe import Requirement
from tunewright.records import Arm

Kind = Literal["at_least", "better_than", "not_worse_than"]


@dataclass(frozen=True, slots=True)
class Bench:
    """What is left to judge on once dirty rows have left every arm."""

    items: Mapping[str, tuple[Item, ...]]
    metrics: Mapping[str, Metric]
    """By key."""
    arms: Mapping[Arm, ArmEvidence]
    missing_arms: Mapping[Arm, str]
    alpha: float
    power: float

    @property
    def level(self) -> float:
        """Level of two-sided intervals whose one side errs at most alpha."""
        return 1 - 2 * self.alpha


@dataclass(frozen=True, slots=True)
class Slice:
    """Rows with one value of one slice field."""

    field: str
    value: str

    def __str__(self) -> str:
        """Write `field=value`."""
        return f"{self.field}={self.value}"


@dataclass(frozen=True, slots=True)
class Question:
    """A requirement with everything it refers to looked up."""

    bench: Bench
    requirement: Requirement
    slice: Slice | None = None

    @property
    def metric(self) -> Metric:
        """The metric asked about."""
        return self.bench.metrics[f"{self.requirement.suite}/{self.requirement.metric}"]

    @property
    def kind(self) -> Kind:
        """Which of the three forms it has."""
        if self.requirement.at_least is not None:
            return "at_least"
        return "better_than" if self.requirement.better_than is not None else "not_worse_than"

    @property
    def name(self) -> str:
        """Such as `exact not_worse_than incumbent [scenario=latte]`."""
        return describe(self.requirement) + (f" [{self.slice}]" if self.slice else "")

    @property
    def subject(self) -> str:
        """What the sentence speaks of."""
        metric = self.metric.name if self.metric.suite == "held_out" else self.metric.key
        return f"{metric} on {self.slice}" if self.slice else metric

    @property
    def items(self) -> tuple[Item, ...]:
        """The rows it is asked about."""
        rows = self.bench.items.get(self.requirement.suite, ())
        if self.slice is None:
            return rows
        return tuple(item for item in rows if item.slices.get(self.slice.field) == self.slice.value)

    @property
    def arms(self) -> tuple[Arm, ...]:
        """The candidate, and the arm it is compared with."""
        other = against(self.requirement)
        return ("candidate",) if other is None else ("candidate", other)

    @property
    def margin(self) -> float | None:
        """Of non-inferiority only."""
        return self.requirement.margin if self.kind == "not_worse_than" else None

    @property
    def sign(self) -> float:
        """1 where more is better, else -1."""
        return 1.0 if self.metric.higher_is_better else -1.0

    @property
    def null(self) -> float:
        """What an improvement must exceed, or the level itself."""
        if self.requirement.at_least is not None:
            return self.requirement.at_least
        return -self.requirement.margin if self.kind == "not_worse_than" else 0.0
