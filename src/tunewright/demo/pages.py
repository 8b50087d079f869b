"""The demo's part of the report: what happened, in words, tables and pictures. Pure."""

from collections.abc import Mapping, Sequence

from tunewright.demo.live import CanaryDone, step_rows
from tunewright.demo.summary import Demo
from tunewright.deploy.rollout import step_of
from tunewright.drills.leak_result import ARMS, PLACES, FormResult
from tunewright.pipeline.plots import IntervalRow, Series, bar_chart, interval_chart, line_chart
from tunewright.pipeline.report import Block, Section
from tunewright.values import Json

_FORMS = {
    "lookup": "Rows that only memory can answer (order number to status code)",
    "routing": "One recipe, honest and leaky",
}


def demo_sections(demo: Demo, values: Mapping[str, Json]) -> list[Section]:
    """Lay out what the demo did, before the report's own sections."""
    return [
        _overview(demo, values),
        _canary(demo.good),
        _flywheel(demo),
        _fall(demo),
        _leak(demo),
        _crash(demo),
    ]


def _overview(demo: Demo, values: Mapping[str, Json]) -> Section:
    recall = {kind.replace("_", " "): share for kind, share in demo.recall.items()}
    verdicts = [
        [
            str(one.model.ref) if one.model else "not registered",
            one.report.verdict,
            " ".join(one.report.reasons),
        ]
        for one in demo.rounds
        if one.report
    ]
    dataset = values["dataset"]
    assert isinstance(dataset, dict)
    apart = float(str(dataset["twins_a_random_split_would_separate"]))
    return Section(
        "What the demo did",
        [
            Block(
                "text",
                "Version 1 was made from the first file of orders, version 2 from both. The shop is "
                "generated and was shaped so that the tiny base can learn it: the figures show that the loop "
                "works, not what such a model can do on real data. Customers and operator are simulated.",
            ),
            Block("table", columns=("model", "verdict", "reasons"), rows=verdicts),
            Block(
                "plot", "Share of planted problems that curation found", svg=bar_chart(recall, unit="share")
            ),
            Block(
                "text",
                "Twins are near-copies and orders of one customer; a random split would separate "
                f"{apart:.0%} of them.",
            ),
        ],
    )


def _canary(done: CanaryDone) -> Section:
    lead = (
        f"{done.rollout.candidate} was mirrored, then took growing shares of customers from "
        f"{done.rollout.incumbent}: {done.outcome.replace('_', ' ')} after {done.requests} requests. Every "
        "step was decided by the gateway from what it observed; the last row of the table has the proof."
    )
    blocks = [
        Block("text", lead),
        Block("plot", "Share of customers that the candidate answered", svg=_share_chart(done)),
        Block("table", columns=("time (UTC)", "step", "share", "why"), rows=step_rows(done.steps)),
    ]
    return Section("Version 2 takes over", blocks)


def _share_chart(done: CanaryDone) -> str:
    """Draw the candidate's share as steps over seconds."""
    points: list[tuple[float, float]] = []
    share = 0.0
    for event in done.steps:
        seconds = (event.at - done.rollout.started_at).total_seconds()
        points.append((seconds, share))
        share = float(str(step_of(event).get("share", 0.0)))
        points.append((seconds, share))
    return line_chart([Series("share", points)], x_label="seconds", y_label="share")


def _flywheel(demo: Demo) -> Section:
    done = demo.flywheel
    left_out = done.harvest.left_out if done.harvest else {}
    counted = ", ".join(f"{rows} {reason.replace('_', ' ')}" for reason, rows in left_out.items()) or "none"
    text = (
        f"{done.approved} corrections were approved by a simulated operator and "
        f"{done.harvest.rows if done.harvest else 0} harvested (left out: {counted}). Dataset "
        f"{done.dataset.ref} has {done.dataset.rows_kept} rows, {done.kept} of them from production; they "
        "went through the same curation and the same vault as every other row."
    )
    return Section("Corrections come back", [Block("text", text)])


def _fall(demo: Demo) -> Section:
    bad = demo.bad
    rows = [
        ["gate", f"{bad.gate_verdict}, waived by the drill"],
        ["outcome", bad.outcome.replace("_", " ")],
        ["why", bad.reason],
        ["users who met it", f"{bad.fall.exposed} (of {bad.requests} requests)"],
        ["decision to zero traffic", f"{bad.fall.seconds_to_zero:.3f} s"],
        ["requests under way at the decision", f"{bad.fall.in_flight}, failed {bad.fall.failed_in_flight}"],
    ]
    return Section("A bad candidate falls", [Block("table", columns=("", bad.candidate), rows=rows)])


def _leak(demo: Demo) -> Section:
    leak = demo.leak
    text = (
        f"A dataset with its {leak.num_copied} held-out rows copied into training. The gate: "
        f"{' '.join(leak.reasons)} Without the check it would have said {leak.unchecked_verdict}; nothing "
        "was registered."
    )
    named = ", ".join(row.place for row in leak.leaked[:8])
    blocks = [Block("text", text), Block("text", f"Leaked rows found: {len(leak.leaked)}, such as {named}.")]
    for name, form in leak.forms.items():
        blocks.append(Block("plot", _FORMS[name], svg=_accuracies(form)))
        gains = (
            f"Leaky minus honest: offline {form.offline_gain}, on fresh rows {form.fresh_gain}; leaky minus "
            f"base on fresh rows {form.fresh_over_base} (paired 95 % intervals)."
        )
        blocks.append(Block("text", gains))
    return Section("The leak drill", blocks)


def _accuracies(form: FormResult) -> str:
    rows: Sequence[IntervalRow] = [
        IntervalRow(f"{arm}, {where} (n = {share.n})", share.estimate, share.low, share.high, "information")
        for where in PLACES
        for arm in ARMS
        if (share := form.scores[arm, where])
    ]
    return interval_chart(rows, x_label="accuracy, 95 % interval")


def _crash(demo: Demo) -> Section:
    resumed, survived, load = demo.crash.resumed, demo.crash.survived, demo.crash.load
    same = "the same digest" if resumed.same_bits else "ANOTHER DIGEST"
    rows = [
        [
            "training killed",
            f"at step {resumed.killed_at_step} of {resumed.num_steps}; {same} as undisturbed",
        ],
        [
            "killed between blobs and record",
            f"{survived.orphan_blobs} orphan blobs, {'no' if survived.no_half_record else 'A'} half record; "
            f"{survived.rows_lost} of {survived.rows_in} rows lost",
        ],
        [
            "engine killed under load",
            f"{load.requests} requests, {load.failed_requests} failed, {load.client_retries} retries, "
            f"longest pause {load.longest_pause_s:.1f} s, {load.traces_lost} traces lost",
        ],
    ]
    return Section("The crash drill", [Block("table", columns=("what", "what followed"), rows=rows)])
