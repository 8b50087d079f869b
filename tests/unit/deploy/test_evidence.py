"""Evidence: a pure fold in order of assignment, incremental, and stopped by what is not closed yet."""

import random
import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from math import log

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fakes import START
from tests.live_world import a_feedback, a_policy, a_rollout, a_state, a_trace, an_open_trace

from tunewright.deploy.evidence import (
    Evidence,
    Unit,
    extend,
    extend_units,
    make_baseline,
    start_evidence,
)
from tunewright.deploy.outcomes import instant_outcomes
from tunewright.deploy.tracks import Track, observe, observe_pair
from tunewright.records import Baseline, Feedback, LiveScorer, Trace

POLICY = a_policy(live_scorers=(LiveScorer(kind="json_valid", name="json"),), window_s=10.0)
ROLLOUT = a_rollout(policy=POLICY)
STATE = a_state(baseline=Baseline(requests=200, p95_latency_s=1.0, p95_tokens=20.0))
LATE = START + timedelta(days=1)


def a_unit(seq: int, arm: str = "candidate", **changes: object) -> Trace:
    """A randomised unit's answer, good unless changed."""
    given = {"rollout": ROLLOUT.ref, "stage": 0, "arm": arm, "p": 0.25, "scores": {"json": 1.0}}
    return a_trace(seq, **(given | changes))


def a_pair(seq: int, *, original: dict[str, object], mirrored: dict[str, object]) -> list[Trace]:
    common = {"rollout": ROLLOUT.ref, "scores": {"json": 1.0}}
    first = a_trace(seq, **(common | {"arm": "incumbent"} | original))
    twin = {"arm": "candidate", "shadow_of": first.id, "unit": first.unit}
    return [first, a_trace(seq + 1, **(common | twin | mirrored))]


def read(traces: Sequence[Trace], feedback: Sequence[Feedback] = (), *, now: datetime = LATE) -> Evidence:
    return extend(start_evidence(ROLLOUT), traces, feedback, STATE, now)


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Trace], list[Feedback]]:
    """Traces of every kind, in any mix, and feedback on some."""
    traces: list[Trace] = []
    feedback: list[Feedback] = []
    for _ in range(draw(st.integers(1, 25))):
        seq = len(traces) + 1
        kind = draw(st.sampled_from(["unit", "unit", "unit", "pair", "repeat"]))
        status = draw(st.sampled_from(["ok", "ok", "error", "cancelled", "interrupted"]))
        changes: dict[str, object] = {
            "status": status,
            "is_empty": draw(st.booleans()),
            "num_tokens": draw(st.integers(0, 40)),
            "latency_s": draw(st.sampled_from([0.1, 2.0])),
            "scores": draw(st.sampled_from([{}, {"json": 0.0}, {"json": 0.5}, {"json": 1.0}])),
        }
        if kind == "pair":
            unit = {"unit": f"{draw(st.integers(1, 4)):032x}"}
            traces += a_pair(seq, original=unit, mirrored=changes | unit)
        elif kind == "repeat":
            traces.append(a_unit(seq, p=None, **changes))
        else:
            arm = draw(st.sampled_from(["incumbent", "candidate"]))
            traces.append(a_unit(seq, arm, stage=draw(st.integers(0, 3)), **changes))
            word = draw(st.sampled_from([None, True, False]))
            if word is not None:
                feedback.append(a_feedback(id=f"fb_{seq:032x}", trace=traces[-1].id, is_bad=word))
    return traces, feedback


@settings(max_examples=60, deadline=None)
@given(history=histories(), cuts=st.lists(st.integers(0, 50), max_size=4), wait=st.integers(0, 60))
def test_reading_in_pieces_gives_what_reading_at_once_gives(
    history: tuple[list[Trace], list[Feedback]], cuts: list[int], wait: int
):
    traces, feedback = history
    now = START + timedelta(seconds=wait)
    pieces = start_evidence(ROLLOUT)
    for cut in sorted(cuts):
        beyond = [trace for trace in traces[:cut] if trace.seq > pieces.upto_seq]
        pieces = extend(pieces, beyond, feedback, STATE, START)
    pieces = extend(pieces, traces, feedback, STATE, now)
    assert pieces == read(traces, feedback, now=now)


