"""Suites, items and named files."""

import json

import pytest

from tunewright.core.scorers import Answer
from tunewright.errors import BlobCorrupt, RecipeError, SourceUnreadable
from tunewright.evals.items import file_items, held_out_items, prompt_digest, sample_by_cluster
from tunewright.evals.suites import build_metrics, build_suite, check_gate, read_suite_file, score_suite
from tunewright.recipe import GateSection, SuiteSpec
from tunewright.records import Example, Message, Source
from tunewright.values import Digest, digest_bytes


def a_row(question: str, answer: str = "yes", group: str | None = None) -> Example:
    turns = (Message(role="user", content=question), Message(role="assistant", content=answer))
    source = Source(digest=Digest("0" * 64), path="rows.jsonl", line=1)
    digest = digest_bytes(f"{question}|{answer}".encode())
    return Example(id=digest, messages=turns, source=source, group=group, slices={"kind": question[:1]})


def a_gate(**fields: object) -> GateSection:
    return GateSection.model_validate(fields)


def lineage(*lines: dict[str, object]) -> bytes:
    return b"\n".join(json.dumps(line).encode() for line in lines)


def test_a_cluster_joins_group_and_near_duplicates():
    rows = [a_row("a"), a_row("b"), a_row("c"), a_row("d")]
    data = lineage(
        {"row": rows[0].id, "cluster": "k1", "group": "g1"},
        {"row": rows[1].id, "cluster": "k1", "group": "g2"},
        {"row": rows[2].id, "cluster": "k2", "group": "g2"},
        {"row": rows[3].id, "cluster": "k3", "group": None},
    )
    items = held_out_items(rows, data)
    assert len({item.cluster for item in items[:3]}) == 1
    assert items[3].cluster != items[0].cluster
    assert items[0].slices == {"kind": "a"}


def test_a_row_the_lineage_does_not_know_is_corruption():
    with pytest.raises(BlobCorrupt, match="1 held-out rows less"):
        held_out_items([a_row("a")], b"")
    with pytest.raises(BlobCorrupt, match="line 1 of a dataset's lineage"):
        held_out_items([a_row("a")], b"{")


def test_the_prompt_digest_covers_what_is_asked_and_not_the_answer():
    assert prompt_digest(a_row("a", "x")) == prompt_digest(a_row("a", "y"))
    assert prompt_digest(a_row("a")) != prompt_digest(a_row("b"))


def test_near_duplicates_and_groups_of_a_file_share_a_cluster():
    text = (
        "please bring two oat milk lattes and one slice of lemon cake to table number {} by the window now ok"
    )
    rows = [
        a_row(text.format(4)),
        a_row(text.format(4) + " thanks"),
        a_row("tea", group="g"),
        a_row("x", group="g"),
    ]
    clusters = [item.cluster for item in file_items(rows, 0.8)]
    assert clusters[0] == clusters[1] != clusters[2] == clusters[3]


def test_a_sample_takes_the_same_rows_every_time():
    items = file_items([a_row(f"row number {i} {i * 7919}") for i in range(30)], 0.8)
    sample = sample_by_cluster(items, 7)
    assert len(sample) == 7
    assert {item.row for item in sample} == {item.row for item in sample_by_cluster(items[::-1], 7)}
    assert sample_by_cluster(items, None) == items


@pytest.mark.parametrize(
    ("gate", "message"),
    [
        ({"suites": [{"name": "a"}, {"name": "a"}]}, "suite 'a' is named twice"),
        (
            {"suites": [{"scorers": [{"kind": "json_field", "settings": {"path": "x"}}] * 2}]},
            "metric 'json_field' is named twice",
        ),
        ({"suites": [{"scorers": [{"kind": "rouge"}]}]}, "unknown scorer 'rouge'"),
        ({"require": [{"metric": "x", "suite": "y", "at_least": 1}]}, "no suite is called 'y'"),
        (
            {"require": [{"metric": "exact", "at_least": 1}]},
            "no metric 'exact'; it measures normalised_match",
        ),
        (
            {
                "suites": [{"scorers": [{"kind": "latency"}]}],
                "require": [{"metric": "latency", "at_least": 1}],
            },
            "for information only",
        ),
        ({"suites": [{"scorers": [{"kind": "latency"}]}]}, "put another scorer first"),
    ],
)
def test_a_gate_that_cannot_be_judged_is_refused_before_any_row_is_read(gate, message):
    with pytest.raises(RecipeError, match=message):
        check_gate(a_gate(**gate))


def test_scores_leave_out_what_an_arm_cannot_be_measured_by():
    rows = [a_row("a"), a_row("b", "no")]
    spec = SuiteSpec.model_validate(
        {"scorers": [{"kind": "exact_match"}, {"kind": "stop_rate"}, {"kind": "mcc"}]}
    )
    suite = build_suite(spec, file_items(rows, 0.8), rows)
    values = score_suite(
        suite, {rows[0].id: Answer("yes", finish_reason="stop"), rows[1].id: Answer("maybe")}
    )
    assert values["held_out/exact_match"] == {rows[0].id: (1.0,), rows[1].id: (0.0,)}
    assert values["held_out/stop_rate"] == {rows[0].id: (1.0,)}
    assert values["held_out/mcc"] == {rows[0].id: (1.0, 1.0), rows[1].id: (0.0, -1.0)}
    assert [metric.kind for metric in build_metrics([suite])] == ["binary", "binary", "aggregate"]


def test_a_named_file_is_read_in_both_forms(tmp_path):
    lines = [
        {"messages": [{"role": "user", "content": "hi", "id": 1}, {"role": "assistant", "content": "yo"}]},
        {"prompt": "two plus two", "completion": "4", "group": 7},
        {"question": "order", "answer": {"item": "tea"}},
        {"prompt": "two  plus two ", "completion": "4"},
    ]
    path = tmp_path / "suite.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + b"\r\n\n".join(json.dumps(line).encode() for line in lines))
    digest, examples = read_suite_file(path, "suite.jsonl")
    assert digest == digest_bytes(path.read_bytes())
    assert [example.answer for example in examples] == ["yo", "4", '{"item": "tea"}']
    assert examples[1].source.path == "suite.jsonl"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no rows"),
        ('{"prompt": "a", "completion": "b"}\n{"prompt"', "suite.jsonl:2 is not JSON"),
        ("[1]", "suite.jsonl:1 is not a JSON object"),
        (
            '{"a": 1, "b": 2}',
            "suite.jsonl:1 has neither messages nor prompt and completion; its fields: a, b",
        ),
        ('{"messages": [{"role": "user", "content": "hi"}]}', "expected a prompt and, last, the assistant's"),
        ('{"messages": [{"role": "bot", "content": "hi"}]}', "suite.jsonl:1: a turn is not"),
    ],
)
def test_a_bad_suite_file_names_file_and_line(tmp_path, text, message):
    path = tmp_path / "suite.jsonl"
    path.write_text(text)
    with pytest.raises(SourceUnreadable, match=message):
        read_suite_file(path, "suite.jsonl")


def test_a_missing_suite_file_names_the_place_looked_in(tmp_path):
    with pytest.raises(SourceUnreadable, match=r"suite file none.jsonl cannot be read at .*none.jsonl"):
        read_suite_file(tmp_path / "none.jsonl", "none.jsonl")
