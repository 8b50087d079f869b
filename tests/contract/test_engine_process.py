"""How an engine process begins and ends."""

import json
import os
import threading
from pathlib import Path

import pytest
from tests.engine_world import QUESTIONS, ask, chat

from tunewright.backends.base_models import TINY
from tunewright.backends.engine.launcher import LocalEngines
from tunewright.errors import EngineFailed
from tunewright.ports import GenerateRequest


def test_an_engine_that_cannot_start_says_why_in_its_own_words(tmp_path: Path):
    with (
        pytest.raises(EngineFailed, match=r"did not start.*has no config\.json"),
        LocalEngines().start(tmp_path),
    ):
        pass


def test_a_killed_engine_is_reported_with_its_end():
    with LocalEngines(threads=1).start(TINY) as engine:
        pid = json.loads(ask(engine, "GET", "/health")[2])["pid"]
        killer = threading.Timer(0.3, os.kill, (pid, 9))
        killer.start()
        with pytest.raises(EngineFailed, match="ended with code -9"):
            for _ in range(1000):
                engine.generate([GenerateRequest(chat(QUESTIONS[1]), "base", 100, temperature=1.9)] * 8)
        killer.join()
