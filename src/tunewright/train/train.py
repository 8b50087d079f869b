"""The training stage: dataset version -> training run with its candidate. Imports no torch.

Tokenises here, trains in a worker process (`worker.py`) that sees a folder of plain files only, commits once.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import cast

from tunewright.core.rows import load_split
from tunewright.core.tokens import ChatTokenizer
from tunewright.ports import BaseFiles, Commit, Ports, Records
from tunewright.recipe import Recipe, TrainSection
from tunewright.records import DatasetVersion, Edge, EventDraft, TrainingRun
from tunewright.train.forecast import Forecast, forecast
from tunewright.train.job import SPLITS, TOKEN_FILES, TrainResult
from tunewright.train.launch import read_candidate, read_verified_result, run_worker, write_folder
from tunewright.train.tokenise import TokenisedSplits, context_limit, tokenise
from tunewright.trees import put_tree
from tunewright.values import Digest, Json, Ref, canonical_json, fingerprint, node

CODE_VERSION = 1


def train(recipe: Recipe, dataset: DatasetVersion, ports: Ports) -> TrainingRun:
    """Train the recipe's method on a dataset version, or return the run that did so before.

    An interrupted run resumes from its newest checkpoint.

    Raises:
        BaseModelError: the base is missing or incomplete.
        TokenError: the rows cannot be tokenised for this base, or nothing would be learnt.
        TrainingError: a self-check failed, the training diverged, was interrupted, or the worker died.
        StorageError: the run folder cannot be written.
    """
    base = ports.bases.resolve(recipe.train.base)
    identity = train_fingerprint(recipe.train, dataset, base)
    if (found := ports.records.find("run", identity)) is not None:
        ports.progress.start("train")
        ports.progress.finish(f"re-used run {cast('TrainingRun', found).ref}")
        return cast("TrainingRun", found)
    folder = ports.runs_dir / identity[:16]
    tokenizer = ChatTokenizer.from_base(base)
    max_tokens = context_limit(recipe.train.max_tokens, base.config)
    tokens: TokenisedSplits = {
        split: tokenise(tokenizer, load_split(dataset, split, ports.blobs), max_tokens)
        for split in SPLITS
        if split in dataset.splits
    }
    expected = _forecast(recipe.train, base, tokens, measured_speed(ports.records, recipe.train))
    if cut := tokens["train"].num_truncated:
        ports.progress.finish(
            f"{cut:,} of {len(tokens['train'].rows):,} training rows are longer than {max_tokens:,} tokens "
            "and lose the beginning of their prompt; train.max_tokens and the base's context set the limit"
        )
    write_folder(folder, identity, recipe.train, base, tokenizer, tokens)
    run_worker(folder, expected, ports)
    result = read_verified_result(folder)
    return _commit(recipe, dataset, base, identity, Finished(folder, result, tokens, expected), ports)


def train_fingerprint(settings: TrainSection, dataset: DatasetVersion, base: BaseFiles) -> Digest:
    """Name what a training would make. The base counts by content, not by the name it was found under."""
    section = {key: value for key, value in settings.to_json().items() if key != "base"}
    inputs = {
        "train": section,
        "dataset": dataset.digest,
        "base": base.ref.digest,
        "tokenizer": base.ref.tokenizer_digest,
    }
    return fingerprint("train", CODE_VERSION, inputs)


@dataclass(frozen=True, slots=True)
class Finished:
    """A worker's verified result and what it was made from."""

    folder: Path
    result: TrainResult
    tokens: TokenisedSplits
    expected: Forecast


def measured_speed(records: Records, settings: TrainSection) -> float | None:
    """Read what the last training of this precision reached on this workspace's machine, in FLOP/s."""
    for run in reversed(records.list("run")):
        facts = run.to_json()
        done, spent = facts["report"].get("forecast"), facts["report"].get("measured")
        if done and spent and spent["wall_s"] and facts["settings"].get("precision") == settings.precision:
            return float(done["flops"]) / float(spent["wall_s"])
    return None


