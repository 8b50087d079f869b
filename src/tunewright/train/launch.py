"""The parent's side of the worker: write its folder, run it, pass on what it says, verify what it leaves."""

import os
from collections.abc import Mapping
from pathlib import Path

from tunewright import errors
from tunewright.core.tokens import ChatTokenizer, dump_token_rows
from tunewright.errors import (
    BlobCorrupt,
    StorageError,
    TrainingError,
    TrainingInterrupted,
    TunewrightError,
    WorkerFailed,
)
from tunewright.ports import BaseFiles, Ports
from tunewright.recipe import TrainSection
from tunewright.train.forecast import Forecast
from tunewright.train.job import (
    CANDIDATE_FOLDER,
    INTERRUPTED_EXIT,
    JOB_FILE,
    SPLITS,
    STDERR_FILE,
    TOKEN_FILES,
    TrainJob,
    TrainResult,
    read_job,
    read_result,
)
from tunewright.train.tokenise import TokenisedSplits
from tunewright.values import Digest, Json, canonical_json, digest_bytes

WORKER = "tunewright.train.worker"
STDERR_LINES = 15


def write_folder(
    folder: Path,
    identity: Digest,
    settings: TrainSection,
    base: BaseFiles,
    tokenizer: ChatTokenizer,
    tokens: TokenisedSplits,
) -> None:
    """Write what the worker reads; the same recipe writes the same bytes, so a resumed run finds its own.

    Raises:
        StorageError: the folder cannot be written.
    """
    data = {split: dump_token_rows(tokens[split].rows if split in tokens else ()) for split in SPLITS}
    job = TrainJob(
        fingerprint=identity,
        base=base.ref,
        base_folder=str(base.folder),
        settings=settings,
        tokens={split: digest_bytes(data[split]) for split in SPLITS},
        eos_ids=tuple(sorted(tokenizer.eos_ids)),
    )
    files = {TOKEN_FILES[split]: data[split] for split in SPLITS}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in {**files, JOB_FILE: canonical_json(job.to_json())}.items():
            temporary = folder / f"{name}.{os.getpid()}"
            temporary.write_bytes(content)
            temporary.replace(folder / name)
    except OSError as error:
        raise StorageError(
            f"cannot write the run folder {folder}: {error.strerror}; expected a writable workspace with "
            "free space. Free some, or choose another with --workspace."
        ) from error


def run_worker(folder: Path, expected: Forecast, ports: Ports) -> None:
    """Run the worker to its end, telling the person what happens.

    Raises:
        TunewrightError: what stopped the worker, by name; WorkerFailed where it could not say.
    """
    failure: list[tuple[str, str]] = []

    def on_line(event: Mapping[str, Json]) -> None:
        match event.get("event"):
            case "waiting":
                ports.progress.update(0, f"waiting: {event['reason']}")
            case "started" if event["resumed_from"]:
                ports.progress.update(int(str(event["resumed_from"])), "resumed from a checkpoint")
            case "step":
                ports.progress.update(int(str(event["step"])), _step_note(event))
            case "error":
                failure.append((str(event["name"]), str(event["message"])))
            case _:
                pass

    ports.progress.start("train", total=expected.num_steps, unit="steps")
    ports.progress.update(0, f"about {expected.wall_s:.0f} s and {expected.memory_bytes >> 20} MiB")
    code = ports.executor.run(WORKER, folder, on_line=on_line)
    if failure:
        raise _error_named(*failure[0])
    if code == INTERRUPTED_EXIT or code == -15:
        raise TrainingInterrupted(
            "training stopped, as asked, before its first step. The same command resumes."
        )
    if code != 0:
        raise WorkerFailed(
            f"the training worker in {folder} ended with {_exit_in_words(code)} and without a result. The "
            "same command resumes from the newest checkpoint. Its last words:\n" + _tail(folder / STDERR_FILE)
        )


def _step_note(event: Mapping[str, Json]) -> str:
    loss, rate = float(str(event["train_loss"])), float(str(event["tokens_per_s"]))
    eval_loss = event.get("eval_loss")
    seen = f", eval {float(str(eval_loss)):.3f}" if eval_loss is not None else ""
    return f"loss {loss:.3f}{seen}, {rate:,.0f} tokens/s"


def _error_named(name: str, message: str) -> TunewrightError:
    """Raise in this process what the worker raised in its own."""
    known = {
        cls.__name__: cls
        for cls in vars(errors).values()
        if isinstance(cls, type) and issubclass(cls, TunewrightError)
    }
    return known.get(name, TrainingError)(message)


def _exit_in_words(code: int) -> str:
    if code == -9:
        return "signal 9 (killed; often the system ran out of memory)"
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def _tail(path: Path) -> str:
    if not path.is_file():
        return "(it wrote nothing to standard error)"
    lines = path.read_text("utf-8", errors="replace").splitlines()[-STDERR_LINES:]
    return "\n".join(lines) or "(it wrote nothing to standard error)"


def read_verified_result(folder: Path) -> TrainResult:
    """Read the result and compare it with the job: same job, same tokens.

    Raises:
        WorkerFailed: there is no result of this job.
        BlobCorrupt: the worker read other tokens than were written.
    """
    result = read_result(folder)
    job = read_job(folder)
    if result is None or result.job != job.identity():
        raise WorkerFailed(
            f"the training worker ended well but {folder} holds no result of this job; expected result.json. "
            "Run again."
        )
    if result.tokens != job.tokens:
        raise BlobCorrupt(
            f"the worker in {folder} read other token files ({result.tokens}) than were written "
            f"({job.tokens}). Run again to write them anew."
        )
    return result


def read_candidate(folder: Path, result: TrainResult) -> dict[str, bytes]:
    """Read the candidate's files, each verified against what the worker hashed.

    Raises:
        BlobCorrupt: a file is not what the worker wrote.
    """
    files: dict[str, bytes] = {}
    for name, digest in result.files.items():
        files[name] = (folder / CANDIDATE_FOLDER / name).read_bytes()
        if digest_bytes(files[name]) != digest:
            raise BlobCorrupt(
                f"{folder / CANDIDATE_FOLDER / name} is not what the worker wrote; expected SHA-256 "
                f"{digest}. Remove {folder} and run again."
            )
    return files
