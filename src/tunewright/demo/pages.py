"""The demo's part of the report: what happened, in words, tables and pictures. Pure."""

from collections.abc import Mapping
from dataclasses import replace

from tunewright.demo.live import CanaryDone, step_rows
from tunewright.demo.summary import Demo
from tunewright.deploy.rollout import step_of
from tunewright.drills.report import drill_section, drill_title
from tunewright.pipeline.plots import Series, bar_chart, line_chart
from tunewright.pipeline.report import Block, Section
from tunewright.values import Json


def demo_sections(demo: Demo, values: Mapping[str, Json]) -> list[Section]:
    """Lay out what the demo did, before the report's own sections."""
    return [
        _overview(demo, values),
        _canary(demo.good),
        _flywheel(demo),
        *(replace(drill_section(one), title=drill_title(one)) for one in (demo.bad, demo.leak, demo.crash)),
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
