"""A rollout's standing in plain words and in figures: what is known, what is missing, what happens next."""

from collections.abc import Iterator
from datetime import datetime
from math import exp, inf

from tunewright.core.eprocess import log_e
from tunewright.deploy.canary import next_step, open_proofs, promote_target, rollback_target
from tunewright.deploy.evidence import Evidence
from tunewright.deploy.outcomes import FEEDBACK, SHADOW_PREFIX, Guardrail
from tunewright.deploy.tracks import PairTrack, Track, units_needed
from tunewright.records import LIVE_PHASES, Rollout, RolloutState
from tunewright.values import Json

_LARGEST = 700.0
"""e to the power of more would not be a number; an e-value this large is beyond doubt."""
_HARM_SEEN_ABOVE = 0.25
"""Share of rated units below which a rise of a few points mostly goes unseen by feedback."""


def status_sentences(rollout: Rollout, state: RolloutState, evidence: Evidence, now: datetime) -> list[str]:
    """Say where a rollout stands, for somebody who is on call and not a statistician."""
    sentences = [_headline(rollout, state), f"Why: {_ended(state.reason)}"]
    if state.phase in LIVE_PHASES:
        step = next_step(rollout, state, evidence, now)
        sentences.append(f"Next: {_ACTIONS[step.action]}: {_ended(step.reason)}")
        sentences.append(_clock(state, now))
    sentences.extend(_pairs(rollout, state, evidence))
    if sum(evidence.units):
        sentences.append(_units(state, evidence))
        sentences.extend(_guardrail(rail, evidence) for rail in evidence.guardrails)
        sentences.append(_feedback(evidence))
    return sentences


def status_json(rollout: Rollout, state: RolloutState, evidence: Evidence, now: datetime) -> dict[str, Json]:
    """Give the same as figures."""
    step = next_step(rollout, state, evidence, now)
    return {
        "rollout": str(rollout.ref),
        "candidate": str(rollout.candidate),
        "incumbent": str(rollout.incumbent),
        "phase": state.phase,
        "stage": state.stage,
        "share": state.share,
        "since": state.to_json()["since"],
        "deadline": state.to_json()["deadline"],
        "reason": state.reason,
        "next": {"action": step.action, "reason": step.reason},
        "mirrored_pairs": evidence.num_pairs,
        "units": {"incumbent": evidence.units[0], "candidate": evidence.units[1]},
        "units_in_stage": evidence.stage_units[state.stage],
        "exposed": evidence.exposed,
        "feedback_share": _rated_share(evidence),
        "rollback_at": exp(rollback_target(evidence)),
        "promote_at": exp(promote_target(rollout.policy)),
        "guardrails": {rail.name: _figures(rail, evidence) for rail in evidence.guardrails},
        "sentences": list(status_sentences(rollout, state, evidence, now)),
    }


_ACTIONS = {
    "wait": "waiting",
    "advance": "a larger share",
    "promote": "promotion",
    "hold": "on hold",
    "roll_back": "rolling back",
}


def _headline(rollout: Rollout, state: RolloutState) -> str:
    who = f"Rollout {rollout.ref}: {rollout.candidate} is to take over from {rollout.incumbent}"
    steps = len(rollout.policy.ramp) - 1
    where = {
        "shadow": "it answers mirrored requests only, which no user sees",
        "ramp": f"stage {state.stage + 1} of {steps}, it answers {state.share:.4g} of the users",
        "held": f"on hold, it answers {state.share:.4g} of the users",
        "promoted": "it was promoted and answers all users",
        "rolled_back": "it was rolled back and answers no user",
    }
    return f"{who}; {where[state.phase]}."


def _clock(state: RolloutState, now: datetime) -> str:
    left = (state.deadline - now).total_seconds()
    what = "it is rolled back" if state.phase == "held" else "it is put on hold"
    return f"Without a decision {what} at {state.deadline:%Y-%m-%d %H:%M:%S} UTC, in {max(left, 0):,.0f} s."


def _pairs(rollout: Rollout, state: RolloutState, evidence: Evidence) -> Iterator[str]:
    if state.phase != "shadow" and not evidence.num_pairs:
        return
    yield (
        f"Mirrored: {evidence.num_pairs} requests compared, {rollout.policy.shadow_requests} needed; "
        f"evidence is the first of each of {len(evidence.paired_units)} users."
    )
    for name, track in evidence.tracks.items():
        alone = track.mirrored
        if alone.rollback.count:
            yield (
                f"{SHADOW_PREFIX}{name}: bad outcomes {alone.words()}; brings an alarm e-value of "
                f"{_e_value(log_e(alone.rollback))} and a proof e-value of {_e_value(log_e(alone.promote))} "
                f"into {name}, before any user is exposed."
            )


