"""What candidate and incumbent were really trained on, read back from stored tokens, against what is judged.

Follows the chain of each run: its record names token blobs, the blobs hash to their names, their rows are the
rows the record lists, and each row is what the dataset's row renders to. A break makes the verdict void.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import TypeAdapter, ValidationError

from tunewright.core.references import get_record, list_records
from tunewright.core.rows import load_split
from tunewright.core.text import prompt_text
from tunewright.core.tokens import ChatTokenizer, TokenRow, load_token_rows
from tunewright.errors import BaseModelError, BlobCorrupt, BlobMissing
from tunewright.evals.contamination import RowText, TrainedTexts, find_contamination, trained_texts
from tunewright.evals.evidence import Contamination
from tunewright.evals.inputs import Inputs
from tunewright.ports import Ports, Records
from tunewright.records import BaseModelRef, DatasetVersion, Example, TrainingRun
from tunewright.values import Json, Ref

NO_LEXICAL_HITS = 1.0
"""A threshold that no score exceeds."""

CARD_FILE = "card.json"
"""In a base's folder: its maker's word on what it was pre-trained on."""

_ROW_IDS = TypeAdapter(list[str])


@dataclass(frozen=True, slots=True)
class _Read:
    """What could be read of one or more runs."""

    rows: tuple[RowText, ...] = ()
    chain_breaks: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


def find_exposure(
    inputs: Inputs, held_out: Sequence[Example], neighbours: Mapping[str, float], ports: Ports
) -> Contamination:
    """Find judged rows that candidate, incumbent or their ancestors were trained on.

    Args:
        inputs: what is judged.
        held_out: all sealed rows.
        neighbours: held-out row -> best lexical score stored at curation.
        ports: records and blobs.

    Raises:
        BlobMissing, BlobCorrupt: the candidate's tokens are not what its record says.
    """
    read = _read_runs(inputs, ports)
    threshold, unknown = _lexical_threshold(inputs.dataset)
    trained = TrainedTexts(read.rows, read.chain_breaks)
    sealed = find_contamination(
        _texts(held_out),
        trained,
        neighbours=neighbours,
        lexical_threshold=threshold,
        near_threshold=inputs.recipe.data.dedup_threshold,
        unknown=(*_undeclared(inputs), *read.unknown, *unknown),
    )
    files = [example for file in inputs.files.values() for example in file.examples]
    if not files:
        return sealed
    named = find_contamination(
        _texts(files),
        TrainedTexts(read.rows, ()),
        neighbours={},
        lexical_threshold=NO_LEXICAL_HITS,
        near_threshold=inputs.recipe.data.dedup_threshold,
    )
    return _join(sealed, named)


def ancestors_of(dataset: DatasetVersion, records: Records) -> list[DatasetVersion]:
    """List the dataset versions a version was made from, nearest first."""
    found: dict[Ref, DatasetVersion] = {}
    waiting = list(dataset.parents)
    while waiting:
        ref = waiting.pop(0)
        if ref not in found:
            found[ref] = get_record(records, DatasetVersion, ref)
            waiting.extend(found[ref].parents)
    return list(found.values())


def exposure_facts(found: Contamination) -> dict[str, Json]:
    """Say what was found; rows by id, never by text."""
    return {
        "rows_judged": found.num_rows,
        "exact": len(found.exact_rows),
        "dirty": len(found.dirty_rows),
        "hits": {row: dict(evidence) for row, evidence in found.evidence.items()},
        "chain_breaks": list(found.chain_breaks),
        "unknown": list(found.unknown),
    }


def _read_runs(inputs: Inputs, ports: Ports) -> _Read:
    """Read the candidate's run strictly, and every other run as far as its tokens are kept."""
    own = _read_run(inputs.run, ports)
    parts = [own]
    seen = {tuple(sorted(inputs.run.token_blobs.values()))}
    for run in _other_runs(inputs, ports.records):
        blobs = tuple(sorted(run.token_blobs.values()))
        if blobs not in seen:
            seen.add(blobs)
            parts.append(_read_if_kept(run, ports))
    rows = {(row.row, row.text): row for part in parts for row in part.rows}
    return _Read(
        tuple(rows.values()),
        tuple(sentence for part in parts for sentence in part.chain_breaks),
        tuple(sentence for part in parts for sentence in part.unknown),
    )