def _forecast(
    settings: TrainSection, base: BaseFiles, tokens: TokenisedSplits, flops_per_s: float | None
) -> Forecast:
    rows = tokens["train"].rows
    lengths = [len(row.ids) for row in rows]
    validation = tokens["validation"].rows if "validation" in tokens else ()
    return forecast(
        base.config,
        settings,
        lengths,
        validation_tokens=sum(len(row.ids) for row in validation),
        label_fraction=sum(row.num_supervised for row in rows) / max(1, sum(lengths)),
        flops_per_s=flops_per_s,
    )


def _commit(
    recipe: Recipe,
    dataset: DatasetVersion,
    base: BaseFiles,
    identity: Digest,
    finished: Finished,
    ports: Ports,
) -> TrainingRun:
    """Store the bytes, then commit the record, its edges and its event at once."""
    result = finished.result
    for split in SPLITS:
        ports.blobs.put((finished.folder / TOKEN_FILES[split]).read_bytes())
    trained = sorted({row.row for each in finished.tokens.values() for row in each.rows})
    trained_rows = ports.blobs.put(canonical_json(trained))
    candidate = put_tree(ports.blobs, read_candidate(finished.folder, result))
    draft = TrainingRun(
        ref=Ref(recipe.name, 1),  # the store gives the version
        fingerprint=identity,
        dataset=dataset.ref,
        dataset_digest=dataset.digest,
        base=base.ref,
        method=recipe.train.method,
        seed=recipe.train.seed,
        token_blobs=result.tokens,
        trained_rows=trained_rows,
        candidate=candidate,
        report=_report(recipe.train, base, finished),
        created_at=ports.clock(),
        settings=result.settings,
        environment=result.environment,
        self_checks=result.self_checks,
        metrics=result.metrics,
        order_digest=result.order_digest,
        best_step=result.best_step,
        stopped=result.stopped,
        num_tokens=result.num_tokens,
        wall_s=result.wall_s,
        peak_memory_bytes=result.peak_memory_bytes,
    )
    commit = Commit(
        kind="run",
        name=recipe.name,
        make=lambda ref: draft.model_copy(update={"ref": ref}),
        event=EventDraft(kind="train", actor=ports.actor, subject="", detail={"candidate": candidate}),
        edges=lambda ref: (
            Edge(parent=node("dataset", dataset.ref), child=node("run", ref), role="dataset"),
            Edge(parent=node("base", base.ref.digest), child=node("run", ref), role="base"),
        ),
    )
    run = cast("TrainingRun", ports.records.commit(commit))
    ports.progress.finish(_summary(run))
    return run


def _report(settings: TrainSection, base: BaseFiles, finished: Finished) -> dict[str, Json]:
    expected, result, tokens = finished.expected, finished.result, finished.tokens
    speed, ceiling = (
        float(str(result.report.get(name, 0))) for name in ("tokens_per_s", "matmul_flops_per_s")
    )
    return {
        **result.report,
        "mfu": speed * expected.flops_a_token / ceiling if ceiling else None,
        "max_tokens": context_limit(settings.max_tokens, base.config),
        "truncated_rows": {split: each.num_truncated for split, each in tokens.items()},
        "left_out_too_long": {split: list(each.too_long) for split, each in tokens.items()},
        "left_out_forged": {split: list(each.forged) for split, each in tokens.items()},
        "left_out_mismatched": {split: list(each.mismatched) for split, each in tokens.items()},
        "forecast": {
            "wall_s": round(expected.wall_s, 1),
            "memory_bytes": expected.memory_bytes,
            "num_steps": expected.num_steps,
            "num_tokens": expected.num_tokens,
            "flops": expected.flops,
        },
        "measured": {"wall_s": round(result.wall_s, 1), "memory_bytes": result.peak_memory_bytes},
    }


def _summary(run: TrainingRun) -> str:
    best = [point.eval_loss for point in run.metrics if point.step == run.best_step]
    base_loss = run.report.get("base_eval_loss")
    eval_loss = (
        f"eval loss {float(str(base_loss)):.3f} -> {best[0]:.3f}"
        if best and best[0] is not None and base_loss is not None
        else "no validation rows"
    )
    early = ", stopped early" if run.stopped == "early_stopping" else ""
    return (
        f"run {run.ref}: best at step {run.best_step} of {len(run.metrics)}{early}, {eval_loss}, "
        f"{run.num_tokens:,} tokens in {run.wall_s:.0f} s"
    )
