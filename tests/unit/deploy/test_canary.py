"""Steps of a rollout, each with the reason it gives."""

import random
from datetime import timedelta

import pytest
from tests.fakes import START
from tests.live_world import a_feedback, a_policy, a_rollout, a_state, a_trace

from tunewright.deploy.canary import Step, next_step, open_proofs, promote_target, rollback_target
from tunewright.deploy.evidence import Evidence, Unit, extend, extend_units, start_evidence
from tunewright.records import Baseline, LiveScorer, RolloutState, Trace

POLICY = a_policy(
    ramp=(0.05, 0.5, 1.0),
    min_units=20,
    shadow_requests=5,
    live_scorers=(LiveScorer(kind="json_valid", name="json"), LiveScorer(kind="r", name="safety_words")),
    feedback_required=False,
)
ROLLOUT = a_rollout(policy=POLICY)
BASELINE = Baseline(requests=200, p95_latency_s=1.0, p95_tokens=20.0)
SCORES = {"json": 1.0, "safety_words": 1.0}
NOW = START + timedelta(hours=1)
SHADOW = a_state(phase="shadow", share=0.0)
FIRST = a_state(stage=0, share=0.05, baseline=BASELINE)
LAST = a_state(stage=1, share=0.5, baseline=BASELINE)


def a_unit(seq: int, arm: str = "candidate", **changes: object) -> Trace:
    fields = {"rollout": ROLLOUT.ref, "stage": 0, "arm": arm, "p": 0.05, "scores": SCORES}
    return a_trace(seq, **(fields | changes))


def a_mirrored(seq: int, **changes: object) -> list[Trace]:
    common = {"rollout": ROLLOUT.ref, "scores": SCORES}
    first = a_trace(2 * seq - 1, **common, arm="incumbent")
    fields = common | {"arm": "candidate", "shadow_of": first.id, "digest": ROLLOUT.candidate_digest}
    return [first, a_trace(2 * seq, **(fields | changes))]


def read(traces: list[Trace], state: RolloutState = FIRST) -> Evidence:
    return extend(start_evidence(ROLLOUT), traces, (), state, NOW)


def drawn(num: int, *, bad: float, stage: int = 1, p: float = 0.5, seed: int = 0, **more: float) -> Evidence:
    """Evidence of `num` random units; the candidate's scorer fails with rate `bad`, the incumbent never."""
    rng = random.Random(seed)
    units = []
    for _ in range(num):
        is_candidate = rng.random() < p
        outcomes: dict[str, float | None] = dict.fromkeys(
            ("errors", "latency", "output_tokens", "score:json", "score:safety_words"), 0.0
        )
        outcomes["score:json"] = float(is_candidate and rng.random() < bad)
        units.append(Unit(stage, is_candidate, p, outcomes | more))
    return extend_units(start_evidence(ROLLOUT), units)


def step(state: RolloutState, evidence: Evidence, **changes: object) -> Step:
    rollout = a_rollout(policy=POLICY.model_copy(update=changes))
    return next_step(rollout, state, evidence, NOW)


def test_shadow_waits_for_its_mirrored_requests_and_says_how_many():
    found = step(SHADOW, read(a_mirrored(1), SHADOW))
    assert (found.action, found.share) == ("wait", 0.0)
    assert "1 of 5 mirrored requests" in found.reason


def test_after_shadow_the_ramp_begins_with_the_incumbents_figures_frozen():
    traces = [trace for seq in range(1, 6) for trace in a_mirrored(seq)]
    found = step(SHADOW, read(traces, SHADOW))
    assert (found.action, found.stage, found.share) == ("advance", 0, 0.05)
    assert found.baseline == Baseline(requests=5, p95_latency_s=0.2, p95_tokens=10.0)
    assert "p95 is 0.200 s and 10 tokens (n = 5)" in found.reason


def test_a_clearly_worse_candidate_falls_in_shadow_before_any_user_sees_it():
    bad = SCORES | {"json": 0.0}
    evidence = read([trace for seq in range(1, 31) for trace in a_mirrored(seq, scores=bad)], SHADOW)
    found = step(SHADOW, evidence)
    assert found.action == "roll_back"
    assert found.reason.startswith(
        "score:json is worse on the candidate: bad outcomes on mirrored requests candidate 30 of 30"
    )
    assert evidence.exposed == 0


