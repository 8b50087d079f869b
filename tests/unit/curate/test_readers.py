"""Files to raw rows: every form that is read, every kind of damage, with place and next step."""

import json
from pathlib import Path

import polars as pl
import pytest

from tunewright.curate.readers import SourceFile, detect_format, find_sources, read_rows
from tunewright.curate.readers_text import MAX_ROW_BYTES, RawRow
from tunewright.errors import RecipeError, SourceUnreadable
from tunewright.recipe import SourceSpec
from tunewright.records import Rejection


def one_file(folder: Path, name: str, data: bytes | str) -> SourceFile:
    (folder / name).write_bytes(data.encode() if isinstance(data, str) else data)
    return find_sources([SourceSpec(path=name)], folder)[0]


def read(folder: Path, name: str, data: bytes | str) -> list[RawRow | Rejection]:
    return list(read_rows(one_file(folder, name, data)))


def outcomes(rows: list[RawRow | Rejection]) -> list[tuple[int, str | dict]]:
    return [(row.source.line, row.reason if isinstance(row, Rejection) else dict(row.fields)) for row in rows]


def test_json_lines_keep_their_line_numbers_over_blank_lines(tmp_path: Path):
    rows = read(tmp_path, "a.jsonl", '{"a": 1}\n\n   \n{"a": 2}')
    assert outcomes(rows) == [(1, {"a": 1}), (4, {"a": 2})]


def test_a_byte_order_mark_and_crlf_are_accepted(tmp_path: Path):
    rows = read(tmp_path, "a.jsonl", b'\xef\xbb\xbf{"a": 1}\r\n{"a": 2}\r\n')
    assert outcomes(rows) == [(1, {"a": 1}), (2, {"a": 2})]
    rows = read(tmp_path, "b.csv", b"\xef\xbb\xbftext,label\r\nhi,x\r\n")
    assert outcomes(rows) == [(2, {"text": "hi", "label": "x"})]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"a": 1', "broken_json"),
        ('{"a": "x\x00y"}', "nul_bytes"),
        ('{"a": NaN}', "not_a_number"),
        ('{"a": [1, -Infinity]}', "not_a_number"),
        ("[1, 2]", "not_an_object"),
        ('"text"', "not_an_object"),
        ('{"a": "\\ud800"}', "broken_json"),
        ("{" * 5000, "broken_json"),
    ],
)
def test_a_bad_line_is_rejected_with_its_reason_and_the_next_line_is_read(tmp_path: Path, line, reason):
    rows = read(tmp_path, "a.jsonl", '{"a": 0}\n' + line + '\n{"a": 2}\n')
    assert outcomes(rows) == [(1, {"a": 0}), (2, reason), (3, {"a": 2})]


def test_a_rejection_never_holds_text_of_the_row(tmp_path: Path):
    rows = read(tmp_path, "a.jsonl", '{"a": "my secret words\n{"a": 1}\n')
    assert "secret" not in rows[0].model_dump_json()


def test_a_line_of_50_megabytes_is_rejected_without_being_held(tmp_path: Path):
    import tracemalloc

    with (tmp_path / "a.jsonl").open("wb") as handle:
        handle.write(b'{"a": 1}\n{"a": "')
        for _ in range(50):
            handle.write(b"x" * 2**20)
        handle.write(b'"}\n{"a": 3}\n')
    file = find_sources([SourceSpec(path="a.jsonl")], tmp_path)[0]
    tracemalloc.start()
    rows = list(read_rows(file))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert outcomes(rows) == [(1, {"a": 1}), (2, "row_too_large"), (3, {"a": 3})]
    assert rows[1].evidence["bytes"] == 50 * 2**20 + 10
    assert peak < 40 * 2**20


