"""Load a recipe: one YAML file in, a frozen `Recipe` out. Errors name line, key and nearest known key."""

import difflib
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from tunewright.errors import RecipeError
from tunewright.pipeline.recipe_checks import find_mistakes, nearest
from tunewright.pipeline.yaml_tree import Path as KeyPath
from tunewright.pipeline.yaml_tree import YamlTree, parse_yaml
from tunewright.recipe import Recipe

MAX_ERRORS_SHOWN = 10

_EXPECTED = {
    "string_type": "text; put it in quotes",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "tuple_type": "a list, such as [a, b]",
    "dict_type": "a mapping of keys and values",
    "model_type": "a mapping of keys and values",
    "finite_number": "a finite number",
    "too_short": "at least one entry",
    "string_too_short": "text that is not empty",
    "none_required": "null",
}
"""Pydantic's error type -> what we say was expected; other types keep pydantic's words."""

_NAME_RULE = "1 to 64 of a-z, 0-9, '.', '_', '-', starting and ending with a letter or digit"


def load_recipe(path: Path) -> Recipe:
    """Read and check a recipe file.

    Raises:
        RecipeError: the file is missing, not YAML, or not a recipe; the message has one line a mistake,
            `file:line: key: what is wrong; expected ...`.
    """
    try:
        data = path.read_bytes()
    except IsADirectoryError as error:
        inside = ", ".join(_recipes_in(path)) or "none"
        raise RecipeError(f"{path} is a folder; expected a recipe file. Recipes in it: {inside}") from error
    except FileNotFoundError as error:
        raise RecipeError(_missing_file(path)) from error
    except OSError as error:
        raise RecipeError(f"{path} cannot be read ({error.strerror}); expected a readable file") from error
    return parse_recipe(data, str(path))


def parse_recipe(data: bytes, name: str) -> Recipe:
    """Check a recipe's bytes; `name` is what errors call the file. Raises RecipeError."""
    tree = parse_yaml(data, name)
    if not isinstance(tree.value, dict):
        raise RecipeError(
            f"{name}:1: the file holds {_found(tree.value)}; expected a mapping with the keys "
            f"{', '.join(Recipe.model_fields)}. Draft a recipe with `tunewright init FILE`"
        )
    try:
        recipe = Recipe.model_validate(tree.value)
    except ValidationError as error:
        raise RecipeError(_explain(error, tree, name)) from error
    mistakes = find_mistakes(recipe)
    if mistakes:
        lines = sorted((tree.line(path), _said(path, words)) for path, words in mistakes)
        raise RecipeError("\n".join(f"{name}:{line}: {words}" for line, words in lines[:MAX_ERRORS_SHOWN]))
    return recipe


def _said(path: KeyPath, words: str) -> str:
    return words if words.startswith(_dotted(path)) else f"{_dotted(path)}: {words}"


def _recipes_in(folder: Path) -> list[str]:
    return sorted(item.name for item in folder.iterdir() if item.suffix in {".yaml", ".yml"})


