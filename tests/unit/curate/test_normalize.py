"""Fields to turns to examples: every shape that is understood, every reason for refusing."""

from datetime import UTC, datetime

import pytest

from tunewright.curate.normalize import clean_text, clean_turns, make_example, parse_time, validate_turns
from tunewright.curate.problem import Problem
from tunewright.curate.shapes import Shaped, Turn, shape_row
from tunewright.recipe import SourceSpec
from tunewright.records import Example, Source

SPEC = SourceSpec(path="a.jsonl")
SOURCE = Source(digest="0" * 64, path="a.jsonl", line=1)


def chat(*turns: tuple[str, str]) -> list[dict]:
    return [{"role": role, "content": content} for role, content in turns]


def shaped(fields: dict, spec: SourceSpec = SPEC) -> list[tuple[str, str]] | str:
    found = shape_row(fields, spec)
    return found.reason if isinstance(found, Problem) else [(turn.role, turn.content) for turn in found.turns]


def refused(*turns: tuple[str, str]) -> str | None:
    problem = validate_turns(clean_turns([Turn(*turn) for turn in turns], None))
    return problem and problem.reason


PAIR = [("user", "q"), ("assistant", "a")]


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": chat(*PAIR)},
        {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
        {"messages": '[{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]'},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "q"}]}, *chat(PAIR[1])]},
        {"prompt": "q", "completion": "a"},
        {"prompt": "q", "response": "a"},
        {"instruction": "q", "input": "", "output": "a"},
        {"question": "q", "answer": "a"},
        {"input": "q", "output": "a"},
        {"text": "q", "label": "a"},
        {"text": "q", "intent": "a"},
        {"text": "q", "category": "a"},
    ],
)
def test_common_shapes_are_understood(fields: dict):
    assert shaped(fields) == PAIR


def test_fields_named_in_the_recipe_win():
    spec = SourceSpec(path="a", prompt_field="ask", completion_field="reply")
    fields = {"messages": chat(("user", "no"), ("assistant", "no")), "ask": "q", "reply": "a"}
    assert shaped(fields, spec) == PAIR


def test_one_named_field_finds_its_partner():
    assert shaped({"text": "q", "note": "a"}, SourceSpec(path="a", completion_field="note")) == PAIR
    assert shaped({"ask": "q", "output": "a"}, SourceSpec(path="a", prompt_field="ask")) == PAIR


def test_alpaca_input_follows_the_instruction():
    fields = {"instruction": "Add", "input": "1 2", "output": "3"}
    assert shaped(fields)[0] == ("user", "Add\n\n1 2")


def test_an_answer_that_is_json_is_written_as_json():
    assert shaped({"prompt": "q", "completion": {"item": "Café"}})[1] == ("assistant", '{"item": "Café"}')
    assert shaped({"text": "q", "label": 3})[1] == ("assistant", "3")


