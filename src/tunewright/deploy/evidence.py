"""What a rollout's traces say so far: a pure fold in order of assignment, incremental and replayable.

Two streams: `instant` outcomes up to the first trace that is not closed, `delayed` ones (feedback) up to the
first whose window is not over. Reading on from `upto_seq` in pieces gives what reading everything at once
gives, so nothing of this is stored. What follows from it is decided in `canary`.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from math import ceil

from tunewright.core.eprocess import NO_RATIO_EVIDENCE, EProcess, log_e, update_ratio
from tunewright.deploy.kill_switches import NOTHING_SEEN, KillWatch, watch
from tunewright.deploy.outcomes import (
    ERRORS,
    FEEDBACK,
    SHADOW_PREFIX,
    Guardrail,
    by_trace,
    error_outcome,
    feedback_outcome,
    guardrails,
    instant_outcomes,
    is_engine_stopped,
)
from tunewright.deploy.tracks import Track, observe, observe_pair
from tunewright.records import Baseline, Feedback, Rollout, RolloutPolicy, RolloutState, Trace

MAX_ORIGINALS = 10_000
"""Mirrored requests come back after at most so many others; older ones are not paired any more."""
MAX_BASELINE = 10_000
"""Answers the incumbent's p95 is taken from at most: the newest."""


@dataclass(frozen=True, slots=True)
class Unit:
    """One randomised observation, all the statistics know of a trace."""

    stage: int
    is_candidate: bool
    p: float
    outcomes: Mapping[str, float | None]
    """Guardrail -> outcome of a stream; None is missing."""


@dataclass(frozen=True, slots=True)
class Pending:
    """An answered unit whose feedback window may still be open."""

    trace: str
    is_candidate: bool
    p: float
    until: datetime


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything the decision needs of the traces up to a sequence number."""

    policy: RolloutPolicy
    guardrails: tuple[Guardrail, ...]
    tracks: Mapping[str, Track]
    """Guardrail -> mirrored pairs and randomised units."""
    stage_units: tuple[int, ...]
    """Observed units by stage of the ramp."""
    upto_seq: int = 0
    """Everything up to here is taken in; read on beyond it."""
    num_pairs: int = 0
    """Requests that both arms have answered, or failed at, in shadow."""
    paired_units: frozenset[str] = frozenset()
    """Units with such a request; only the first of each is evidence, as in the ramp."""
    units: tuple[int, int] = (0, 0)
    """Observed units of incumbent and candidate."""
    windows_over: tuple[int, int] = (0, 0)
    """Units of incumbent and candidate whose feedback window is over."""
    exposed: int = 0
    """Requests of users that the candidate answered, evidence or not."""
    ratio: EProcess = NO_RATIO_EVIDENCE
    """Sample-ratio test over the observed units."""
    kills: KillWatch = NOTHING_SEEN
    kills_ahead: KillWatch = NOTHING_SEEN
    """`kills` and what is already closed beyond `upto_seq`: a kill switch waits for nobody."""
    pending: tuple[Pending, ...] = ()
    originals: Mapping[str, Mapping[str, float | None]] = field(
        default_factory=dict[str, Mapping[str, float | None]]
    )
    """The incumbent's answers in shadow that a mirrored one may still be paired with."""
    baseline_samples: tuple[tuple[float, int], ...] = ()
    """(latency in seconds, tokens) of the incumbent's good answers in shadow."""

    @property
    def log_e(self) -> Mapping[tuple[str, str], float]:
        """(guardrail, `rollback` or `promote`) -> log of the e-value now; `shadow:` is a part of it."""
        found: dict[tuple[str, str], float] = {}
        for name, track in self.tracks.items():
            found[name, "rollback"] = log_e(track.rollback)
            found[name, "promote"] = log_e(track.promote)
            if track.mirrored.rollback.count:
                found[SHADOW_PREFIX + name, "rollback"] = log_e(track.mirrored.rollback)
                found[SHADOW_PREFIX + name, "promote"] = log_e(track.mirrored.promote)
        return found


