"""Every row has an answer: kept, removed and why, or unknown with the nearest that is known."""

import json
from pathlib import Path

import pytest
from tests.fakes import fake_ports

from tunewright.curate.curate import curate
from tunewright.curate.why import why
from tunewright.ports import Ports
from tunewright.recipe import DataSection, Recipe, SourceSpec
from tunewright.records import DatasetVersion


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[DatasetVersion, Ports]:
    folder: Path = tmp_path_factory.mktemp("why")
    ports = fake_ports(folder)
    lines: list[str] = []
    for number in range(60):
        prompt = f"question {number * 7919 % 1000} about {'xyzuvw'[number % 6]}{number} and {number**3}?"
        lines.append(json.dumps({"prompt": prompt, "completion": f"answer {number}"}))
    lines.append(lines[0])
    lines.append('{"broken')
    lines.append("")
    lines.append(json.dumps({"prompt": "hi", "completion": "As an AI language model, I cannot."}))
    longer = "please tell me where my very late parcel from the shop in the old town is right now today"
    lines.append(json.dumps({"prompt": longer, "completion": "soon"}))
    lines.append(json.dumps({"prompt": longer.upper() + "!", "completion": "soon"}))
    (ports.data_root / "sub").mkdir()
    (ports.data_root / "sub" / "tickets.jsonl").write_text("\n".join(lines))
    data = DataSection(sources=(SourceSpec(path="sub/tickets.jsonl"),))
    return curate(Recipe(name="desk", data=data), ports), ports


def ask(world: tuple[DatasetVersion, Ports], reference: str):
    dataset, ports = world
    return why(reference, dataset, ports.blobs)


def test_every_line_of_the_file_has_exactly_one_answer(world):
    outcomes = [ask(world, f"sub/tickets.jsonl:{line}") for line in range(1, 67) if line != 63]
    assert all(len(answers) == 1 for answers in outcomes)
    assert all(answers[0].outcome != "unknown" for answers in outcomes)


def test_a_duplicate_names_the_line_that_was_kept(world):
    (answer,) = ask(world, "sub/tickets.jsonl:61")
    assert (answer.outcome, answer.detail["step"]) == ("removed", "exact_duplicate")
    assert answer.detail["kept_at"] == "sub/tickets.jsonl:1"
    assert "sub/tickets.jsonl:1, in " in answer.sentence


def test_a_near_duplicate_names_its_likeness(world):
    (answer,) = ask(world, "sub/tickets.jsonl:65")
    assert answer.outcome == "removed"
    assert answer.detail["reason"] == "near_duplicate"
    assert "jaccard 1.0" in answer.sentence
    assert answer.detail["kept_at"] == "sub/tickets.jsonl:66"


def test_unreadable_and_refused_lines_name_step_and_reason(world):
    assert "removed by read: broken_json" in ask(world, "sub/tickets.jsonl:62")[0].sentence
    assert "removed by quality: refusal" in ask(world, "sub/tickets.jsonl:64")[0].sentence


def test_of_a_held_out_row_it_says_only_that_it_is_held_out(world):
    answers = [ask(world, f"sub/tickets.jsonl:{line}")[0] for line in range(2, 61)]
    held_out = [one for one in answers if one.detail.get("split") == "held_out"]
    trained = [one for one in answers if one.detail.get("split") == "train"]
    assert set(held_out[0].detail) == {"split"}
    assert "held out in desk@1" in held_out[0].sentence
    assert set(trained[0].detail) == {"split", "cluster", "group"}
    assert not any("question" in one.sentence for one in answers)


def test_a_row_is_found_by_a_prefix_of_its_id_and_by_the_end_of_its_path(world):
    (answer,) = ask(world, "sub/tickets.jsonl:5")
    assert answer.row is not None
    assert ask(world, answer.row[:12]) == [answer]
    assert ask(world, "tickets.jsonl:5") == [answer]
    assert ask(world, "/data/sub/tickets.jsonl:5") == [answer]


def test_equal_rows_share_an_id_and_all_answer(world):
    first = ask(world, "sub/tickets.jsonl:1")[0]
    assert first.detail["also"] == ["sub/tickets.jsonl:61"]
    assert first.row is not None
    assert [one.outcome for one in ask(world, first.row)] == ["kept", "removed"]


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("sub/tickets.jsonl:63", "the nearest row is line 62, the last is 66"),
        ("sub/tickets.jsonl:999", "nearest row is line 66"),
        ("tikets.jsonl:3", "nearest: sub/tickets.jsonl"),
        ("0000000000000000", "nearest: "),
        ("ab", "expected file:line"),
        ("what is this", "expected file:line"),
    ],
)
def test_an_unknown_row_gets_the_nearest_known(world, reference: str, words: str):
    (answer,) = ask(world, reference)
    assert answer.outcome == "unknown"
    assert words in answer.sentence
