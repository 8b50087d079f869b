"""Answers that need not be asked for twice: sealed blobs, found by a key over what they depend on.

An adapter judged as candidate today is the incumbent tomorrow; the base is in every evaluation.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from tunewright.core.scorers import Answer
from tunewright.evals.outputs import Outputs, decode_outputs, encode_outputs
from tunewright.ports import Blobs, Ports, VaultSession
from tunewright.records import Arm
from tunewright.values import Digest, digest_json


@dataclass(frozen=True, slots=True)
class Kept:
    """What was found, and what is to be stored with the evaluation."""

    found: Mapping[Arm, dict[str, dict[str, Answer]]]
    keys: Mapping[Arm, str]
    """Arm -> head key of its answers, found or not."""


def output_key(identity: str, asked: object, decoding: Mapping[str, object], version: int) -> str:
    """Name the head that points to the answers of one model to these very messages.

    Args:
        identity: digests of the weights.
        asked: every message, suite by suite and row by row.
        decoding: how answers are generated, and whether reference answers are weighed too.
        version: the stage's code version.
    """
    inputs = {
        "identity": identity,
        "asked": digest_json(asked),
        "decoding": dict(decoding),
        "version": version,
    }
    return f"outputs:{digest_json(inputs)}"


def find_outputs(keys: Mapping[Arm, str], ports: Ports, session: VaultSession) -> Kept:
    """Read the answers that are stored already."""
    found: dict[Arm, dict[str, dict[str, Answer]]] = {}
    for arm, key in keys.items():
        blob = ports.records.head(key)
        if blob is not None:
            found[arm] = decode_outputs(session.unseal(ports.blobs.get(Digest(blob))))
    return Kept(found, keys)


def store_outputs(
    kept: Kept, outputs: Mapping[Arm, Outputs], blobs: Blobs, session: VaultSession
) -> dict[str, tuple[str | None, str]]:
    """Seal and store the answers of arms that were asked now; returns the heads to move with the commit."""
    fresh = {
        kept.keys[arm]: answers
        for arm, answers in outputs.items()
        if arm in kept.keys and arm not in kept.found
    }
    return {key: (None, blobs.put(session.seal(encode_outputs(answers)))) for key, answers in fresh.items()}
