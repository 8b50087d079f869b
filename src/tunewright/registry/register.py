"""Verdict to model version: the stage that signs a candidate and lets it be pointed to."""

from dataclasses import dataclass

from tunewright.core.references import get_record
from tunewright.errors import GateNotPassed, RegistryError
from tunewright.ports import Commit, Ports
from tunewright.recipe import Recipe
from tunewright.records import (
    DatasetVersion,
    Edge,
    EvalReport,
    EventDraft,
    ModelVersion,
    Probe,
    TrainingRun,
    Waiver,
)
from tunewright.registry.aliases import point_new_model
from tunewright.registry.load import signed_bytes
from tunewright.registry.record_probes import record_probes
from tunewright.registry.waive import require_permission
from tunewright.values import Digest, Ref, fingerprint, node

CODE_VERSION = 1


@dataclass(frozen=True, slots=True)
class Passed:
    """What was let through: records that fit each other, and the waiver where one was needed."""

    report: EvalReport
    run: TrainingRun
    dataset: DatasetVersion
    waiver: Waiver | None
    fingerprint: Digest


def register(recipe: Recipe, report: EvalReport, ports: Ports) -> ModelVersion:
    """Sign a model version, point `candidate` to it, and `champion` where there is none yet.

    Raises:
        GateNotPassed: no passing verdict for exactly this candidate and held-out set, and no waiver.
        IndistinguishableFromBase: the candidate changes nothing.
        BlobMissing, BlobCorrupt, BaseChanged, EngineFailed: what was judged is not what is here.
    """
    passed = _require_pass(recipe, report, ports)
    ports.progress.start("register")
    model = ports.records.find("model", passed.fingerprint)
    known = isinstance(model, ModelVersion)
    if not isinstance(model, ModelVersion):
        model = _make(recipe.name, passed, ports)
    point_new_model(model, ports)
    what = "re-used" if known else "registered"
    waived = f", waived by {model.waiver.author}" if model.waiver else ""
    ports.progress.finish(f"{what} model {model.ref} ({model.semantic_version}){waived}")
    return model


def next_semantic_version(previous: ModelVersion | None, run: TrainingRun) -> str:
    """Count major for another base or template, minor for other data, patch for a retraining."""
    if previous is None:
        return "1.0.0"
    major, minor, patch = (int(part) for part in previous.semantic_version.split("."))
    same_base = previous.base.digest == run.base.digest
    if not same_base or previous.base.tokenizer_digest != run.base.tokenizer_digest:
        return f"{major + 1}.0.0"
    if previous.dataset_digest != run.dataset_digest:
        return f"{major}.{minor + 1}.0"
    return f"{major}.{minor}.{patch + 1}"


def _require_pass(recipe: Recipe, report: EvalReport, ports: Ports) -> Passed:
    """Check the stored records against each other; what the caller holds in memory proves nothing."""
    stored = get_record(ports.records, EvalReport, report.ref)
    if stored != report:
        raise GateNotPassed(
            f"evaluation {report.ref} is stored otherwise than it was handed over; expected the stored "
            "report. Evaluate again."
        )
    if stored.run is None:
        raise RegistryError(
            f"evaluation {stored.ref} judged an adapter without a training run; expected one, because a "
            "model version records how it was made. Train it with `tunewright run`."
        )
    run = get_record(ports.records, TrainingRun, stored.run)
    dataset = get_record(ports.records, DatasetVersion, stored.dataset)
    held_out = dataset.splits["held_out"].digest
    waiver = require_permission(stored, candidate=run.candidate, held_out=held_out, records=ports.records)
    inputs = {
        "name": recipe.name,
        "evaluation": stored.fingerprint,
        "candidate": stored.candidate,
        "held_out": stored.held_out,
        "waived": waiver is not None,
    }
    return Passed(stored, run, dataset, waiver, fingerprint("register", CODE_VERSION, inputs))


def _make(name: str, passed: Passed, ports: Ports) -> ModelVersion:
    probes = record_probes(passed.run, passed.dataset, ports)
    record = ports.records.commit(
        Commit(
            kind="model",
            name=name,
            make=lambda ref: _sign(ref, passed, probes, ports),
            event=EventDraft(
                kind="register",
                actor=ports.actor,
                subject=node("model", name),
                detail={
                    "adapter": passed.report.candidate,
                    "held_out": passed.report.held_out,
                    "verdict": passed.report.verdict,
                    "waived_by": passed.waiver.author if passed.waiver else None,
                },
            ),
            edges=lambda ref: _edges(ref, passed),
        )
    )
    assert isinstance(record, ModelVersion)
    return record


def _sign(ref: Ref, passed: Passed, probes: tuple[Probe, ...], ports: Ports) -> ModelVersion:
    """Build and sign the record inside the transaction, where version and predecessor are fixed."""
    previous = ports.records.latest("model", ref.name)
    _, key_id = ports.signer.sign(b"")  # the key's id is part of what is signed
    unsigned = ModelVersion(
        ref=ref,
        fingerprint=passed.fingerprint,
        semantic_version=next_semantic_version(
            previous if isinstance(previous, ModelVersion) else None, passed.run
        ),
        adapter=passed.report.candidate,
        base=passed.run.base,
        dataset=passed.dataset.ref,
        dataset_digest=passed.dataset.digest,
        run=passed.run.ref,
        evaluation=passed.report.ref,
        held_out=passed.report.held_out,
        verdict=passed.report.verdict,
        waiver=passed.waiver,
        probes=probes,
        signature="",
        key_id=key_id,
        report={"method": passed.run.method},
        created_at=ports.clock(),
    )
    signature, _ = ports.signer.sign(signed_bytes(unsigned))
    return unsigned.model_copy(update={"signature": signature})


def _edges(ref: Ref, passed: Passed) -> tuple[Edge, ...]:
    child = node("model", ref)
    return (
        Edge(parent=node("run", passed.run.ref), child=child, role="run"),
        Edge(parent=node("evaluation", passed.report.ref), child=child, role="evaluation"),
        Edge(parent=node("dataset", passed.dataset.ref), child=child, role="dataset"),
        Edge(parent=node("base", passed.run.base.digest), child=child, role="base"),
    )
