"""A rollout's standing in words: what is known, what is missing, and about how much more that takes."""

import json
import random
from dataclasses import replace
from datetime import timedelta

from tests.fakes import START
from tests.live_world import a_policy, a_rollout, a_state, a_trace

from tunewright.core.eprocess import log_e
from tunewright.deploy.canary import next_step, promote_target
from tunewright.deploy.evidence import Evidence, Unit, extend, extend_units, start_evidence
from tunewright.deploy.tracks import observe, units_needed
from tunewright.deploy.words import status_json, status_sentences
from tunewright.records import Trace

ROLLOUT = a_rollout(policy=a_policy(ramp=(0.5, 1.0), min_units=20))
RAMP = a_state(share=0.5)
NOW = START + timedelta(hours=1)
INSTANT = ("errors", "latency", "output_tokens")


def drawn(num: int, *, rate: float = 0.05, rated: float = 0.0, seed: int = 0) -> Evidence:
    rng = random.Random(seed)
    units: list[Unit] = []
    for _ in range(num):
        arm = rng.random() < 0.5
        units.append(Unit(0, arm, 0.5, {name: float(rng.random() < rate) for name in INSTANT}))
        if rng.random() < rated:
            units.append(Unit(0, arm, 0.5, {"feedback": float(rng.random() < rate)}))
    return extend_units(start_evidence(ROLLOUT), units)


def text(evidence: Evidence, **changes: object) -> str:
    return "\n".join(status_sentences(ROLLOUT, a_state(share=0.5, **changes), evidence, NOW))


def test_in_shadow_the_words_say_that_no_user_sees_the_candidate():
    said = text(drawn(0), phase="shadow")
    assert "mirrored requests only, which no user sees" in said
    assert "0 requests compared, 200 needed" in said
    assert "put on hold at" in said


def mirrored(num: int) -> list[Trace]:
    found: list[Trace] = []
    for seq in range(1, 2 * num, 2):
        first = a_trace(seq, rollout=ROLLOUT.ref, arm="incumbent")
        twin = {"arm": "candidate", "shadow_of": first.id, "unit": first.unit}
        found += [first, a_trace(seq + 1, rollout=ROLLOUT.ref, **twin)]
    return found


def test_the_words_and_figures_say_what_shadow_contributed():
    evidence = extend(start_evidence(ROLLOUT), mirrored(100), (), RAMP, NOW)
    said = text(evidence)
    assert "100 requests compared, 200 needed; evidence is the first of each of 100 users." in said
    assert "shadow:errors: bad outcomes candidate 0 of 100" in said
    assert "alarm e-value of 1 and a proof e-value of" in said and "into errors, before any user" in said
    figures = status_json(ROLLOUT, RAMP, evidence, NOW)["guardrails"]
    assert figures["errors"]["mirrored"]["candidate"]["num"] == 100
    assert figures["errors"]["mirrored"]["log_e_promote"] == figures["errors"]["log_e_promote"] > 1
    assert figures["latency"]["mirrored"] is None


def test_in_a_ramp_the_words_give_counts_intervals_and_what_is_still_needed():
    said = text(drawn(100))
    assert "Observed so far: 100 units (candidate 50, incumbent 50)" in said
    assert "95 % interval" in said
    assert "needs about" in said and "more units at a share of 0.5" in said
    assert "Feedback: no unit's window of 60 s is over yet." in said


def test_what_is_shown_and_what_was_never_observed_is_said():
    said = text(drawn(3_000, rate=0.01))
    assert "errors: " in said and "Not worse by 0.05: shown." in said
    assert "it needs outcomes of both arms first" in said


def test_the_feedback_rate_comes_with_what_the_comparison_assumes():
    evidence = replace(drawn(1_000, rated=0.03), windows_over=(500, 500))
    said = text(evidence)
    assert "% of the units whose window is over were rated" in said
    assert "equally willing to rate in both arms" in said
    assert "rely on the live scorers" in said


def test_the_end_of_a_rollout_is_said_without_a_next_step():
    said = text(drawn(0), phase="rolled_back", reason="errors was worse")
    assert "rolled back and answers no user" in said and "Why: errors was worse." in said
    assert "Next:" not in said


def units_until_shown(evidence: Evidence, seed: int) -> int:
    """Units of the same kind until the proof of `errors` is there."""
    rng = random.Random(seed)
    target = promote_target(ROLLOUT.policy)
    track, rail = evidence.tracks["errors"], evidence.guardrails[0]
    for more in range(4_000):
        if log_e(track.promote) >= target:
            return more
        arm = rng.random() < 0.5
        track = observe(track, rail, is_candidate=arm, p=0.5, outcome=float(rng.random() < 0.05))
    return 4_000


def test_the_estimate_of_missing_units_is_about_right():
    ratios: list[float] = []
    for seed in range(20):
        early = drawn(200, seed=seed)
        estimate = units_needed(
            early.tracks["errors"], early.guardrails[0], p=0.5, target=promote_target(ROLLOUT.policy)
        )
        if estimate:
            ratios.append(estimate / max(1, units_until_shown(early, seed)))
    assert len(ratios) >= 12
    assert 0.4 < sorted(ratios)[len(ratios) // 2] < 2.5


def test_the_figures_are_json_and_agree_with_the_step():
    evidence = drawn(100)
    found = status_json(ROLLOUT, RAMP, evidence, NOW)
    json.dumps(found, allow_nan=False)
    assert found["next"] == {
        "action": next_step(ROLLOUT, RAMP, evidence, NOW).action,
        "reason": next_step(ROLLOUT, RAMP, evidence, NOW).reason,
    }
    assert found["units"] == {"incumbent": 50, "candidate": 50}
