"""Bad input: each case ends in one clear line with the next step, and leaves nothing half-made."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tunewright.app import App, open_app
from tunewright.backends import base_models
from tunewright.cli.main import cli
from tunewright.cli.progress import PlainProgress
from tunewright.errors import (
    BaseIncomplete,
    BaseNotFound,
    DataError,
    EmptySplit,
    RecipeError,
    SettingsError,
    SourceUnreadable,
    TemplateMismatch,
    TooManyRejections,
    TunewrightError,
    UnknownReference,
    UsageError,
)
from tunewright.settings import load_settings

TINY = Path(base_models.__file__).parents[1] / "demo" / "base"
COLOURS, PLACES = (
    ("red", "blue", "green", "old", "new", "tall"),
    ("shop", "garden", "street", "house", "office"),
)
Row = dict[str, object]


def good_rows(count: int) -> list[Row]:
    return [
        {
            "prompt": f"Tell me about item {i} in the {COLOURS[i % 6]} {PLACES[i % 5]} {i * i}",
            "completion": f"item {i * 7}",
        }
        for i in range(count)
    ]


def lines(rows: list[Row]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def write_recipe(folder: Path, *, source: str = "path: d.jsonl", more: str = "", base: str = "tiny") -> Path:
    """A recipe of two training steps; `more` follows its sections data and train."""
    recipe = folder / "r.yaml"
    recipe.write_text(
        f"name: x\ndata:\n  sources:\n    - {source}\ntrain: {{base: {base}, max_steps: 2}}\n{more}", "utf-8"
    )
    return recipe


@pytest.fixture
def app(tmp_path: Path) -> App:
    environment = {"TUNEWRIGHT_CONFIG": str(tmp_path / "keys"), "TUNEWRIGHT_THREADS": "1"}
    environment["HF_HOME"] = str(tmp_path / "hf")
    return open_app(load_settings(environment, workspace=tmp_path / "ws"), PlainProgress())


def refusal(app: App, recipe: Path, *, until: str = "curate") -> str:
    """Plan and run a recipe that must be refused; both say the same, and no dataset is made."""
    with app, pytest.raises(TunewrightError) as planned:
        app.plan(recipe)
    with app, pytest.raises(TunewrightError) as ran:
        app.run(recipe, until="train" if until == "train" else "curate")
    assert type(planned.value) is type(ran.value)
    with app:
        assert app.data.all() == [], "something was half-made"
    return f"{type(ran.value).__name__}: {ran.value}"


GATE = "gate:\n  suites: [{scorers: [{kind: exact_match}, {kind: perplexity}]}]\n"

RECIPES = {
    "a percentage for a share": (
        GATE + "  require: [{metric: exact_match, at_least: 80}]\n",
        ["r.yaml:8", "require[0].at_least", "for 80 % write 0.8"],
    ),
    "a margin nothing can miss": (
        GATE + "  require: [{metric: exact_match, not_worse_than: base, margin: 3}]\n",
        ["require[0].margin", "such as 0.03 for 3 points"],
    ),
    "an arm that is switched off": (
        GATE + "  few_shot: 0\n  require: [{metric: exact_match, better_than: few_shot}]\n",
        ["require[0].better_than", "switches that arm off"],
    ),
    "two conditions": (
        GATE + "  require: [{metric: exact_match, at_least: 0.5, better_than: base}]\n",
        ["require[0]", "exactly one of"],
    ),
    "a bad scorer setting": (
        "gate:\n  suites: [{scorers: [{kind: json_field}]}]\n",
        ["r.yaml:7", "needs the setting 'path'"],
    ),
}


@pytest.mark.parametrize("case", RECIPES)
def test_a_gate_that_cannot_be_met_is_refused_with_its_line(case: str, app: App, tmp_path: Path):
    more, expected = RECIPES[case]
    said = refusal(app, write_recipe(tmp_path, more=more))
    for words in expected:
        assert words in said


def test_an_unbounded_metric_may_ask_for_more_than_one(app: App, tmp_path: Path):
    (tmp_path / "d.jsonl").write_bytes(lines(good_rows(30)))
    with app:
        app.plan(write_recipe(tmp_path, more=GATE + "  require: [{metric: perplexity, at_least: 20}]\n"))


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ("learning_rate: -1", "train.learning_rate: found -1; expected greater than 0"),
        ("lora: {targets: []}", "train.lora.targets: found a list; expected at least one entry"),
        ("base: ''", "train.base: found ''; expected text that is not empty"),
    ],
)
def test_a_setting_that_would_train_nothing_is_refused(section: str, expected: str, app: App, tmp_path: Path):
    recipe = tmp_path / "r.yaml"
    recipe.write_text(f"name: x\ndata: {{sources: [{{path: d.jsonl}}]}}\ntrain: {{{section}}}\n", "utf-8")
    assert expected in refusal(app, recipe)


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ("split: {time_split: true}", "needs the time of every row"),
        ("split: {embargo_s: 5}", "works with `time_split: true` only"),
        ("pii: {regions: [XX]}", "r.yaml:3: data.pii.regions: unknown region 'XX'"),
        ("pii: {patterns: {X: '('}}", "r.yaml:3: data.pii.patterns.X: not a regular expression"),
    ],
)
def test_a_data_rule_that_would_be_ignored_is_refused(section: str, expected: str, app: App, tmp_path: Path):
    recipe = tmp_path / "r.yaml"
    recipe.write_text(f"name: x\ndata:\n  {section}\n  sources: [{{path: d.jsonl}}]\n", "utf-8")
    assert expected in refusal(app, recipe)


def test_a_suite_file_that_is_missing_stops_before_anything_is_made(app: App, tmp_path: Path):
    (tmp_path / "d.jsonl").write_bytes(lines(good_rows(30)))
    recipe = write_recipe(tmp_path, more="gate:\n  suites: [{name: extra, path: nope.jsonl}]\n")
    said = refusal(app, recipe, until="train")
    assert "suite file nope.jsonl" in said


ROWS = good_rows(40)
DATA = {
    "UTF-16 without a mark": (lines(ROWS).decode().encode("utf-16-le"), SourceUnreadable, "UTF-16LE"),
    "UTF-16": (lines(ROWS).decode().encode("utf-16"), SourceUnreadable, "is UTF-16 text"),
    "Latin-1": (lines(ROWS) + b'{"prompt": "caf\xe9"}\n', SourceUnreadable, "line 41: byte 0xe9"),
    "gzip": (b"\x1f\x8b" + b"x" * 50, SourceUnreadable, "gunzip"),
    "nothing": (b"\n \n", SourceUnreadable, "is empty"),
    "one row many times": (lines(ROWS[:1] * 30), EmptySplit, "at least 3 rows that differ"),
    "broken lines": (lines(ROWS) + b'{"a\n' * 20, TooManyRejections, "d.jsonl:41 broken_json (column"),
    "other fields": (lines([{"a": 1, "b": 2}] * 20), TooManyRejections, "prompt_field and completion_field"),
    "the user last": (
        lines([{"messages": [{"role": "user", "content": "hello there"}]}] * 20),
        TooManyRejections,
        "must end with the assistant's answer",
    ),
    "one class": (
        lines([{"text": f"hello number {i}", "label": "yes"} for i in range(30)]),
        DataError,
        "all 30 rows carry the same 'label'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", DATA)
def test_a_file_that_makes_no_dataset_is_named_with_the_reason(case: str, app: App, tmp_path: Path):
    data, kind, words = DATA[case]
    (tmp_path / "d.jsonl").write_bytes(data)
    with app, pytest.raises(kind) as caught:
        app.run(write_recipe(tmp_path), until="curate")
    assert words in str(caught.value)
    with app:
        assert app.data.all() == []


def test_bad_lines_among_good_ones_are_counted_and_the_run_goes_on(app: App, tmp_path: Path):
    deep = b'{"prompt":' + b"[" * 100_000 + b"]" * 100_000 + b',"completion":"x"}\n'
    bad = [
        b'{"prompt": "a\x00b", "completion": "c"}\n',
        b'{"prompt": "a", "completion": NaN}\n',
        b"{br\n",
        deep,
    ]
    huge = b'{"prompt": "' + b"a" * (17 << 20) + b'", "completion": "b"}\n'
    text = b"\xef\xbb\xbf" + lines(good_rows(120)).replace(b"\n", b"\r\n") + b"".join(bad) + huge
    (tmp_path / "d.jsonl").write_bytes(text)
    with app:
        dataset = app.run(write_recipe(tmp_path), until="curate")[0].dataset
        answers = app.data.why("d.jsonl:121", None)
    reasons = {"nul_bytes": 1, "not_a_number": 1, "broken_json": 2, "row_too_large": 1}
    assert {name: dataset.removed.get(name) for name in reasons} == reasons
    assert dataset.rows_in == 125
    assert "nul_bytes" in answers[0][1].sentence


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("{path: d.jsonl, messages_field: msgs}", "messages_field names the field 'msgs', which no row has"),
        ("{path: d.jsonl, group: promt}", "nearest: prompt"),
        ("path: '*.nope'", "no file fits '*.nope'"),
        ("path: *.nope", "r.yaml:4: a value begins with `*`"),
        ("path: loop", "a symbolic link that leads to no file"),
        (f"path: {'a' * 5000}", "cannot be looked up"),
        ("path: ''", "data.sources[0].path: found ''; expected text that is not empty"),
    ],
)
def test_a_source_that_is_not_there_is_refused(source: str, words: str, app: App, tmp_path: Path):
    (tmp_path / "d.jsonl").write_bytes(lines(good_rows(30)))
    (tmp_path / "loop").symlink_to("loop")
    assert words in refusal(app, write_recipe(tmp_path, source=source))


def test_json_lines_named_csv_are_not_read_as_a_table(app: App, tmp_path: Path):
    (tmp_path / "d.csv").write_bytes(lines(good_rows(30)))
    assert "Rename it to .jsonl" in refusal(app, write_recipe(tmp_path, source="path: d.csv"))


def copy_of_tiny(folder: Path, **config: object) -> Path:
    base = folder / "base"
    shutil.copytree(TINY, base)
    known = json.loads((base / "config.json").read_text("utf-8"))
    (base / "config.json").write_text(json.dumps({**known, **config}), "utf-8")
    return base


def refused_base(app: App, folder: Path, base: Path | str) -> str:
    (folder / "d.jsonl").write_bytes(lines(good_rows(30)))
    return refusal(app, write_recipe(folder, base=f"'{base}'"), until="train")


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"num_hidden_layers": 12}, "says num_hidden_layers 12, but the weights have 6"),
        ({"hidden_size": "big"}, "says hidden_size 'big', but the weights have 256"),
        ({"vocab_size": 100}, "says vocab_size 100, but the weights have 4,096"),
        ({"model_type": None}, "names no `model_type`"),
    ],
)
def test_a_configuration_of_other_weights_is_refused(
    config: dict[str, object], words: str, app: App, tmp_path: Path
):
    said = refused_base(app, tmp_path, copy_of_tiny(tmp_path, **config))
    assert said.startswith("BaseIncomplete")
    assert words in said


def test_a_configuration_without_a_width_does_not_make_a_random_giant(app: App, tmp_path: Path):
    base = copy_of_tiny(tmp_path)
    (base / "config.json").write_text('{"model_type": "llama"}', "utf-8")
    assert "config.json has no vocab_size" in refused_base(app, tmp_path, base)


def test_pickled_or_truncated_weights_and_unknown_names_are_refused(app: App, tmp_path: Path):
    base = copy_of_tiny(tmp_path)
    whole = (base / "model.safetensors").read_bytes()
    (base / "model.safetensors").write_bytes(whole[:-1000])
    with app, pytest.raises(BaseIncomplete, match="truncated or damaged"):
        app.ports.bases.resolve(str(base))
    (base / "model.safetensors").rename(base / "pytorch_model.bin")
    with app, pytest.raises(BaseIncomplete, match="only pickled weights"):
        app.ports.bases.resolve(str(base))
    with app, pytest.raises(BaseNotFound, match="hf download"):
        app.ports.bases.resolve("org/model@main")


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{{ ''.__class__.__mro__ }}", "access to attribute '__class__' of 'str' object is unsafe"),
        ("{% for x in range(10**9) %}a{% endfor %}", "Range too big"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{% include '/etc/passwd' %}", "no loader"),
        ("{{ raise_exception('adults only') }}", "adults only"),
        ("{{ messages|length }} turns: ", "extends its own prefix"),
    ],
)
def test_a_hostile_or_broken_chat_template_is_refused(template: str, words: str, app: App, tmp_path: Path):
    base = copy_of_tiny(tmp_path)
    file = base / "chat_template.jinja"
    file.write_text(template + file.read_text("utf-8"), "utf-8")
    (tmp_path / "d.jsonl").write_bytes(lines(good_rows(30)))
    with app, pytest.raises(TemplateMismatch) as caught:
        app.plan(write_recipe(tmp_path, base=f"'{base}'"))
    assert words in str(caught.value)


def test_a_broken_tokenizer_is_named_with_its_folder(app: App, tmp_path: Path):
    base = copy_of_tiny(tmp_path)
    (base / "tokenizer.json").write_text("{}", "utf-8")
    (tmp_path / "d.jsonl").write_bytes(lines(good_rows(30)))
    with app, pytest.raises(BaseIncomplete, match=r"tokenizer\.json cannot be read") as caught:
        app.plan(write_recipe(tmp_path, base=f"'{base}'"))
    assert str(base) in str(caught.value)


def test_plan_says_what_is_cut_repeated_and_held_together(app: App, tmp_path: Path):
    rows = [{**row, "customer": "c1"} for row in good_rows(30)]
    (tmp_path / "d.jsonl").write_bytes(lines(rows + rows[:5]))
    recipe = write_recipe(tmp_path, source="{path: d.jsonl, group: customer}")
    recipe.write_text(recipe.read_text("utf-8").replace("max_steps: 2", "max_tokens: 20"), "utf-8")
    with app:
        text = app.plan(recipe).to_text()
    assert "5 of 35 rows repeat another one exactly" in text
    assert "group 'c1' holds 35 of 35 rows" in text
    assert "lose the beginning of their prompt" in text
    assert "6 held out" in text


@pytest.mark.parametrize(
    ("count", "missing"), [(20, "6 more (about 30 more rows in all"), (150, "more rows in all")]
)
def test_few_rows_are_told_how_many_more_a_verdict_takes(count: int, missing: str, app: App, tmp_path: Path):
    (tmp_path / "d.jsonl").write_bytes(lines(good_rows(count)))
    with app:
        assert missing in app.plan(write_recipe(tmp_path)).to_text()


def test_references_that_name_nothing_are_refused(app: App):
    with app:
        with pytest.raises(UnknownReference, match=r"holds none yet.*tunewright run RECIPE"):
            app.models.find("support")
        with pytest.raises(UnknownReference, match="holds no dataset yet"):
            app.data.why("d.jsonl:3", None)
        for malformed in ("../x@1", "a@0", "a@", "@1", "a@b"):
            with pytest.raises(UsageError, match="expected name@version"):
                app.find_run(malformed)


def test_a_workspace_or_data_folder_that_is_a_file_is_refused(tmp_path: Path):
    file = tmp_path / "file"
    file.write_text("hi", "utf-8")
    for workspace in (file, file / "ws"):
        with pytest.raises(SettingsError, match=r"file is a file; expected a folder"):
            load_settings({}, workspace=workspace)
    with pytest.raises(SettingsError, match="file is a file"):
        load_settings({}, data=file)


def test_init_says_why_no_row_can_be_read_and_does_not_overwrite(tmp_path: Path):
    rows = tmp_path / "d.csv"
    rows.write_text("prompt,completion\na,b,c\nd,e,f\n", "utf-8")
    recipe = tmp_path / "r.yaml"
    ragged = CliRunner().invoke(cli, ["init", str(rows), "-o", str(recipe)])
    assert isinstance(ragged.exception, SourceUnreadable)
    assert "d.csv:2 wrong_number_of_fields (expected 2, found 3)" in str(ragged.exception)
    assert not recipe.exists()
    recipe.write_text("mine", "utf-8")
    again = CliRunner().invoke(cli, ["init", str(rows), "-o", str(recipe)])
    assert isinstance(again.exception, UsageError)
    rows.write_bytes(b"prompt,completion\n" + b"".join(b"hello %d,answer %d\n" % (i, i) for i in range(20)))
    folder = CliRunner().invoke(cli, ["init", str(rows), "-o", str(tmp_path), "--force"])
    assert "cannot write" in str(folder.exception)
    assert recipe.read_text("utf-8") == "mine"


def tunewright(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("TUNEWRIGHT_")}
    environment["TUNEWRIGHT_CONFIG"] = str(folder / "keys")
    command = [sys.executable, "-m", "tunewright.cli.main", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        (("plan", "r.yaml"), "TooManyRejections", "d.jsonl:1 broken_json"),
        (("run", "--foo"), "UsageError", "No such option"),
        (("models", "show", "a@0"), "UsageError", "expected name@version"),
    ],
)
def test_an_error_is_one_line_exit_code_2_and_json(
    arguments: tuple[str, ...], kind: str, words: str, tmp_path: Path
):
    (tmp_path / "d.jsonl").write_text("{\n{\n", "utf-8")
    write_recipe(tmp_path)
    shown = tunewright(*arguments, "--json", folder=tmp_path)
    assert shown.returncode == 2
    assert json.loads(shown.stdout)["error"]["type"] == kind
    assert words in shown.stderr
    assert "Traceback" not in shown.stderr


def test_a_recipe_error_is_a_recipe_error(app: App, tmp_path: Path):
    for text, words in (
        ("", "the file is empty"),
        ("name: x\nname: y\n", "written twice"),
        ("- a\n", "a list"),
    ):
        (tmp_path / "r.yaml").write_text(text, "utf-8")
        with app, pytest.raises(RecipeError, match=words):
            app.plan(tmp_path / "r.yaml")