@settings(max_examples=40, deadline=None)
@given(history=histories(), place=st.integers(0, 24))
def test_an_open_trace_holds_up_only_what_comes_after_it(
    history: tuple[list[Trace], list[Feedback]], place: int
):
    traces, feedback = history
    place = min(place, len(traces) - 1)
    kept = {name: value for name, value in traces[place] if name in ("rollout", "arm", "p", "stage")}
    opened = [*traces[:place], an_open_trace(place + 1, **kept), *traces[place + 1 :]]
    early = read(opened, feedback)
    assert early.upto_seq == place
    assert early.log_e == read(traces[:place], feedback).log_e
    closed = extend(early, traces[place:], feedback, STATE, LATE)
    assert closed == read(traces, feedback)


def test_traces_out_of_order_are_taken_in_order_of_assignment():
    traces = [a_unit(seq, "incumbent" if seq % 2 else "candidate", is_empty=seq == 2) for seq in range(1, 6)]
    assert read(list(reversed(traces))) == read(traces)


def test_bare_units_give_the_same_statistics_as_traces():
    traces = [
        a_unit(seq, "candidate" if seq % 4 == 0 else "incumbent", is_empty=seq % 5 == 0, num_tokens=seq % 30)
        for seq in range(1, 200)
    ]
    rails = start_evidence(ROLLOUT).guardrails
    units = [
        Unit(0, trace.arm == "candidate", 0.25, instant_outcomes(trace, rails, STATE.baseline))
        for trace in traces
    ]
    bare, whole = extend_units(start_evidence(ROLLOUT), units), read(traces)
    assert bare.tracks == whole.tracks
    assert (bare.stage_units, bare.units, bare.ratio) == (whole.stage_units, whole.units, whole.ratio)


def test_a_request_without_a_probability_exposes_its_user_but_is_no_evidence():
    evidence = read([a_unit(1, p=None, is_empty=True)])
    assert evidence.exposed == 1
    assert evidence.units == (0, 0)
    assert set(evidence.log_e.values()) == {0.0}


def test_a_rating_counts_only_when_its_window_is_over_and_if_it_came_within():
    traces = [a_unit(1, "incumbent"), a_unit(2)]
    closed = traces[1].closed_at
    assert closed is not None
    in_time = a_feedback(trace=traces[1].id, is_bad=True, at=closed + timedelta(seconds=9))
    late = in_time.model_copy(update={"at": closed + timedelta(seconds=11)})
    before = read(traces, [in_time], now=closed + timedelta(seconds=9))
    assert before.windows_over == (1, 0)
    assert read(traces, [in_time]).tracks["feedback"].candidate.num == 1
    assert read(traces, [late]).tracks["feedback"].candidate.num == 0
    assert read(traces, [late]).windows_over == (1, 1)


def test_a_word_taken_back_within_the_window_no_longer_counts_and_one_after_it_changes_nothing():
    traces = [a_unit(1)]
    bad = a_feedback(is_bad=True, status="superseded", at=START + timedelta(seconds=3))
    good = a_feedback(id=f"fb_{2:032x}", is_bad=False, at=START + timedelta(seconds=6))
    late = good.model_copy(update={"at": START + timedelta(seconds=60)})
    assert read(traces, [bad, good]).tracks["feedback"].candidate.bad == 0
    assert read(traces, [bad, late]).tracks["feedback"].candidate.bad == 1


def test_a_missing_rating_and_a_bare_comment_are_neither_good_nor_bad():
    comment = a_feedback(kind="comment", is_bad=None, value=None)
    assert read([a_unit(1)], [comment]).tracks["feedback"].candidate.num == 0


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {"errors": 0.0, "score:json": 0.0, "latency": 0.0, "output_tokens": 0.0}),
        ({"is_empty": True}, {"errors": 1.0}),
        ({"status": "error"}, {"errors": 1.0, "latency": None, "output_tokens": None}),
        ({"status": "interrupted"}, {"errors": 1.0, "latency": None}),
        ({"status": "cancelled"}, {"errors": None, "latency": None, "output_tokens": None}),
        ({"latency_s": 1.1, "num_tokens": 21}, {"latency": 1.0, "output_tokens": 1.0}),
        ({"latency_s": 1.0, "num_tokens": 20}, {"latency": 0.0, "output_tokens": 0.0}),
        ({"scores": {"json": 0.25}}, {"score:json": 0.75}),
        ({"scores": {}}, {"score:json": None}),
    ],
)
def test_a_trace_answers_each_guardrail(changes: dict[str, object], expected: dict[str, float | None]):
    rails = start_evidence(ROLLOUT).guardrails
    found = instant_outcomes(a_unit(1, **changes), rails, STATE.baseline)
    assert {name: found[name] for name in expected} == expected


def test_a_cancelled_request_is_not_an_observed_unit():
    assert read([a_unit(1, status="cancelled")]).units == (0, 0)


