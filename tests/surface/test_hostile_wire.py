"""Hostile requests and processes, by the classes of the threat list: the wire format, one engine process."""

import ast
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import save
from tests.engine_world import ask, chat, post

import tunewright
from tunewright.backends.engine.adapter_files import name_of_manifest
from tunewright.backends.engine.client import EngineClient
from tunewright.core import openai_wire as wire
from tunewright.errors import RequestRefused
from tunewright.ports import GenerateRequest
from tunewright.values import Digest

PACKAGE = Path(tunewright.__file__).parent
TURN = {"role": "user", "content": "hi"}
PARSERS: dict[str, tuple[Callable[[bytes], object], dict[str, object]]] = {
    "chat": (wire.parse_chat, {"model": "base", "messages": [TURN]}),
    "text": (wire.parse_text, {"model": "base", "prompt": "hi"}),
    "tokenize": (wire.parse_tokenize, {"messages": [TURN]}),
    "load": (wire.parse_load, {"lora_name": "a" * 64, "lora_path": "/x"}),
    "unload": (wire.parse_unload, {"lora_name": "a" * 64}),
}
FOREIGN_FIELDS = (
    "api_base",
    "base_url",
    "lora_path",
    "lora_request",
    "model_path",
    "callback_url",
    "webhook",
    "image_url",
    "chat_template",
    "chat_template_kwargs",
    "documents",
    "tools",
    "functions",
    "guided_json",
    "structured_outputs",
    "extra_body",
    "trust_remote_code",
    "cache_salt",
    "logits_processors",
    "__proto__",
)


def refused(parse: Callable[[bytes], object], body: bytes) -> RequestRefused:
    with pytest.raises(RequestRefused) as caught:
        parse(body)
    assert len(str(caught.value)) < 1500, "a refusal quotes no whole body"
    return caught.value


@pytest.mark.parametrize("field", FOREIGN_FIELDS)
@pytest.mark.parametrize("endpoint", PARSERS)
def test_class_12_an_unknown_field_is_refused_by_name_on_every_endpoint(endpoint: str, field: str):
    parse, body = PARSERS[endpoint]
    if field in body:
        assert field == "lora_path", "loading an adapter, which the gateway never passes on, names its folder"
        return
    error = refused(parse, json.dumps(body | {field: "http://elsewhere"}).encode())
    assert (error.status, error.code, error.param) == (400, "unknown_field", field)


@pytest.mark.parametrize(
    "messages",
    [
        [{**TURN, "name": "x"}],
        [{**TURN, "tool_calls": []}],
        [{"role": "user", "content": [{"type": "text", "text": "x", "cache_control": {}}]}],
        [{"role": "tool", "content": "x"}],
        [{"role": "__class__", "content": "x"}],
    ],
)
def test_class_12_an_unknown_field_or_role_inside_a_message_is_refused(messages: object):
    assert (
        refused(wire.parse_chat, json.dumps({"model": "base", "messages": messages}).encode()).status == 400
    )


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "http://169.254.169.254/latest/meta-data"}},
        {"type": "input_audio", "input_audio": {"data": "x"}},
        {"type": "file", "file": {"file_id": "/etc/passwd"}},
        {"type": "text", "text": "x", "url": "file:///etc/passwd"},
    ],
)
def test_class_11_a_part_that_names_an_address_is_refused_and_nothing_is_fetched(part: dict[str, object]):
    body = {"model": "base", "messages": [{"role": "user", "content": [part]}]}
    assert refused(wire.parse_chat, json.dumps(body).encode()).param == "messages"


def test_class_11_what_speaks_http_asks_the_engine_only():
    """Nothing but the engine's client and the gateway's calls to it may open a connection."""
    allowed = {
        "backends/engine/client.py",
        "backends/engine/server.py",
        "server/engine_calls.py",
        "server/engine_wire.py",
    }
    asking = ("ClientSession", "urlopen", "requests.get", "httpx.", "HTTPConnection", "urlretrieve")
    found = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if any(word in path.read_text("utf-8") for word in asking)
    }
    served = {name for name in found if name.startswith(("demo/", "drills/"))}
    assert found - served <= allowed, "a new place that makes requests: say here why it may"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_tokens", 2**31),
        ("max_tokens", 2**63),
        ("max_tokens", 10**400),
        ("n", 10_000),
        ("seed", 2**64),
        ("top_logprobs", 10**6),
        ("temperature", 1e308),
        ("stop", ["x" * 10**6]),
        ("user", "u" * 10**6),
        ("model", "m" * 10**6),
    ],
)
def test_class_15_a_giant_number_or_text_is_refused_by_field(field: str, value: object):
    error = refused(wire.parse_chat, json.dumps({"model": "base", "messages": [TURN], field: value}).encode())
    assert (error.status, error.param) == (400, field)


MILLION = b'{"model":"base","messages":[' + b'{"role":"user","content":""},' * 250_000

