"""What the engine accepts on the wire, and how it says no."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunewright.core import openai_replies as replies
from tunewright.core import openai_wire as wire
from tunewright.core.openai_replies import Choice, Heading, Token
from tunewright.errors import RequestRefused

TURN = {"role": "user", "content": "two flat whites"}


def chat(**fields: object) -> bytes:
    return json.dumps({"model": "base", "messages": [TURN], **fields}).encode()


def text(**fields: object) -> bytes:
    return json.dumps({"model": "base", "prompt": "once", **fields}).encode()


def refused(parse, body: bytes) -> RequestRefused:
    with pytest.raises(RequestRefused) as caught:
        parse(body)
    return caught.value


def test_a_plain_chat_is_read_with_openai_defaults():
    request = wire.parse_chat(chat())
    assert request.prompts == (({"role": "user", "content": "two flat whites"},),)
    assert (request.temperature, request.top_p, request.num_choices) == (1.0, 1.0, 1)
    assert request.max_tokens is None
    assert request.num_logprobs is None
    assert not request.is_streaming


def test_content_in_parts_is_joined():
    parts = [{"type": "text", "text": "two "}, {"type": "text", "text": "flat whites"}]
    request = wire.parse_chat(chat(messages=[{"role": "user", "content": parts}]))
    assert request.prompts[0] == ({"role": "user", "content": "two flat whites"},)


def test_both_names_of_the_token_limit_are_understood_but_not_together():
    assert wire.parse_chat(chat(max_tokens=7)).max_tokens == 7
    assert wire.parse_chat(chat(max_completion_tokens=7)).max_tokens == 7
    assert "one limit" in str(refused(wire.parse_chat, chat(max_tokens=7, max_completion_tokens=7)))


@pytest.mark.parametrize("name", ["api_base", "lora_path", "base_url", "tools", "trust_remote_code"])
def test_an_unknown_field_is_refused_by_name(name: str):
    error = refused(wire.parse_chat, chat(**{name: "http://elsewhere"}))
    assert (error.status, error.code, error.param) == (400, "unknown_field", name)
    assert "expected only" in str(error)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("max_tokens", 2**31, "1048576"),
        ("max_tokens", 0, "greater than or equal to 1"),
        ("max_tokens", -5, "greater than or equal to 1"),
        ("max_tokens", "many", "integer"),
        ("max_tokens", True, "integer"),
        ("n", 10_000, "8"),
        ("n", 0, "1"),
        ("temperature", -1, "0"),
        ("temperature", 2.5, "2"),
        ("top_p", 0, "greater than 0"),
        ("seed", 2**64, "9223372036854775807"),
        ("top_logprobs", 5, "needs logprobs"),
        ("stop", [""], "at least 1 character"),
        ("stop", ["x"] * 17, "16"),
        ("frequency_penalty", 0.5, "less than or equal to 0"),
        ("messages", [], "at least 1"),
        ("messages", [TURN] * 2049, "2048"),
        ("messages", [{"role": "root", "content": ""}], "'system', 'user' or 'assistant'"),
        ("messages", [{"role": "user"}], "content"),
        ("model", "", "at least 1"),
    ],
)
def test_a_value_out_of_bounds_is_refused_with_the_bound(field: str, value: object, said: str):
    error = refused(wire.parse_chat, chat(**{field: value}))
    assert error.status == 400
    assert said in str(error)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b'{"model": "base", "messages": [{"role": "user", "content": "\xc3\x28"}]}',
        b'{"model": "base", "temperature": NaN, "messages": [{"role": "user", "content": ""}]}',
        b'{"messages": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"model": ' + b'{"a":' * 50_000 + b"1" + b"}" * 50_000 + b"}",
    ],
    ids=["empty", "cut", "a list", "not utf-8", "broken utf-8", "nan", "deep lists", "deep objects"],
)
def test_a_body_that_is_no_sound_json_object_is_refused(body: bytes):
    assert refused(wire.parse_chat, body).status == 400


def test_a_body_over_the_limit_is_refused_before_it_is_parsed():
    error = refused(wire.parse_chat, b" " * (wire.MAX_BODY_BYTES + 1))
    assert (error.status, error.code) == (413, "body_too_large")


def test_a_refusal_never_quotes_a_whole_body():
    assert len(str(refused(wire.parse_chat, chat(temperature="x" * 100_000)))) < 500
    assert len(str(refused(wire.parse_chat, chat(**{"y" * 100_000: 1})))) < 1000


@given(st.binary(max_size=200))
def test_any_bytes_are_either_read_or_refused(body: bytes):
    for parse in (wire.parse_chat, wire.parse_text, wire.parse_tokenize, wire.parse_load, wire.parse_unload):
        try:
            parse(body)
        except RequestRefused as error:
            assert 400 <= error.status < 500


@pytest.mark.parametrize(
    ("prompt", "prompts"),
    [
        ("once", ("once",)),
        (["once", "twice"], ("once", "twice")),
        ([1, 2], ((1, 2),)),
        ([[1, 2], [3]], ((1, 2), (3,))),
    ],
)
def test_prompts_come_as_text_or_ids_one_or_many(prompt: object, prompts: object):
    assert wire.parse_text(text(prompt=prompt)).prompts == prompts


@pytest.mark.parametrize("prompt", [[], [[]], [1, "x"], [-1], [True], 5, None])
def test_a_prompt_of_another_form_is_refused(prompt: object):
    assert refused(wire.parse_text, text(prompt=prompt)).status == 400


def test_scoring_is_asked_for_by_echo_and_no_new_token():
    request = wire.parse_text(text(prompt=[[1, 2]], echo=True, max_tokens=0, logprobs=1))
    assert request.is_scoring
    assert request.num_logprobs == 1
    assert "go together" in str(refused(wire.parse_text, text(echo=True, max_tokens=3, logprobs=1)))
    assert "go together" in str(refused(wire.parse_text, text(max_tokens=0)))
    assert "needs logprobs" in str(refused(wire.parse_text, text(echo=True, max_tokens=0)))


def test_tokenize_takes_messages_or_a_prompt():
    assert wire.parse_tokenize(b'{"prompt": "hi"}') == ("hi", False)
    turns, opens = wire.parse_tokenize(json.dumps({"messages": [TURN]}).encode())
    assert turns == (TURN,)
    assert opens
    assert "either" in str(refused(wire.parse_tokenize, b"{}"))


@pytest.mark.parametrize("name", ["../../etc", "a" * 63, "A" * 64, "g" * 64, "a" * 64 + "/", "%2f" * 20])
def test_an_adapter_is_named_by_a_digest_and_nothing_else(name: str):
    assert refused(wire.parse_load, json.dumps({"lora_name": name, "lora_path": "/x"}).encode()).status == 400
    assert refused(wire.parse_unload, json.dumps({"lora_name": name}).encode()).status == 400


HEADING = Heading("cmpl-1", is_chat=True, created=5, model="base", digest="base")


def test_a_reply_carries_model_digest_and_usage():
    body = replies.reply(HEADING, [Choice(0, "two", "stop")], replies.usage(3, 2), latency_s=0.5)
    assert body["model"] == "base"
    assert body["tunewright"] == {"digest": "base", "latency_s": 0.5}
    assert body["usage"] == {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    assert body["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "two"},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ]


def test_only_the_first_chunk_of_an_answer_names_the_role():
    def delta(choice: Choice, *, is_first: bool) -> object:
        return replies.chunk(HEADING, choice, is_first=is_first)["choices"][0]["delta"]

    assert delta(Choice(0, "tw"), is_first=True) == {"role": "assistant", "content": "tw"}
    assert delta(Choice(0, "o"), is_first=False) == {"content": "o"}
    assert delta(Choice(0, "", "stop"), is_first=False) == {}


def test_scored_tokens_keep_the_first_log_probability_open():
    scored = Choice(0, "ab", "length", (Token("a", None), Token("b", -0.5, (("b", -0.5),))))
    heading = Heading("cmpl-1", is_chat=False, created=5, model="base", digest="base")
    choice = replies.reply(heading, [scored], replies.usage(2, 0), latency_s=0)["choices"][0]
    assert choice["logprobs"] == {
        "tokens": ["a", "b"],
        "token_logprobs": [None, -0.5],
        "top_logprobs": [None, {"b": -0.5}],
        "text_offset": [0, 1],
    }


def test_a_refusal_has_the_openai_shape():
    body = replies.refusal(RequestRefused("no such model", 404, "model_not_found", "model"))
    assert body == {
        "error": {
            "message": "no such model",
            "type": "invalid_request_error",
            "param": "model",
            "code": "model_not_found",
        }
    }