def _units(state: RolloutState, evidence: Evidence) -> str:
    incumbent, candidate = evidence.units
    here = (
        f", {evidence.stage_units[state.stage]} of them in this stage, which needs at least "
        f"{evidence.policy.min_units}"
    )
    return (
        f"Observed so far: {incumbent + candidate} units (candidate {candidate}, incumbent {incumbent})"
        f"{here if state.phase in LIVE_PHASES else ''}; the candidate answered {evidence.exposed} "
        "requests of users."
    )


def _guardrail(rail: Guardrail, evidence: Evidence) -> str:
    track = evidence.tracks[rail.name]
    known = f"{rail.name}: bad outcomes {track.live_words()}. "
    alarm = (
        f"Alarm: highest e-value {_e_value(track.rollback.peak)}, rolls back at "
        f"{_e_value(rollback_target(evidence))}. "
    )
    return known + alarm + _proof(rail, track, evidence)


def _proof(rail: Guardrail, track: Track, evidence: Evidence) -> str:
    claim = f"Not worse by {rail.margin:g}"
    if not rail.is_required:
        return f"{claim}: not needed for promotion."
    if rail not in open_proofs(evidence):
        return f"{claim}: shown."
    value = f"e-value {_e_value(log_e(track.promote))} of {_e_value(promote_target(evidence.policy))}"
    if not track.incumbent.num or not track.candidate.num:
        return f"{claim}: open ({value}); it needs outcomes of both arms first."
    units = _units_open(rail, evidence)
    if units is None:
        return f"{claim}: open ({value}); at the rates seen so far it would never be shown."
    share = evidence.policy.ramp[-2]
    return f"{claim}: open ({value}); needs about {units:,} more units at a share of {share:g}."


def _feedback(evidence: Evidence) -> str:
    over, track = evidence.windows_over, evidence.tracks[FEEDBACK]
    share = _rated_share(evidence)
    if share is None:
        return f"Feedback: no unit's window of {evidence.policy.window_s:g} s is over yet."
    arms = ", ".join(
        f"{name} {count.num} of {total}"
        for name, count, total in (
            ("candidate", track.candidate, over[1]),
            ("incumbent", track.incumbent, over[0]),
        )
    )
    text = (
        f"Feedback: {share:.1%} of the units whose window is over were rated ({arms}); the others count as "
        "unknown, not as good. The comparison assumes that users are equally willing to rate in both arms."
    )
    if share < _HARM_SEEN_ABOVE:
        text += " At this rate a rise of a few points goes unseen for long: rely on the live scorers."
    return text


def _figures(rail: Guardrail, evidence: Evidence) -> dict[str, Json]:
    track = evidence.tracks[rail.name]
    mirrored: dict[str, Json] | None = _mirrored(track.mirrored) if rail.is_paired else None
    return {
        **_arms(track),
        "mirrored": mirrored,
        "log_e_rollback": log_e(track.rollback),
        "log_e_rollback_peak": track.rollback.peak,
        "log_e_promote": log_e(track.promote),
        "margin": rail.margin,
        "is_required": rail.is_required,
        "is_proven": rail not in open_proofs(evidence) if rail.is_required else None,
        "units_needed": _units_open(rail, evidence),
    }


def _arms(track: Track | PairTrack) -> dict[str, Json]:
    return {
        name: {"num": count.num, "bad": count.bad, "rate": count.rate()}
        for name, count in (("candidate", track.candidate), ("incumbent", track.incumbent))
    }


def _mirrored(alone: PairTrack) -> dict[str, Json]:
    """Give what shadow contributed; both values are part of the guardrail's own."""
    return _arms(alone) | {"log_e_rollback": log_e(alone.rollback), "log_e_promote": log_e(alone.promote)}


def _units_open(rail: Guardrail, evidence: Evidence) -> int | None:
    """Estimate the units a proof still needs; 0 when shown, None when it cannot be said or will not be."""
    track = evidence.tracks[rail.name]
    target = promote_target(evidence.policy)
    if log_e(track.promote) >= target:
        return 0
    if not track.incumbent.num or not track.candidate.num:
        return None
    outcomes = units_needed(track, rail, p=evidence.policy.ramp[-2], target=target)
    observed = sum(evidence.windows_over) if rail.name == FEEDBACK else sum(evidence.units)
    if outcomes is None or not observed:
        return None
    known_share = (track.incumbent.num + track.candidate.num) / observed
    return max(1, round(outcomes / min(1.0, known_share)))


def _rated_share(evidence: Evidence) -> float | None:
    track, over = evidence.tracks[FEEDBACK], sum(evidence.windows_over)
    return (track.incumbent.num + track.candidate.num) / over if over else None


def _e_value(log_value: float) -> str:
    value = exp(log_value) if log_value < _LARGEST else inf
    if value >= 1e6:
        return "above a million"
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}"


def _ended(sentence: str) -> str:
    return sentence if sentence.endswith((".", "!", "?")) else f"{sentence}."
