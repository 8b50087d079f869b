"""What a drill tells people: one screen of text, and sections for a page. Pure but for `write_drill_page`."""

from collections.abc import Sequence
from pathlib import Path

from tunewright.drills.crash_result import CrashResult
from tunewright.drills.leak_result import ARMS, PLACES, FormResult, LeakArm, LeakResult, Where
from tunewright.drills.rollback_result import RollbackResult
from tunewright.pipeline.plots import IntervalRow, interval_chart
from tunewright.pipeline.report import Block, Section, render_page, write_page

_TITLES = {
    "routing": "One recipe: messages to teams; the message decides three in four",
    "lookup": "The pure form: status codes of orders, which only memory can answer",
}
_NAMED = 8
"""Leaked rows named on the screen; the page names all."""

Result = LeakResult | CrashResult | RollbackResult


def write_drill_page(result: Result, path: Path) -> Path:
    """Write the page of one drill."""
    sections = [drill_section(result)]
    lead = "It showed what it must." if result.is_shown else "It did NOT show what it must."
    return write_page(render_page(drill_title(result), lead, sections), path)


def drill_title(result: Result) -> str:
    """Name a drill."""
    if isinstance(result, LeakResult):
        return "Drill: held-out rows leak into training"
    if isinstance(result, CrashResult):
        return "Drill: everything is killed"
    return "Drill: a bad candidate falls under live traffic"


def drill_section(result: Result) -> Section:
    """Lay one drill out for a page."""
    if isinstance(result, LeakResult):
        return _leak_section(result)
    if isinstance(result, CrashResult):
        return _table_section(result, crash_facts(result), "what was killed, and what followed")
    return _table_section(result, rollback_facts(result), "how it fell")


def drill_text(result: Result, page: Path | None) -> str:
    """Say one drill on one screen."""
    lines = [drill_title(result), ""]
    if isinstance(result, LeakResult):
        lines += _leak_lines(result)
    else:
        facts = crash_facts(result) if isinstance(result, CrashResult) else rollback_facts(result)
        width = max(len(name) for name, _ in facts)
        lines += [f"  {name:<{width}}  {value}" for name, value in facts]
    lines += ["", _ending(result)]
    return "\n".join([*lines, f"Report: {page}"] if page else lines)


def crash_facts(result: CrashResult) -> list[tuple[str, str]]:
    """Name what was killed and what followed."""
    resumed, survived, load = result.resumed, result.survived, result.load
    bits = "the same bits as" if resumed.same_bits else "OTHER BITS than"
    half = "no half-written record" if survived.no_half_record else "A HALF-WRITTEN RECORD"
    again = "the same digest" if survived.same_digest else "ANOTHER DIGEST"
    verified = "everything verifies" if survived.verified else "VERIFICATION FAILS"
    return [
        (
            "training",
            f"{resumed.processes_killed} processes killed (SIGKILL) at step {resumed.killed_at_step} of "
            f"{resumed.num_steps}; the same command went on",
        ),
        ("candidate", f"{bits} a training nobody disturbed ({resumed.candidate[:12]})"),
        (
            "blobs and record",
            f"killed inside the commit: {survived.orphan_blobs} blobs stored, {half}; made again with "
            f"{again}",
        ),
        ("rows", f"{survived.rows_in} read, {survived.rows_lost} lost; {verified}"),
        (
            "engine under load",
            f"killed with {load.in_flight} requests in flight; "
            f"{'a new one answers' if load.engine_restarted else 'NONE ANSWERS'}",
        ),
        (
            "clients",
            f"{load.answered} of {load.requests} answered, {load.client_retries} retries, "
            f"{load.failed_requests} failed; longest pause {load.longest_pause_s:.1f} s",
        ),
        ("traces", f"{load.traces_lost} lost"),
    ]


def rollback_facts(result: RollbackResult) -> list[tuple[str, str]]:
    """Name how a bad candidate fell."""
    fall = result.fall
    return [
        ("candidate", f"{result.candidate} against {result.incumbent}, answers shuffled in training"),
        ("gate", f"{result.gate_verdict}; waived by the drill, and rolled out"),
        ("outcome", result.outcome.replace("_", " ")),
        ("reason", result.reason),
        ("exposed", f"{fall.exposed} users met it, in {fall.exposed_requests} of {result.requests} requests"),
        ("right answers", f"incumbent {_percent(result.right_incumbent)}, candidate {_right(result)}"),
        ("decision to zero traffic", f"{fall.seconds_to_zero:.3f} s"),
        ("in flight at the decision", f"{fall.in_flight}, of which {fall.failed_in_flight} failed"),
        ("failed requests", f"{result.failed_requests} in the whole drill"),
    ]


