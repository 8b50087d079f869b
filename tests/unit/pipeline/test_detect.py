"""Drafting a recipe: every form of data is recognised, every choice has a reason, every draft loads."""

import csv
import io
import json
import random
from collections.abc import Iterable, Mapping
from pathlib import Path

import polars
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tunewright.errors import SourceUnreadable, UsageError
from tunewright.pipeline.detect import detect
from tunewright.pipeline.draft import recipe_name, scalar
from tunewright.pipeline.init import draft_recipe, write_draft
from tunewright.pipeline.load import parse_recipe
from tunewright.recipe import Recipe

Row = Mapping[str, object]


def write_jsonl(path: Path, rows: Iterable[Row]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def drafted(path: Path) -> tuple[Recipe, str]:
    text = draft_recipe(path)
    return parse_recipe(text.encode(), "draft"), text


def words(index: int) -> str:
    rng = random.Random(index)
    return " ".join(rng.choices("where is my parcel please tell me about the late order today".split(), k=9))


def chats(count: int, **extra: object) -> list[Row]:
    turns = [
        [{"role": "user", "content": words(i)}, {"role": "assistant", "content": f"Answer {words(i + 1)}."}]
        for i in range(count)
    ]
    return [{"messages": turn, **extra} for turn in turns]


def metrics(recipe: Recipe) -> list[str]:
    return [spec.metric for spec in recipe.gate.suites[0].scorers]


def test_chats_with_free_text_are_scored_by_text(tmp_path: Path) -> None:
    recipe, text = drafted(write_jsonl(tmp_path / "support.jsonl", chats(1_200)))
    assert recipe.name == "support"
    assert recipe.data.sources[0].path == "support.jsonl"
    assert metrics(recipe) == ["normalised_match", "token_f1"]
    assert "chats in 'messages'" in text


def test_prompt_and_completion_in_json_get_json_scorers(tmp_path: Path) -> None:
    rows = [
        {
            "prompt": words(i),
            "completion": json.dumps({"item": ["pen", "box", "lamp"][i % 3], "count": i, "extras": ["red"]}),
        }
        for i in range(300)
    ]
    recipe, text = drafted(write_jsonl(tmp_path / "orders.jsonl", rows))
    assert metrics(recipe) == ["exact", "field_item", "json_valid", "key_f1"]
    assert recipe.gate.suites[0].scorers[0].settings == {"sets": ["extras"]}
    assert {requirement.better_than for requirement in recipe.gate.require} == {
        "base", "few_shot", "nearest_example", None,
    }  # fmt: skip
    assert "keys item, count, extras" in text


def test_text_and_label_in_csv_get_class_scorers(tmp_path: Path) -> None:
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["text", "category"])
    writer.writerows([words(i), ["refund", "lost card", "other"][i % 3]] for i in range(300))
    path = tmp_path / "intents.csv"
    path.write_text(out.getvalue(), encoding="utf-8")
    recipe, text = drafted(path)
    assert recipe.data.sources[0].format == "csv"
    assert metrics(recipe) == ["accuracy", "macro_f1"]
    assert "3 different short answers; the largest, 'refund', has 33% of the rows" in text


def test_instruction_and_output_with_numbers_get_the_numeric_scorer(tmp_path: Path) -> None:
    rows = [{"instruction": words(i), "input": "", "output": f"{i * 37 % 1009:,}"} for i in range(300)]
    recipe, _ = drafted(write_jsonl(tmp_path / "sums.jsonl", rows))
    assert metrics(recipe)[0] == "numeric"


def test_parquet_is_read(tmp_path: Path) -> None:
    path = tmp_path / "faq.parquet"
    rows = [{"question": words(i), "answer": f"It is {words(i + 7)}"} for i in range(300)]
    polars.DataFrame(rows).write_parquet(path)
    recipe, text = drafted(path)
    assert recipe.data.sources[0].format == "parquet"
    assert "'question' is the prompt, 'answer' the answer" in text


def test_fields_of_unknown_names_are_chosen_by_their_texts(tmp_path: Path) -> None:
    rows = [{"id": f"r{i}", "ask": words(i) * 2, "say": f"so {words(i + 3)}"} for i in range(300)]
    recipe, _ = drafted(write_jsonl(tmp_path / "talk.jsonl", rows))
    source = recipe.data.sources[0]
    assert (source.prompt_field, source.completion_field) == ("ask", "say")


