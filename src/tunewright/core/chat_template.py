"""Compile a tokenizer's own chat template into a pure function of messages; holds no tokenizer.

Behaves as transformers does (sandboxed Jinja, trimmed blocks, same filters and globals) but for two things:
`strftime_now` returns a fixed day, so that trainer, gate and engine render equal text on different days; and
a template that spends more than laying out messages takes is stopped (see `template_guard`).
"""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Never

from jinja2 import Template, TemplateError, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tunewright.core.template_guard import compile_guarded, make_environment, render_guarded
from tunewright.errors import BaseIncomplete, TemplateMismatch
from tunewright.values import Json

TEMPLATE_DAY = datetime(2024, 7, 26, tzinfo=UTC)
"""What `strftime_now` formats: the day that the Llama 3 templates name when they are given none."""

MAX_SOURCE_CHARACTERS = 2**18
"""The longest templates that models are published with have a twentieth of it."""


class _Generation(Extension):
    """Accept `{% generation %} ... {% endgeneration %}` and print what is inside."""

    tags = {"generation"}  # noqa: RUF012  (jinja2 declares it so)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """Return the body in place of the tag."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _tojson(  # the keyword names are those that templates written for transformers pass
    x: object,
    *,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> Never:
    raise TemplateError(message)


_TEMPLATE_ERRORS = (
    TemplateError,
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
)
"""What a template's own expressions can raise: it is a program that somebody else wrote."""

_COMPILE_ERRORS = (TemplateError, SyntaxError, RecursionError, MemoryError, SystemError)
"""All but the first: nested deeper than Python compiles."""

_GLOBALS = {
    "raise_exception": _raise_exception,
    "strftime_now": TEMPLATE_DAY.strftime,
    "tools": None,
    "documents": None,
}


def compile_chat_template(
    source: str, special_tokens: Mapping[str, str]
) -> Callable[[Sequence[Mapping[str, str]], bool], str]:
    """Compile a chat template.

    Args:
        source: the template's text.
        special_tokens: such as {"bos_token": "<s>"}; visible to the template.

    Returns:
        A function (messages, add_generation_prompt) -> text, which raises TemplateMismatch when the template
        refuses the messages.

    Raises:
        BaseIncomplete: the text is not a template.
    """
    if len(source) > MAX_SOURCE_CHARACTERS:
        raise BaseIncomplete(
            f"the chat template has {len(source):,} characters; expected at most {MAX_SOURCE_CHARACTERS:,}"
        )
    plain = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, "jinja2.ext.loopcontrols"]
    )
    plain.filters["tojson"] = _tojson
    try:
        template = compile_guarded(make_environment(plain), source)
    except _COMPILE_ERRORS as error:
        raise BaseIncomplete(
            f"the chat template is not a Jinja template: {error}; expected the base's own chat_template.jinja"
        ) from error
    return lambda messages, add_generation_prompt: _render(
        template,
        {**special_tokens, "messages": messages, "add_generation_prompt": add_generation_prompt},
        sum(len(text) for message in messages for text in message.values()),
    )


def _render(template: Template, variables: Mapping[str, object], num_characters: int) -> str:
    try:
        return render_guarded(template, {**_GLOBALS, **variables}, num_characters)
    except _TEMPLATE_ERRORS as error:
        raise TemplateMismatch(
            f"the base's chat template refused the messages: {error}; expected roles in an order that it "
            "knows. Mend the rows, or choose a base whose template takes them."
        ) from error


def special_tokens_of(tokenizer_config: Mapping[str, Json]) -> dict[str, str]:
    """Collect the named special tokens (`bos_token`, `eos_token`, ...) of a tokenizer configuration."""
    named = {"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"}
    found: dict[str, str] = {}
    for name in sorted(named & tokenizer_config.keys()):
        value = tokenizer_config[name]
        content = value.get("content") if isinstance(value, dict) else value
        if isinstance(content, str):
            found[name] = content
    return found
