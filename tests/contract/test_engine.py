"""One real engine process on the tiny base, over HTTP, against transformers and PEFT in this process."""

import http.client
import json
import os
import stat
import threading
import time
from collections.abc import Iterator

import pytest
import torch
from safetensors.torch import save
from tests.engine_world import (
    QUESTIONS,
    World,
    ask,
    chat,
    expected_greedy,
    load_model,
    post,
    stream,
    tuned,
    wait_until_running,
)

from tunewright.backends.base_models import TINY, LocalBases
from tunewright.backends.engine.adapter_files import name_of_manifest
from tunewright.backends.engine.launcher import LocalEngines
from tunewright.core.tokens import ChatTokenizer
from tunewright.errors import BaseMismatch, EngineFailed
from tunewright.ports import GenerateRequest
from tunewright.values import Digest

pytestmark = pytest.mark.filterwarnings(  # peft asks transformers by the old name
    "ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"
)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with LocalEngines(threads=1, max_rows=8).start(TINY) as engine:
        tokenizer = ChatTokenizer.from_base(LocalBases(hub_cache=TINY).resolve("tiny"))
        one = tuned(1, r=8, lora_alpha=16)
        two = tuned(2, r=4, lora_alpha=8, use_rslora=True)
        engine.load_adapter(one.digest, one.files)
        engine.load_adapter(two.digest, two.files)
        yield World(engine, tokenizer, load_model(), one, two)


def test_greedy_answers_equal_generate_of_transformers_and_peft_in_one_mixed_batch(world: World):
    models = ["base", world.one.digest, world.two.digest]
    asked = [(question, model) for question in QUESTIONS for model in models]
    requests = [GenerateRequest(chat(question), model, 24) for question, model in asked]
    done: list[int] = []
    answers = world.engine.generate(requests, on_done=done.append)
    assert done == list(range(1, len(asked) + 1))
    for (question, model), answer in zip(asked, answers, strict=True):
        expected = expected_greedy(world, model, question, 24)
        assert answer.text == world.tokenizer.decode(expected), (question, model)
        assert answer.num_tokens == len(expected)
        assert answer.model == model
        assert answer.finish_reason == ("stop" if expected[-1] in world.tokenizer.eos_ids else "length")
        assert answer.latency_s > 0


def test_adapters_answer_differently_from_the_base(world: World):
    by_model = {
        model: [
            item.text
            for item in world.engine.generate([GenerateRequest(chat(q), model, 16) for q in QUESTIONS])
        ]
        for model in ("base", world.one.digest, world.two.digest)
    }
    assert len({tuple(texts) for texts in by_model.values()}) == 3


def test_served_log_probabilities_equal_a_teacher_forced_forward(world: World):
    rows = [world.tokenizer.encode(chat(question), add_generation_prompt=True) for question in QUESTIONS]
    rows.append([7])
    for model in ("base", world.one.digest, world.two.digest):
        for row, found in zip(rows, world.engine.logprobs(rows, model), strict=True):
            with torch.inference_mode():
                logprobs = world.model(model)(input_ids=torch.tensor([row])).logits[0].log_softmax(-1)
            expected = [0.0, *(float(logprobs[place, token]) for place, token in enumerate(row[1:]))]
            assert found == pytest.approx(expected, abs=1e-3)


def test_generated_log_probabilities_equal_scored_ones(world: World):
    """Cached and batched steps against one forward pass over the whole text."""
    prompt = world.tokenizer.encode(chat(QUESTIONS[1]), add_generation_prompt=True)
    body = {"model": world.one.digest, "prompt": prompt, "max_tokens": 12, "temperature": 0, "logprobs": 0}
    _, reply = post(world.engine, "/v1/completions", **body)
    drawn = reply["choices"][0]["logprobs"]["token_logprobs"]
    row = prompt + expected_greedy(world, world.one.digest, QUESTIONS[1], 12)
    scored = world.engine.logprobs([row], world.one.digest)[0]
    assert drawn == pytest.approx(scored[len(prompt) :], abs=1e-3)


def test_tokenize_gives_the_ids_of_the_token_plane(world: World):
    for opens in (True, False):
        found = world.engine.tokenize(chat("café ☕ <|end|>"), add_generation_prompt=opens)
        assert found == world.tokenizer.encode(chat("café ☕ <|end|>"), add_generation_prompt=opens)


