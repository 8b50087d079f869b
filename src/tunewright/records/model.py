"""A registered model version, its approvals and aliases."""

from datetime import datetime

from pydantic import Field

from tunewright.records.base import Record
from tunewright.records.run import BaseModelRef
from tunewright.values import Digest, Json, Ref


class Waiver(Record):
    """A person takes responsibility for a verdict that is not `pass`."""

    evaluation: Ref
    candidate: Digest
    reason: str
    author: str
    at: datetime


class Probe(Record):
    """Recorded greedy answers that tell this adapter from the base (fp32, batch 1)."""

    prompt_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    """16 greedy tokens, or fewer at EOS."""
    logprobs: tuple[float, ...]
    """Top-1 natural-log probability of each."""
    base_token_ids: tuple[int, ...]
    base_logprobs: tuple[float, ...]


class ModelVersion(Record):
    """What may be served: adapter + base + how it was made + why it was let through."""

    ref: Ref
    fingerprint: Digest
    semantic_version: str
    """major = base or template changed, minor = data, patch = retrain."""
    adapter: Digest
    """Manifest digest."""
    base: BaseModelRef
    dataset: Ref
    dataset_digest: Digest
    run: Ref
    evaluation: Ref
    held_out: Digest
    verdict: str
    waiver: Waiver | None = None
    probes: tuple[Probe, ...] = ()
    signature: str
    """ed25519 over the canonical JSON of all fields but `signature`, base64."""
    key_id: str
    report: dict[str, Json] = Field(default_factory=dict)
    created_at: datetime


class AliasState(Record):
    """Where an alias points; `revision` is what compare-and-swap compares."""

    name: str
    alias: str
    target: Ref | None
    revision: int