HEAVY = {
    "as many messages as fit": (MILLION[:-1] + b"]}", 400, "at most 2048"),
    "a million empty messages": (b'{"model":"base","messages":[' + b"{}," * 10**6 + b"{}]}", 400, ""),
    "more than 8 MiB": (b'{"model":"base","messages":[' + b" " * 2**23 + b"]}", 413, "at most 8388608"),
    "lists in lists": (b'{"messages":' + b"[" * 4_000_000, 400, ""),
    "objects in objects": (b'{"a":' * 1_000_000, 400, ""),
    "a million unknown fields": (
        b"{" + b",".join(b'"%d":1' % number for number in range(600_000)) + b"}",
        400,
        "",
    ),
    "a million of one field": (b"{" + b'"model":"base",' * 500_000 + b'"messages":[]}', 400, ""),
    "a number of a million digits": (b'{"model":"base","seed":' + b"9" * 1_000_000 + b"}", 400, ""),
    "a million prompts": (b'{"model":"base","prompt":[' + b'"",' * 10**6 + b'""]}', 400, ""),
}


@pytest.mark.parametrize("case", HEAVY)
def test_class_15_a_heavy_body_is_refused_in_a_moment(case: str):
    body, status, said = HEAVY[case]
    for parse in (wire.parse_chat, wire.parse_text):
        started_s = time.thread_time()
        error = refused(parse, body)
        assert time.thread_time() - started_s < 2
        assert error.status == status
    assert said in str(error) or said == "at most 2048", error
    assert said in str(refused(wire.parse_chat, body))


@pytest.mark.parametrize(
    "text", [b"\xff", b"\xc3\x28", b"\xed\xa0\x80", b"\\ud800", b"\\udc00\\ud800", b"\x00", b"\\x41", b"\n"]
)
def test_class_15_text_that_is_no_unicode_is_refused(text: bytes):
    body = b'{"model": "base", "messages": [{"role": "user", "content": "' + text + b'"}]}'
    assert refused(wire.parse_chat, body).status == 400


PICKLING = {"pickle", "dill", "cloudpickle", "marshal", "shelve", "joblib", "multiprocessing", "xmlrpc"}


def test_class_16_nothing_of_ours_pickles():
    for path in PACKAGE.rglob("*.py"):
        for statement in ast.walk(ast.parse(path.read_bytes())):
            names: list[str] = []
            if isinstance(statement, ast.Import):
                names = [alias.name for alias in statement.names]
            elif isinstance(statement, ast.ImportFrom):
                names = [statement.module or ""]
            elif isinstance(statement, ast.Attribute) and isinstance(statement.value, ast.Name):
                names = [f"{statement.value.id}.{statement.attr}"]
            for name in names:
                assert name.split(".")[0] not in PICKLING, f"{path} uses {name}"
                assert name not in ("torch.load", "torch.save", "numpy.load", "np.load"), (
                    f"{path} uses {name}"
                )


PARENT = """
import json, sys, time
from pathlib import Path
from tunewright.backends.base_models import TINY
from tunewright.backends.engine.launcher import LocalEngines
with LocalEngines(threads=1, max_rows=4).start(TINY) as engine:
    folder = engine._materialise("a" * 64, {"adapter_config.json": b"{}"})
    print(json.dumps({"url": engine.url, "token": engine.token, "folder": str(folder)}), flush=True)
    sys.stdin.readline()
"""


