"""What is known of one guardrail: both e-processes, and plain counts to tell people about.

Mirrored pairs and randomised units test the same hypotheses, so they multiply into the same two processes:
the ramp begins with the fortunes that the shadow phase has won or lost. One guardrail is one test.
"""

from dataclasses import dataclass, replace

from tunewright.core.eprocess import (
    NO_EVIDENCE,
    PRIOR_WEIGHT,
    Bet,
    EProcess,
    bet_not_worse,
    bet_pair_not_worse,
    bet_pair_worse,
    bet_worse,
    expected_outcome,
    log_e,
    rounds_needed,
    update,
)
from tunewright.core.stats import wilson_interval
from tunewright.deploy.outcomes import Guardrail

PAIR_SCALE = 2.0
"""A mirrored request is seen on both arms: bet as at p = 1/2."""


@dataclass(frozen=True, slots=True)
class ArmCount:
    """Outcomes of one arm."""

    num: int = 0
    bad: float = 0.0
    """Sum of the outcomes."""

    def plus(self, outcome: float) -> "ArmCount":
        """Count one more."""
        return ArmCount(self.num + 1, self.bad + outcome)

    def rate(self) -> float | None:
        """Mean outcome; None when there is none."""
        return self.bad / self.num if self.num else None

    def words(self) -> str:
        """Say the count, the share and its 95 % interval."""
        if not self.num:
            return "none observed"
        low, high = wilson_interval(self.bad, self.num)
        bad = f"{self.bad:.0f}" if self.bad == int(self.bad) else f"{self.bad:.1f}"
        return f"{bad} of {self.num} ({self.bad / self.num:.3f}, 95 % interval {low:.3f} to {high:.3f})"


NOTHING_COUNTED = ArmCount()


@dataclass(frozen=True, slots=True)
class PairTrack:
    """What the mirrored pairs of a guardrail say alone: to be told, the decision takes `Track`."""

    rollback: EProcess = NO_EVIDENCE
    promote: EProcess = NO_EVIDENCE
    incumbent: ArmCount = NOTHING_COUNTED
    candidate: ArmCount = NOTHING_COUNTED

    def words(self) -> str:
        """Say both arms' counts."""
        return f"candidate {self.candidate.words()}, incumbent {self.incumbent.words()}"


NOTHING_MIRRORED = PairTrack()


@dataclass(frozen=True, slots=True)
class Track:
    """One guardrail: mirrored pairs, where it has any, and randomised units."""

    rollback: EProcess = NO_EVIDENCE
    """Bets that the candidate is worse by more than the guardrail's delta; on pairs and units."""
    promote: EProcess = NO_EVIDENCE
    """Bets that it is worse by less than the guardrail's margin; on pairs and units."""
    incumbent: ArmCount = NOTHING_COUNTED
    """Users' answers only, as for the candidate."""
    candidate: ArmCount = NOTHING_COUNTED
    mirrored: PairTrack = NOTHING_MIRRORED

    def live_words(self) -> str:
        """Say both arms' counts among users' answers."""
        return f"candidate {self.candidate.words()}, incumbent {self.incumbent.words()}"

    def words(self) -> str:
        """Say both arms' counts, mirrored ones apart."""
        mirrored = f"on mirrored requests {self.mirrored.words()}"
        if not self.mirrored.rollback.count:
            return self.live_words()
        has_units = self.incumbent.num or self.candidate.num
        return f"{self.live_words()}; {mirrored}" if has_units else mirrored


def observe(track: Track, rail: Guardrail, *, is_candidate: bool, p: float, outcome: float) -> Track:
    """Take in one randomised unit's outcome; the incumbent's mean is that of the units before."""
    expected = expected_outcome(track.incumbent.num, track.incumbent.bad)
    scale = 4 * p
    worse = bet_worse(is_candidate=is_candidate, p=p, outcome=outcome, expected=expected, delta=rail.delta)
    not_worse = bet_not_worse(
        is_candidate=is_candidate, p=p, outcome=outcome, expected=expected, margin=rail.margin
    )
    return Track(
        update(track.rollback, worse, scale=scale),
        update(track.promote, not_worse, scale=scale),
        track.incumbent if is_candidate else track.incumbent.plus(outcome),
        track.candidate.plus(outcome) if is_candidate else track.candidate,
        track.mirrored,
    )


def observe_pair(track: Track, rail: Guardrail, *, candidate: float, incumbent: float) -> Track:
    """Take in one mirrored request's two outcomes."""
    worse = bet_pair_worse(candidate, incumbent)
    not_worse = bet_pair_not_worse(candidate, incumbent, margin=rail.margin)
    alone = track.mirrored
    return replace(
        track,
        rollback=update(track.rollback, worse, scale=PAIR_SCALE),
        promote=update(track.promote, not_worse, scale=PAIR_SCALE),
        mirrored=PairTrack(
            update(alone.rollback, worse, scale=PAIR_SCALE),
            update(alone.promote, not_worse, scale=PAIR_SCALE),
            alone.incumbent.plus(incumbent),
            alone.candidate.plus(candidate),
        ),
    )


def is_proven(track: Track, target: float) -> bool:
    """Say whether "not worse by the margin" is shown now; never without users' outcomes of both arms."""
    return track.incumbent.num > 0 and track.candidate.num > 0 and log_e(track.promote) >= target


def units_needed(track: Track, rail: Guardrail, *, p: float, target: float) -> float | None:
    """Estimate how many more outcomes the proof needs if both arms go on as observed.

    Each arm's rate is taken with the prior that the test itself uses, so that few outcomes say little.

    Returns:
        Outcomes of this guardrail; None when, at these rates, it is not going to be shown.
    """
    expected = expected_outcome(track.incumbent.num, track.incumbent.bad)
    rounds: list[tuple[float, Bet]] = []
    for is_candidate, arm in ((True, track.candidate), (False, track.incumbent)):
        rate = (arm.bad + PRIOR_WEIGHT * expected) / (arm.num + PRIOR_WEIGHT)
        for outcome, chance in ((1.0, rate), (0.0, 1 - rate)):
            bet = bet_not_worse(
                is_candidate=is_candidate, p=p, outcome=outcome, expected=expected, margin=rail.margin
            )
            rounds.append(((p if is_candidate else 1 - p) * chance, bet))
    return rounds_needed(track.promote, rounds, scale=4 * p, target=target)