def test_what_shadow_found_counts_in_the_ramp_and_both_are_told():
    bad = SCORES | {"json": 0.0}
    traces = [trace for seq in range(1, 7) for trace in a_mirrored(seq, scores=bad)]
    assert step(SHADOW, read(traces, SHADOW)).action == "advance"
    units = [a_unit(seq, "incumbent" if seq % 2 else "candidate", p=0.5) for seq in range(13, 27)]
    failing = [unit.model_copy(update={"scores": bad}) if unit.arm == "candidate" else unit for unit in units]
    assert step(FIRST, read(failing)).action == "wait", "seven bad of seven alone are not enough"
    found = step(FIRST, read(traces + failing))
    assert found.action == "roll_back"
    assert "candidate 7 of 7" in found.reason and "on mirrored requests candidate 6 of 6" in found.reason
    assert found.detail["mirrored_candidate"] == [6.0, 6]


def test_good_mirrored_requests_alone_never_prove_anything_for_users():
    traces = [trace for seq in range(1, 301) for trace in a_mirrored(seq)]
    evidence = read(traces)
    assert evidence.log_e["errors", "promote"] > promote_target(POLICY)
    assert "errors" in [rail.name for rail in open_proofs(evidence)]


def test_a_stage_ends_with_enough_units_and_time():
    evidence = drawn(20, bad=0.0, stage=0, p=0.05)
    found = step(FIRST, evidence)
    assert (found.action, found.stage, found.share) == ("advance", 1, 0.5)
    assert "20 units at 0.05 of traffic without an alarm (at least 20); on to 0.5" in found.reason
    assert step(FIRST, drawn(19, bad=0.0, stage=0, p=0.05)).action == "wait"
    waiting = step(FIRST, evidence, min_stage_s=7200.0)
    assert waiting.action == "wait"
    assert "3600 of 7200 s" in waiting.reason


def test_units_of_earlier_stages_do_not_end_this_one():
    assert step(LAST, drawn(500, bad=0.0, stage=0)).detail["rule"] == "stage"


def test_a_suspect_candidate_gets_no_larger_share():
    calm = dict.fromkeys(("errors", "latency", "output_tokens", "score:safety_words"), 0.0)
    units = [
        Unit(0, place % 20 == 0, 0.05, calm | {"score:json": float(place in (0, 20))}) for place in range(60)
    ]
    found = step(FIRST, extend_units(start_evidence(ROLLOUT), units))
    assert found.action == "wait"
    assert found.reason.startswith("no larger share while the candidate may be worse: score:json")
    assert "candidate 2 of 3" in found.reason


def test_an_alarm_rolls_back_with_the_figures_of_both_arms():
    found = step(LAST, drawn(200, bad=0.6))
    assert (found.action, found.share) == ("roll_back", 0.0)
    assert found.detail["guardrail"] == "score:json"
    assert "95 % interval" in found.reason and "alpha 0.01 split over 6 guardrails" in found.reason


def test_an_alarm_that_went_off_between_two_looks_is_acted_on_though_the_value_fell_again():
    evidence = drawn(60, bad=1.0)
    rng = random.Random(1)
    calm: dict[str, float | None] = {"errors": 0.0}
    units = [Unit(1, rng.random() < 0.5, 0.5, calm | {"score:json": 0.0}) for _ in range(300)]
    units += [Unit(1, False, 0.5, calm | {"score:json": 1.0}) for _ in range(200)]
    later = extend_units(evidence, units)
    assert later.log_e["score:json", "rollback"] < rollback_target(later)
    assert step(LAST, later).action == "roll_back"


def test_a_candidate_shown_to_be_not_worse_on_every_guardrail_is_promoted():
    found = step(LAST, drawn(600, bad=0.0))
    assert (found.action, found.share, found.stage) == ("promote", 1.0, 2)
    assert "not worse by 0.05 on every guardrail after 600 units" in found.reason


def test_an_inconclusive_candidate_waits_and_is_named():
    found = step(LAST, drawn(60, bad=0.0))
    assert found.action == "wait"
    assert "not yet shown to be not worse by 0.05: errors, score:json" in found.reason


def test_a_guardrail_nobody_observed_is_never_proven():
    rng = random.Random(0)
    units = [Unit(1, rng.random() < 0.5, 0.5, {"errors": 0.0}) for _ in range(3_000)]
    found = step(LAST, extend_units(start_evidence(ROLLOUT), units))
    assert found.action == "wait"
    assert "errors" not in found.reason and "latency" in found.reason


def test_feedback_must_be_shown_only_where_the_policy_asks_for_it():
    strict = a_rollout(policy=POLICY.model_copy(update={"feedback_required": True}))
    evidence = drawn(600, bad=0.0)
    asked = extend_units(start_evidence(strict), [])
    assert [rail.name for rail in open_proofs(evidence)] == []
    assert "feedback" in [rail.name for rail in open_proofs(asked)]


