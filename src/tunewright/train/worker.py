"""The training worker, a process of its own: `python -m tunewright.train.worker FOLDER`.

Reads job.json and the token files of FOLDER and the base's folder; writes checkpoints, metrics.jsonl, the
candidate and result.json into FOLDER. Tells its parent what happens by JSON lines on standard output. Sees
neither database nor vault.
"""
# pyright: reportUnknownMemberType=false

import fcntl
import os
import signal
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Literal, TextIO

import torch

from tunewright.core.tokens import TokenRow, load_token_rows
from tunewright.errors import BlobCorrupt, TrainingInterrupted, TunewrightError
from tunewright.records import SelfCheck
from tunewright.train import selfcheck
from tunewright.train.batches import fill_fraction, pack
from tunewright.train.checkpoint import append_line, to_json_line, write_atomically
from tunewright.train.job import (
    CANDIDATE_FOLDER,
    INTERRUPTED_EXIT,
    METRICS_FILE,
    RESULT_FILE,
    TOKEN_FILES,
    TrainJob,
    TrainResult,
    read_job,
    read_result,
)
from tunewright.train.loop import LoopResult, Surroundings, run_loop
from tunewright.train.machine import describe_machine, matmul_flops_per_s, pick_device
from tunewright.train.memory import peak_memory_bytes
from tunewright.train.methods import Trainable, candidate_files, load_base, make_trainable, num_embeddings
from tunewright.train.objectives import sft_loss
from tunewright.train.parity import PARITY_FILE, parity_reference
from tunewright.train.passes import precision
from tunewright.train.schedule import RateChoice, choose_rate
from tunewright.train.watch import curve_report, mean_tokens_per_s
from tunewright.values import Digest, Json, digest_bytes

Emit = Callable[[Mapping[str, Json]], None]
TokenRows = Mapping[Literal["train", "validation"], Sequence[TokenRow]]


def main() -> int:
    """Do the job in the folder named on the command line; returns the exit code."""
    folder = Path(sys.argv[1])
    channel = take_standard_output()
    stop_requested = handle_sigterm()

    def emit(event: Mapping[str, Json]) -> None:
        if event["event"] == "step":
            append_line(folder / METRICS_FILE, to_json_line(event))
        channel.write(to_json_line(event))
        channel.flush()

    try:
        with only_worker(folder, emit):
            run_job(folder, emit, stop_requested)
    except TunewrightError as error:
        emit({"event": "error", "name": type(error).__name__, "message": str(error)})
        return INTERRUPTED_EXIT if isinstance(error, TrainingInterrupted) else 1
    emit({"event": "done"})
    return 0


def take_standard_output() -> TextIO:
    """Keep standard output for JSON lines; whatever libraries print goes to standard error."""
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return channel


def handle_sigterm() -> Callable[[], bool]:
    """Turn SIGTERM into a question that the loop asks after each step."""
    requests: list[int] = []

    def remember(number: int, frame: FrameType | None) -> None:
        requests.append(number)

    signal.signal(signal.SIGTERM, remember)
    return lambda: bool(requests)


