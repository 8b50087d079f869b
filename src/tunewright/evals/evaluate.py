"""The stage: a training run in, one look at the held-out set, a report with a verdict out.

Reads top to bottom: gather, start engines, open the vault, ask every arm, audit, decide, commit once.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from tunewright.core.rows import load_split
from tunewright.core.scorers import bind_scorer
from tunewright.core.tokens import ChatTokenizer, load_token_rows
from tunewright.errors import AliasConflict
from tunewright.evals.arms import Answered, answer_suites
from tunewright.evals.evidence import Contamination, Evidence, Item, Parity
from tunewright.evals.exposure import exposure_facts, find_exposure
from tunewright.evals.few_shot import OpenRows
from tunewright.evals.fleet import Fleet, start_fleet
from tunewright.evals.gate import Decision, decide
from tunewright.evals.inputs import Inputs, gather_inputs
from tunewright.evals.items import as_chat, file_items, held_out_items, sample_by_cluster
from tunewright.evals.latency import latency_facts
from tunewright.evals.parity import check_parity, choose_rows, compare_tokens, read_reference
from tunewright.evals.report import arm_evidence, item_lines, parity_facts, report_facts
from tunewright.evals.requirements import require_known_slices
from tunewright.evals.suites import HELD_OUT, Suite, build_metrics, build_suite
from tunewright.ports import Commit, Ports, VaultSession
from tunewright.recipe import Recipe
from tunewright.records import Edge, EvalReport, EventDraft, Example, Record, TrainingRun
from tunewright.values import Digest, Json, Ref, node

CODE_VERSION = 1


@dataclass(frozen=True, slots=True)
class Opened:
    """What the opened vault showed."""

    session: VaultSession
    look: int
    held_out: Sequence[Example]
    neighbours: Mapping[str, float]
    """Held-out row -> best lexical score over train and validation at curation."""
    lineage: bytes
    rows: OpenRows
    suites: Sequence[Suite]


@dataclass(frozen=True, slots=True)
class Findings:
    """What was measured with engines running."""

    answered: Answered
    parity: Parity
    facts: dict[str, Json]
    """Latency and parity in words."""


def evaluate(recipe: Recipe, run: TrainingRun, ports: Ports) -> EvalReport:
    """Judge a run's candidate on the sealed held-out rows and named suites.

    The same gate, data, candidate, base and incumbent give the stored report again and cost no look.

    Raises:
        RecipeError: the gate section cannot be used.
        SourceUnreadable: a named suite cannot be read.
        BaseChanged: the base is not the one the run was trained on.
        EngineFailed: an engine failed.
        IntegrityError: stored bytes are not what the records say.
    """
    inputs = gather_inputs(recipe, run, ports, CODE_VERSION)
    known = ports.records.find("evaluation", inputs.fingerprint)
    if isinstance(known, EvalReport):
        ports.progress.finish(
            f"evaluate: {known.ref} was made before, verdict {known.verdict}; re-used without a look"
        )
        return known
    rows = _open_rows(inputs, ports)
    _rehearse(inputs, rows)
    with ExitStack() as stack:
        fleet = start_fleet(inputs, ports, stack)
        opened = _open(inputs, rows, ports)
        exposure = find_exposure(inputs, opened.held_out, opened.neighbours, ports)
        findings = _measure(inputs, opened, fleet, ports)
    report = _decide_and_commit(inputs, opened, findings, exposure, ports)
    ports.progress.finish(f"evaluate: {report.ref}, verdict {report.verdict}, look {report.look}")
    return report


def _open_rows(inputs: Inputs, ports: Ports) -> OpenRows:
    dataset = inputs.dataset
    validation = load_split(dataset, "validation", ports.blobs) if "validation" in dataset.splits else []
    return OpenRows(load_split(dataset, "train", ports.blobs), validation)


def _rehearse(inputs: Inputs, rows: OpenRows) -> None:
    """Try the gate on train rows, so that a gate that cannot be judged costs no look. Raises RecipeError."""
    for spec in inputs.recipe.gate.suites:
        if spec.path is None and rows.train:
            for scorer in spec.scorers:
                bind_scorer(scorer, rows.train)
    seen = tuple(Item(row.id, row.id, "", row.slices) for row in rows.train)
    require_known_slices(inputs.recipe.gate, {HELD_OUT: seen})


def _open(inputs: Inputs, rows: OpenRows, ports: Ports) -> Opened:
    """Take the look, and read what is judged on."""
    subject = f"held_out:{inputs.held_out}"
    session = ports.vault.open("evaluate", subject, ports.actor)
    look = len(ports.records.events(kind="look", subject=subject))
    dataset = inputs.dataset
    held_out = load_split(dataset, "held_out", ports.blobs, session)
    neighbours = json.loads(session.unseal(ports.blobs.get(dataset.neighbours)))
    lineage = ports.blobs.get(dataset.lineage)
    return Opened(
        session=session,
        look=look,
        held_out=held_out,
        neighbours={str(row): float(score) for row, score in neighbours.items()},
        lineage=lineage,
        rows=rows,
        suites=_suites(inputs, held_out, lineage),
    )


def _suites(inputs: Inputs, held_out: Sequence[Example], lineage: bytes) -> list[Suite]:
    sealed = held_out_items(held_out, lineage)
    suites: list[Suite] = []
    for spec in inputs.recipe.gate.suites:
        file = inputs.files.get(spec.name)
        examples = held_out if file is None else file.examples
        items = sealed if file is None else file_items(examples, inputs.recipe.data.dedup_threshold)
        suites.append(build_suite(spec, sample_by_cluster(items, spec.max_rows), examples))
    return suites


def _measure(inputs: Inputs, opened: Opened, fleet: Fleet, ports: Ports) -> Findings:
    """Ask every arm; check that the engine feeds and scores what the trainer did; time it."""
    answered = answer_suites(inputs, opened.suites, opened.rows, fleet, ports=ports, session=opened.session)
    ports.progress.start("parity and latency")
    candidate, base = fleet.served["candidate"], fleet.served["base"]
    examples = {example.id: example for example in opened.rows.train}
    stored = load_token_rows(ports.blobs.get(inputs.run.token_blobs["train"]))
    tokens = compare_tokens(
        candidate.engine,
        ChatTokenizer.from_base(inputs.base),
        choose_rows([row for row in stored if row.row in examples]),
        {str(row): example for row, example in examples.items()},
    )
    reference = read_reference(fleet.tree)
    parity = check_parity(
        candidate.engine, candidate.model, tokens, reference, str(inputs.run.settings.get("precision"))
    )
    first = opened.suites[0]
    latency = latency_facts(
        (candidate.engine, candidate.model),
        (base.engine, base.model),
        [
            as_chat(first.examples[item.row].prompt)
            for item in first.items
            if item.row not in answered.too_long[first.name]
        ],
    )
    facts: dict[str, Json] = {"latency": latency, "parity": parity_facts(parity, len(reference))}
    return Findings(answered, parity, facts)


def _decide_and_commit(
    inputs: Inputs, opened: Opened, findings: Findings, exposure: Contamination, ports: Ports
) -> EvalReport:
    answered, suites = findings.answered, opened.suites
    arms, metrics = arm_evidence(suites, answered), build_metrics(suites)
    evidence = Evidence(
        items={suite.name: suite.items for suite in suites},
        metrics=metrics,
        arms=arms,
        contamination=exposure,
        parity=findings.parity,
        missing_arms=answered.missing,
    )
    decision = decide(evidence, inputs.recipe.gate)
    facts = report_facts(inputs, suites, opened.rows, answered, arms, metrics=metrics, lineage=opened.lineage)
    items = ports.blobs.put(opened.session.seal(item_lines(suites, answered, arms)))
    facts |= {**findings.facts, "contamination": exposure_facts(exposure)}
    made = _Made(decision, items, opened.look, facts)
    return _commit(inputs, made, answered.heads, ports)


@dataclass(frozen=True, slots=True)
class _Made:
    """What goes into the record beside the inputs."""

    decision: Decision
    items: Digest
    look: int
    facts: dict[str, Json]


def _commit(
    inputs: Inputs, made: _Made, heads: Mapping[str, tuple[str | None, str]], ports: Ports
) -> EvalReport:
    """Write the report, its edges and its event in one transaction."""
    run, recipe = inputs.run, inputs.recipe

    event = EventDraft(
        kind="evaluate",
        actor=ports.actor,
        subject=node("evaluation", recipe.name),
        detail={
            "verdict": made.decision.verdict,
            "candidate": run.candidate,
            "held_out": inputs.held_out,
            "look": made.look,
        },
    )

    def commit(moved: Mapping[str, tuple[str | None, str]]) -> Record:
        return ports.records.commit(
            Commit(
                kind="evaluation",
                name=recipe.name,
                make=lambda ref: _report(ref, inputs, made, ports),
                event=event,
                edges=lambda ref: _edges(ref, inputs),
                heads=moved,
            )
        )

    try:
        record = commit(heads)
    except AliasConflict:  # another evaluation stored the same answers meanwhile: theirs serve as well
        record = commit({})
    assert isinstance(record, EvalReport)  # the kind says so
    return record


def _edges(ref: Ref, inputs: Inputs) -> list[Edge]:
    child = node("evaluation", ref)
    parents = [("run", inputs.run.ref), ("dataset", inputs.dataset.ref)]
    return [Edge(parent=node(kind, parent), child=child, role=kind) for kind, parent in parents]


def _report(ref: Ref, inputs: Inputs, made: _Made, ports: Ports) -> EvalReport:
    return EvalReport(
        ref=ref,
        fingerprint=inputs.fingerprint,
        dataset=inputs.dataset.ref,
        run=inputs.run.ref,
        candidate=inputs.run.candidate,
        base=inputs.base.ref,
        held_out=inputs.held_out,
        arms=made.decision.arms,
        checks=made.decision.checks,
        verdict=made.decision.verdict,
        reasons=made.decision.reasons,
        look=made.look,
        items=made.items,
        report=made.facts,
        created_at=ports.clock(),
    )
