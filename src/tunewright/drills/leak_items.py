"""Reads an evaluation's items back, and asks the gate's pure decision what it says without one finding.

The gate has no setting that leaves its contamination check out. The drill hands `decide` the very scores that
the evaluation stored, with the finding "no row was seen in training", and only prints the answer.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tunewright.core.rows import load_split
from tunewright.evals.evidence import ArmEvidence, Contamination, Evidence, Item, Parity
from tunewright.evals.gate import Decision, decide
from tunewright.evals.items import file_items, held_out_items
from tunewright.evals.suites import build_metrics, build_suite, read_suite_file
from tunewright.ports import Ports, VaultSession
from tunewright.recipe import Recipe
from tunewright.records import Arm, Check, DatasetVersion, EvalReport, Example

_SCORED: tuple[Arm, ...] = ("candidate", "base", "few_shot", "nearest_example", "incumbent")

Scores = Mapping[tuple[Arm, str], Mapping[str, Mapping[str, tuple[float, ...]]]]
"""(arm, suite) -> row -> metric -> value."""


@dataclass(frozen=True, slots=True)
class Judged:
    """An evaluation with what it judged on, read back through an opened vault."""

    report: EvalReport
    dataset: DatasetVersion
    scores: Scores
    held_out: Sequence[Example]


def read_judged(report: EvalReport, dataset: DatasetVersion, ports: Ports, session: VaultSession) -> Judged:
    """Decrypt and parse the items of an evaluation. Raises BlobMissing, BlobCorrupt, IntegrityError."""
    scores: dict[tuple[Arm, str], dict[str, Mapping[str, tuple[float, ...]]]] = {}
    for line in session.unseal(ports.blobs.get(report.items)).splitlines():
        item = json.loads(line)
        rows = scores.setdefault((item["arm"], item["suite"]), {})
        rows[item["row"]] = {metric: tuple(value) for metric, value in item["scores"].items()}
    held_out = load_split(dataset, "held_out", ports.blobs, session)
    return Judged(report, dataset, scores, held_out)


def decide_unchecked(judged: Judged, recipe: Recipe, ports: Ports) -> Decision:
    """Say what the gate's pure decision makes of the stored scores when nothing is called contaminated.

    Writes nothing; the result is no record and registers nothing.
    """
    return decide(evidence_of(judged, recipe, ports, clean(judged)), recipe.gate)


def clean(judged: Judged) -> Contamination:
    """The finding that no judged row was seen in training."""
    return Contamination(num_rows=len(judged.held_out))


def evidence_of(judged: Judged, recipe: Recipe, ports: Ports, contamination: Contamination) -> Evidence:
    """Put together what the gate decided on, with the contamination given."""
    items, suites = dict[str, tuple[Item, ...]](), list[str]()
    built = [_suite(spec.name, judged, recipe, ports) for spec in recipe.gate.suites]
    metrics = build_metrics(
        [
            build_suite(spec, found, examples)
            for spec, (found, examples) in zip(recipe.gate.suites, built, strict=True)
        ]
    )
    for spec, (found, _) in zip(recipe.gate.suites, built, strict=True):
        items[spec.name] = found
        suites.append(spec.name)
    return Evidence(
        items=items,
        metrics=metrics,
        arms=tuple(_arm(arm, judged, items) for arm in _SCORED if (arm, suites[0]) in judged.scores),
        contamination=contamination,
        parity=_parity(judged.report),
        missing_arms=_missing(judged.report),
    )


def _suite(
    name: str, judged: Judged, recipe: Recipe, ports: Ports
) -> tuple[tuple[Item, ...], Sequence[Example]]:
    path = next(spec.path for spec in recipe.gate.suites if spec.name == name)
    if path is None:
        return held_out_items(judged.held_out, ports.blobs.get(judged.dataset.lineage)), judged.held_out
    _, examples = read_suite_file(ports.data_root / path, path)
    return file_items(examples, recipe.data.dedup_threshold), examples


def _arm(arm: Arm, judged: Judged, items: Mapping[str, tuple[Item, ...]]) -> ArmEvidence:
    values: dict[str, dict[str, tuple[float, ...]]] = {}
    for suite in items:
        for row, metrics in judged.scores[arm, suite].items():
            for metric, value in metrics.items():
                values.setdefault(f"{suite}/{metric}", {})[row] = value
    prompts = {suite: {item.row: item.prompt_digest for item in found} for suite, found in items.items()}
    return ArmEvidence(arm=arm, model=arm, prompts=prompts, values=values)


def _parity(report: EvalReport) -> Parity:
    check = next(check for check in report.checks if check.kind == "parity")
    return Parity(num_rows=check.n, max_logprob_difference=check.estimate, tolerance=_margin(check))


def _margin(check: Check) -> float:
    assert check.margin is not None, "a parity check has a tolerance"
    return check.margin


def _missing(report: EvalReport) -> dict[Arm, str]:
    missing = report.report["missing_arms"]
    assert isinstance(missing, dict), "an evaluation says which arms are missing"
    return {arm: str(missing[arm]) for arm in _SCORED if arm in missing}