@contextmanager
def only_worker(folder: Path, emit: Emit) -> Generator[None]:
    """Hold the folder's lock, so that two runs of one recipe do not write the same checkpoints."""
    with (folder / "worker.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            emit({"event": "waiting", "reason": "another process trains this recipe"})
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def run_job(folder: Path, emit: Emit, should_stop: Callable[[], bool]) -> None:
    """Train and write the result; a result of the same job that is there already is kept.

    Raises:
        TunewrightError: whatever stops a training, by name.
    """
    job = read_job(folder)
    finished = read_result(folder)
    if finished is not None and finished.job == job.identity():
        return
    torch.set_num_interop_threads(1)
    torch.use_deterministic_algorithms(mode=True, warn_only=True)
    device = pick_device()
    rows, digests = read_tokens(folder, job)
    trainable, checks = prepare(job, rows, device)
    emit({"event": "checked", "checks": [check.name for check in checks]})
    rate = choose_rate(job.settings, trainable.causal.config.to_dict())
    result = run_loop(job, trainable, rows, rate.rate, Surroundings(folder, device, emit, should_stop))
    files = candidate_files(trainable, result.weights, job.base.name, Path(job.base_folder))
    files[PARITY_FILE] = reference_of(trainable, rows, result, device)
    for name, data in files.items():
        write_atomically(folder / CANDIDATE_FOLDER / name, data)
    record = TrainResult(
        job=job.identity(),
        stopped=result.stopped,
        best_step=result.best_step,
        num_tokens=result.state.num_tokens,
        wall_s=result.state.wall_s,
        peak_memory_bytes=max(result.state.peak_memory_bytes, peak_memory_bytes()),
        order_digest=result.order_digest,
        tokens=digests,
        settings=used_settings(job, rate, result),
        environment=describe_machine(device),
        self_checks=tuple(checks),
        metrics=result.state.metrics,
        files={name: digest_bytes(data) for name, data in files.items()},
        report=make_report(job, trainable, rows, result, device),
    )
    write_atomically(folder / RESULT_FILE, record.model_dump_json().encode())


def reference_of(trainable: Trainable, rows: TokenRows, result: LoopResult, device: torch.device) -> bytes:
    """Compute what the gate compares the engine with, from the weights that became the candidate.

    In fp32, as the engine does: under bf16 autocast the worst of some thousand tokens is off by 0.1 nats.
    """
    trainable.load(result.weights)
    trainable.causal.float().eval()
    return parity_reference(trainable.causal, rows["train"], device)


def read_tokens(
    folder: Path, job: TrainJob
) -> tuple[TokenRows, dict[Literal["train", "validation"], Digest]]:
    """Read both token files, hashing what is read.

    Raises:
        BlobCorrupt: a file is not what the parent wrote.
    """
    rows: dict[Literal["train", "validation"], Sequence[TokenRow]] = {}
    digests: dict[Literal["train", "validation"], Digest] = {}
    for split, name in TOKEN_FILES.items():
        data = (folder / name).read_bytes()
        digests[split] = digest_bytes(data)
        if digests[split] != job.tokens[split]:
            raise BlobCorrupt(
                f"{folder / name} hashes to {digests[split]}, expected {job.tokens[split]}; it changed after "
                "it was written. Run again to write it anew."
            )
        rows[split] = load_token_rows(data)
    return rows, digests


def prepare(job: TrainJob, rows: TokenRows, device: torch.device) -> tuple[Trainable, list[SelfCheck]]:
    """Load the base, prove that it can be trained as the loop does it, and add what is trained.

    The generator is seeded before the adapter is made, and the proofs use no random numbers.

    Raises:
        TokenError, SelfCheckFailed: a proof failed, by name.
    """
    settings, is_fp32 = job.settings, job.settings.precision == "fp32"
    model = load_base(Path(job.base_folder), settings, device)
    checks = selfcheck.check_labels(
        [*rows["train"], *rows["validation"]],
        frozenset(job.eos_ids),
        num_embeddings(model),
    )
    sample = selfcheck.sample_rows(rows["train"])
    with precision(job, device):
        reference = selfcheck.reference_loss(model, sample, device)
        base = selfcheck.packed_loss(model, sft_loss, sample, device)
        checks.append(selfcheck.check_packing(reference, base, is_fp32=is_fp32))
        torch.manual_seed(settings.seed)
        trainable = make_trainable(model, settings)
        model.eval()  # no dropout while proving; the loop switches to training
        with trainable.adapter_off():
            off = selfcheck.packed_loss(model, sft_loss, sample, device)
        checks.append(selfcheck.check_adapter_off(base, off))
    with precision(job, device):
        checks.append(selfcheck.check_accumulation(trainable, sft_loss, sample, device, is_fp32=is_fp32))
    return trainable, checks


def used_settings(job: TrainJob, rate: RateChoice, result: LoopResult) -> dict[str, Json]:
    """Write down every hyper-parameter as used."""
    return {
        **job.settings.to_json(),
        "learning_rate": rate.rate,
        "learning_rate_formula": rate.formula,
        "micro_tokens": result.state.micro_tokens,
        "num_steps": result.num_steps,
        "optimizer": "AdamW, betas 0.9 and 0.999, eps 1e-08",
    }


def make_report(
    job: TrainJob, trainable: Trainable, rows: TokenRows, result: LoopResult, device: torch.device
) -> dict[str, Json]:
    """Collect facts for people and for the forecast's comparison."""
    lengths = [len(row.ids) for row in rows["train"]]
    state = result.state
    return {
        **curve_report(state.metrics, state.base_eval_loss, result.stopped),
        "parameters": sum(value.numel() for value in trainable.causal.parameters()),
        "trained_parameters": sum(value.numel() for value in trainable.parameters.values()),
        "tokens_per_s": mean_tokens_per_s(state.metrics),
        "matmul_flops_per_s": matmul_flops_per_s(device, job.settings.precision),
        "padding_fraction": 0.0,
        "packing_fill": fill_fraction(pack(lengths, state.micro_tokens), lengths, state.micro_tokens),
        "init_digest": state.init_digest,
        "first_losses": list(state.first_losses),
        "notes": list(result.notes),
    }


if __name__ == "__main__":
    sys.exit(main())
