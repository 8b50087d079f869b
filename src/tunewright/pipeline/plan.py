"""`plan`: what a recipe would do, before anything runs: rows, tokens, steps, memory, time, verdicts.

Reads the sources and runs the steps that look at single rows; duplicates and the split come later, so every
count of rows here is an upper bound. Writes nothing and opens no vault.
"""

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tunewright.core.tokens import ChatTokenizer
from tunewright.curate.gather import Gathered, gather
from tunewright.curate.language import load_identifier
from tunewright.curate.readers import find_sources
from tunewright.curate.steps import Prepared, make_rules
from tunewright.evals.inputs import read_suite_files
from tunewright.evals.planner import plan_gate
from tunewright.ports import BaseFiles, Ports
from tunewright.recipe import Recipe
from tunewright.train.forecast import Forecast, forecast
from tunewright.train.schedule import choose_rate
from tunewright.train.tokenise import Tokenised, context_limit, tokenise
from tunewright.train.train import measured_speed
from tunewright.values import Json

SAMPLE_ROWS = 2000
"""Rows tokenised to know their lengths."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is known before a run."""

    recipe: str
    rows_in: int
    rows_usable: int
    """Rows left by the steps that look at single rows; duplicates are not out yet."""
    removed: Mapping[str, int]
    train_rows: int
    held_out_rows: int
    mean_tokens: float
    longest_tokens: int
    learning_rate: str
    forecast: Forecast
    requirements: tuple[tuple[str, str], ...]
    """Each requirement of the gate, and what so many held-out rows can show about it."""
    notes: tuple[str, ...] = ()
    """What a person should know before they run it."""

    def to_json(self) -> dict[str, Json]:
        """Give all numbers."""
        return {
            "recipe": self.recipe,
            "rows_in": self.rows_in,
            "rows_usable": self.rows_usable,
            "removed": dict(self.removed),
            "train_rows": self.train_rows,
            "held_out_rows": self.held_out_rows,
            "mean_tokens": round(self.mean_tokens, 1),
            "longest_tokens": self.longest_tokens,
            "learning_rate": self.learning_rate,
            "steps": self.forecast.num_steps,
            "tokens": self.forecast.num_tokens,
            "parameters": self.forecast.parameters,
            "trained_parameters": self.forecast.trained_parameters,
            "memory_bytes": self.forecast.memory_bytes,
            "wall_s": round(self.forecast.wall_s, 1),
            "notes": [*self.notes],
            "requirements": [{"name": name, "reachable": said} for name, said in self.requirements],
        }

    def to_text(self) -> str:
        """Say it in words."""
        cost = self.forecast
        removed = ", ".join(f"{count:,} {reason}" for reason, count in self.removed.items()) or "none"
        return "\n".join(
            [
                f"Plan of {self.recipe} (counts before duplicates are taken out):",
                f"  rows      {self.rows_in:,} in, {self.rows_usable:,} usable (removed: {removed})",
                f"  split     about {self.train_rows:,} train, {self.held_out_rows:,} held out",
                f"  lengths   {self.mean_tokens:.0f} tokens a row, longest {self.longest_tokens:,}",
                f"  training  {cost.num_steps:,} steps, {cost.num_tokens:,} tokens, "
                f"{cost.trained_parameters:,} of {cost.parameters:,} parameters",
                f"  rate      {self.learning_rate}",
                f"  memory    about {cost.memory_bytes / 2**20:,.0f} MiB at the peak",
                f"  time      about {_duration(cost.wall_s)} of training on this machine",
                *[f"  note      {note}" for note in self.notes],
                "  the gate with so many held-out rows:",
                *[f"    {name}: {said}" for name, said in self.requirements],
            ]
        )


