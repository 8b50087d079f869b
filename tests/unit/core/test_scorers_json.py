"""JSON scorers, case by case."""

import pytest

from tunewright.core.scorer_json import parse_json
from tunewright.core.scorers import Answer, bind_scorer, score
from tunewright.errors import RecipeError
from tunewright.recipe import ScorerSpec
from tunewright.records import Example, Message, Source
from tunewright.values import Digest

ORDER = '{"item": "Chai Latte", "addons": ["Oat Milk", "Extra Hot"], "quantity": 1}'


def scored(kind: str, text: str, reference: str, **settings: object) -> float:
    messages = (Message(role="user", content="q"), Message(role="assistant", content=reference))
    source = Source(digest=Digest("0" * 64), path="rows.jsonl", line=1)
    example = Example(id=Digest("a" * 64), messages=messages, source=source)
    bound = bind_scorer(ScorerSpec.model_validate({"kind": kind, "settings": settings}), [example])
    value = score(bound, Answer(text), example)
    assert value is not None
    return value[0]


@pytest.mark.parametrize(
    ("text", "valid", "valid_extracted"),
    [
        (ORDER, 1, 1),
        (f"  {ORDER}\n", 1, 1),
        ("7", 1, 1),
        (f"```json\n{ORDER}\n```", 0, 1),
        (f"Sure {{here}}: {ORDER} anything else?", 0, 1),
        ('{"a": NaN}', 0, 0),
        ('{"a": 1} {"b": 2}', 0, 1),
        ("", 0, 0),
        ("[" * 5000, 0, 0),
        ("[" * 200 + "]" * 200, 0, 0),
        ("1" * 5000, 0, 0),
    ],
)
def test_json_validity_is_strict_unless_extraction_is_asked_for(text, valid, valid_extracted):
    assert scored("json_valid", text, "x") == valid
    assert scored("json_valid", text, "x", extract=True) == valid_extracted


def test_equality_folds_case_and_sets_only_where_told():
    shuffled = '{"quantity": 1.0, "addons": ["extra  hot", "oat milk", "OAT MILK"], "item": "chai latte"}'
    assert scored("json_equal", shuffled, ORDER, sets=["addons"]) == 1
    assert scored("json_equal", shuffled, ORDER) == 0
    assert scored("json_equal", ORDER.replace("Chai", "chai"), ORDER, normalise=False) == 0
    assert scored("json_equal", ORDER, ORDER, normalise=False) == 1


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ('{"a": true}', '{"a": 1}'),
        ('{"a": "1"}', '{"a": 1}'),
        ('{"a": null}', "{}"),
        ('{"a": []}', '{"a": {}}'),
        ('{"A": 1}', '{"a": 1}'),
        ('{"a": 1, "b": 2}', '{"a": 1}'),
    ],
)
def test_values_that_differ_in_kind_are_not_equal(text, reference):
    assert scored("json_equal", text, reference) == 0


def test_nested_sets_are_named_by_path_through_lists():
    left = '{"lines": [{"addons": ["b", "a"]}, {"addons": []}]}'
    right = '{"lines": [{"addons": ["a", "b"]}, {"addons": []}]}'
    assert scored("json_equal", left, right, sets=["lines.addons"]) == 1
    assert scored("json_equal", left, right, sets=["addons"]) == 0


def test_a_field_is_compared_alone():
    other = '{"item": "CHAI  latte", "addons": [], "quantity": 2}'
    assert scored("json_field", other, ORDER, path="item") == 1
    assert scored("json_field", other, ORDER, path="item", normalise=False) == 0
    assert scored("json_field", other, ORDER, path="quantity") == 0
    assert scored("json_field", ORDER, ORDER, path="addons.1") == 1
    assert scored("json_field", '{"addons": ["extra hot", "oat milk"]}', ORDER, path="addons") == 1
    assert scored("json_field", "not json", ORDER, path="item") == 0


def test_a_field_the_reference_lacks_must_be_lacking():
    assert scored("json_field", '{"item": "x"}', ORDER, path="notes") == 1
    assert scored("json_field", '{"notes": null}', ORDER, path="notes") == 0


def test_schema_validity_uses_the_schema_of_the_recipe():
    schema = {"type": "object", "required": ["item"], "properties": {"quantity": {"$ref": "#/$defs/n"}}}
    schema["$defs"] = {"n": {"type": "integer", "minimum": 1}}
    assert scored("json_schema", ORDER, "x", schema=schema) == 1
    assert scored("json_schema", '{"item": "x", "quantity": 0}', "x", schema=schema) == 0
    assert scored("json_schema", "no", "x", schema=schema) == 0


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"type": "objekt"}, "not a JSON Schema"),
        ({"$ref": "https://example.org/schema"}, "does not point into the schema"),
        ({"properties": {"a": {"$ref": "#/$defs/none"}}}, "does not point into the schema"),
    ],
)
def test_a_schema_that_cannot_be_used_offline_is_refused_at_once(schema, message):
    with pytest.raises(RecipeError, match=message):
        scored("json_schema", "{}", "{}", schema=schema)


def test_key_f1_gives_part_credit_for_pairs():
    assert scored("key_f1", ORDER, ORDER) == 1
    one_of_four_wrong = ORDER.replace("1}", "2}")
    assert scored("key_f1", one_of_four_wrong, ORDER) == pytest.approx(0.75)
    assert scored("key_f1", '{"item": "chai latte"}', ORDER) == pytest.approx(2 / 5)
    assert scored("key_f1", "nothing", ORDER) == 0
    assert scored("key_f1", "{}", "{}") == 1


def test_parsing_tells_null_from_nothing():
    assert parse_json("nothing") is None
    parsed = parse_json("null")
    assert parsed is not None
    assert parsed.value is None
