"""`tunewright serve` as a process of its own, on the shipped base: first keys, answers, an orderly end."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Mapping
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tunewright.cli.main import cli
from tunewright.errors import SettingsError
from tunewright.server.listening import take_port

ASK = {"model": "base", "messages": [{"role": "user", "content": "hello there"}], "temperature": 0}


def start(workspace: Path) -> tuple["subprocess.Popen[str]", dict[str, object]]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("TUNEWRIGHT_")}
    environment |= {"TUNEWRIGHT_CONFIG": str(workspace.parent / "keys"), "TUNEWRIGHT_THREADS": "1"}
    server = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "tunewright.cli.main",
            "serve",
            "--port=0",
            "--json",
            f"--workspace={workspace}",
        ],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    return server, json.loads(server.stdout.readline())


def post(url: str, key: str, body: Mapping[str, object]) -> bytes:
    headers = {"Authorization": f"Bearer {key}"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=60) as reply:
        return reply.read()


def end(server: "subprocess.Popen[str]") -> int:
    with server:
        server.send_signal(signal.SIGTERM)
        return server.wait(timeout=60)


def test_a_workspace_is_served_and_ends_in_order(tmp_path: Path):
    server, ready = start(tmp_path / "ws")
    try:
        keys, url = ready["keys"], f"{ready['url']}/v1/chat/completions"
        assert isinstance(keys, dict)
        assert sorted(keys) == ["caller", "operator"]
        reply = json.loads(post(url, keys["caller"], {**ASK, "max_tokens": 4}))
        assert reply["tunewright"]["digest"] == "base"
        assert "no model has a champion" in reply["tunewright"]["note"]

        answers: list[bytes] = []
        long = {**ASK, "max_tokens": 200, "stream": True}
        asking = threading.Thread(target=lambda: answers.append(post(url, keys["caller"], long)))
        asking.start()
        with urllib.request.urlopen(f"{ready['url']}/readyz", timeout=60) as found:
            assert json.loads(found.read())["status"] == "ready"
        code = end(server)
        asking.join(60)
    finally:
        server.kill()
    assert code == 0
    assert answers[0].endswith(b"data: [DONE]\n\n"), "what was begun ends"


def test_a_port_in_use_is_refused_before_anything_is_made(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        shown = CliRunner().invoke(cli, ["serve", "--port", port, "--workspace", str(tmp_path / "ws")])
    assert isinstance(shown.exception, SettingsError)
    assert f"port {port} on 127.0.0.1" in str(shown.exception)
    assert "--port 0" in str(shown.exception)
    assert not (tmp_path / "ws").exists()


@pytest.mark.parametrize(
    ("option", "said"), [("--port=70000", "0 (a free one) to 65535"), ("--retention-days=0", "1 to 3650")]
)
def test_options_out_of_range_are_refused(option: str, said: str, tmp_path: Path):
    shown = CliRunner().invoke(cli, ["serve", option, "--workspace", str(tmp_path / "ws")])
    assert isinstance(shown.exception, SettingsError)
    assert said in str(shown.exception)


@pytest.mark.parametrize("host", ["no.such.host.invalid", "203.0.113.7", "a\0b"])
def test_a_host_that_is_not_this_machine_is_refused(host: str):
    with pytest.raises(SettingsError):
        take_port(host, 0)