def _other_runs(inputs: Inputs, records: Records) -> list[TrainingRun]:
    """The incumbent's run, and every run on an ancestor of either's dataset."""
    datasets = ancestors_of(inputs.dataset, records)
    runs: list[TrainingRun] = []
    if inputs.incumbent is not None:
        runs.append(inputs.incumbent.run)
        judged_on = get_record(records, DatasetVersion, inputs.incumbent.run.dataset)
        datasets += ancestors_of(judged_on, records)
    ancestors = {dataset.ref for dataset in datasets}
    return runs + [run for run in list_records(records, TrainingRun) if run.dataset in ancestors]


def _read_if_kept(run: TrainingRun, ports: Ports) -> _Read:
    try:
        return _read_run(run, ports)
    except (BlobMissing, BaseModelError) as error:
        return _Read(unknown=(f"what {run.ref} was trained on cannot be read any more: {error}",))


def _read_run(run: TrainingRun, ports: Ports) -> _Read:
    dataset = get_record(ports.records, DatasetVersion, run.dataset)
    token_rows: list[TokenRow] = []
    for split in sorted(run.token_blobs):
        token_rows += load_token_rows(ports.blobs.get(run.token_blobs[split]))
    examples = {
        str(example.id): example
        for split in ("train", "validation")
        if split in dataset.splits
        for example in load_split(dataset, split, ports.blobs)
    }
    found = trained_texts(token_rows, examples, _tokenizer(run.base, ports))
    breaks = (*_record_breaks(run, dataset, token_rows, ports), *found.chain_breaks)
    return _Read(found.rows, tuple(f"{run.ref}: {sentence}" for sentence in breaks))


def _record_breaks(
    run: TrainingRun, dataset: DatasetVersion, token_rows: Sequence[TokenRow], ports: Ports
) -> list[str]:
    breaks: list[str] = []
    if run.dataset_digest != dataset.digest:
        breaks.append(f"its record names another content of {dataset.ref} than is stored")
    missing = {"train"} - run.token_blobs.keys()
    if missing:
        breaks.append("its record names no tokens it was trained on")
    if set(_listed(run, ports)) != {row.row for row in token_rows}:
        breaks.append("the rows it lists are not the rows of its tokens")
    return breaks


def _listed(run: TrainingRun, ports: Ports) -> list[str]:
    try:
        return _ROW_IDS.validate_json(ports.blobs.get(run.trained_rows))
    except ValidationError as error:
        raise BlobCorrupt(
            f"the list of rows that {run.ref} was trained on does not parse; expected a JSON list of ids"
        ) from error


def _tokenizer(base: BaseModelRef, ports: Ports) -> ChatTokenizer:
    return ChatTokenizer.from_base(ports.bases.resolve(base.name))


def _lexical_threshold(dataset: DatasetVersion) -> tuple[float, tuple[str, ...]]:
    """Read the threshold fitted at curation; without it lexical hits cannot be told."""
    facts = dataset.report.get("contamination")
    threshold = facts.get("lexical_threshold") if isinstance(facts, dict) else None
    if isinstance(threshold, int | float):
        return float(threshold), ()
    return NO_LEXICAL_HITS, (
        f"{dataset.ref} records no lexical threshold, so only equal and nearly equal prompts were looked for",
    )


def _undeclared(inputs: Inputs) -> tuple[str, ...]:
    if (inputs.base.folder / CARD_FILE).is_file():
        return ()
    return (
        f"what the base {inputs.base.ref.name} was pre-trained on is not declared; it may know judged rows",
    )


def _texts(examples: Sequence[Example]) -> list[RowText]:
    return [RowText(example.id, prompt_text(example.messages)) for example in examples]


def _join(left: Contamination, right: Contamination) -> Contamination:
    return Contamination(
        num_rows=left.num_rows + right.num_rows,
        exact_rows=tuple(dict.fromkeys((*left.exact_rows, *right.exact_rows))),
        dirty_rows=tuple(dict.fromkeys((*left.dirty_rows, *right.dirty_rows))),
        evidence={**right.evidence, **left.evidence},
        chain_breaks=left.chain_breaks,
        unknown=left.unknown,
    )