def _missing_file(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f"{path} does not exist, nor does the folder {folder}; expected a recipe file"
    recipes = _recipes_in(folder)
    near = difflib.get_close_matches(path.name, recipes, n=3, cutoff=0.5)
    if near:
        return f"{path} does not exist; expected a recipe file. Nearest there: {', '.join(near)}"
    listed = ", ".join(recipes[:10]) or "none"
    return f"{path} does not exist; expected a recipe file. Recipes in {folder}: {listed}"


def _explain(error: ValidationError, tree: YamlTree, name: str) -> str:
    """Write one line a mistake, in the order of the file."""
    found: dict[tuple[int, str], list[str]] = {}
    hints: dict[tuple[int, str], str] = {}
    for detail in _first_causes(error.errors(include_url=False)):
        path = _in_file(detail["loc"], tree)
        key = (tree.line(path), _dotted(path) if path else "the file")
        expected = _expected(detail, path)
        if expected not in found.setdefault(key, []):
            found[key].append(expected)
        hints.setdefault(key, _problem(detail, path))
    lines = [
        f"{name}:{line}: {key}: {hints[line, key]}{' or '.join(wanted)}"
        for (line, key), wanted in sorted(found.items())
    ]
    more = [f"... and {len(lines) - MAX_ERRORS_SHOWN} more"] if len(lines) > MAX_ERRORS_SHOWN else []
    return "\n".join(lines[:MAX_ERRORS_SHOWN] + more)


def _first_causes(details: Sequence[ErrorDetails]) -> Iterator[ErrorDetails]:
    """Leave out "too short" where entries are missing only because they are wrong themselves."""
    locations = [detail["loc"] for detail in details]
    for detail in details:
        here = detail["loc"]
        deeper = any(len(other) > len(here) and other[: len(here)] == here for other in locations)
        if not (deeper and detail["type"] == "too_short"):
            yield detail


def _in_file(location: Sequence[str | int], tree: YamlTree) -> KeyPath:
    """Cut pydantic's location to what the file holds; it names union members too."""
    path: KeyPath = ()
    for part in location:
        if (*path, part) not in tree.lines:
            break
        path = (*path, part)
    return path


def _problem(detail: ErrorDetails, path: KeyPath) -> str:
    """Say what is wrong, up to the words that come before the expectation."""
    if detail["type"] in {"extra_forbidden", "missing", "value_error"}:
        return ""
    return f"found {_found(detail['input'])}; expected "


def _expected(detail: ErrorDetails, path: KeyPath) -> str:
    kind, location = detail["type"], detail["loc"]
    if kind == "extra_forbidden":
        return _unknown_key(location)
    if kind == "missing":
        missing = str(location[-1])
        return f"key {missing!r} is missing; expected `{missing}: ...` {_where(path)}"
    if kind == "value_error":
        return detail["msg"].removeprefix("Value error, ")
    if kind == "string_pattern_mismatch":
        return _NAME_RULE
    fallback = re.sub(r"^Input should be (a valid )?", "", detail["msg"]).strip()
    return _EXPECTED.get(kind, fallback)


def _where(path: KeyPath) -> str:
    return f"under {_dotted(path)}" if path else "at the top of the file"


def _unknown_key(location: Sequence[str | int]) -> str:
    """Name the nearest known key beside the unknown one, else the section it belongs to."""
    key, section = str(location[-1]), location[:-1]
    known = _known_keys(section)
    elsewhere = [path for path in _all_keys(Recipe) if path[-1] == key]
    near = nearest(key, known)
    if elsewhere and near is None:
        advice = f"did you mean `{'.'.join(elsewhere[0])}`?"
    elif near:
        advice = f"did you mean {near!r}?"
    else:
        advice = "remove it"
    return f"unknown key {key!r}; {advice} Known here: {', '.join(known)}"


def _known_keys(section: Sequence[str | int]) -> list[str]:
    model: type[BaseModel] = Recipe
    for part in section:
        if isinstance(part, str) and part in model.model_fields:
            inner = list(_models_in(model.model_fields[part].annotation))
            model = inner[0] if inner else model
    return list(model.model_fields)


def _models_in(annotation: object) -> Iterator[type[BaseModel]]:
    """Models an annotation mentions, such as SourceSpec in tuple[SourceSpec, ...]."""
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        if issubclass(annotation, BaseModel):
            yield annotation
        return
    for part in typing.get_args(annotation):
        yield from _models_in(part)


def _all_keys(model: type[BaseModel], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, field in model.model_fields.items():
        yield (*above, name)
        for inner in _models_in(field.annotation):
            yield from _all_keys(inner, (*above, name))


def _dotted(path: KeyPath) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def _found(value: object) -> str:
    """Describe a value by kind and, when it is short, by text."""
    if value is None:
        return "nothing (null)"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
