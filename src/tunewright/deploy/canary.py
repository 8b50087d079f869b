"""What a rollout does next: pure, from its policy, its state and the evidence.

The first rule that applies decides: a kill switch, an alarm, a person's or the clock's turn on hold, units
that went missing, the proof for promotion, the deadline, the next stage. Inconclusive never promotes.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from math import exp, log
from typing import Literal

from tunewright.core.eprocess import log_e
from tunewright.deploy.evidence import Evidence, baseline_of
from tunewright.deploy.kill_switches import tripped
from tunewright.deploy.outcomes import Guardrail
from tunewright.deploy.tracks import is_proven
from tunewright.records import LIVE_PHASES, Baseline, Rollout, RolloutPolicy, RolloutState
from tunewright.values import Json

Action = Literal["wait", "advance", "promote", "hold", "roll_back"]
RATIO_ALPHA = 0.001
"""Chance that units divided as assigned ever look as if they were not."""
SUSPICION = log(2)
"""Natural log of an alarm e-value from which on the share is not raised: too little to roll back, too much to
expose more users."""


@dataclass(frozen=True, slots=True)
class Step:
    """What to do, and why."""

    action: Action
    reason: str
    """One sentence with the figures that decided."""
    share: float
    """Share of units the candidate answers after the step."""
    stage: int
    """Index into the ramp after the step."""
    detail: dict[str, Json] = field(default_factory=dict[str, Json])
    """The figures again, for the ledger."""
    baseline: Baseline | None = None
    """The incumbent's p95s to freeze; present when shadow ends."""


@dataclass(frozen=True, slots=True)
class _Case:
    policy: RolloutPolicy
    state: RolloutState
    evidence: Evidence
    now: datetime

    def step(self, action: Action, reason: str, **detail: Json) -> Step:
        """Do something that leaves share and stage, or takes the candidate off."""
        share = 0.0 if action == "roll_back" else self.state.share
        return Step(action, reason, share, self.state.stage, {"action": action, **detail})

    @property
    def is_past_deadline(self) -> bool:
        return self.now >= self.state.deadline

    @property
    def units_here(self) -> int:
        return self.evidence.stage_units[self.state.stage]

    @property
    def is_stage_over(self) -> bool:
        """Whether this stage has observed enough and lasted long enough."""
        is_long_enough = (self.now - self.state.since).total_seconds() >= self.policy.min_stage_s
        return is_long_enough and self.units_here >= self.policy.min_units


def next_step(rollout: Rollout, state: RolloutState, evidence: Evidence, now: datetime) -> Step:
    """Decide what a rollout does now.

    Args:
        rollout: its policy.
        state: where it stands.
        evidence: of this rollout, extended to now.
        now: UTC and aware.

    Returns:
        The step; `wait` says what is waited for.
    """
    case = _Case(rollout.policy, state, evidence, now)
    if state.phase not in LIVE_PHASES:
        return case.step("wait", f"the rollout is over: {state.reason}")
    for rule in _RULES:
        step = rule(case)
        if step is not None:
            return step
    return _wait(case)


def rollback_target(evidence: Evidence) -> float:
    """Natural log of the e-value at which one test rolls back: alpha split over the guardrails."""
    return log(len(evidence.guardrails) / evidence.policy.alpha)


def promote_target(policy: RolloutPolicy) -> float:
    """Natural log of the e-value at which a guardrail counts as not worse."""
    return log(1 / policy.promote_alpha)


def open_proofs(evidence: Evidence) -> list[Guardrail]:
    """List the guardrails whose proof promotion still needs, by the evidence as it stands now."""
    target = promote_target(evidence.policy)
    return [
        rail
        for rail in evidence.guardrails
        if rail.is_required and not is_proven(evidence.tracks[rail.name], target)
    ]


def _kill(case: _Case) -> Step | None:
    found = tripped(case.evidence.kills_ahead)
    if found is None:
        return None
    cause, traces = found
    reason = f"kill switch: {cause}; {_traces(traces)}"
    return case.step("roll_back", reason, rule="kill_switch", cause=cause, traces=list(traces))


def _alarm(case: _Case) -> Step | None:
    """Roll back on the highest e-value a test ever had: an alarm that went off stays an alarm."""
    evidence, target = case.evidence, rollback_target(case.evidence)
    for name, track in evidence.tracks.items():
        peak = track.rollback.peak
        if peak < target:
            continue
        reason = (
            f"{name} is worse on the candidate: bad outcomes {track.words()}; e-value "
            f"{_number(peak)} reached {_number(target)} "
            f"(alpha {case.policy.alpha:g} split over {len(evidence.guardrails)} guardrails)"
        )
        figures: dict[str, Json] = {
            "candidate": [track.candidate.bad, track.candidate.num],
            "incumbent": [track.incumbent.bad, track.incumbent.num],
            "mirrored_candidate": [track.mirrored.candidate.bad, track.mirrored.candidate.num],
            "mirrored_incumbent": [track.mirrored.incumbent.bad, track.mirrored.incumbent.num],
        }
        log_values: dict[str, Json] = {"log_e": peak, "threshold": target}
        return case.step("roll_back", reason, rule="alarm", guardrail=name, **log_values, **figures)
    return None


def _on_hold(case: _Case) -> Step | None:
    if case.state.phase != "held":
        return None
    if case.is_past_deadline:
        reason = f"nobody decided within {case.policy.hold_s:g} s on hold; held because {case.state.reason}"
        return case.step("roll_back", reason, rule="hold_deadline")
    reason = f"on hold until {case.state.deadline:%Y-%m-%d %H:%M:%S} UTC for a person to decide"
    return case.step("wait", reason, rule="held")


