from datetime import timedelta

from tests.fakes import START
from tests.live_world import a_state, a_trace, an_open_trace

from tunewright.drills.rollback_result import fall_of, fate_of


def seen(seq: int, **changes: object):
    return a_trace(seq, **{"arm": "candidate", **changes})


def test_exposed_are_units_who_were_answered_by_the_candidate_and_never_a_shadow():
    traces = [
        seen(1, unit="a" * 32),
        seen(2, unit="a" * 32),
        seen(3, unit="b" * 32),
        seen(4, unit="c" * 32, shadow_of="tr_" + "0" * 32),
        a_trace(5, arm="incumbent", unit="d" * 32),
    ]
    fall = fall_of(traces, START + timedelta(seconds=60))
    assert (fall.exposed, fall.exposed_requests) == (2, 3)
    assert fall.seconds_to_zero == 0.0


def test_seconds_to_zero_run_from_the_decision_to_the_last_request_the_candidate_got():
    decided_at = START + timedelta(seconds=2)
    fall = fall_of([seen(1), seen(3), a_trace(9, arm="incumbent")], decided_at)
    assert fall.seconds_to_zero == 1.0


def test_a_request_under_way_at_the_decision_must_end_well():
    decided_at = START + timedelta(seconds=1.1)
    good, bad = seen(1), seen(1, status="interrupted", error="engine_interrupted")
    assert fall_of([good], decided_at).failed_in_flight == 0
    assert fall_of([good, bad], decided_at).in_flight == 2
    assert fall_of([good, bad], decided_at).failed_in_flight == 1
    assert fall_of([an_open_trace(1, arm="candidate")], decided_at).failed_in_flight == 1


def test_without_a_decision_only_exposure_is_counted():
    fall = fall_of([seen(1)], None)
    assert (fall.exposed, fall.seconds_to_zero, fall.in_flight) == (1, 0.0, 0)


def test_a_rollout_that_is_still_open_counts_as_held():
    assert fate_of(a_state(phase="ramp")) == "held"
    assert fate_of(a_state(phase="promoted")) == "promoted"
    assert fate_of(a_state(phase="rolled_back", share=0.0)) == "rolled_back"
