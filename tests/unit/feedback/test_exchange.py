"""Feedback files: bad rows are named, and no spreadsheet runs a comment."""

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.live_world import a_feedback, a_text

from tunewright.errors import UsageError
from tunewright.feedback.exchange import BadRow, GivenRow, encode_rows, export_row, read_rows, safe_cell

TRACE = f"tr_{1:032x}"


def read(text: str | bytes, form="jsonl"):
    return list(read_rows(text if isinstance(text, bytes) else text.encode(), form))


def test_json_lines_are_read_and_blank_lines_skipped():
    line = json.dumps({"trace": TRACE, "kind": "rating", "value": 4, "text": "fine", "author": "ann"})
    [row] = read(f"\n{line}\n\n")
    assert isinstance(row, GivenRow)
    assert row.line == 2
    given_ = row.given
    assert (given_.trace, given_.kind, given_.value, given_.text) == (TRACE, "rating", 4.0, "fine")
    assert (given_.author, given_.source) == ("ann", "import")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[1]", "not a JSON object"),
        ('{"trace": "t", "kind": "thumb", "valeu": 1}', "valeu"),
        ('{"trace": "t", "kind": "applause"}', "kind"),
        ('{"kind": "thumb", "value": 1}', "trace is missing"),
        ('{"trace": 7, "kind": "thumb"}', "trace is not a text"),
        ('{"trace": "t", "kind": "thumb", "value": "high"}', "value"),
        ('{"trace": "t", "kind": "thumb", "value": true}', "value"),
        ('{"trace": "t", "kind": "edit", "text": ["a"]}', "text"),
    ],
)
def test_a_bad_row_is_named_with_its_line_and_the_rest_is_read(line: str, reason: str):
    good = json.dumps({"trace": TRACE, "kind": "thumb", "value": 1})
    bad, fine = read(f"{line}\n{good}\n")
    assert isinstance(bad, BadRow)
    assert (bad.line, reason in bad.reason) == (1, True)
    assert isinstance(fine, GivenRow)


def test_bytes_that_are_not_utf8_are_a_bad_row():
    [row] = read(b'{"trace": "\xff"}\n')
    assert row == BadRow(1, "the line is not UTF-8")
    good, bad = read(b"trace,kind\nt,thumb\n\xff,thumb\n", "csv")
    assert isinstance(good, GivenRow)
    assert bad == BadRow(3, "the row is not UTF-8")


def test_csv_is_read_by_its_header():
    text = f'kind,trace,value,text\nthumb,{TRACE},1,\nedit,{TRACE},,"two\nlines"\nthumb,{TRACE}\n'
    thumb, edit, short = read(text, "csv")
    assert isinstance(thumb, GivenRow)
    assert isinstance(edit, GivenRow)
    assert (thumb.given.value, thumb.given.text, edit.given.text) == (1.0, None, "two\nlines")
    assert short == BadRow(5, "the row has 2 cells; expected 4, as the header has")


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n"])
def test_a_csv_file_without_header_is_refused(text: str):
    with pytest.raises(UsageError, match="trace"):
        read(text, "csv")


def test_a_cell_too_large_for_the_reader_is_a_bad_row():
    rows = read(f"trace,kind,text\nt,edit,{'x' * 200_000}\nt,thumb,\n", "csv")
    assert isinstance(rows[0], BadRow)


@pytest.mark.parametrize(
    "text",
    ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "  =1", "\uff1d1", '=HYPERLINK("http://x")'],
)
def test_a_cell_that_a_spreadsheet_would_run_is_led_by_an_apostrophe(text: str):
    assert safe_cell(text) == "'" + text


@given(st.text())
def test_no_cell_of_text_starts_a_formula(text: str):
    assert not safe_cell(text).lstrip(" ").startswith(("=", "+", "-", "@", "\t", "\r"))


def test_csv_and_json_lines_hold_the_same_rows():
    one = a_feedback(note='=cmd|"/c calc"!A1')
    said = export_row(a_text(1), a_text(1, text="<script>alert(1)</script>"))
    table = list(csv.DictReader(io.StringIO(encode_rows([(one, said)], "csv", texts=True).decode())))
    [line] = encode_rows([(one, said)], "jsonl", texts=True).splitlines()
    fields = json.loads(line)
    assert table[0]["id"] == fields["id"] == one.id
    assert table[0]["note"] == "'" + str(one.note)
    assert json.loads(table[0]["prompt"]) == fields["prompt"]
    assert fields["answer"] == "answer 1"
    assert "answer" not in encode_rows([(one, said)], "csv", texts=False).decode()
    assert encode_rows([], "jsonl", texts=True) == b""
