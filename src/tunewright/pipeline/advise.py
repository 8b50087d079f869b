"""`advise`: is fine-tuning the right tool here? Rules of thumb over curated counts and a measured prompt."""

from dataclasses import dataclass

from tunewright.curate.curate import curate
from tunewright.evals.advice import Advice, Situation, advise
from tunewright.evals.prompt_only import PromptOnly, measure_prompt
from tunewright.ports import Ports
from tunewright.recipe import Recipe
from tunewright.records import DatasetVersion
from tunewright.values import Json


@dataclass(frozen=True, slots=True)
class Advised:
    """The answer with what it rests on."""

    num_rows: int
    bar: float | None
    """The highest `at_least` the recipe asks of the metric measured."""
    prompt: PromptOnly | None
    advice: Advice

    def to_json(self) -> dict[str, Json]:
        """Give answer, reasons and numbers."""
        return {
            "answer": self.advice.answer,
            "reasons": [*self.advice.reasons],
            "suggestions": [*self.advice.suggestions],
            "rows": self.num_rows,
            "bar": self.bar,
            "metric": self.prompt.metric if self.prompt else None,
            "few_shot": dict(self.prompt.interval.to_json()) if self.prompt else None,
        }

    def to_text(self) -> str:
        """Say it in words."""
        lines = [f"Fine-tune? {self.advice.answer.replace('_', ' ')}"]
        lines += [f"  because: {reason}" for reason in self.advice.reasons]
        lines.append(f"  measured: {self._measured()}")
        lines += [f"  next: {suggestion}" for suggestion in self.advice.suggestions]
        return "\n".join(lines)

    def _measured(self) -> str:
        if self.prompt is None:
            return (
                "no few-shot prompt (too few validation rows, no room in the context, or no fitting scorer)"
            )
        found = self.prompt.interval
        bar = (
            "no bar: add `at_least` for this metric to gate.require"
            if self.bar is None
            else f"bar {self.bar}"
        )
        return (
            f"{self.prompt.metric} of the base with {self.prompt.label}: {found.estimate:.2f} "
            f"({found.low:.2f} to {found.high:.2f}, n = {found.n}, {found.method}); {bar}"
        )


def advise_recipe(recipe: Recipe, ports: Ports) -> Advised:
    """Curate, measure the best few-shot prompt on validation rows, and answer by the rules."""
    dataset = curate(recipe, ports)
    prompt = measure_prompt(recipe, dataset, ports)
    bars = [
        one.at_least
        for one in recipe.gate.require
        if one.at_least is not None and prompt is not None and one.metric == prompt.metric
    ]
    bar = max(bars, default=None)
    situation = Situation(
        num_rows=dataset.rows_kept,
        bar=bar,
        few_shot=prompt.interval if prompt else None,
        label_consistency=_consistency(dataset),
    )
    return Advised(dataset.rows_kept, bar, prompt, advise(situation))


def _consistency(dataset: DatasetVersion) -> float | None:
    conflicts = dataset.report.get("conflicts")
    ceiling = conflicts.get("consistency_ceiling") if isinstance(conflicts, dict) else None
    return ceiling if isinstance(ceiling, float) else None