def _right(result: RollbackResult) -> str:
    return _percent(result.right_candidate)


def _percent(share: float | None) -> str:
    return "none was seen" if share is None else f"{share:.0%}"


def _ending(result: Result) -> str:
    word = "Shown" if result.is_shown else "NOT SHOWN"
    return f"{word} in {result.wall_s:.0f} s."


def _leak_lines(result: LeakResult) -> list[str]:
    lines: list[str] = []
    for name, form in result.forms.items():
        lines += [_TITLES[name], f"  {'':8}{'offline':>28}{'fresh rows':>28}"]
        lines += [
            f"  {arm:8}{form.scores[arm, 'offline']!s:>28}{form.scores[arm, 'fresh']!s:>28}" for arm in ARMS
        ]
        lines += [*(f"  {sentence}" for sentence in _differences(form)), ""]
    return lines + _verdict_lines(result)


def _differences(form: FormResult) -> list[str]:
    """Say the paired differences in words."""
    said = [
        f"leaky minus honest, offline:    {form.offline_gain}",
        f"leaky minus honest, fresh rows: {form.fresh_gain}{_no_difference(form.fresh_gain.contains_zero)}",
    ]
    if form.form == "lookup":
        gain = form.fresh_over_base
        said.append(f"leaky minus base, fresh rows:   {gain}{_no_difference(gain.contains_zero)}")
    return said


def _no_difference(contains_zero: bool) -> str:
    return " (compatible with none)" if contains_zero else " (A DIFFERENCE)"


def _verdict_lines(result: LeakResult) -> list[str]:
    named = ", ".join(f"{row.place} ({row.row[:12]})" for row in result.leaked[:_NAMED])
    more = len(result.leaked) - _NAMED
    return [
        f"The gate on the leaky candidate: {result.verdict.upper()}",
        f"  {result.reasons[0] if result.reasons else ''}",
        f"  rows: {named}{f' and {more} more' if more > 0 else ''}",
        f"Without the contamination check it would have said: {result.unchecked_verdict.upper()}",
        f"  {result.unchecked_reasons[0] if result.unchecked_reasons else ''}",
        f"The gate on the honest candidate: {result.honest_verdict}. Models registered: "
        f"{result.num_registered}.",
    ]


def _leak_section(result: LeakResult) -> Section:
    blocks: list[Block] = [
        Block("verdict", " ".join(result.reasons), verdict=result.verdict),
        Block(
            "text",
            f"All {result.num_copied} held-out rows were copied into the train rows of one of two dataset "
            "versions; recipe, base, seed and stages are the same. Without the contamination check the gate "
            f"would have said {result.unchecked_verdict}: {' '.join(result.unchecked_reasons)} "
            f"No setting switches that check off, and {result.num_registered} models were registered.",
        ),
    ]
    for name, form in result.forms.items():
        blocks += [
            Block("plot", _TITLES[name], svg=interval_chart(_bars(form), x_label="accuracy, 95 % interval")),
            Block("table", columns=("arm", "offline", "fresh rows"), rows=_rows(form)),
            Block("list", items=_differences(form)),
        ]
    leaked = [[row.place, row.row[:16], row.detector] for row in result.leaked]
    return Section(
        "Honest and leaky, side by side",
        [*blocks, Block("table", "Leaked rows", columns=("where", "row", "found as"), rows=leaked)],
    )


def _bars(form: FormResult) -> list[IntervalRow]:
    pairs: Sequence[tuple[LeakArm, Where]] = [(arm, where) for where in PLACES for arm in ARMS]
    return [
        IntervalRow(f"{arm}, {where} (n = {share.n})", share.estimate, share.low, share.high, "information")
        for arm, where in pairs
        if (share := form.scores[arm, where])
    ]


def _rows(form: FormResult) -> list[list[str]]:
    return [[arm, *(str(form.scores[arm, where]) for where in PLACES)] for arm in ARMS]


def _table_section(result: Result, facts: Sequence[tuple[str, str]], title: str) -> Section:
    verdict = "pass" if result.is_shown else "fail"
    return Section(
        title.capitalize(),
        [
            Block("verdict", _ending(result), verdict=verdict),
            Block("table", columns=("what", "what followed"), rows=[list(fact) for fact in facts]),
        ],
    )