def test_mirrored_requests_are_compared_with_their_originals():
    pairs = [
        trace
        for place in range(40)
        for trace in a_pair(2 * place + 1, original={}, mirrored={"scores": {"json": 0.0}})
    ]
    evidence = read(pairs)
    assert evidence.num_pairs == 40
    assert evidence.log_e["score:json", "rollback"] > 10
    assert evidence.log_e["score:json", "rollback"] == evidence.log_e["shadow:score:json", "rollback"]
    assert evidence.log_e["errors", "rollback"] == 0.0 < evidence.log_e["errors", "promote"]
    assert {evidence.log_e[name, "promote"] for name in ("latency", "output_tokens", "feedback")} == {0.0}
    assert (evidence.exposed, evidence.units) == (0, (0, 0))


def test_the_ramp_begins_with_the_fortunes_of_shadow_bet_by_bet():
    bad = {"scores": {"json": 0.0}}
    pairs = [
        trace
        for place in range(30)
        for trace in a_pair(2 * place + 1, original={}, mirrored=bad if place % 4 == 0 else {})
    ]
    units = [a_unit(seq, "candidate" if seq % 3 == 0 else "incumbent") for seq in range(61, 160)]
    shadow, ramp, both = (read(traces).tracks["score:json"] for traces in (pairs, units, pairs + units))
    for won, more, all_of_it in (
        (shadow.rollback, ramp.rollback, both.rollback),
        (shadow.promote, ramp.promote, both.promote),
    ):
        product = [sum(fortunes) for fortunes in zip(won.wealth, more.wealth, strict=True)]
        assert all_of_it.wealth == pytest.approx(product)
    assert both.rollback.peak >= shadow.rollback.peak, "an alarm in shadow stays an alarm"
    assert (both.mirrored, both.candidate) == (shadow.mirrored, ramp.candidate)


def test_a_user_who_asks_the_same_again_and_again_is_one_pair_of_evidence():
    again = {"unit": "9" * 32, "scores": {"json": 0.0}}
    pairs = [
        trace
        for place in range(40)
        for trace in a_pair(2 * place + 1, original={"unit": "9" * 32}, mirrored=again)
    ]
    evidence = read(pairs)
    assert (evidence.num_pairs, evidence.paired_units) == (40, {"9" * 32})
    assert evidence.tracks["score:json"].mirrored.candidate.num == 1


def test_without_a_difference_shadow_and_ramp_together_rarely_sound_an_alarm():
    rng, rail = random.Random(5), start_evidence(ROLLOUT).guardrails[1]
    alarms = 0
    for _ in range(60):
        track = Track()
        for _ in range(100):
            ours, theirs = (float(rng.random() < 0.1) for _ in range(2))
            track = observe_pair(track, rail, candidate=ours, incumbent=theirs)
        for _ in range(200):
            arm, bad = rng.random() < 0.25, float(rng.random() < 0.1)
            track = observe(track, rail, is_candidate=arm, p=0.25, outcome=bad)
        alarms += track.rollback.peak >= log(1 / 0.05)
    assert rail.is_paired and alarms <= 5


def test_a_stopped_engine_or_a_mirror_that_yielded_makes_no_pair():
    for changes in ({"status": "interrupted"}, {"status": "cancelled"}, {"shadow_of": f"tr_{99:032x}"}):
        assert read(a_pair(1, original={}, mirrored=changes)).num_pairs == 0


def test_the_baseline_is_the_95th_percentile_of_the_incumbents_good_answers_in_shadow():
    shadow = {"rollout": ROLLOUT.ref, "arm": "incumbent"}
    traces = [a_trace(seq, **shadow, latency_s=seq / 100, num_tokens=seq) for seq in range(1, 101)]
    traces += [
        a_trace(101, **shadow, status="error", latency_s=99.0),
        a_unit(102, "incumbent", latency_s=9.0),
    ]
    assert make_baseline(traces) == Baseline(requests=100, p95_latency_s=0.95, p95_tokens=95.0)
    assert len(read(traces).baseline_samples) == 100


def test_there_is_no_baseline_without_a_good_answer():
    with pytest.raises(ValueError, match="no good answer"):
        make_baseline([])


def test_a_hundred_thousand_traces_take_seconds():
    one = {"candidate": a_unit(1), "incumbent": a_unit(1, "incumbent")}
    traces = [
        one["candidate" if seq % 4 == 0 else "incumbent"].model_copy(update={"seq": seq})
        for seq in range(1, 10_001)
    ]
    began = time.process_time()
    read(traces)
    assert time.process_time() - began < 2.0, "a tenth of them; about .5 s is usual"