def _units_missing(case: _Case) -> Step | None:
    ratio, target = case.evidence.ratio, log(1 / RATIO_ALPHA)
    if ratio.peak < target:
        return None
    incumbent, candidate = case.evidence.units
    reason = (
        f"sample-ratio mismatch: {candidate} of {candidate + incumbent} observed units are the candidate's, "
        f"which is not how they were assigned (e-value {_number(ratio.peak)} reached {_number(target)}); "
        "units of one arm go missing or are routed past the assignment"
    )
    return case.step(
        "hold", reason, rule="sample_ratio", log_e=ratio.peak, candidate=candidate, incumbent=incumbent
    )


def _promotion(case: _Case) -> Step | None:
    """Promote when, now, every guardrail that must be is shown to be not worse."""
    if not _is_last_stage(case) or not case.is_stage_over or open_proofs(case.evidence):
        return None
    target = promote_target(case.policy)
    proofs = [
        f"{rail.name} e-value {_number(log_e(case.evidence.tracks[rail.name].promote))}, {track.words()}"
        for rail in case.evidence.guardrails
        if rail.is_required and (track := case.evidence.tracks[rail.name])
    ]
    reason = (
        f"not worse by {case.policy.margin:g} on every guardrail after {sum(case.evidence.units)} units "
        f"(each e-value at least {_number(target)}): {'; '.join(proofs)}"
    )
    figures: dict[str, Json] = {
        f"{name}:{kind}": value for (name, kind), value in case.evidence.log_e.items()
    }
    detail: dict[str, Json] = {"action": "promote", "rule": "proof", "threshold": target, "log_e": figures}
    detail["units"] = sum(case.evidence.units)
    return Step("promote", reason, 1.0, len(case.policy.ramp) - 1, detail)


def _deadline(case: _Case) -> Step | None:
    if not case.is_past_deadline:
        return None
    missing = _wait(case).reason
    reason = f"no decision by the deadline ({case.policy.deadline_s:g} s): {missing}"
    return case.step("hold", reason, rule="deadline")


def _advance(case: _Case) -> Step | None:
    ramp = case.policy.ramp
    if case.state.phase == "shadow":
        samples = case.evidence.baseline_samples
        if case.evidence.num_pairs < case.policy.shadow_requests or not samples:
            return None
        baseline = baseline_of(samples)
        reason = (
            f"{case.evidence.num_pairs} mirrored requests without an alarm; the incumbent's p95 is "
            f"{baseline.p95_latency_s:.3f} s and {baseline.p95_tokens:g} tokens (n = {baseline.requests})"
        )
        detail: dict[str, Json] = {"action": "advance", "rule": "shadow", "pairs": case.evidence.num_pairs}
        return Step("advance", reason, ramp[0], 0, detail, baseline)
    if _is_last_stage(case) or not case.is_stage_over or _suspects(case.evidence):
        return None
    stage = case.state.stage + 1
    reason = (
        f"{case.units_here} units at {case.state.share:.4g} of traffic without an alarm (at least "
        f"{case.policy.min_units}); on to {ramp[stage]:.4g}"
    )
    detail = {"action": "advance", "rule": "stage", "units": case.units_here}
    return Step("advance", reason, ramp[stage], stage, detail)


def _wait(case: _Case) -> Step:
    policy, evidence = case.policy, case.evidence
    if case.state.phase == "shadow":
        reason = f"{evidence.num_pairs} of {policy.shadow_requests} mirrored requests are compared"
        if evidence.num_pairs >= policy.shadow_requests:
            reason += ", but the incumbent has no good answer to take its p95 from"
        return case.step("wait", reason, rule="shadow")
    if not case.is_stage_over:
        seconds = (case.now - case.state.since).total_seconds()
        reason = (
            f"{case.units_here} of {policy.min_units} units and {seconds:.0f} of {policy.min_stage_s:g} s at "
            f"{case.state.share:.4g} of traffic"
        )
        return case.step("wait", reason, rule="stage")
    suspects = _suspects(evidence)
    if suspects and not _is_last_stage(case):
        reason = f"no larger share while the candidate may be worse: {'; '.join(suspects)}"
        return case.step("wait", reason, rule="suspicion")
    names = ", ".join(rail.name for rail in open_proofs(evidence))
    reason = (
        f"not yet shown to be not worse by {policy.margin:g}: {names} (after {sum(evidence.units)} units)"
    )
    return case.step("wait", reason, rule="proof")


def _suspects(evidence: Evidence) -> list[str]:
    """Name the guardrails that look worse now, with what makes them suspect."""
    return [
        f"{name} e-value {_number(log_e(track.rollback))}, {track.words()}"
        for name, track in evidence.tracks.items()
        if log_e(track.rollback) >= SUSPICION
    ]


def _is_last_stage(case: _Case) -> bool:
    return case.state.phase == "ramp" and case.state.stage == len(case.policy.ramp) - 2


def _traces(traces: tuple[str, ...]) -> str:
    return f"trace{'s' if len(traces) > 1 else ''} {', '.join(traces)}"


def _number(log_value: float) -> str:
    """Write an e-value given its log; beyond 10^9 as a power of ten."""
    if log_value >= log(1e9):
        return f"10^{log_value / log(10):.0f}"
    value = exp(log_value)
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


_RULES: tuple[Callable[[_Case], Step | None], ...] = (
    _kill,
    _alarm,
    _on_hold,
    _units_missing,
    _promotion,
    _deadline,
    _advance,
)