def test_a_seed_fixes_a_sampled_answer_whatever_runs_beside_it(world: World):
    request = GenerateRequest(chat(QUESTIONS[1]), "base", 16, temperature=1.0, seed=5)
    alone = world.engine.generate([request])[0].text
    others = [
        GenerateRequest(chat(QUESTIONS[3]), "base", 16, temperature=1.0, seed=seed) for seed in range(6)
    ]
    assert world.engine.generate([*others, request])[-1].text == alone
    assert len({item.text for item in world.engine.generate(others)}) > 1


def test_choices_of_one_request_differ_and_are_numbered(world: World):
    _, reply = post(
        world.engine,
        "/v1/chat/completions",
        model="base",
        messages=chat(QUESTIONS[1]),
        n=3,
        seed=1,
        temperature=1.0,
        max_tokens=12,
    )
    assert [choice["index"] for choice in reply["choices"]] == [0, 1, 2]
    assert len({choice["message"]["content"] for choice in reply["choices"]}) > 1
    assert reply["tunewright"]["digest"] == "base"


def test_a_stream_joins_to_the_whole_answer_and_ends_with_done(world: World):
    body = {"model": world.one.digest, "messages": chat(QUESTIONS[1]), "temperature": 0, "max_tokens": 20}
    events = stream(world.engine, **body, stream_options={"include_usage": True})
    *parts, last = events
    text = "".join(event["choices"][0]["delta"].get("content", "") for event in parts)
    _, whole = post(world.engine, "/v1/chat/completions", **body)
    assert text == whole["choices"][0]["message"]["content"]
    assert parts[-1]["choices"][0]["finish_reason"] == whole["choices"][0]["finish_reason"]
    assert last["usage"] == whole["usage"]
    assert all(event["tunewright"]["digest"] == world.one.digest for event in events)


def test_a_stop_string_cuts_the_answer(world: World):
    body = {"model": "base", "messages": chat(QUESTIONS[1]), "temperature": 0, "max_tokens": 24}
    _, whole = post(world.engine, "/v1/chat/completions", **body)
    text = whole["choices"][0]["message"]["content"]
    stop = text[len(text) // 2 :][:3]
    _, cut = post(world.engine, "/v1/chat/completions", **body, stop=[stop])
    assert cut["choices"][0]["message"]["content"] == text[: text.index(stop)]
    assert cut["choices"][0]["finish_reason"] == "stop"


def test_a_client_that_hangs_up_frees_its_row(world: World):
    connection = http.client.HTTPConnection(world.engine.url.removeprefix("http://"), timeout=60)
    body = {"model": "base", "messages": chat("hi"), "stream": True, "n": 8, "temperature": 2, "seed": 3}
    connection.request(
        "POST",
        "/v1/chat/completions",
        body=json.dumps(body),
        headers={"Authorization": f"Bearer {world.engine.token}"},
    )
    connection.getresponse().read(10)
    connection.close()
    deadline = time.monotonic() + 20
    while json.loads(ask(world.engine, "GET", "/health")[2])["running"] and time.monotonic() < deadline:
        time.sleep(0.02)
    assert json.loads(ask(world.engine, "GET", "/health")[2])["running"] == 0


def test_a_short_answer_overtakes_a_long_one(world: World):
    ended: list[str] = []

    def run_long() -> None:
        requests = [GenerateRequest(chat(QUESTIONS[1]), "base", 450, 2.0, seed) for seed in range(6)]
        world.engine.generate(requests)
        ended.append("long")

    long = threading.Thread(target=run_long)
    long.start()
    wait_until_running(world.engine)
    world.engine.generate([GenerateRequest(chat("hi"), "base", 3)])
    ended.append("short")
    long.join()
    assert ended == ["short", "long"]


def test_a_prompt_longer_than_the_context_is_refused_with_numbers(world: World):
    with pytest.raises(EngineFailed, match=r"6\d\d tokens.*512.*511"):
        world.engine.generate([GenerateRequest(chat("one two " * 300), "base", 8)])
    with pytest.raises(EngineFailed, match="513 tokens"):
        world.engine.logprobs([[5] * 513], "base")
    assert len(world.engine.logprobs([[5] * 512], "base")[0]) == 512


def test_an_answer_ends_where_the_context_does(world: World):
    prompt = [9] * 505
    _, reply = post(
        world.engine, "/v1/completions", model="base", prompt=prompt, max_tokens=100, temperature=0
    )
    assert reply["usage"]["completion_tokens"] <= 7


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"model": "f" * 64}, 404, "model_not_found"),
        ({"max_tokens": 2**31}, 400, "invalid_request"),
        ({"n": 10_000}, 400, "invalid_request"),
        ({"api_base": "http://elsewhere"}, 400, "unknown_field"),
        ({"messages": [{"role": "user", "content": ""}] * 3000}, 400, "invalid_request"),
    ],
)
def test_bad_requests_are_refused_in_the_openai_shape(
    world: World, body: dict[str, object], status: int, code: str
):
    found, reply = post(
        world.engine, "/v1/chat/completions", **{"model": "base", "messages": chat("hi")} | body
    )
    assert (found, reply["error"]["code"]) == (status, code)
    assert reply["error"]["message"]