def test_text_and_label_is_known_as_classification():
    found = shape_row({"text": "q", "label": "a"}, SPEC)
    assert isinstance(found, Shaped)
    assert (found.form, found.fields) == ("label", ("text", "label"))


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"foo": "q", "bar": "a"}, "fields_not_recognised"),
        ({}, "fields_not_recognised"),
        ({"messages": "hello"}, "messages_not_a_list"),
        ({"messages": ["hi"]}, "turn_not_an_object"),
        ({"messages": chat(("wizard", "hi"))}, "unknown_role"),
        ({"messages": [{"content": "hi"}]}, "unknown_role"),
        ({"messages": chat(("tool", "42"))}, "tool_calls_not_supported_yet"),
        (
            {"messages": [{"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}]},
            "tool_calls_not_supported_yet",
        ),
        ({"messages": chat(*PAIR), "tools": [{"type": "function"}]}, "tool_calls_not_supported_yet"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "content_not_text"),
        ({"messages": [{"role": "user", "content": 3}]}, "content_not_text"),
        (
            {"messages": [*chat(PAIR[0]), {"role": "assistant", "content": "a", "weight": 0}]},
            "turn_weights_not_supported_yet",
        ),
    ],
)
def test_a_row_of_another_shape_is_refused_by_name(fields: dict, reason: str):
    assert shaped(fields) == reason


def test_a_missing_named_field_is_named():
    problem = shape_row({"ask": "q"}, SourceSpec(path="a", prompt_field="ask", completion_field="reply"))
    assert problem == Problem("field_missing", {"field": "reply"})


def test_evidence_holds_field_names_but_no_values_and_nothing_that_looks_like_text():
    problem = shape_row({"name": "Bob Miller", "my card is 4111": "x"}, SPEC)
    assert problem == Problem("fields_not_recognised", {"fields": ["name"]})


@pytest.mark.parametrize(
    ("turns", "reason"),
    [
        (PAIR, None),
        ([("system", "s"), *PAIR], None),
        ([("system", ""), *PAIR], None),
        ([*PAIR, *PAIR], None),
        ([], "no_messages"),
        ([("system", "s")], "no_messages"),
        ([("assistant", "a")], "roles_out_of_order"),
        ([("user", "q"), ("user", "q"), ("assistant", "a")], "roles_out_of_order"),
        ([*PAIR, ("system", "s"), *PAIR], "roles_out_of_order"),
        ([("system", "s"), ("system", "s"), *PAIR], "roles_out_of_order"),
        ([("user", "q")], "last_turn_not_assistant"),
        ([*PAIR, ("user", "q")], "last_turn_not_assistant"),
        ([("user", " \n"), ("assistant", "a")], "empty_turn"),
        ([("user", "q"), ("assistant", "\u200b")], "empty_turn"),
        ([("user", "q\ud800"), ("assistant", "a")], "invalid_unicode"),
    ],
)
def test_chats_that_cannot_be_trained_on_are_refused_by_name(turns, reason):
    assert refused(*turns) == reason


def test_the_recipes_system_turn_is_put_where_there_is_none():
    turns = [Turn(*turn) for turn in PAIR]
    assert clean_turns(turns, "Be brief.")[0] == Turn("system", "Be brief.")
    own = [Turn("system", "mine"), *turns]
    assert clean_turns(own, "Be brief.")[0] == Turn("system", "mine")


def test_cleaning_keeps_indentation_and_accents_and_drops_what_no_reader_sees():
    assert (
        clean_text("\ufeff def f():\r\n\treturn\x00 1  # e\u0301\x07 \n") == "def f():\n\treturn 1  # e\u0301"
    )


def example(fields: dict, **spec) -> Example:
    made = make_example([Turn(*turn) for turn in PAIR], fields, SourceSpec(path="a", **spec), SOURCE)
    assert isinstance(made, Example)
    return made


def test_equal_text_in_other_white_space_has_the_same_id():
    one = make_example([Turn("user", "a  b\n\nc"), Turn("assistant", "x")], {}, SPEC, SOURCE)
    two = make_example([Turn("user", "a b\nc"), Turn("assistant", "x")], {}, SPEC, SOURCE)
    assert isinstance(one, Example)
    assert isinstance(two, Example)
    assert one.id == two.id
    assert one.messages[0].content == "a  b\n\nc"


def test_group_time_and_slices_are_read_from_their_fields():
    fields = {"who": 17, "at": "2026-01-02T03:04:05+02:00", "lang": "de", "vip": True, "none": None}
    row = example(fields, group="who", time="at", slices=("vip", "lang", "none"))
    assert row.group == "17"
    assert row.time == datetime(2026, 1, 2, 1, 4, 5, tzinfo=UTC)
    assert row.slices == {"lang": "de", "vip": "true"}


@pytest.mark.parametrize("value", ["2026-01-02T03:04:05Z", "2026-01-02 03:04:05", 1767323045, "1767323045.0"])
def test_times_are_read_in_iso_form_and_unix_seconds(value):
    assert parse_time(value) == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize("value", ["yesterday", True, 1e20, ["x"]])
def test_a_time_that_cannot_be_read_rejects_the_row(value):
    assert parse_time(value) == Problem("bad_time")
    made = make_example([Turn(*t) for t in PAIR], {"at": value}, SourceSpec(path="a", time="at"), SOURCE)
    assert made == Problem("bad_time", {"field": "at"})
