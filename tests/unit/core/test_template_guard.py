"""The budget of a chat template: invisible to templates that lay out messages, and final for the others."""

import json
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tunewright.core.chat_template import compile_chat_template
from tunewright.errors import BaseIncomplete, TemplateMismatch

CHAT = [
    {"role": "system", "content": " You are kind.\n"},
    {"role": "user", "content": "hi <b>"},
    {"role": "assistant", "content": "<think>\nhm\n</think>\n\nyes"},
    {"role": "user", "content": "and { now } 100 %?"},
]
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}

LEGITIMATE = {
    "marks around every turn": (
        "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m.content + '<|im_end|>' + '\\n' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    ),
    "headers, trimmed text and a date": (
        "{{- bos_token }}\n{%- if not date_string is defined %}\n    {%- set date_string = '26 Jul 2024' %}\n"
        "{%- endif %}\n{%- if messages[0]['role'] == 'system' %}\n"
        "    {%- set system_message = messages[0]['content']|trim %}\n"
        "    {%- set messages = messages[1:] %}\n{%- else %}\n    {%- set system_message = '' "
        "%}\n{%- endif %}\n"
        "{{- 'Today Date: ' + date_string + '\\n\\n' }}\n{{- system_message }}\n"
        "{%- for message in messages %}\n"
        "    {%- if not (message.role == 'ipython' or 'tool_calls' in message) %}\n"
        "        {{- '<|start|>' + message['role'] + '<|end|>\\n\\n'+ message['content'] | trim + "
        "eos_token }}\n"
        "    {%- endif %}\n{%- endfor %}"
    ),
    "a namespace, a reversed loop and cut-out thoughts": (
        "{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1, all=[]) %}"
        "{%- for message in messages[::-1] %}{%- set index = (messages|length - 1) - loop.index0 %}"
        "{%- if ns.multi_step_tool and message.role == 'user' and message.content is string and not("
        "message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}"
        "{%- set ns.multi_step_tool = false %}{%- set ns.last_query_index = index %}{%- endif %}"
        "{%- set ns.all = ns.all + [message] %}{%- endfor %}"
        "{%- for message in messages %}{%- set content = message.content %}"
        "{%- if '</think>' in content %}"
        "{%- set thought = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}"
        "{%- set content = content.split('</think>')[-1].lstrip('\\n') %}{{- '[' ~ thought ~ ']' "
        "}}{%- endif %}"
        "{{- loop.index ~ '/' ~ loop.length ~ loop.first ~ loop.last ~ (loop.previtem.role if "
        "loop.previtem) }}"
        "{{- message.role ~ '\\n' ~ content }}{%- if loop.index0 > ns.last_query_index %}late{%- endif %}"
        "{%- endfor %}{{ ns.all|length }}{{ ns.all[0]|tojson(indent=2) }}"
    ),
    "macros, filters, loop controls and dictionaries": (
        "{% macro turn(message, mark='#') %}{{ mark }}{{ message.role|upper }}:{{ caller() if caller }}"
        "{{ message.content | replace('i', '1') | indent(2, true) }}{{ varargs|length }}{% endmacro %}"
        "{% for message in messages if message.role != 'system' %}{% if loop.index == 3 %}{% break "
        "%}{% endif %}"
        "{{ turn(message, '*', 1, 2) }}{% call turn(message) %}inner{% endcall %}{% else %}none{% endfor %}"
        "{% for key, value in messages[0].items() %}{{ key }}={{ value|length }};{% endfor %}"
        "{% set roles = messages|map(attribute='role')|unique|list %}{{ roles|join(', ') }}{{ roles }}"
        "{% for group in messages|groupby('role') %}{{ group.grouper }}{{ group.list|length }}{% endfor %}"
        "{{ messages|selectattr('role', 'equalto', 'user')|map(attribute='content')|join('|') }}"
        "{% filter upper %}{{ messages|rejectattr('role', 'in', ['user', 'system'])|list|length "
        "}}x{% endfilter %}"
        "{{ ', '.join(roles) }}{{ '%s-%03d' % ('a', 7) }}{{ '{:>5}|{}'.format('b', 2) }}{{ '%d'|format(3) }}"
        "{% set a, b = 1, 2 %}{{ a + b * 2 - 7 // 2 % 3 }}{{ 'ab' * 3 }}{{ {'a': [1, messages[0].role]} }}"
        "{% set body %}{% for i in range(3) %}{{ i }}{{ cycler('x', 'y').next() }}{% endfor %}{% "
        "endset %}{{ body }}"
        "{{ messages[1:3]|last }}{{ nothing|default(1000000) }}{{ nothing }}{{ "
        "messages|sort(attribute='role')|first }}"
    ),
}  # fmt: skip


def plainly(source: str, chat: list[dict[str, str]]) -> str:
    """What Jinja's own sandbox writes."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = lambda x, indent=None: json.dumps(x, ensure_ascii=False, indent=indent)
    template = environment.from_string(source)
    return template.render(messages=chat, add_generation_prompt=True, **TOKENS)


@pytest.mark.parametrize("case", LEGITIMATE)
def test_a_template_that_lays_out_messages_writes_what_plain_jinja_writes(case: str):
    source = LEGITIMATE[case]
    assert compile_chat_template(source, TOKENS)(CHAT, True) == plainly(source, CHAT)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.fixed_dictionaries({"role": st.sampled_from(["system", "user"]), "content": st.text()}),
        min_size=3,
        max_size=90,
    )
)
def test_any_chat_is_written_as_plain_jinja_writes_it(chat: list[dict[str, str]]):
    for source in LEGITIMATE.values():
        assert compile_chat_template(source, TOKENS)(chat, True) == plainly(source, chat)


def test_a_chat_as_large_as_a_request_may_be_is_laid_out_in_a_moment():
    chat = [{"role": "user", "content": "abcd" * 1000}] * 2048
    started_s = time.thread_time()
    for case in LEGITIMATE:
        assert len(compile_chat_template(LEGITIMATE[case], TOKENS)(chat, True)) > 8_000_000
    assert time.thread_time() - started_s < 3


HOSTILE = {
    "a long text": ("{{ 'a' * 10**10 }}", "makes a value of about 10,000,000,000 characters"),
    "a long text folded while compiling": ("{{ 'a' * 10000000000 }}", "makes a value of about"),
    "a long list": ("{% set x = [1] * 10**9 %}", "makes a value of about"),
    "loops in loops": (
        "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
        "computes for more than 2 s",
    ),
    "a text written again and again": (
        "{% for i in range(100000) %}" + "x" * 10_000 + "{% endfor %}",
        "writes more than",
    ),
    "doubling": (
        "{% set ns = namespace(s='ab') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
        "makes a value of about",
    ),
    "doubling in a block": (
        "{% set ns = namespace(s='ab') %}{% for i in range(60) %}{% set x %}{{ ns.s }}{{ ns.s }}{% endset %}"
        "{% set ns.s = x %}{% endfor %}",
        "makes a value of about",
    ),
    "a billion laughs": (
        "{% set ns = namespace(s=['ab']) %}{% for i in range(60) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}"
        "{{ ns.s }}",
        "makes a value of about",
    ),
    "laughs in views": (
        "{% set ns = namespace(s={'a': 'b'}) %}{% for i in range(60) %}"
        "{% set ns.s = {'a': ns.s.items(), 'b': ns.s.items()} %}{% endfor %}{{ ns.s }}",
        "makes a value of about",
    ),
    "laughs in arguments": (
        "{% macro m(n) %}{% if n %}{{ m(n - 1, varargs, varargs) }}{% else %}{{ varargs }}{% endif %}"
        "{% endmacro %}{{ m(60) }}",
        "makes a value of about",
    ),
    "laughs in namespaces": (
        "{% set h = namespace(s='ab') %}{% for i in range(60) %}{% set a = namespace(l=h.s, r=h.s) %}"
        "{% set h.s = a %}{% endfor %}{{ h.s }}",
        "keeps a namespace inside another",
    ),
    "a macro that calls itself twice": (
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
        "computes for more than 2 s",
    ),
    "a padded text": ("{{ 'a'|center(1000000000) }}", "pads or cuts by 1000000000"),
    "a padded text by a method": ("{{ 'a'.ljust(10**9) }}", "pads or cuts by 1000000000"),
    "a width in a format": ("{{ '%1000000000d' % 1 }}", "pads too far"),
    "a width given beside a format": ("{{ '%*d'|format(1000000000, 1) }}", "takes the width of a field"),
    "a width in braces": ("{{ '{:1000000000}'.format(1) }}", "pads too far"),
    "a width in nested braces": ("{{ '{:{w}}'.format(1, w=10**9) }}", "takes the width of a field"),
    "many fields": ("{{ ('%s' * 90000) % ((('a' * 90000),) * 10) }}", "makes a value of about"),
    "a power": ("{{ 10**1000000000 }}", "more than 10,000 bits"),
    "squares": (
        "{% set ns = namespace(n=10) %}{% for i in range(60) %}{% set ns.n = ns.n * ns.n %}{% endfor %}",
        "more than 10,000 bits",
    ),
    "a long glue": ("{{ range(100000)|join('a' * 100000) }}", "makes a value of about"),
    "a long glue for an iterator": (
        "{{ ('a' * 100000).join(range(100000)|map('string')) }}",
        "makes a value of about",
    ),
    "a growing replacement": ("{{ ('a' * 100000).replace('a', 'b' * 100000) }}", "makes a value of about"),
    "an indented text": ("{{ ('\\n' * 100000)|indent(100000) }}", "makes a value of about"),
    "indented JSON": ("{{ (range(90000)|list)|tojson(indent=90000) }}", "makes a value of about"),
    "tabs": ("{{ ('\\t' * 100000).expandtabs(100000) }}", "calls expandtabs"),
    "bytes of a number": ("{{ (1).to_bytes(1000000000, 'big') }}", "calls to_bytes"),
    "lists added up": ("{{ range(9000)|batch(1)|sum(start=[]) }}", "adds up lists"),
    "a filter in a loop": (
        "{% for i in range(100000) %}{% filter center(100000) %}{% endfilter %}{% endfor %}",
        "writes more than",
    ),
    "padding mapped over numbers": (
        "{{ range(100000)|map('string')|map('center', 100000)|list }}",
        "makes a value of about",
    ),
    "random text": ("{{ lipsum(n=1000000) }}", "'lipsum' is undefined"),
    "python's insides": ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "is unsafe"),
    "insides by a filter": ("{{ (''|attr('__class__')).__base__ }}", "is unsafe"),
    "insides by a format": ("{{ '{0.__class__.__mro__}'.format(messages) }}", "is unsafe"),
    "a changed message": ("{% set x = messages.append({}) %}", "'append' of 'list' object is unsafe"),
    "another file": ("{% include '/etc/passwd' %}", "no loader"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_template_that_burns_time_or_memory_is_stopped_by_name(case: str):
    source, said = HOSTILE[case]
    render = compile_chat_template(source, TOKENS)
    with pytest.raises(TemplateMismatch, match=said):
        render(CHAT, True)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("{{ " + "(" * 50_000 + "1" + ")" * 50_000 + " }}", "recursion"),
        ("{% for a in [1] %}" * 30 + "{% endfor %}" * 30, "nested blocks"),
        ("{{ 1 }}" * 100_000, "700,000 characters; expected at most"),
        ("{{ 'a'|wordwrap(1) }}", "No filter named 'wordwrap'"),
    ],
)
def test_a_template_that_cannot_be_compiled_is_refused_with_the_reason(source: str, said: str):
    with pytest.raises(BaseIncomplete, match=said):
        compile_chat_template(source, TOKENS)


def test_the_budget_is_each_renders_own_in_every_thread():
    render = compile_chat_template("{% for i in range(3) %}{{ messages[0].content * 2 }}{% endfor %}", TOKENS)
    written: list[str] = []

    def work(letter: str) -> None:
        written.extend(render([{"role": "user", "content": letter * 1000}], False) for _ in range(20))

    threads = [threading.Thread(target=work, args=(letter,)) for letter in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(set(written)) == ["a" * 6000, "b" * 6000]
    assert len(written) == 40
