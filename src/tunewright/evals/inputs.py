"""What an evaluation is made from, gathered without opening the vault, and the fingerprint that follows."""

from collections.abc import Mapping
from dataclasses import dataclass

from tunewright.core.references import get_record, list_records
from tunewright.core.scorers import SCORERS
from tunewright.errors import BaseChanged, UnknownReference
from tunewright.evals.suites import check_gate, read_suite_file
from tunewright.ports import BaseFiles, Ports, Records
from tunewright.recipe import GateSection, Recipe
from tunewright.records import DatasetVersion, EvalReport, Example, ModelVersion, TrainingRun
from tunewright.values import Digest, fingerprint

CHAMPION = "champion"


@dataclass(frozen=True, slots=True)
class SuiteFile:
    """A named suite as read."""

    digest: Digest
    examples: tuple[Example, ...]


@dataclass(frozen=True, slots=True)
class Incumbent:
    """The model the candidate would replace, with the run that made it."""

    model: ModelVersion
    run: TrainingRun


@dataclass(frozen=True, slots=True)
class Inputs:
    """Everything an evaluation depends on."""

    recipe: Recipe
    run: TrainingRun
    dataset: DatasetVersion
    base: BaseFiles
    incumbent: Incumbent | None
    files: Mapping[str, SuiteFile]
    """Suite name -> file, for suites with a path."""
    fingerprint: Digest

    @property
    def held_out(self) -> Digest:
        """The sealed rows' split digest."""
        return self.dataset.splits["held_out"].digest


def gather_inputs(recipe: Recipe, run: TrainingRun, ports: Ports, code_version: int) -> Inputs:
    """Check the gate, read what needs no key, and compute the fingerprint.

    Raises:
        RecipeError: the gate section cannot be used.
        SourceUnreadable: a named suite cannot be read.
        BaseChanged: the base is not the one the run was trained on.
    """
    check_gate(recipe.gate)
    dataset = _dataset_of(run, ports.records)
    base = ports.bases.resolve(run.base.name)
    if base.ref.digest != run.base.digest:
        raise BaseChanged(
            f"base {run.base.name}: its files hash to {base.ref.digest[:12]}, but {run.ref} was trained on "
            f"{run.base.digest[:12]}; expected the same files. Restore them, or train again."
        )
    files = read_suite_files(recipe.gate, ports)
    incumbent = find_incumbent(recipe.name, run.candidate, ports.records)
    made_from: dict[str, object] = {
        "name": recipe.name,
        "gate": recipe.gate.to_json(),
        "dataset": dataset.digest,
        "held_out": dataset.splits["held_out"].digest,
        "run": run.fingerprint,
        "candidate": run.candidate,
        "base": base.ref.digest,
        "tokenizer": base.ref.tokenizer_digest,
        "incumbent": incumbent.model.adapter if incumbent else None,
        "files": {name: file.digest for name, file in files.items()},
        "scorers": _scorer_versions(recipe),
        "threshold": recipe.data.dedup_threshold,
        "contamination_fpr": recipe.data.contamination_fpr,
    }
    return Inputs(
        recipe, run, dataset, base, incumbent, files, fingerprint("evaluate", code_version, made_from)
    )


def read_suite_files(gate: GateSection, ports: Ports) -> dict[str, SuiteFile]:
    """Read every named suite, by suite name. Raises SourceUnreadable."""
    return {suite.name: SuiteFile(*_read(suite.path, ports)) for suite in gate.suites if suite.path}


def _scorer_versions(recipe: Recipe) -> dict[str, int]:
    kinds = {spec.kind for suite in recipe.gate.suites for spec in suite.scorers}
    return {kind: SCORERS[kind].version for kind in kinds}


def find_incumbent(name: str, candidate: Digest, records: Records) -> Incumbent | None:
    """Find the model behind the alias `champion`.

    Where the champion is this very candidate, it is judged against the model it was judged against before it
    became champion: the same evaluation asked for again is the same evaluation.
    """
    target = records.alias(name, CHAMPION).target
    if target is None:
        return None
    champion = get_record(records, ModelVersion, target)
    if champion.adapter != candidate:
        return _with_run(champion, records)
    before = get_record(records, EvalReport, champion.evaluation).report.get("incumbent")
    models = list_records(records, ModelVersion, name)
    replaced = next((model for model in models if model.adapter == before), None)
    return None if replaced is None else _with_run(replaced, records)


def _with_run(model: ModelVersion, records: Records) -> Incumbent:
    return Incumbent(model, get_record(records, TrainingRun, model.run))


def _dataset_of(run: TrainingRun, records: Records) -> DatasetVersion:
    dataset = get_record(records, DatasetVersion, run.dataset)
    if "held_out" not in dataset.splits:
        raise UnknownReference(
            f"{dataset.ref} has no held-out split, so nothing can be judged; expected one. Curate again."
        )
    return dataset


def _read(path: str, ports: Ports) -> tuple[Digest, tuple[Example, ...]]:
    digest, examples = read_suite_file(ports.data_root / path, path)
    return digest, tuple(examples)
