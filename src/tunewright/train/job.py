"""What parent and worker hand each other in the run folder, as files: job.json, token rows, result.json.

The worker sees this folder and the base's folder, and nothing else of the workspace.
"""

from pathlib import Path
from typing import Literal

from tunewright.recipe import TrainSection
from tunewright.records import BaseModelRef, MetricPoint, Record, SelfCheck
from tunewright.values import Digest, Json, digest_json

JOB_FILE = "job.json"
RESULT_FILE = "result.json"
METRICS_FILE = "metrics.jsonl"
STDERR_FILE = "stderr.txt"
CANDIDATE_FOLDER = "candidate"
CHECKPOINT_FOLDER = "checkpoints"
SPLITS: tuple[Literal["train", "validation"], ...] = ("train", "validation")
TOKEN_FILES: dict[Literal["train", "validation"], str] = {
    "train": "tokens-train.jsonl",
    "validation": "tokens-validation.jsonl",
}
INTERRUPTED_EXIT = 143
"""Exit code of a worker that saved after SIGTERM (128 + 15)."""


class TrainJob(Record):
    """What the worker is asked to do."""

    fingerprint: Digest
    base: BaseModelRef
    base_folder: str
    """Where the base lies on this machine; not part of identity."""
    settings: TrainSection
    tokens: dict[Literal["train", "validation"], Digest]
    """SHA-256 of each token file."""
    eos_ids: tuple[int, ...]
    """Tokens that end an answer."""

    def identity(self) -> Digest:
        """Hash everything that decides the bits; a checkpoint belongs to one identity."""
        return digest_json({key: value for key, value in self.to_json().items() if key != "base_folder"})


class TrainResult(Record):
    """What the worker did."""

    job: Digest
    """Identity of the job that was done."""
    stopped: Literal["finished", "early_stopping"]
    best_step: int
    num_tokens: int
    wall_s: float
    peak_memory_bytes: int
    order_digest: Digest
    tokens: dict[Literal["train", "validation"], Digest]
    """SHA-256 of each token file as it was read."""
    settings: dict[str, Json]
    environment: dict[str, Json]
    self_checks: tuple[SelfCheck, ...]
    metrics: tuple[MetricPoint, ...]
    files: dict[str, Digest]
    """Candidate file -> SHA-256."""
    report: dict[str, Json]


def read_job(folder: Path) -> TrainJob:
    """Read job.json."""
    return TrainJob.model_validate_json((folder / JOB_FILE).read_bytes())


def read_result(folder: Path) -> TrainResult | None:
    """Read result.json, if the worker wrote one."""
    path = folder / RESULT_FILE
    return TrainResult.model_validate_json(path.read_bytes()) if path.is_file() else None
