import dataclasses
from pathlib import Path

import pytest
from tests.unit.drills.drill_world import a_crash, a_fall, a_leak

from tunewright.drills.report import Result, drill_text, write_drill_page


def test_the_leak_screen_says_the_verdict_the_rows_and_what_would_have_shipped():
    text = drill_text(a_leak(), Path("page.html"))
    assert "The gate on the leaky candidate: VOID" in text
    assert "lookup.jsonl:7 (abababababab)" in text
    assert "Without the contamination check it would have said: PASS" in text
    assert "Models registered: 0" in text
    assert "(compatible with none)" in text
    assert "Report: page.html" in text
    assert max(map(len, text.splitlines())) < 160


def test_the_crash_screen_says_bits_rows_clients_and_traces():
    text = drill_text(a_crash(), None)
    assert "the same bits as a training nobody disturbed" in text
    assert "60 read, 0 lost; everything verifies" in text
    assert "60 of 60 answered, 3 retries, 0 failed" in text


def test_the_rollback_screen_says_why_it_fell_and_whom_it_met():
    text = drill_text(a_fall(), None)
    assert "33 users met it" in text
    assert "0.000 s" in text
    assert "feedback is worse on the candidate" in text


@pytest.mark.parametrize(
    "bad",
    [
        dataclasses.replace(a_leak(), verdict="pass"),
        dataclasses.replace(a_crash(), load=dataclasses.replace(a_crash().load, traces_lost=1)),
        dataclasses.replace(a_crash(), survived=dataclasses.replace(a_crash().survived, rows_lost=1)),
        dataclasses.replace(a_crash(), resumed=dataclasses.replace(a_crash().resumed, same_bits=False)),
        dataclasses.replace(a_fall(), outcome="promoted"),
        dataclasses.replace(a_fall(), failed_requests=1),
        dataclasses.replace(a_fall(), fall=dataclasses.replace(a_fall().fall, seconds_to_zero=1.2)),
        dataclasses.replace(a_fall(), fall=dataclasses.replace(a_fall().fall, failed_in_flight=1)),
    ],
)
def test_what_did_not_go_as_it_must_is_said_and_never_called_shown(bad: Result):
    assert not bad.is_shown
    assert bad.to_json()["shown"] is False
    assert "NOT SHOWN" in drill_text(bad, None)


@pytest.mark.parametrize("result", [a_leak(), a_crash(), a_fall()])
def test_a_page_is_one_file_that_loads_nothing(result: Result, tmp_path: Path):
    page = write_drill_page(result, tmp_path / "reports" / "drill.html").read_text(encoding="utf-8")
    assert "It showed what it must." in page
    assert "<script" not in page
    assert "http" not in page
    assert result.to_json()["shown"] is True