def test_bytes_that_are_not_utf8_name_file_line_and_offset(tmp_path: Path):
    with pytest.raises(SourceUnreadable, match=r"a\.jsonl, line 2: byte 0xe9 at offset 17 .*iconv"):
        read(tmp_path, "a.jsonl", b'{"a": 1}\n{"a": "caf\xe9"}\n'.replace(b"caf", b"c"))
    with pytest.raises(SourceUnreadable, match=r"b\.csv, line 1: byte 0xff at offset 4 "):
        read(tmp_path, "b.csv", b"\xef\xbb\xbfa\xff,b\n1,2\n")


def test_utf16_gets_a_message_of_its_own(tmp_path: Path):
    with pytest.raises(SourceUnreadable, match="UTF-16"):
        read(tmp_path, "a.jsonl", '{"a": 1}\n'.encode("utf-16"))


@pytest.mark.parametrize("data", [b"", b"\n \n", b"\xef\xbb\xbf"])
def test_an_empty_file_is_named(tmp_path: Path, data: bytes):
    with pytest.raises(SourceUnreadable, match=r"a\.jsonl is empty"):
        read(tmp_path, "a.jsonl", data)


def test_a_header_alone_holds_no_rows(tmp_path: Path):
    with pytest.raises(SourceUnreadable, match=r"a\.csv holds no rows"):
        read(tmp_path, "a.csv", "text,label\n")


def test_a_missing_file_names_its_neighbours(tmp_path: Path):
    (tmp_path / "orders.jsonl").write_text("{}")
    with pytest.raises(SourceUnreadable, match=r"order\.jsonl: no such file .* nearest there: orders\.jsonl"):
        find_sources([SourceSpec(path="order.jsonl")], tmp_path)
    with pytest.raises(SourceUnreadable, match="does not exist"):
        find_sources([SourceSpec(path="nowhere/a.jsonl")], tmp_path)
    with pytest.raises(SourceUnreadable, match="no file fits"):
        find_sources([SourceSpec(path="*.parquet")], tmp_path)
    with pytest.raises(SourceUnreadable, match="is a folder"):
        find_sources([SourceSpec(path=".")], tmp_path)


def test_a_json_array_and_a_compressed_file_say_how_to_convert(tmp_path: Path):
    with pytest.raises(SourceUnreadable, match="jq -c"):
        one_file(tmp_path, "a.json", '[\n{"a": 1}\n]')
    with pytest.raises(SourceUnreadable, match="gunzip"):
        one_file(tmp_path, "a.jsonl", b"\x1f\x8b\x08rest")


def test_a_file_listed_twice_is_refused(tmp_path: Path):
    (tmp_path / "a.jsonl").write_text('{"a": 1}')
    (tmp_path / "copy.jsonl").write_text('{"a": 1}')
    twice = [SourceSpec(path="a.jsonl"), SourceSpec(path="./a.jsonl")]
    with pytest.raises(RecipeError, match="the same file"):
        find_sources(twice, tmp_path)
    with pytest.raises(RecipeError, match="byte for byte"):
        find_sources([SourceSpec(path="*.jsonl")], tmp_path)


def test_a_glob_is_sorted_and_named_relative_to_the_data_folder(tmp_path: Path):
    (tmp_path / "sub").mkdir()
    for name in ("b", "a"):
        (tmp_path / "sub" / f"{name}.jsonl").write_text(json.dumps({"a": name}))
    files = find_sources([SourceSpec(path="sub/*.jsonl")], tmp_path)
    assert [file.name for file in files] == ["sub/a.jsonl", "sub/b.jsonl"]


def test_csv_reads_quoted_line_breaks_and_counts_rows(tmp_path: Path):
    rows = read(tmp_path, "a.csv", 'text,label\n"two\nlines, ""quoted""",x\n\nlast,y\n')
    assert outcomes(rows) == [
        (2, {"text": 'two\nlines, "quoted"', "label": "x"}),
        (3, {"text": "last", "label": "y"}),
    ]


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_csv_finds_its_delimiter(tmp_path: Path, delimiter: str):
    rows = read(tmp_path, "a.csv", f"text{delimiter}label\na, b{delimiter}x\n")
    assert outcomes(rows) == [(2, {"text": "a, b", "label": "x"})]


