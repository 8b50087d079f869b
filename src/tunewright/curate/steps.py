"""The steps that look at one row alone, in order: shape, clean, validate, quality, language, personal data.

Pure: a raw row and the rules go in, an example or a rejection comes out. What compares rows with each other
comes later, in `decide`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tunewright.curate.normalize import clean_turns, make_example, validate_turns
from tunewright.curate.pii import Scanner, make_scanner, mask_messages
from tunewright.curate.problem import Problem
from tunewright.curate.quality import check_language, check_quality
from tunewright.curate.readers_text import RawRow
from tunewright.curate.shapes import Form, Shaped, shape_row
from tunewright.recipe import DataSection, SourceSpec
from tunewright.records import Example, Rejection, Source
from tunewright.values import Digest


@dataclass(frozen=True, slots=True)
class RowRules:
    """The recipe's rules for single rows, compiled."""

    data: DataSection
    scanner: Scanner
    identify: Callable[[str], str] | None = None
    """Tells the language of a text; present when the recipe names languages."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A row that passed every step of its own."""

    example: Example
    """Masked; its id is that of the text before masking."""
    form: Form
    fields: tuple[str, ...]
    """Fields the text came from."""
    found: Mapping[str, int] = field(default_factory=dict[str, int])
    """Personal data masked, type -> values."""


def make_rules(data: DataSection, identify: Callable[[str], str] | None = None) -> RowRules:
    """Check and compile the rules. Raises RecipeError."""
    return RowRules(data, make_scanner(data.pii), identify)


def prepare_row(raw: RawRow, spec: SourceSpec, rules: RowRules) -> Prepared | Rejection:
    """Take one raw row through every step; the first problem ends the walk."""
    shaped = shape_row(raw.fields, spec)
    if isinstance(shaped, Problem):
        return reject(raw.source, "validate", shaped)
    example = _validated(shaped, raw, spec)
    if isinstance(example, Problem):
        return reject(raw.source, "validate", example)
    problem = check_quality(example, rules.data.quality) or _language(example, rules)
    if problem:
        return reject(raw.source, "quality", problem, example.id)
    masked = mask_messages(example.messages, rules.scanner)
    if masked.problem:
        return reject(raw.source, "pii", masked.problem, example.id)
    example = example.model_copy(update={"messages": masked.messages})
    return Prepared(example, shaped.form, shaped.fields, masked.counts)


def reject(source: Source, step: str, problem: Problem, row: Digest | None = None) -> Rejection:
    """Write a problem down as a rejection."""
    return Rejection(
        source=source, row=row, step=step, reason=problem.reason, evidence=dict(problem.evidence)
    )


def _validated(shaped: Shaped, raw: RawRow, spec: SourceSpec) -> Example | Problem:
    turns = clean_turns(shaped.turns, spec.system)
    return validate_turns(turns) or make_example(turns, raw.fields, spec, raw.source)


def _language(example: Example, rules: RowRules) -> Problem | None:
    languages = rules.data.quality.languages
    if not languages or not rules.identify:
        return None
    return check_language(example, languages, rules.identify)
