"""A training run: what was asked, on what, what happened at each step, and the candidate it made."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from tunewright.records.base import Record
from tunewright.values import Digest, Json, Ref


class BaseModelRef(Record):
    """Which base, by content."""

    name: str
    """As the recipe names it: `tiny`, a folder, or `org/model@revision`."""
    digest: Digest
    """SHA-256 of the canonical JSON of {file: sha256}."""
    tokenizer_digest: Digest
    """SHA-256 over tokenizer.json, tokenizer_config.json and the chat template."""


class MetricPoint(Record):
    """What the loop reported after one optimiser step."""

    step: int
    epoch: float
    num_tokens: int
    """Non-padding tokens trained on so far."""
    train_loss: float
    """Mean negative log-likelihood a supervised token, in nats."""
    eval_loss: float | None = None
    learning_rate: float
    grad_norm: float
    tokens_per_s: float
    memory_bytes: int
    """Resident memory of the worker."""


class SelfCheck(Record):
    """One proof at job start."""

    name: str
    passed: bool
    detail: str
    """Numbers in words, such as `packed 3.01234 == unpacked 3.01234 (tolerance 1e-05)`."""


class TrainingRun(Record):
    """A finished run and its candidate."""

    ref: Ref
    fingerprint: Digest
    dataset: Ref
    dataset_digest: Digest
    base: BaseModelRef
    method: str
    """lora | full."""
    settings: dict[str, Json]
    """Every hyper-parameter as used, `auto` resolved."""
    seed: int
    environment: dict[str, Json]
    """Library versions, threads, device, precision; not identity."""
    self_checks: tuple[SelfCheck, ...]
    metrics: tuple[MetricPoint, ...]
    order_digest: Digest
    """SHA-256 over row ids in the order they were trained, repeats included."""
    token_blobs: dict[Literal["train", "validation"], Digest]
    """What the worker hashed while reading, equal to what the parent wrote."""
    trained_rows: Digest
    """Blob: JSON list of ids of rows in train and validation (validation counts as trained)."""
    best_step: int
    stopped: Literal["finished", "early_stopping"]
    candidate: Digest
    """Manifest digest: canonical JSON {path: sha256} of adapter (or full model) files."""
    num_tokens: int
    wall_s: float
    peak_memory_bytes: int
    report: dict[str, Json] = Field(default_factory=dict)
    """Facts for people: packing fill, parameters trained, forecast against measured, gap, underfit flag."""
    created_at: datetime