def test_bodies_that_are_no_request_are_refused_and_the_engine_lives(world: World):
    for body, expected in (
        (b"\xff\xfe", 400),
        (b'{"messages": ' + b"[" * 200_000, 400),
        (b" " * (8 * 2**20 + 1), 413),
    ):
        status, _, data = ask(world.engine, "POST", "/v1/chat/completions", body)
        assert status == expected
        assert json.loads(data)["error"]["type"] == "invalid_request_error"
    assert ask(world.engine, "GET", "/nowhere")[0] == 404
    assert ask(world.engine, "GET", "/health")[0] == 200


def test_nobody_gets_in_without_the_token(world: World):
    for token in ("", "wrong", "\u00e9"):
        status, _, data = ask(world.engine, "GET", "/health", token=token)
        assert (status, json.loads(data)["error"]["code"]) == (401, "invalid_api_key")


def test_models_lists_the_base_and_the_adapters(world: World):
    names = [item["id"] for item in json.loads(ask(world.engine, "GET", "/v1/models")[2])["data"]]
    assert set(names) >= {"base", world.one.digest, world.two.digest}


def test_an_adapter_for_another_base_is_a_base_mismatch(world: World):
    weights = {
        f"base_model.model.model.layers.0.self_attn.q_proj.lora_{part}.weight": torch.ones(shape)
        for part, shape in (("A", (8, 512)), ("B", (512, 8)))
    }
    files = dict(world.one.files) | {"adapter_model.safetensors": save(weights)}
    with pytest.raises(BaseMismatch, match="maps 512 to 512 numbers, the base's 256 to 256"):
        world.engine.load_adapter(name_of_manifest(files), files)


def test_adapter_bytes_that_are_not_those_named_are_refused_and_not_served(world: World):
    name = Digest("e" * 64)
    with pytest.raises(EngineFailed, match="adapter_refused"):
        world.engine.load_adapter(name, world.one.files)
    with pytest.raises(EngineFailed, match="model_not_found"):
        world.engine.generate([GenerateRequest(chat("hi"), name, 2)])


@pytest.mark.parametrize("name", ["../escape", "a/b", "..", "", "nul\0"])
def test_a_file_name_that_is_a_path_never_reaches_the_disk(world: World, name: str):
    with pytest.raises(EngineFailed, match="plain file names"):
        world.engine.load_adapter(Digest("d" * 64), {name: b""})


def test_an_unloaded_adapter_is_gone_at_once_and_answers_in_the_making_finish(world: World):
    three = tuned(3, r=2, lora_alpha=4)
    world.engine.load_adapter(three.digest, three.files)
    answers: list[int] = []

    def run() -> None:
        request = GenerateRequest(chat(QUESTIONS[1]), three.digest, 200, temperature=1.9, seed=1)
        answers.extend(item.num_tokens for item in world.engine.generate([request] * 8))

    thread = threading.Thread(target=run)
    thread.start()
    wait_until_running(world.engine, 8)
    assert post(world.engine, "/v1/unload_lora_adapter", lora_name=three.digest)[0] == 200
    with pytest.raises(EngineFailed, match="model_not_found"):
        world.engine.generate([GenerateRequest(chat("hi"), three.digest, 2)])
    thread.join()
    assert len(answers) == 8


def test_adapter_files_are_handed_over_where_only_this_user_can_read(world: World):
    folder = world.engine.adapter_folder
    assert folder is not None
    assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
    assert stat.S_IMODE(os.stat(folder / world.one.digest / "adapter_config.json").st_mode) == 0o600
