"""Suites: which rows are judged and by which scorers. Reads named files; sealed rows are the caller's."""

import json
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from pydantic import ValidationError

from tunewright.core.scorers import SCORERS, Answer, BoundScorer, Value, bind_scorer, check_scorer, score
from tunewright.core.text import content_id
from tunewright.errors import RecipeError, SourceUnreadable
from tunewright.evals.evidence import Item, Metric
from tunewright.recipe import GateSection, Requirement, SuiteSpec
from tunewright.records import Example, Message, Source
from tunewright.values import Digest, digest_bytes

HELD_OUT = "held_out"

PROMPT_FIELDS = ("prompt", "input", "question", "instruction", "text")
COMPLETION_FIELDS = ("completion", "output", "answer", "response", "label")


@dataclass(frozen=True, slots=True)
class Suite:
    """Rows with their items, and the scorers bound to them."""

    spec: SuiteSpec
    items: tuple[Item, ...]
    examples: Mapping[str, Example]
    """Row -> example, for every item."""
    scorers: tuple[BoundScorer, ...]

    @property
    def name(self) -> str:
        """The name requirements use."""
        return self.spec.name

    @property
    def needs_logprobs(self) -> bool:
        """Does a scorer ask for log-probabilities of the reference answer?"""
        return any(bound.scorer.needs_logprobs for bound in self.scorers)


def check_gate(gate: GateSection) -> None:
    """Check suites, scorers and requirements of a recipe without reading any row.

    Raises:
        RecipeError: a name is used twice, a scorer or setting is unknown, or a requirement names a metric
            that no suite measures or that is for information only.
    """
    _refuse_repeats("gate.suites: suite", [suite.name for suite in gate.suites])
    information: set[str] = set()
    known: dict[str, list[str]] = {}
    for suite in gate.suites:
        known[suite.name] = [spec.metric for spec in suite.scorers]
        _refuse_repeats(f"gate.suites, {suite.name}: metric", known[suite.name])
        for spec in suite.scorers:
            check_scorer(spec)
            if SCORERS[spec.kind].information_only:
                information.add(f"{suite.name}/{spec.metric}")
    first = gate.suites[0]
    if not gate.require and f"{first.name}/{first.scorers[0].metric}" in information:
        raise RecipeError(
            f"gate: without `require` the first metric decides, and {first.scorers[0].metric!r} depends on "
            "the machine; put another scorer first, or write requirements"
        )
    for requirement in gate.require:
        _check_requirement(requirement, known, information)


def build_suite(spec: SuiteSpec, items: Sequence[Item], examples: Sequence[Example]) -> Suite:
    """Bind a suite's scorers to its rows.

    Raises:
        RecipeError: a scorer cannot read any reference answer.
    """
    by_row = {str(example.id): example for example in examples}
    chosen = {item.row: by_row[item.row] for item in items}
    bound = tuple(bind_scorer(scorer, list(chosen.values())) for scorer in spec.scorers)
    return Suite(spec, tuple(items), chosen, bound)


def build_metrics(suites: Sequence[Suite]) -> tuple[Metric, ...]:
    """Declare every metric of every suite, in the recipe's order."""
    return tuple(
        Metric(
            name=bound.metric,
            suite=suite.name,
            kind=bound.scorer.kind,
            higher_is_better=bound.scorer.higher_is_better,
            combine=bound.combine,
        )
        for suite in suites
        for bound in suite.scorers
    )


def score_suite(suite: Suite, answers: Mapping[str, Answer]) -> dict[str, dict[str, Value]]:
    """Score one arm's answers: metric key -> row -> value. What cannot be measured is left out."""
    values: dict[str, dict[str, Value]] = {}
    for bound in suite.scorers:
        scored = {row: score(bound, answer, suite.examples[row]) for row, answer in answers.items()}
        values[f"{suite.name}/{bound.metric}"] = {
            row: value for row, value in scored.items() if value is not None
        }
    return values


def read_suite_file(path: Path, name: str) -> tuple[Digest, list[Example]]:
    """Read a named suite: JSON lines of chats (`messages`) or of prompt and completion.

    Args:
        path: the file.
        name: the file as the recipe names it, for messages.

    Returns:
        The file's digest and its rows; rows with the same messages are one row.

    Raises:
        SourceUnreadable: the file is missing, empty, or a line is no such row; names file and line.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SourceUnreadable(
            f"suite file {name} cannot be read at {path}: {error.strerror}; expected a JSONL file. "
            "Check the path, or give --data DIR."
        ) from error
    digest = digest_bytes(data)
    examples = [
        _read_line(line, Source(digest=digest, path=name, line=number))
        for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1)
        if line.strip()
    ]
    if not examples:
        raise SourceUnreadable(f"suite file {name} holds no rows; expected at least one JSON line")
    return digest, list({example.id: example for example in examples}.values())


def _read_line(line: bytes, source: Source) -> Example:
    where = f"{source.path}:{source.line}"
    try:
        fields: object = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise SourceUnreadable(f"{where} is not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise SourceUnreadable(f"{where} is not a JSON object; expected messages, or prompt and completion")
    row = cast(dict[str, object], fields)
    try:
        messages = tuple(Message.model_validate(turn) for turn in _turns(row, where))
    except ValidationError as error:
        raise SourceUnreadable(
            f"{where}: a turn is not {{role, content}} with role system, user or assistant"
        ) from error
    if len(messages) < 2 or messages[-1].role != "assistant":
        raise SourceUnreadable(f"{where}: expected a prompt and, last, the assistant's reference answer")
    group = row.get("group")
    return Example(
        id=content_id(messages),
        messages=messages,
        group=None if group is None else str(group),
        source=source,
    )


def _turns(row: Mapping[str, object], where: str) -> list[object]:
    messages = row.get("messages")
    if isinstance(messages, list):
        return [_plain_turn(turn) for turn in cast(list[object], messages)]
    prompt = next((row[key] for key in PROMPT_FIELDS if isinstance(row.get(key), str)), None)
    completion = next((row[key] for key in COMPLETION_FIELDS if row.get(key) is not None), None)
    if prompt is None or completion is None:
        raise SourceUnreadable(
            f"{where} has neither messages nor prompt and completion; its fields: {', '.join(sorted(row))}"
        )
    answer = completion if isinstance(completion, str) else json.dumps(completion, ensure_ascii=False)
    return [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]


def _plain_turn(turn: object) -> object:
    """Leave out what a turn carries beside role and content."""
    if not isinstance(turn, dict):
        return turn
    fields = cast(dict[str, object], turn)
    return {key: fields[key] for key in ("role", "content") if key in fields}


def _check_requirement(
    requirement: Requirement, known: Mapping[str, Sequence[str]], information: Set[str]
) -> None:
    suite, metric = requirement.suite, requirement.metric
    if suite not in known:
        raise RecipeError(f"gate.require: no suite is called {suite!r}; known: {', '.join(known)}")
    if metric not in known[suite]:
        raise RecipeError(
            f"gate.require: suite {suite!r} has no metric {metric!r}; it measures {', '.join(known[suite])}"
        )
    if f"{suite}/{metric}" in information:
        raise RecipeError(
            f"gate.require: {metric!r} depends on the machine and is for information only; "
            "require another metric"
        )


def _refuse_repeats(what: str, names: Sequence[str]) -> None:
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise RecipeError(f"{what} {repeated[0]!r} is named twice; give each a `name` of its own")
