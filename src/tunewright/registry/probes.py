"""Fingerprint probes: do recorded greedy answers tell a model from its base, and are they repeated? Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from tunewright.records import Probe

NUM_PROMPTS = 4
NUM_TOKENS = 16
TOLERANCE = 1e-2
"""Largest difference of two log-probabilities (nats) that still counts as the same."""


@dataclass(frozen=True, slots=True)
class ProbeFinding:
    """Whether probes hold, and why not."""

    holds: bool
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model said to one prompt: greedy tokens and the log-probability of each."""

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]


def difference(left: Answer, right: Answer, tolerance: float = TOLERANCE) -> str | None:
    """Say how two answers differ; None when they are the same within the tolerance."""
    for position, (a, b) in enumerate(zip(left.token_ids, right.token_ids, strict=False)):
        if a != b:
            return f"token {position} is {a}, not {b}"
    if len(left.token_ids) != len(right.token_ids):
        return f"{len(left.token_ids)} tokens, not {len(right.token_ids)}"
    gaps = [abs(a - b) for a, b in zip(left.logprobs, right.logprobs, strict=True)]
    wide = [gap for gap in gaps if not gap <= tolerance]  # NaN counts as a difference
    return f"log-probabilities differ by {max(wide):.4f} > {tolerance}" if wide else None


def tells_from_base(probes: Sequence[Probe], tolerance: float = TOLERANCE) -> ProbeFinding:
    """Decide whether at least one probe is answered otherwise than by the base."""
    for number, probe in enumerate(probes, start=1):
        tuned = Answer(probe.token_ids, probe.logprobs)
        base = Answer(probe.base_token_ids, probe.base_logprobs)
        how = difference(tuned, base, tolerance)
        if how is not None:
            return ProbeFinding(True, (f"probe {number} differs from the base: {how}",))
    return ProbeFinding(False, (f"all {len(probes)} probes are answered exactly as the base answers them",))


def repeats(probes: Sequence[Probe], answers: Sequence[Answer], tolerance: float = TOLERANCE) -> ProbeFinding:
    """Decide whether a loaded model answers every recorded probe as it did when it was registered.

    Args:
        probes: what was recorded.
        answers: what was answered now, in the same order.
        tolerance: nats.
    """
    if len(probes) != len(answers):
        return ProbeFinding(False, (f"{len(answers)} answers for {len(probes)} probes",))
    found = [
        f"probe {number}: {how}"
        for number, (probe, answer) in enumerate(zip(probes, answers, strict=True), start=1)
        if (how := difference(answer, Answer(probe.token_ids, probe.logprobs), tolerance)) is not None
    ]
    return ProbeFinding(not found, tuple(found) or (f"all {len(probes)} probes repeated",))
