"""Loading a recipe: what is accepted, and that every mistake names file, line, key and what was expected."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunewright.errors import RecipeError
from tunewright.pipeline.load import load_recipe, parse_recipe
from tunewright.pipeline.recipe_checks import nearest
from tunewright.recipe import Recipe

GOOD = """\
name: shop
data:
  sources:
    - path: orders.jsonl
      group: customer
train:
  lora:
    rank: 32
  learning_rate: 3e-3
gate:
  suites:
    - scorers:
        - kind: json_field
          name: item
          settings: {path: item}
  require:
    - {metric: item, at_least: 0.5}
"""


def refused(text: str | bytes) -> str:
    data = text if isinstance(text, bytes) else text.encode()
    with pytest.raises(RecipeError) as caught:
        parse_recipe(data, "r.yaml")
    return str(caught.value)


def test_a_good_recipe_loads_with_its_values(tmp_path: Path) -> None:
    path = tmp_path / "shop.yaml"
    path.write_text(GOOD)
    recipe = load_recipe(path)
    assert recipe.name == "shop"
    assert recipe.data.sources[0].group == "customer"
    assert recipe.train.lora.rank == 32
    assert recipe.gate.require[0].at_least == 0.5


def test_an_exponent_without_a_point_is_a_number() -> None:
    assert parse_recipe(GOOD.encode(), "r.yaml").train.learning_rate == 0.003


def test_a_byte_order_mark_and_crlf_do_not_matter() -> None:
    data = b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode()
    assert parse_recipe(data, "r.yaml") == parse_recipe(GOOD.encode(), "r.yaml")


def test_an_unknown_key_names_its_line_and_the_nearest_known_key() -> None:
    message = refused(GOOD.replace("  lora:", "  epochz: 3\n  lora:"))
    assert message.startswith("r.yaml:7: train.epochz: unknown key 'epochz'; did you mean 'epochs'?")
    assert "batch_rows" in message


def test_a_key_in_the_wrong_section_is_shown_its_place() -> None:
    message = refused(GOOD.replace("  lora:\n    rank: 32", "  rank: 32"))
    assert "r.yaml:7: train.rank" in message
    assert "did you mean `train.lora.rank`?" in message


def test_an_unknown_key_inside_a_list_names_the_entry() -> None:
    message = refused(GOOD.replace("      group: customer", "      grop: customer"))
    assert message.startswith("r.yaml:5: data.sources[0].grop: unknown key 'grop'; did you mean 'group'?")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("rank: 32", "rank: many", "r.yaml:8: train.lora.rank: found 'many'; expected a whole number"),
        ("rank: 32", "rank: 0", "r.yaml:8: train.lora.rank: found 0; expected greater than or equal to 1"),
        ("rank: 32", "rank: [1]", "r.yaml:8: train.lora.rank: found a list; expected a whole number"),
        ("3e-3", "fast", "r.yaml:9: train.learning_rate: found 'fast'; expected a number or 'auto'"),
        ("3e-3", ".inf", "r.yaml:9: train.learning_rate: found inf; expected"),
        ("path: orders.jsonl", "path: 7", "r.yaml:4: data.sources[0].path: found 7; expected text"),
        ("name: shop", "name: My Shop", "r.yaml:1: name: found 'My Shop'; expected 1 to 64 of a-z"),
        ("group: customer", "group: no", "r.yaml:5: data.sources[0].group: found false; expected text"),
        ("at_least: 0.5", "at_least: .nan", "r.yaml:17: gate.require[0].at_least: found nan; expected"),
        ("  lora:\n    rank: 32", "  lora: 5", "r.yaml:7: train.lora: found 5; expected a mapping"),
        (
            "{metric: item, at_least: 0.5}",
            "{metric: item}",
            "r.yaml:17: gate.require[0]: expected exactly one",
        ),
    ],
)
def test_a_wrong_value_names_its_line_and_what_was_expected(old: str, new: str, expected: str) -> None:
    assert expected in refused(GOOD.replace(old, new))


def test_a_missing_required_key_says_where_it_belongs() -> None:
    message = refused("name: shop\ndata:\n  quality: {}\n")
    assert "r.yaml:2: data: key 'sources' is missing; expected `sources: ...` under data" in message


def test_every_mistake_is_listed_in_the_order_of_the_file() -> None:
    message = refused(GOOD.replace("rank: 32", "rank: x").replace("name: shop", "nam: shop"))
    numbers = [int(line.split(":")[1]) for line in message.splitlines()]
    assert numbers == sorted(numbers)
    assert len(numbers) == 3  # unknown `nam`, missing `name`, wrong `rank`


def test_a_hundred_mistakes_are_cut_to_one_screen() -> None:
    text = "".join(f"key{i}: 1\n" for i in range(100))
    assert refused(GOOD + text).splitlines()[-1] == "... and 90 more"


def test_a_repeated_key_is_refused_with_both_lines() -> None:
    message = refused(GOOD.replace("    rank: 32", "    rank: 32\n    rank: 16"))
    assert "r.yaml:9: key 'rank' is written twice, first on line 8" in message


def test_a_tab_is_named() -> None:
    assert refused("name: shop\ndata:\n\tsources: []\n").startswith("r.yaml:3: a tab indents this line")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "the file is empty"),
        ("# only a comment\n", "the file is empty"),
        ("- a\n- b\n", "r.yaml:1: the file holds a list; expected a mapping"),
        ("just words\n", "the file holds 'just words'"),
        ("name: [a\nb: c\n", "r.yaml:2: not YAML"),
        ("a: 1\n---\nb: 2\n", "r.yaml:2: a second document starts"),
        ("? [a, b]\n: 1\n", "r.yaml:1: a list or mapping is used as a key"),
        ("name: !!python/object/apply:os.system [ls]\n", "tag 'tag:yaml.org,2002:python/object"),
        ("base: &b {x: 1}\nname: {<<: *b}\n", "merge keys"),
        ("name: a\x00b\n", "not YAML"),
        ("name: !!int shop\n", "r.yaml:1: 'shop' is not a valid int"),
        ("name: *nowhere\n", "r.yaml:1: not YAML: found undefined alias"),
    ],
)
def test_a_file_that_is_no_plain_mapping_is_refused(text: str, expected: str) -> None:
    assert expected in refused(text)


def test_bytes_that_are_not_utf8_name_their_line() -> None:
    assert refused(b"name: shop\ndescription: caf\xe9\n").startswith("r.yaml:2: byte 27 is not UTF-8")


def test_a_data_file_given_as_recipe_is_refused_by_size() -> None:
    assert "Is this a data file?" in refused(b"x" * 1_000_001)


def test_aliases_that_grow_without_end_are_refused() -> None:
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    assert "once aliases" in refused("\n".join(rows))
    assert "once aliases" in refused("name: &a [*a]\n")


def test_deep_nesting_is_refused_before_anything_recurses() -> None:
    assert "nested deeper than 40 levels" in refused("name: " + "[" * 5000)


def test_a_missing_file_names_its_nearest_neighbours(tmp_path: Path) -> None:
    (tmp_path / "coffee.yaml").write_text(GOOD)
    with pytest.raises(RecipeError, match=r"coffe\.yaml does not exist.*Nearest there: coffee\.yaml"):
        load_recipe(tmp_path / "coffe.yaml")
    with pytest.raises(RecipeError, match=r"Recipes in .*: coffee\.yaml"):
        load_recipe(tmp_path / "zzz.yml")
    with pytest.raises(RecipeError, match="nor does the folder"):
        load_recipe(tmp_path / "none" / "zzz.yml")


def test_a_folder_is_not_a_recipe(tmp_path: Path) -> None:
    (tmp_path / "coffee.yaml").write_text(GOOD)
    with pytest.raises(RecipeError, match=r"is a folder.*coffee\.yaml"):
        load_recipe(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("kind: json_field", "kind: json_feild", "r.yaml:13: gate.suites[0].scorers[0]: unknown scorer"),
        ("{path: item}", "{pth: item}", "has no setting 'pth'; did you mean 'path'?"),
        (
            "metric: item",
            "metric: itme",
            "r.yaml:17: gate.require[0].metric: unknown metric 'itme'; did you mean",
        ),
        ("metric: item", "suite: held, metric: item", "unknown suite 'held'; did you mean 'held_out'?"),
        (
            "  require:",
            "  required_slices: [x]\n  require:",
            "unknown slice 'x'; expected one of: none is declared",
        ),
        (
            "  require:",
            "        - {kind: json_valid, name: item}\n  require:",
            "metric 'item' is there twice",
        ),
    ],
)
def test_a_name_that_nothing_answers_to_is_refused(old: str, new: str, expected: str) -> None:
    assert expected in refused(GOOD.replace(old, new))


@pytest.mark.parametrize(("typed", "meant"), [("epoch", "epochs"), ("lerning_rate", "learning_rate")])
def test_nearest_finds_what_was_meant(typed: str, meant: str) -> None:
    assert nearest(typed, ["epochs", "learning_rate", "base"]) == meant


def test_nearest_is_silent_when_nothing_is_near() -> None:
    assert nearest("zzz", ["epochs"]) is None


@given(st.binary(max_size=200))
def test_any_bytes_are_a_recipe_or_a_recipe_error(data: bytes) -> None:
    try:
        assert isinstance(parse_recipe(data, "r.yaml"), Recipe)
    except RecipeError as error:
        assert str(error).startswith("r.yaml")


@given(
    st.recursive(
        st.sampled_from(["a: 1", "- x", "{", "]", "&a", "*a", "'", "|", "\n ", "!!", "%", "?"]),
        lambda parts: st.lists(parts, max_size=6).map("".join),
    )
)
def test_yaml_like_noise_is_a_recipe_error(text: str) -> None:
    with pytest.raises(RecipeError):
        parse_recipe(text.encode(), "r.yaml")
