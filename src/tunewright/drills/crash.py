"""The crash drill: kill -9 during training, between blobs and record, and of the engine under load.

Everything is a real process in a scratch workspace: the commands a user types, and one process that kills
itself inside a commit (`doomed`). What remains is compared with a workspace that nobody disturbed.
"""

import json
import time
from dataclasses import dataclass, replace
from pathlib import Path

from tunewright.app import App, open_app
from tunewright.core.references import list_records
from tunewright.drills.crash_load import kill_engine_under_load
from tunewright.drills.crash_result import CrashResult, Resumed, Survived
from tunewright.drills.leak_data import make_rows
from tunewright.drills.processes import COMMAND, finish, kill_family, last_words, running, wait_until
from tunewright.drills.scratch import data_of, scratch
from tunewright.errors import WorkerFailed
from tunewright.ports import Progress
from tunewright.records import DatasetVersion, TrainingRun
from tunewright.settings import Settings

DOOMED = "tunewright.drills.doomed"
PATIENCE_S = 300.0
KILLED = -9

_RECIPE = """name: crash-drill
data:
  sources: [{{path: orders.jsonl}}]
train:
  max_steps: {steps}
  batch_rows: 2
  learning_rate: 3.0e-3
  checkpoint_every_steps: 2
  eval_every_steps: {steps}
  lora: {{rank: 8, alpha: 8}}
"""


@dataclass(frozen=True, slots=True)
class CrashPlan:
    """Sizes of the drill."""

    rows: int = 60
    steps: int = 30
    requests: int = 60
    """To the gateway."""
    concurrency: int = 12
    kill_after: int = 15
    """Answers after which the engine is killed."""
    seed: int = 20261120


def run_crash_drill(settings: Settings, progress: Progress, *, plan: CrashPlan | None = None) -> CrashResult:
    """Run the three parts in a scratch workspace, with one thread: only then bits are promised.

    Args:
        settings: accelerator, base cache and actor; its workspace is not touched.
        progress: is told what happens.
        plan: sizes.

    Raises:
        WorkerFailed, EngineFailed: a process that must end well, or start, did not.
    """
    plan, started_s = plan or CrashPlan(), time.monotonic()
    with scratch(replace(settings, threads=1), "crash") as places:
        data = data_of(places)
        rows = make_rows("lookup", plan.rows, seed=plan.seed)
        (data / "orders.jsonl").write_text("".join(f"{row.line()}\n" for row in rows), encoding="utf-8")
        recipe = data / "crash.yaml"
        recipe.write_text(_RECIPE.format(steps=plan.steps), encoding="utf-8")
        calm = _beside(places, "undisturbed")
        calm.workspace.mkdir(parents=True)
        places.workspace.mkdir(parents=True)
        progress.start("crash drill: training undisturbed")
        _train(calm, recipe)
        orphans, no_half_record = _kill_in_commit(places, recipe, progress)
        killed = _kill_training(places, recipe, progress)
        resumed, survived = _compare(places, calm, killed, plan, progress)
        load = kill_engine_under_load(places, plan.requests, plan.concurrency, plan.kill_after, progress)
    survived = replace(survived, orphan_blobs=orphans, no_half_record=no_half_record)
    return CrashResult(resumed, survived, load, time.monotonic() - started_s)


@dataclass(frozen=True, slots=True)
class _Killed:
    """What was seen of the killed training."""

    step: int
    processes: int


def _beside(settings: Settings, name: str) -> Settings:
    """Another workspace with the same keys and data."""
    folder = settings.workspace.parent / name
    return replace(
        settings,
        workspace=folder,
        records_url=f"sqlite:///{folder / 'registry.db'}",
        blobs_url=f"file://{folder / 'blobs'}",
    )


def _train(settings: Settings, recipe: Path) -> None:
    errors = settings.workspace / "train.txt"
    with running(settings, COMMAND, ["train", str(recipe), "--json"], errors=errors) as process:
        finish(process, errors, "tunewright train")