def plan_recipe(recipe: Recipe, ports: Ports, *, threads: int) -> Plan:
    """Forecast a recipe.

    Raises:
        SourceUnreadable, TooManyRejections, BaseModelError, TokenError: what would stop the run stops
            the plan.
    """
    ports.progress.start("reading sources")
    read_suite_files(recipe.gate, ports)
    base = ports.bases.resolve(recipe.train.base)
    files = find_sources(recipe.data.sources, ports.data_root)
    identify = load_identifier() if recipe.data.quality.languages else None
    gathered = gather(files, make_rules(recipe.data, identify), ports.progress)
    max_tokens = context_limit(recipe.train.max_tokens, base.config)
    tokenised = _tokenised(gathered.rows, base, max_tokens)
    rows = tokenised.rows
    ports.progress.finish(f"read {gathered.num_rows:,} rows")
    usable, split = len(gathered.rows), recipe.data.split
    distinct = len({row.example.id for row in gathered.rows})
    held_out = round(distinct * split.held_out)
    train = round((distinct - held_out) * (1 - split.validation))
    lengths = [len(row.ids) for row in rows]
    labelled = sum(row.num_supervised for row in rows) / max(1, sum(lengths))
    mean = sum(lengths) / max(1, len(lengths))
    rate = choose_rate(recipe.train, base.config)
    return Plan(
        recipe=recipe.name,
        rows_in=gathered.num_rows,
        rows_usable=usable,
        removed=_removed(gathered),
        train_rows=train,
        held_out_rows=held_out,
        mean_tokens=mean,
        longest_tokens=max(lengths, default=0),
        learning_rate=f"{rate.rate:.3g} ({rate.formula})",
        forecast=forecast(
            base.config,
            recipe.train,
            [lengths[index % len(lengths)] for index in range(train)] if lengths else [],
            validation_tokens=round(mean * (distinct - held_out - train)),
            label_fraction=labelled,
            threads=threads,
            flops_per_s=measured_speed(ports.records, recipe.train),
        ),
        requirements=plan_gate(recipe.gate, held_out, held_out_fraction=split.held_out),
        notes=(*_notes(gathered.rows, split.held_out), *_length_notes(tokenised, max_tokens)),
    )


def _notes(rows: Sequence[Prepared], held_out: float) -> Iterator[str]:
    """Say what the split will meet: rows that are equal, and a group that no side can hold."""
    repeated = len(rows) - len({row.example.id for row in rows})
    if repeated:
        yield f"{repeated:,} of {len(rows):,} rows repeat another one exactly and will be taken out"
    groups = Counter(row.example.group for row in rows if row.example.group is not None)
    group, size = max(groups.items(), key=lambda item: item[1], default=("", 0))
    if size > 1 and size > (1 - held_out) * len(rows):
        yield (
            f"group {group!r} holds {size:,} of {len(rows):,} rows and stays on one side: too few are left "
            "for the others. Choose a finer `group` field, or none"
        )


def _length_notes(tokenised: Tokenised, max_tokens: int) -> Iterator[str]:
    looked_at = (
        len(tokenised.rows) + len(tokenised.too_long) + len(tokenised.forged) + len(tokenised.mismatched)
    )
    if tokenised.num_truncated:
        yield (
            f"{tokenised.num_truncated:,} of {looked_at:,} rows looked at are longer than {max_tokens:,} "
            "tokens and lose the beginning of their prompt. Raise train.max_tokens, up to the base's context"
        )
    left_out = looked_at - len(tokenised.rows)
    if left_out:
        yield (
            f"{left_out:,} of {looked_at:,} rows looked at are left out of training: "
            f"{len(tokenised.too_long):,} answers are too long, {len(tokenised.forged):,} texts spell "
            f"special tokens, {len(tokenised.mismatched):,} do not extend their prompt"
        )


def _tokenised(rows: Sequence[Prepared], base: BaseFiles, max_tokens: int) -> Tokenised:
    """Tokenise a seeded sample as the training stage would, refusals included."""
    sample = random.Random(0).sample(list(rows), min(SAMPLE_ROWS, len(rows)))
    examples = [row.example for row in sample]
    return tokenise(ChatTokenizer.from_base(base), examples, max_tokens)


def _removed(gathered: Gathered) -> dict[str, int]:
    return dict(Counter(one.reason for one in gathered.rejections).most_common())


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
