"""Read YAML into plain values and remember where every key stands. Knows nothing about recipes.

Only plain data is accepted: no tags, merge keys, dates or repeated keys; size, depth and aliases are bounded.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import yaml

from tunewright.errors import RecipeError
from tunewright.values import Json

MAX_BYTES = 1_000_000
MAX_DEPTH = 40
MAX_NODES = 20_000
"""Nodes after aliases are followed; a few aliases can otherwise stand for billions of values."""

Path = tuple[str | int, ...]
"""Keys and list positions from the top of the file."""

_PLAIN_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "map", "seq")}
_MAPPING_END = (yaml.MappingEndEvent, yaml.SequenceEndEvent)
_MAPPING_START = (yaml.MappingStartEvent, yaml.SequenceStartEvent)


class _PlainLoader(yaml.SafeLoader):
    """SafeLoader that leaves dates and `<<` as text."""


_PlainLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in rules if tag in _PLAIN_TAGS]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


@dataclass(frozen=True, slots=True)
class YamlTree:
    """A parsed file."""

    value: Json
    lines: Mapping[Path, int]
    """Path -> 1-based line of the key (in a mapping) or of the entry (in a list); () is the top."""

    def line(self, path: Path) -> int:
        """Line of the deepest part of the path that the file has."""
        while path not in self.lines:
            path = path[:-1]
        return self.lines[path]


def parse_yaml(data: bytes, name: str) -> YamlTree:
    """Parse one YAML document.

    Args:
        data: the file's bytes.
        name: what to call the file in errors.

    Raises:
        RecipeError: not UTF-8, too large, not YAML, more than one document, or more than plain data.
    """
    text = _decode(data, name)
    try:
        _check_shape(text, name)
        node = yaml.compose(text, Loader=_PlainLoader)
    except yaml.MarkedYAMLError as error:
        raise RecipeError(_marked(error, text, name)) from error
    except yaml.YAMLError as error:
        raise RecipeError(f"{name}: not YAML: {error}; expected plain text") from error
    if node is None:
        raise RecipeError(f"{name}: the file is empty; expected a recipe. Draft one: `tunewright init FILE`")
    lines: dict[Path, int] = {}
    for path, line in _walk(node, name):
        lines[path] = line
    return YamlTree(value=_build(node, name), lines=lines)


def _decode(data: bytes, name: str) -> str:
    if len(data) > MAX_BYTES:
        raise RecipeError(
            f"{name}: {len(data):,} bytes; expected a recipe of at most {MAX_BYTES:,}. Is this a data file?"
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise RecipeError(
            f"{name}:{line}: byte {error.start} is not UTF-8; expected a UTF-8 text file. Save it as UTF-8"
        ) from error


def _check_shape(text: str, name: str) -> None:
    """Bound depth and documents on the event stream, before anything recursive sees the file."""
    depth = documents = 0
    for event in yaml.parse(text, Loader=_PlainLoader):
        line = event.start_mark.line + 1 if event.start_mark else 1
        documents += isinstance(event, yaml.DocumentStartEvent)
        depth += isinstance(event, _MAPPING_START) - isinstance(event, _MAPPING_END)
        if depth > MAX_DEPTH:
            raise RecipeError(f"{name}:{line}: nested deeper than {MAX_DEPTH} levels; expected a recipe")
        if documents > 1:
            raise RecipeError(f"{name}:{line}: a second document starts; expected one recipe a file")


def _marked(error: yaml.MarkedYAMLError, text: str, name: str) -> str:
    mark = error.problem_mark or error.context_mark
    line = mark.line if mark else 0
    rows = text.splitlines()
    row = rows[line] if line < len(rows) else ""
    if "\t" in row[: len(row) - len(row.lstrip())] or "'\\t'" in str(error.problem):
        return f"{name}:{line + 1}: a tab indents this line; expected spaces. Replace the tab by spaces"
    if error.context == "while scanning an alias":
        return f"{name}:{line + 1}: a value begins with `*`, which YAML reserves; expected it in quotes: '*'"
    context = f" {error.context}" if error.context else ""
    return f"{name}:{line + 1}: not YAML: {error.problem}{context}; expected `key: value` lines"


def _walk(node: yaml.Node, name: str) -> Iterator[tuple[Path, int]]:
    """Yield every path with its line, aliases followed, at most MAX_NODES."""
    stack: list[tuple[Path, yaml.Node, int]] = [((), node, _line(node))]
    seen = 0
    while stack:
        path, here, line = stack.pop()
        seen += 1
        if seen > MAX_NODES or len(path) > MAX_DEPTH:
            raise RecipeError(
                f"{name}:{_line(here)}: more than {MAX_NODES:,} values or {MAX_DEPTH} levels once aliases "
                "(`*name`) are followed; expected a recipe. Write the values out"
            )
        yield path, line
        stack.extend(_children(path, here, name))


def _children(path: Path, node: yaml.Node, name: str) -> Iterator[tuple[Path, yaml.Node, int]]:
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield (*path, index), item, _line(item)
    elif isinstance(node, yaml.MappingNode):
        first: dict[str, int] = {}
        for key, item in node.value:
            text = _key(key, name)
            if text in first:
                raise RecipeError(
                    f"{name}:{_line(key)}: key {text!r} is written twice, first on line {first[text]}; "
                    "expected it once. Remove one of them"
                )
            first[text] = _line(key)
            yield (*path, text), item, _line(key)


def _key(node: yaml.Node, name: str) -> str:
    if not isinstance(node, yaml.ScalarNode):
        raise RecipeError(f"{name}:{_line(node)}: a list or mapping is used as a key; expected a word")
    if node.value == "<<":
        raise RecipeError(f"{name}:{_line(node)}: merge keys (`<<`) are not read; write the values out")
    return str(node.value)


def _build(node: yaml.Node, name: str) -> Json:
    """Turn a checked tree into plain values."""
    if node.tag not in _PLAIN_TAGS:
        raise RecipeError(f"{name}:{_line(node)}: tag {node.tag!r} is not read; expected plain values")
    if isinstance(node, yaml.MappingNode):
        return {_key(key, name): _build(item, name) for key, item in node.value}
    if isinstance(node, yaml.SequenceNode):
        return [_build(item, name) for item in node.value]
    return _scalar(node, name)


def _scalar(node: yaml.Node, name: str) -> Json:
    try:
        return _PlainLoader("").construct_object(node)  # pyright: ignore[reportUnknownMemberType] untyped stub
    except (yaml.YAMLError, ValueError) as error:
        kind = node.tag.rpartition(":")[2]
        raise RecipeError(f"{name}:{_line(node)}: {node.value!r} is not a valid {kind}") from error


def _line(node: yaml.Node) -> int:
    return node.start_mark.line + 1