def _kill_in_commit(settings: Settings, recipe: Path, progress: Progress) -> tuple[int, bool]:
    """Curate in a process that dies inside the commit; returns its blobs, and whether no record is there."""
    progress.start("crash drill: killed between blobs and record")
    errors = settings.workspace / "doomed.txt"
    with running(settings, DOOMED, [str(recipe), "dataset"], errors=errors) as process:
        process.communicate(timeout=PATIENCE_S)
    if process.returncode != KILLED:
        raise WorkerFailed(
            f"the doomed process ended with code {process.returncode}; expected {KILLED}. "
            f"{last_words(errors)}"
        )
    with open_app(settings, progress) as app:
        orphans = len(app.ports.blobs.digests())
        records = len(app.ports.records.list("dataset"))
    progress.finish(f"killed inside the commit: {orphans} blobs are stored, {records} records")
    return orphans, records == 0


def _kill_training(settings: Settings, recipe: Path, progress: Progress) -> _Killed:
    """Start `train`, and kill it with its worker as soon as there is a checkpoint."""
    progress.start("crash drill: killed during training")
    runs, errors = settings.workspace / "runs", settings.workspace / "killed.txt"
    with running(settings, COMMAND, ["train", str(recipe), "--json"], errors=errors) as process:
        wait_until(
            lambda: list(runs.glob("*/checkpoints/step-*")) or process.poll() is not None,
            PATIENCE_S,
            "the first checkpoint",
        )
        killed = kill_family(process)
    step = max(_trained_steps(runs), default=0)
    progress.finish(f"killed {killed} processes at step {step}")
    return _Killed(step, killed)


def _trained_steps(runs: Path) -> list[int]:
    """Read the steps whose figures were written, in the order they were trained; repeats are kept."""
    lines = [line for path in runs.glob("*/metrics.jsonl") for line in path.read_text("utf-8").splitlines()]
    return [int(json.loads(line)["step"]) for line in lines if line.endswith("}")]


def _compare(
    settings: Settings, calm: Settings, killed: _Killed, plan: CrashPlan, progress: Progress
) -> tuple[Resumed, Survived]:
    """Type the same command once more, and hold what it makes beside what nobody disturbed."""
    progress.start("crash drill: the same command again")
    _train(settings, data_of(settings) / "crash.yaml")
    with open_app(settings, progress) as app, open_app(calm, progress) as other:
        mine, theirs = _made(app), _made(other)
        is_verified = app.models.verify(None).ok
    dataset, expected = mine[0], theirs[0]
    missing = dataset.rows_in - dataset.rows_kept - sum(dataset.removed.values())
    resumed = Resumed(
        same_bits=mine[1].candidate == theirs[1].candidate,
        killed_at_step=killed.step,
        num_steps=plan.steps,
        processes_killed=killed.processes,
        started_again=_trained_steps(settings.workspace / "runs").count(1) != 1,
        candidate=mine[1].candidate,
        undisturbed=theirs[1].candidate,
    )
    survived = Survived(
        orphan_blobs=0,
        no_half_record=True,
        same_digest=dataset.digest == expected.digest and _roots(dataset) == _roots(expected),
        rows_in=dataset.rows_in,
        rows_lost=abs(missing) + max(0, expected.rows_kept - dataset.rows_kept),
        verified=is_verified,
    )
    words = "the same bits" if resumed.same_bits else "OTHER BITS"
    progress.finish(f"went on from step {killed.step} and made {words} as a training nobody disturbed")
    return resumed, survived


def _made(app: App) -> tuple[DatasetVersion, TrainingRun]:
    """Read the one dataset version and the one run of a workspace."""
    records = app.ports.records
    [dataset], [run] = list_records(records, DatasetVersion), list_records(records, TrainingRun)
    return dataset, run


def _roots(dataset: DatasetVersion) -> dict[str, str]:
    return {split: info.digest for split, info in dataset.splits.items()}
