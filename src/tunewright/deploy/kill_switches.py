"""Kill switches: what ends a rollout at once, outside statistics. Candidate traces only, live or mirrored."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tunewright.deploy.outcomes import error_outcome, is_engine_stopped
from tunewright.records import RolloutPolicy, Trace

FIRST_ANSWERS = 20
"""Answers of each kind (mirrored, live) that are watched most closely."""
MAX_FIRST_ERRORS = 5
"""So many errors or empty answers among them end the rollout."""
SAFETY_PREFIX = "safety"
MAX_LISTED = 10
"""Traces that are kept as witnesses of one cause."""

_CAUSES = {
    "digest_mismatch": "the engine answered with another adapter than the candidate's (digest mismatch)",
    "probe_mismatch": "the loaded candidate did not answer its probes as recorded (probe mismatch)",
    "nan_output": "the candidate's output held NaN",
}


@dataclass(frozen=True, slots=True)
class KillWatch:
    """What the kill switches have seen; a stopped engine is left to the statistics, it hits both arms."""

    witnesses: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    """Cause, in words -> traces."""
    first_live: tuple[int, tuple[str, ...]] = (0, ())
    """Of the first live answers: their number, and the traces that failed."""
    first_mirrored: tuple[int, tuple[str, ...]] = (0, ())


NOTHING_SEEN = KillWatch()


def watch(seen: KillWatch, trace: Trace, policy: RolloutPolicy) -> KillWatch:
    """Look at one more trace of the rollout, in order of assignment; open and incumbent ones say nothing."""
    if trace.arm != "candidate" or trace.status == "open":
        return seen
    witnesses = dict(seen.witnesses)
    for cause in _causes(trace, policy):
        witnesses[cause] = (*witnesses.get(cause, ()), trace.id)[:MAX_LISTED]
    live, mirrored = seen.first_live, seen.first_mirrored
    if trace.shadow_of is None:
        live = _count(live, trace)
    else:
        mirrored = _count(mirrored, trace)
    return KillWatch(witnesses, live, mirrored)


def tripped(seen: KillWatch) -> tuple[str, tuple[str, ...]] | None:
    """Say which switch is down: the cause in words and its traces; None when all are up."""
    for cause, traces in seen.witnesses.items():
        return cause, traces
    for kind, (count, failed) in (("live", seen.first_live), ("mirrored", seen.first_mirrored)):
        if len(failed) >= MAX_FIRST_ERRORS:
            cause = f"{len(failed)} of the candidate's first {count} {kind} answers failed or were empty"
            return cause, failed
    return None


def _causes(trace: Trace, policy: RolloutPolicy) -> Sequence[str]:
    causes = [_CAUSES[trace.error]] if trace.error in _CAUSES else []
    names = [scorer.name for scorer in policy.live_scorers if scorer.name.startswith(SAFETY_PREFIX)]
    violated = [name for name in names if trace.scores.get(name, 1.0) <= 0]
    return [*causes, *(f"the safety scorer {name} gave an answer of the candidate 0" for name in violated)]


def _count(first: tuple[int, tuple[str, ...]], trace: Trace) -> tuple[int, tuple[str, ...]]:
    count, failed = first
    outcome = error_outcome(trace)
    if outcome is None or count >= FIRST_ANSWERS or is_engine_stopped(trace):
        return first
    return count + 1, (*failed, trace.id) if outcome == 1.0 else failed