def test_group_time_and_slices_are_proposed_with_their_evidence(tmp_path: Path) -> None:
    rows = [
        {**row, "customer_id": f"c{i // 3}", "created_at": f"2026-01-{i % 28 + 1:02d}T10:00:00Z",
         "channel": ["chat", "web"][i % 2]}
        for i, row in enumerate(chats(300))
    ]  # fmt: skip
    recipe, text = drafted(write_jsonl(tmp_path / "a.jsonl", rows))
    source = recipe.data.sources[0]
    assert (source.group, source.time, source.slices) == ("customer_id", "created_at", ("channel",))
    assert "100 values in 300 rows; rows of one value stay on one side" in text
    assert "channel: 2 values: chat, web" in text


def test_an_id_that_is_unique_is_no_group_and_says_so(tmp_path: Path) -> None:
    rows = [{**row, "conversation_id": i} for i, row in enumerate(chats(300))]
    recipe, text = drafted(write_jsonl(tmp_path / "a.jsonl", rows))
    assert recipe.data.sources[0].group is None
    assert "'conversation_id' is different in every row, so it cannot keep rows together" in text


def test_a_group_that_swallows_everything_is_not_proposed(tmp_path: Path) -> None:
    recipe, text = drafted(write_jsonl(tmp_path / "a.jsonl", chats(300, customer="c1")))
    assert recipe.data.sources[0].group is None
    assert "one value covers 100% of the rows" in text


@pytest.mark.parametrize(
    ("rows", "epochs", "batch", "said"),
    [
        (60, 5, 4, "WARNING: 60 rows. Under 200 labelled rows fine-tuning is the wrong tool"),
        (500, 4, 8, "NOTE: 500 rows. Between 200 and 1,000 rows"),
        (1_500, 3, 16, "1,000 to 10,000 rows"),
    ],
)
def test_size_decides_epochs_batch_and_what_is_said(
    tmp_path: Path, rows: int, epochs: int, batch: int, said: str
) -> None:
    recipe, text = drafted(write_jsonl(tmp_path / "a.jsonl", chats(rows)))
    assert (recipe.train.epochs, recipe.train.batch_rows) == (epochs, batch)
    assert said in text


def test_bad_rows_are_counted_not_fatal(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [*chats(300), {"other": 1}])
    path.write_text(path.read_text() + "{broken\n")
    _, text = drafted(path)
    assert "NOTE: 1 rows could not be read" in text
    assert "NOTE: 1 rows have no prompt and answer" in text


def test_a_file_without_prompt_and_answer_is_refused_with_its_fields(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"x": 1, "y": 2}] * 20)
    with pytest.raises(SourceUnreadable, match=r"fields: 'x', 'y'.*prompt_field"):
        draft_recipe(path)


def test_a_file_of_broken_lines_only_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("{broken\n{broken\n")
    with pytest.raises(SourceUnreadable, match=r"none of the first 2 rows.*a\.jsonl:1 broken_json"):
        draft_recipe(path)


def test_a_draft_names_the_file_from_where_it_stands(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "recipes").mkdir()
    file = write_jsonl(tmp_path / "raw" / "train.jsonl", chats(300))
    path = write_draft(file, tmp_path / "recipes" / "r.yaml", force=False)
    recipe = parse_recipe(path.read_bytes(), "r.yaml")
    assert recipe.data.sources[0].path == "../raw/train.jsonl"
    assert recipe.name == "raw"


def test_an_existing_recipe_is_not_overwritten_unless_forced(tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / "a.jsonl", chats(300))
    path = tmp_path / "a.yaml"
    path.write_text("mine")
    with pytest.raises(UsageError, match="exists"):
        write_draft(file, path, force=False)
    assert path.read_text() == "mine"
    assert write_draft(file, path, force=True) == path
    with pytest.raises(UsageError, match="folder"):
        write_draft(file, tmp_path / "none" / "a.yaml", force=False)


def test_nothing_that_stands_in_the_data_can_break_the_draft(tmp_path: Path) -> None:
    rows = [{**row, "a: b #\n": ["x\ny: [", "z"][i % 2]} for i, row in enumerate(chats(300))]
    recipe, _ = drafted(write_jsonl(tmp_path / "no.jsonl", rows))
    assert recipe.data.sources[0].slices == ("a: b #\n",)


@given(st.text(max_size=20))
def test_a_scalar_reads_back_as_the_text_it_was(text: str) -> None:
    written = scalar(text)
    if all(char.isprintable() for char in text):
        assert yaml.safe_load(f"[{written}]") == [text]


@given(st.text(max_size=90))
def test_a_recipe_name_is_always_a_name(text: str) -> None:
    assert Recipe.model_validate({"name": recipe_name(text), "data": {"sources": [{"path": "x"}]}})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(
    st.lists(
        st.dictionaries(st.sampled_from(["messages", "text", "label", "prompt", "x"]), json_values),
        min_size=1,
    )
)
def test_detection_never_fails_on_rows_of_any_shape(rows: list[dict[str, object]]) -> None:
    detect(rows)  # type: ignore[arg-type]  # JSON by construction
