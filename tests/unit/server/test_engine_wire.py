import json

import pytest

from tunewright.server.engine_wire import mirrored_body, read_reply

CHAT = {
    "choices": [{"message": {"content": "hello"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 7, "completion_tokens": 2},
    "tunewright": {"digest": "a" * 64},
}


def test_a_mirrored_request_names_the_candidate_and_is_not_streamed():
    body = b'{"model":"shop","messages":[],"stream":true,"stream_options":{"include_usage":true},"seed":7}'
    assert json.loads(mirrored_body(body, "c" * 64)) == {"model": "c" * 64, "messages": [], "seed": 7}


def test_a_reply_is_read_with_its_digest_and_counts():
    found = read_reply(200, json.dumps(CHAT).encode(), latency_s=0.5)
    assert (found.status, found.text, found.digest) == ("ok", "hello", "a" * 64)
    assert (found.num_prompt_tokens, found.num_tokens, found.latency_s) == (7, 2, 0.5)


def test_a_text_completion_is_read_too():
    found = read_reply(200, b'{"choices":[{"text":"hi","finish_reason":"length"}]}', latency_s=0.1)
    assert (found.text, found.finish_reason, found.digest) == ("hi", "length", None)


@pytest.mark.parametrize(
    "status, data, code",
    [
        (500, b'{"error":{"code":"nan_output","message":"NaN"}}', "nan_output"),
        (500, b"[]", "engine_failed"),
        (200, b"no json", "engine_failed"),
    ],
)
def test_a_failure_keeps_its_code(status, data, code):
    found = read_reply(status, data, latency_s=0.1)
    assert (found.status, found.error) == ("error", code)
