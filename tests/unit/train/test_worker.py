"""The worker verifies what it reads, has its folder to itself, and does not do a finished job twice."""

import fcntl
import threading
from pathlib import Path

import pytest
from tests.train_world import a_job, token_rows

from tunewright.core.tokens import dump_token_rows
from tunewright.errors import BlobCorrupt
from tunewright.recipe import TrainSection
from tunewright.records import BaseModelRef
from tunewright.train.job import JOB_FILE, RESULT_FILE, TOKEN_FILES, TrainResult
from tunewright.train.worker import only_worker, read_tokens, run_job
from tunewright.values import canonical_json, digest_bytes

TRAIN, VALIDATION = token_rows(3), token_rows(1, seed=1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    job = a_job(TrainSection(), tmp_path / "no-base", TRAIN, VALIDATION)
    (tmp_path / JOB_FILE).write_bytes(canonical_json(job.to_json()))
    (tmp_path / TOKEN_FILES["train"]).write_bytes(dump_token_rows(TRAIN))
    (tmp_path / TOKEN_FILES["validation"]).write_bytes(dump_token_rows(VALIDATION))
    return tmp_path


def job_of(folder: Path):
    return a_job(TrainSection(), folder / "no-base", TRAIN, VALIDATION)


def test_tokens_are_hashed_as_read(folder):
    rows, digests = read_tokens(folder, job_of(folder))
    assert (rows["train"], rows["validation"]) == (TRAIN, VALIDATION)
    assert digests["train"] == digest_bytes(dump_token_rows(TRAIN))


def test_one_flipped_bit_in_a_token_file_stops_the_job(folder):
    path = folder / TOKEN_FILES["train"]
    data = bytearray(path.read_bytes())
    data[10] ^= 1
    path.write_bytes(data)
    with pytest.raises(BlobCorrupt, match=r"tokens-train\.jsonl hashes to"):
        read_tokens(folder, job_of(folder))


def test_a_second_worker_in_the_same_folder_waits_and_says_so(tmp_path):
    events = []
    with (tmp_path / "worker.lock").open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        done = threading.Event()

        def work() -> None:
            with only_worker(tmp_path, events.append):
                done.set()

        thread = threading.Thread(target=work)
        thread.start()
        assert not done.wait(0.2)
        assert [event["event"] for event in events] == ["waiting"]
    thread.join(5)
    assert done.is_set()


def test_a_result_of_the_same_job_is_kept_without_training_again(folder):
    result = TrainResult(
        job=job_of(folder).identity(),
        stopped="finished",
        best_step=1,
        num_tokens=1,
        wall_s=1.0,
        peak_memory_bytes=1,
        order_digest=digest_bytes(b""),
        tokens={},
        settings={},
        environment={},
        self_checks=(),
        metrics=(),
        files={},
        report={},
    )
    (folder / RESULT_FILE).write_bytes(canonical_json(result.to_json()))
    run_job(folder, lambda event: pytest.fail(str(event)), lambda: False)


def test_identity_of_a_job_ignores_where_the_base_lies_and_nothing_else(folder):
    job = job_of(folder)
    assert job.model_copy(update={"base_folder": "/elsewhere"}).identity() == job.identity()
    other_base = BaseModelRef(name="small", digest=digest_bytes(b"x"), tokenizer_digest=digest_bytes(b""))
    assert job.model_copy(update={"base": other_base}).identity() != job.identity()
    seeded = TrainSection(seed=1)
    assert job.model_copy(update={"settings": seeded}).identity() != job.identity()
