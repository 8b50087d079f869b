"""Results of drills for tests, as good as they get."""

from tunewright.drills.crash_result import CrashResult, Resumed, Survived, UnderLoad
from tunewright.drills.leak_data import Form
from tunewright.drills.leak_result import FormResult, LeakedRow, LeakResult, compare
from tunewright.drills.rollback_result import Fall, RollbackResult

ROWS = 40


def right(number: int) -> dict[str, bool]:
    """The first rows are answered right."""
    return {f"row {index}": index < number for index in range(ROWS)}


def a_form(form: Form, *, offline: tuple[int, int], fresh: tuple[int, int], base: int) -> FormResult:
    """(honest, leaky) rows right of 40, and what the base has right."""
    return compare(
        form,
        {
            ("base", "offline"): right(base),
            ("honest", "offline"): right(offline[0]),
            ("leaky", "offline"): right(offline[1]),
            ("base", "fresh"): right(base),
            ("honest", "fresh"): right(fresh[0]),
            ("leaky", "fresh"): right(fresh[1]),
        },
    )


def a_leak() -> LeakResult:
    return LeakResult(
        forms={
            "routing": a_form("routing", offline=(24, 40), fresh=(24, 25), base=0),
            "lookup": a_form("lookup", offline=(0, 40), fresh=(0, 0), base=0),
        },
        verdict="void",
        reasons=("void: contamination: 1 of 40 held-out rows were trained on word for word.",),
        honest_verdict="fail",
        leaked=(LeakedRow("ab" * 32, "lookup.jsonl:7", "exact"),),
        num_copied=1,
        unchecked_verdict="pass",
        unchecked_reasons=("All 5 required checks hold.",),
        num_registered=0,
        wall_s=50.0,
    )


def a_crash() -> CrashResult:
    return CrashResult(
        resumed=Resumed(
            same_bits=True,
            killed_at_step=4,
            num_steps=30,
            processes_killed=2,
            started_again=False,
            candidate="c" * 64,
            undisturbed="c" * 64,
        ),
        survived=Survived(
            orphan_blobs=7, no_half_record=True, same_digest=True, rows_in=60, rows_lost=0, verified=True
        ),
        load=UnderLoad(
            requests=60,
            answered=60,
            failed_requests=0,
            client_retries=3,
            in_flight=10,
            engine_restarted=True,
            longest_pause_s=3.5,
            interrupted=2,
            traces_lost=0,
        ),
        wall_s=47.0,
    )


def a_fall() -> RollbackResult:
    return RollbackResult(
        outcome="rolled_back",
        rollout="desk@1",
        candidate="desk@2",
        incumbent="desk@1",
        reason="feedback is worse on the candidate: bad outcomes candidate 9 of 9, incumbent 0 of 19",
        fall=Fall(exposed=33, exposed_requests=35, seconds_to_zero=0.0, in_flight=3, failed_in_flight=0),
        requests=202,
        failed_requests=0,
        gate_verdict="fail",
        right_incumbent=1.0,
        right_candidate=0.1,
        wall_s=60.0,
    )