@dataclass(frozen=True)
class Started:
    """An engine that another process started, which will be killed."""

    parent: "subprocess.Popen[str]"
    client: EngineClient
    scratch: Path
    handed_over: Path
    pid: int


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    scratch = tmp_path_factory.mktemp("scratch")
    environment = os.environ | {"TMPDIR": str(scratch)}
    with subprocess.Popen(
        [sys.executable, "-c", PARENT],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        said = json.loads(parent.stdout.readline())
        client = EngineClient(said["url"], said["token"])
        pid = json.loads(ask(client, "GET", "/health")[2])["pid"]
        yield Started(parent, client, scratch, Path(said["folder"]), pid)
        client.close()
        parent.kill()


def listening_addresses(pid: int) -> set[str]:
    """Local addresses on which a process listens, as /proc writes them."""
    inodes = {
        os.readlink(f"/proc/{pid}/fd/{number}")[8:-1]
        for number in os.listdir(f"/proc/{pid}/fd")
        if os.readlink(f"/proc/{pid}/fd/{number}").startswith("socket:[")
    }
    rows = [
        line.split()
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/{pid}/net/{table}").read_text("utf-8").splitlines()[1:]
    ]
    return {row[1].split(":")[0] for row in rows if row[9] in inodes and row[3] == "0A"}


def test_class_16_the_engine_listens_on_the_loopback_interface_only(started: Started):
    assert listening_addresses(started.pid) == {"0100007F"}


def test_class_16_the_engine_lets_nobody_in_without_its_token(started: Started):
    for token in ("", "x", started.client.token[:-1], started.client.token + "x", "\u00e9" * 100, "a" * 4000):
        for method, path in (("GET", "/v1/models"), ("POST", "/v1/load_lora_adapter"), ("GET", "/nowhere")):
            assert ask(started.client, method, path, b"{}" if method == "POST" else None, token)[0] == 401


def test_class_16_the_token_is_in_no_command_line_and_no_file(started: Started):
    token = started.client.token.encode()
    assert token not in Path(f"/proc/{started.pid}/cmdline").read_bytes()
    for path in started.scratch.rglob("*"):
        assert not path.is_file() or token not in path.read_bytes()


def an_adapter(seed: int) -> tuple[Digest, dict[str, bytes]]:
    generator = torch.Generator().manual_seed(seed)
    module = "base_model.model.model.layers.2.mlp.down_proj"
    config = json.loads((PACKAGE / "demo" / "base" / "config.json").read_text("utf-8"))
    inputs, outputs = config["intermediate_size"], config["hidden_size"]
    weights = {
        f"{module}.lora_A.weight": torch.randn(4, inputs, generator=generator),
        f"{module}.lora_B.weight": torch.randn(outputs, 4, generator=generator),
    }
    settings = {"peft_type": "LORA", "r": 4, "lora_alpha": 8}
    files = {
        "adapter_config.json": json.dumps(settings).encode(),
        "adapter_model.safetensors": save(weights),
    }
    return name_of_manifest(files), files


def test_class_17_the_same_prompt_under_other_adapters_shares_no_cache(started: Started):
    """Whatever was asked before, and in whatever order, each adapter's answer is its own."""
    prompt = chat("please set the lamp in the kitchen to off " * 10)
    (one, files_one), (two, files_two) = an_adapter(1), an_adapter(2)
    started.client.load_adapter(one, files_one)
    started.client.load_adapter(two, files_two)
    names = ("base", one, two)
    alone = {name: started.client.generate([GenerateRequest(prompt, name, 12)])[0].text for name in names}
    assert len(set(alone.values())) == 3
    for order in (names, names[::-1], (one, "base", two)):
        for name in order:
            assert started.client.generate([GenerateRequest(prompt, name, 12)])[0].text == alone[name]
    mixed = started.client.generate([GenerateRequest(prompt, name, 12) for name in names * 2])
    assert [item.text for item in mixed] == [alone[name] for name in names * 2]


@pytest.mark.parametrize(
    "model", ["../base", "base/../base", "..%2fbase", "b\u0430se", "BASE", "base ", "f" * 64, "nul\0byte"]
)
def test_class_01_a_path_trick_is_no_model_of_the_engine(model: str, started: Started):
    status, reply = post(started.client, "/v1/chat/completions", model=model, messages=chat("hi"))
    assert (status, reply["error"]["code"]) == (404, "model_not_found")


@pytest.mark.parametrize(
    "folder", ["/etc", "/proc/self", "/dev", "../..", "nul\0byte", "/nowhere", "x" * 4096]
)
def test_class_01_a_folder_that_is_no_adapter_is_refused_and_shown_to_nobody(folder: str, started: Started):
    status, reply = post(started.client, "/v1/load_lora_adapter", lora_name="a" * 64, lora_path=folder)
    assert (status, reply["error"]["code"]) == (400, "adapter_refused")
    assert "root:" not in reply["error"]["message"]


def test_class_15_a_client_that_sends_garbage_or_half_a_request_does_not_hold_up_others(started: Started):
    host, port = started.client.url.removeprefix("http://").split(":")
    garbage = (b"\x00\xff\x16\x03\x01garbage\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"A" * 9000 + b"\r\n\r\n")
    with socket.create_connection((host, int(port))) as half:
        half.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n{")
        for data in garbage:
            with socket.create_connection((host, int(port))) as other:
                other.sendall(data)
                assert other.recv(1000).startswith((b"HTTP/1.0 400", b"HTTP/1.1 400"))
        assert ask(started.client, "GET", "/health")[0] == 200


def test_class_15_answers_of_a_client_that_hung_up_are_cancelled(started: Started):
    body = {"model": "base", "messages": chat("hi"), "stream": True, "n": 4, "temperature": 2, "seed": 1}
    connection = http.client.HTTPConnection(started.client.url.removeprefix("http://"), timeout=30)
    headers = {"Authorization": f"Bearer {started.client.token}"}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
    connection.getresponse().read(10)
    connection.close()
    deadline = time.monotonic() + 20
    while json.loads(ask(started.client, "GET", "/health")[2])["running"]:
        assert time.monotonic() < deadline, "the engine went on for nobody"
        time.sleep(0.02)


def test_an_engine_whose_parent_is_killed_takes_its_files_along(started: Started):
    """The last test of this file: it ends the engine."""
    assert (started.handed_over / "adapter_config.json").is_file()
    assert started.handed_over.is_relative_to(started.scratch)
    os.kill(started.parent.pid, signal.SIGKILL)
    deadline = time.monotonic() + 20
    while list(started.scratch.glob("tunewright-*")) or Path(f"/proc/{started.pid}/stat").exists():
        assert time.monotonic() < deadline, list(started.scratch.iterdir())
        time.sleep(0.05)
