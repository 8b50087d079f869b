"""Facts for people beside the verdict: figures by slice and nearness to training, label consistency. Pure."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tunewright.core.scorers import Answer, BoundScorer, score
from tunewright.core.text import prompt_text
from tunewright.evals.evidence import ArmEvidence, Item, Metric
from tunewright.records import Example
from tunewright.values import Json

MIN_SLICE_ROWS = 30
"""Below this a slice's figure says little, and the report says so."""

BINS = (0.0, 0.3, 0.5, 0.7, 0.9)
"""Lower ends of the bins of similarity to the nearest train row; the last bin ends at 1, included."""


def metric_of(metric: Metric, values: Sequence[tuple[float, ...]]) -> float | None:
    """Join per-item values into the metric's figure; None without values."""
    if not values:
        return None
    array = np.array(values, dtype=np.float64)
    figure = float(array[:, 0].mean()) if metric.combine is None else metric.combine(array)
    return figure if np.isfinite(figure) else None


def slice_facts(
    metrics: Sequence[Metric], arms: Sequence[ArmEvidence], items: Mapping[str, Sequence[Item]]
) -> dict[str, Json]:
    """Break every metric of every arm down by slice: metric key -> `field=value` -> figures."""
    facts: dict[str, Json] = {}
    for metric in metrics:
        members: dict[str, list[str]] = defaultdict(list)
        for item in items[metric.suite]:
            for field, value in item.slices.items():
                members[f"{field}={value}"].append(item.row)
        if members:
            facts[metric.key] = {name: _figures(metric, arms, members[name]) for name in sorted(members)}
    return facts


def similarity_facts(
    metrics: Sequence[Metric], arms: Sequence[ArmEvidence], similarity: Mapping[str, Mapping[str, float]]
) -> dict[str, Json]:
    """Break every metric down by how near the nearest train row is: metric key -> bin -> figures.

    Args:
        metrics: all metrics.
        arms: all arms.
        similarity: suite -> row -> lexical score of the nearest train row, in [0, 1].
    """
    facts: dict[str, Json] = {}
    for metric in metrics:
        bins: dict[str, list[str]] = {name: [] for name in _bin_names()}
        for row, value in similarity.get(metric.suite, {}).items():
            bins[_bin_names()[_bin_of(value)]].append(row)
        facts[metric.key] = {name: _figures(metric, arms, rows) for name, rows in bins.items() if rows}
    return facts


@dataclass(frozen=True, slots=True)
class _Told:
    """One kept row and how many raw rows it stands for."""

    example: Example
    weight: int


def consistency_ceiling(
    scorers: Sequence[BoundScorer], examples: Sequence[Example], weights: Mapping[str, int]
) -> dict[str, Json]:
    """Say how well the best possible answer to each repeated prompt agrees with that prompt's own answers.

    No model can be expected to score above it on rows like these: the same question was answered in different
    ways. Only prompts that occur at least twice count; each is answered by whichever of its own answers
    scores best, so the figure is somewhat too high for prompts that occur only a few times.

    Args:
        scorers: those that compare one answer with one reference are judged, the others are left out.
        examples: all kept rows.
        weights: row -> raw rows it stands for, exact duplicates included; 1 where absent.
    """
    prompts: dict[str, list[_Told]] = defaultdict(list)
    for example in examples:
        told = _Told(example, weights.get(example.id, 1))
        prompts[prompt_text(example.messages)].append(told)
    repeated = [group for group in prompts.values() if sum(told.weight for told in group) > 1]
    num_rows = sum(told.weight for group in repeated for told in group)
    if not num_rows:
        return {}
    return {
        bound.metric: {
            "ceiling": sum(_best_agreement(bound, group) for group in repeated) / num_rows,
            "rows": num_rows,
            "prompts": len(repeated),
        }
        for bound in scorers
        if bound.combine is None and _compares(bound, examples)
    }


def _compares(bound: BoundScorer, examples: Sequence[Example]) -> bool:
    """Say whether the scorer can judge a bare text, as stop rate and latency cannot."""
    return any(score(bound, Answer(example.answer), example) is not None for example in examples[:20])


def _best_agreement(bound: BoundScorer, group: Sequence[_Told]) -> float:
    """Weighted score of the group's best constant answer."""
    totals: list[float] = []
    for answer in sorted({told.example.answer for told in group}):
        values = [score(bound, Answer(answer), told.example) for told in group]
        pairs = zip(group, values, strict=True)
        totals.append(sum(told.weight * (value[0] if value else 0.0) for told, value in pairs))
    return max(totals)


def _figures(metric: Metric, arms: Sequence[ArmEvidence], rows: Sequence[str]) -> dict[str, Json]:
    figures: dict[str, Json] = {"n": len(rows), "too_small": len(rows) < MIN_SLICE_ROWS}
    for arm in arms:
        values = arm.values.get(metric.key, {})
        figure = metric_of(metric, [values[row] for row in rows if row in values])
        if figure is not None:
            figures[arm.arm] = figure
    return figures


def _bin_of(similarity: float) -> int:
    return max(index for index, low in enumerate(BINS) if similarity >= low or index == 0)


def _bin_names() -> list[str]:
    ends = [*BINS[1:], 1.0]
    return [f"{low:.1f}-{high:.1f}" for low, high in zip(BINS, ends, strict=True)]