def start_evidence(rollout: Rollout) -> Evidence:
    """Begin with nothing known."""
    rails = guardrails(rollout.policy)
    return Evidence(
        policy=rollout.policy,
        guardrails=rails,
        tracks={rail.name: Track() for rail in rails},
        stage_units=(0,) * len(rollout.policy.ramp),
    )


def extend(
    evidence: Evidence,
    traces: Sequence[Trace],
    feedback: Sequence[Feedback],
    state: RolloutState,
    now: datetime,
) -> Evidence:
    """Take in what is new.

    Args:
        evidence: what was known.
        traces: all of this rollout beyond `evidence.upto_seq`, live and mirrored, by seq, open ones included.
        feedback: all of this rollout; with superseded ones, a replay finds exactly what was found live.
        state: its baseline, frozen when the ramp began, says what is slow and what is long.
        now: a feedback window that ended by now is over.
    """
    fold = _Fold(evidence, state.baseline)
    new = sorted((trace for trace in traces if trace.seq > evidence.upto_seq), key=lambda trace: trace.seq)
    first_open = next((place for place, trace in enumerate(new) if trace.status == "open"), len(new))
    for trace in new[:first_open]:
        fold.take(trace)
    ahead = fold.kills
    for trace in new[first_open:]:
        ahead = watch(ahead, trace, evidence.policy)
    fold.close_windows(by_trace(feedback), now)
    return fold.freeze(ahead)


def extend_units(evidence: Evidence, units: Iterable[Unit]) -> Evidence:
    """Take in bare observations, of either stream: the statistics of `extend` without its records."""
    fold = _Fold(evidence, None)
    for unit in units:
        fold.observe(unit, is_instant=ERRORS in unit.outcomes)
    return fold.freeze(fold.kills)


def make_baseline(traces: Sequence[Trace]) -> Baseline:
    """Freeze the incumbent's p95s from its good answers in shadow.

    Raises:
        ValueError: there is none; ask for evidence with a sample first.
    """
    return baseline_of([sample for trace in traces if (sample := _baseline_sample(trace)) is not None])


def baseline_of(samples: Sequence[tuple[float, int]]) -> Baseline:
    """Freeze p95s (nearest rank) of (latency in seconds, tokens).

    Raises:
        ValueError: there is no sample.
    """
    if not samples:
        raise ValueError("no good answer of the incumbent in shadow; expected at least one")
    rank = ceil(0.95 * len(samples)) - 1
    latencies, tokens = (sorted(column) for column in zip(*samples, strict=True))
    return Baseline(
        requests=len(samples), p95_latency_s=float(latencies[rank]), p95_tokens=float(tokens[rank])
    )