def test_the_first_stage_never_promotes_however_good_the_evidence():
    assert step(FIRST, drawn(1_500, bad=0.0, stage=0)).action == "advance"


def test_the_deadline_holds_and_says_what_is_missing():
    late = LAST.model_copy(update={"deadline": NOW})
    found = step(late, drawn(60, bad=0.0))
    assert (found.action, found.share) == ("hold", 0.5)
    assert "no decision by the deadline" in found.reason and "score:json" in found.reason
    assert step(SHADOW.model_copy(update={"deadline": NOW}), read([], SHADOW)).action == "hold"


def test_on_hold_nothing_is_promoted_an_alarm_still_counts_and_time_runs_out():
    held = LAST.model_copy(update={"phase": "held"})
    assert step(held, drawn(600, bad=0.0)).action == "wait"
    assert step(held, drawn(200, bad=0.6)).action == "roll_back"
    over = step(held.model_copy(update={"deadline": NOW}), drawn(600, bad=0.0))
    assert (over.action, over.share) == ("roll_back", 0.0)
    assert "nobody decided within 86400 s on hold" in over.reason


@pytest.mark.parametrize("phase", ["promoted", "rolled_back"])
def test_what_is_over_stays_over(phase: str):
    state = LAST.model_copy(update={"phase": phase})
    assert step(state, drawn(200, bad=0.6)).action == "wait"


def test_units_that_go_missing_on_one_arm_freeze_the_rollout():
    calm = dict.fromkeys(("errors", "latency", "output_tokens", "score:json", "score:safety_words"), 0.0)
    units = [Unit(1, place % 5 == 0, 0.5, calm) for place in range(300)]
    found = step(LAST, extend_units(start_evidence(ROLLOUT), units))
    assert found.action == "hold"
    assert "sample-ratio mismatch: 60 of 300 observed units" in found.reason


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"status": "error", "error": "digest_mismatch"}, "digest mismatch"),
        ({"status": "error", "error": "probe_mismatch"}, "probe mismatch"),
        ({"status": "error", "error": "nan_output"}, "NaN"),
        ({"scores": SCORES | {"safety_words": 0.0}}, "safety scorer safety_words"),
    ],
)
def test_a_kill_switch_rolls_back_at_the_first_trace_live_or_mirrored(changes: dict[str, object], words: str):
    live = step(FIRST, read([a_unit(1, **changes)]))
    mirrored = step(SHADOW, read(a_mirrored(1, **changes), SHADOW))
    for found, seq in ((live, 1), (mirrored, 2)):
        assert found.action == "roll_back"
        assert words in found.reason and f"tr_{seq:032x}" in found.reason
    assert step(FIRST, read([a_unit(1, "incumbent", **changes)])).action != "roll_back"


def test_a_kill_switch_does_not_wait_for_an_open_trace_before_it():
    opened = a_unit(1, status="open", closed_at=None, latency_s=None)
    traces = [opened, a_unit(2, status="error", error="digest_mismatch")]
    evidence = read(traces)
    assert evidence.upto_seq == 0
    assert step(FIRST, evidence).action == "roll_back"


def test_five_failures_in_the_first_twenty_answers_end_a_rollout_and_four_do_not():
    def first(num_bad: int) -> Step:
        traces = [a_unit(seq, is_empty=seq <= num_bad, p=None) for seq in range(1, 21)]
        return step(FIRST, read(traces))

    assert "5 of the candidate's first 20 live answers failed or were empty" in first(5).reason
    assert first(4).action == "wait"


def test_a_stopped_engine_is_no_kill_switch():
    down = {"status": "error", "error": "engine_restarting", "p": None}
    traces = [a_unit(seq, **(down if seq % 2 else down | {"status": "interrupted"})) for seq in range(1, 20)]
    assert step(FIRST, read(traces)).action == "wait"


def test_bad_ratings_alone_can_roll_back():
    traces, feedback = [], []
    for seq in range(1, 121):
        arm = "candidate" if seq % 2 else "incumbent"
        traces.append(a_unit(seq, arm, p=0.5))
        word = arm == "candidate"
        at = traces[-1].at + timedelta(seconds=5)
        feedback.append(a_feedback(id=f"fb_{seq:032x}", trace=traces[-1].id, is_bad=word, at=at))
    evidence = extend(start_evidence(ROLLOUT), traces, feedback, FIRST, NOW)
    found = step(FIRST, evidence)
    assert found.action == "roll_back" and found.detail["guardrail"] == "feedback"
