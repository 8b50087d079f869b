"""`advise`: is fine-tuning the right tool here? Rules of thumb over curated counts and a measured prompt."""

from dataclasses import dataclass

from tunewright.curate.curate import curate
from tunewright.evals.advice import Advice, Situation, advise
from tunewright.evals.probe_prompt import measure_few_shot
from tunewright.ports import Ports
from tunewright.recipe import Recipe
from tunewright.records import Interval
from tunewright.values import Json


@dataclass(frozen=True, slots=True)
class Advised:
    """The answer with what it rests on."""

    num_rows: int
    metric: str
    bar: float | None
    few_shot: Interval | None
    advice: Advice

    def to_json(self) -> dict[str, Json]:
        """Give answer, reasons and numbers."""
        return {
            "answer": self.advice.answer,
            "reasons": [*self.advice.reasons],
            "suggestions": [*self.advice.suggestions],
            "rows": self.num_rows,
            "metric": self.metric,
            "bar": self.bar,
            "few_shot": dict(self.few_shot.to_json()) if self.few_shot else None,
        }

    def to_text(self) -> str:
        """Say it in words."""
        lines = [f"Fine-tune? {self.advice.answer.replace('_', ' ')}"]
        lines += [f"  because: {reason}" for reason in self.advice.reasons]
        lines += [f"  next: {suggestion}" for suggestion in self.advice.suggestions]
        return "\n".join(lines)