def test_csv_rows_of_wrong_length_or_broken_quotes_are_rejected_and_reading_goes_on(tmp_path: Path):
    rows = read(tmp_path, "a.csv", 'a,b\n1\n"x"y,2\n3,4\n"never closed,5\n')
    assert outcomes(rows) == [
        (2, "wrong_number_of_fields"),
        (3, "broken_csv"),
        (4, {"a": "3", "b": "4"}),
        (5, "broken_csv"),
    ]


def test_a_stray_quote_costs_its_own_row_only(tmp_path: Path):
    rows = read(tmp_path, "a.csv", 'a,b\n"never closed,1\n2,2\n3,3\n"fine",4\n')
    assert outcomes(rows) == [
        (2, "broken_csv"),
        (3, {"a": "2", "b": "2"}),
        (4, {"a": "3", "b": "3"}),
        (5, {"a": "fine", "b": "4"}),
    ]


def test_a_csv_record_above_the_limit_is_rejected_and_the_next_one_is_read(tmp_path: Path):
    long_line = "x" * (MAX_ROW_BYTES + 10)
    many_lines = ("y" * (MAX_ROW_BYTES // 8) + "\n") * 10
    rows = read(tmp_path, "a.csv", f'a,b\n{long_line},1\n3,4\n"{many_lines}",2\n5,6\n')
    assert outcomes(rows) == [
        (2, "row_too_large"),
        (3, {"a": "3", "b": "4"}),
        (4, "row_too_large"),
        (5, {"a": "5", "b": "6"}),
    ]


def test_a_csv_header_with_a_repeated_name_is_refused(tmp_path: Path):
    with pytest.raises(SourceUnreadable, match="column 'a' twice"):
        read(tmp_path, "a.csv", "a,a\n1,2\n")


def test_parquet_rows_keep_lists_times_and_numbers(tmp_path: Path):
    from datetime import UTC, datetime

    messages = [[{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]] * 2
    when = datetime(2026, 1, 2, tzinfo=UTC)
    frame = pl.DataFrame({"messages": messages, "at": [when, None], "score": [1.5, float("nan")]})
    frame.write_parquet(tmp_path / "a.parquet")
    file = find_sources([SourceSpec(path="a.parquet")], tmp_path)[0]
    assert outcomes(list(read_rows(file))) == [
        (1, {"messages": messages[0], "at": "2026-01-02T00:00:00+00:00", "score": 1.5}),
        (2, {"messages": messages[0], "at": None, "score": None}),
    ]


def test_a_damaged_parquet_file_is_named(tmp_path: Path):
    pl.DataFrame({"a": [1, 2]}).write_parquet(tmp_path / "a.parquet")
    data = (tmp_path / "a.parquet").read_bytes()
    with pytest.raises(SourceUnreadable, match=r"a\.parquet is not a readable Parquet file"):
        read(tmp_path, "a.parquet", data[: len(data) // 2])


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("a.ndjson", b"x", "jsonl"),
        ("a.tsv", b"x", "csv"),
        ("rows", b'\n {"a": 1}', "jsonl"),
        ("rows", b"PAR1....", "parquet"),
        ("rows.txt", b"text,label\n", "csv"),
    ],
)
def test_the_format_comes_from_the_extension_then_from_the_content(tmp_path, name, data, expected):
    (tmp_path / name).write_bytes(data)
    assert detect_format(tmp_path / name) == expected


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path):
    file = one_file(tmp_path, "a.jsonl", '{"a": 1}\n{"a": 2}\n')
    rows = read_rows(file)
    next(rows)
    with file.path.open("a") as handle:
        handle.write('{"a": 3}\n')
    with pytest.raises(SourceUnreadable, match="changed while it was being read"):
        list(rows)


def test_max_rows_stops_early(tmp_path: Path):
    file = one_file(tmp_path, "a.jsonl", '{"a": 1}\n{"a": 2}\n{"a": 3}\n')
    assert [row.source.line for row in read_rows(file, 2)] == [1, 2]