class _Fold:
    """Evidence while it grows. Local to one call; every step depends on the traces and their order alone."""

    def __init__(self, evidence: Evidence, baseline: Baseline | None) -> None:
        self.start = evidence
        self.baseline = baseline
        self.rails = {rail.name: rail for rail in evidence.guardrails}
        self.tracks = dict(evidence.tracks)
        self.stage_units = list(evidence.stage_units)
        self.upto_seq = evidence.upto_seq
        self.num_pairs = evidence.num_pairs
        self.paired_units = set(evidence.paired_units)
        self.units = list(evidence.units)
        self.windows_over = list(evidence.windows_over)
        self.exposed = evidence.exposed
        self.ratio = evidence.ratio
        self.kills = evidence.kills
        self.pending = deque(evidence.pending)
        self.originals = dict(evidence.originals)
        self.samples = deque(evidence.baseline_samples, maxlen=MAX_BASELINE)
        self.window = timedelta(seconds=evidence.policy.window_s)

    def take(self, trace: Trace) -> None:
        """Take in one closed trace."""
        self.upto_seq = trace.seq
        self.kills = watch(self.kills, trace, self.start.policy)
        if trace.shadow_of is not None:
            self._pair(trace, trace.shadow_of)
            return
        is_candidate = trace.arm == "candidate"
        self.exposed += is_candidate
        if trace.stage is None:
            self._remember(trace)
        elif trace.p is not None and trace.arm is not None:
            outcomes = instant_outcomes(trace, self.start.guardrails, self.baseline)
            self.observe(Unit(trace.stage, is_candidate, trace.p, outcomes), is_instant=True)
            until = (trace.closed_at or trace.at) + self.window
            self.pending.append(Pending(trace.id, is_candidate, trace.p, until))

    def observe(self, unit: Unit, *, is_instant: bool) -> None:
        """Take in one unit's outcomes of one stream."""
        if is_instant and unit.outcomes.get(ERRORS) is not None:
            self.stage_units[unit.stage] += 1
            self.units[unit.is_candidate] += 1
            self.ratio = update_ratio(self.ratio, is_candidate=unit.is_candidate, p=unit.p)
        for name, outcome in unit.outcomes.items():
            if outcome is not None:
                self.tracks[name] = observe(
                    self.tracks[name],
                    self.rails[name],
                    is_candidate=unit.is_candidate,
                    p=unit.p,
                    outcome=outcome,
                )

    def close_windows(self, grouped: Mapping[str, Sequence[Feedback]], now: datetime) -> None:
        """Take in the feedback of units whose window is over, in order, up to the first that is not."""
        while self.pending and self.pending[0].until <= now:
            waited = self.pending.popleft()
            self.windows_over[waited.is_candidate] += 1
            outcome = feedback_outcome(waited.trace, grouped, waited.until)
            self.observe(Unit(0, waited.is_candidate, waited.p, {FEEDBACK: outcome}), is_instant=False)

    def _remember(self, trace: Trace) -> None:
        """Keep an incumbent's answer of the shadow phase for its mirrored twin, and for the baseline."""
        if trace.arm != "incumbent":
            return
        self.originals[trace.id] = self._paired_outcomes(trace)
        if len(self.originals) > MAX_ORIGINALS:
            del self.originals[next(iter(self.originals))]
        if (sample := _baseline_sample(trace)) is not None:
            self.samples.append(sample)

    def _pair(self, mirrored: Trace, original_id: str) -> None:
        if (original := self.originals.pop(original_id, None)) is None:
            return
        twin = self._paired_outcomes(mirrored)
        if original[ERRORS] is None or twin[ERRORS] is None:
            return
        self.num_pairs += 1
        if mirrored.unit in self.paired_units:
            return
        self.paired_units.add(mirrored.unit)
        for name, ours in twin.items():
            theirs = original[name]
            if ours is not None and theirs is not None:
                track, rail = self.tracks[name], self.rails[name]
                self.tracks[name] = observe_pair(track, rail, candidate=ours, incumbent=theirs)

    def _paired_outcomes(self, trace: Trace) -> Mapping[str, float | None]:
        """Judge by the paired guardrails; a stopped engine hits one twin only, so it says nothing."""
        rails = [rail for rail in self.start.guardrails if rail.is_paired]
        found = instant_outcomes(trace, rails, None)
        return found | {ERRORS: None} if is_engine_stopped(trace) else found

    def freeze(self, kills_ahead: KillWatch) -> Evidence:
        """Give back what has grown."""
        return Evidence(
            policy=self.start.policy,
            guardrails=self.start.guardrails,
            tracks=self.tracks,
            stage_units=tuple(self.stage_units),
            upto_seq=self.upto_seq,
            num_pairs=self.num_pairs,
            paired_units=frozenset(self.paired_units),
            units=(self.units[0], self.units[1]),
            windows_over=(self.windows_over[0], self.windows_over[1]),
            exposed=self.exposed,
            ratio=self.ratio,
            kills=self.kills,
            kills_ahead=kills_ahead,
            pending=tuple(self.pending),
            originals=self.originals,
            baseline_samples=tuple(self.samples),
        )


def _baseline_sample(trace: Trace) -> tuple[float, int] | None:
    """Latency and tokens of a good answer of the incumbent in shadow; None for every other trace."""
    if trace.shadow_of is not None or trace.arm != "incumbent" or trace.stage is not None:
        return None
    if error_outcome(trace) != 0.0 or trace.latency_s is None:
        return None
    return trace.latency_s, trace.num_tokens
