"""The training stage with a fake worker: one commit, re-use, and every way a worker can fail it."""

from dataclasses import replace
from pathlib import Path

import pytest
from tests.fakes import FakeExecutor, fake_ports
from tests.train_world import a_dataset, examples

from tunewright.core.tokens import load_token_rows
from tunewright.errors import (
    BaseNotFound,
    BlobCorrupt,
    SelfCheckFailed,
    StorageError,
    TrainingError,
    TrainingInterrupted,
    WorkerFailed,
)
from tunewright.recipe import DataSection, Recipe, SourceSpec, TrainSection
from tunewright.train.job import (
    CANDIDATE_FOLDER,
    INTERRUPTED_EXIT,
    RESULT_FILE,
    STDERR_FILE,
    TOKEN_FILES,
    TrainResult,
    read_job,
)
from tunewright.train.launch import WORKER
from tunewright.train.train import measured_speed, train, train_fingerprint
from tunewright.trees import get_tree
from tunewright.values import canonical_json, digest_bytes


def recipe(**train_settings) -> Recipe:
    data = DataSection(sources=(SourceSpec(path="orders.jsonl"),))
    return Recipe(name="orders", data=data, train=TrainSection(**train_settings))


def honest_worker(folder: Path, on_line) -> int:
    """Writes what a worker writes, without training."""
    job = read_job(folder)
    on_line({"event": "started", "num_steps": 2, "resumed_from": 0})
    on_line({"event": "step", "step": 1, "train_loss": 2.0, "tokens_per_s": 1000.0, "eval_loss": 1.5})
    on_line({"event": "something new"})
    candidate = {"adapter_config.json": b"{}", "adapter_model.safetensors": b"weights"}
    (folder / CANDIDATE_FOLDER).mkdir(exist_ok=True)
    for name, data in candidate.items():
        (folder / CANDIDATE_FOLDER / name).write_bytes(data)
    result = TrainResult(
        job=job.identity(),
        stopped="finished",
        best_step=2,
        num_tokens=10,
        wall_s=1.0,
        peak_memory_bytes=5,
        order_digest=digest_bytes(b"order"),
        tokens={split: digest_bytes((folder / name).read_bytes()) for split, name in TOKEN_FILES.items()},
        settings={"learning_rate": 0.1},
        environment={},
        self_checks=(),
        metrics=(),
        files={name: digest_bytes(data) for name, data in candidate.items()},
        report={"underfit": False},
    )
    (folder / RESULT_FILE).write_bytes(canonical_json(result.to_json()))
    return 0


@pytest.fixture
def ports(tmp_path):
    return replace(fake_ports(tmp_path), executor=FakeExecutor({WORKER: honest_worker}))


@pytest.fixture
def dataset(ports):
    return a_dataset(ports.blobs, examples(8), examples(2, offset=100))


def failing(ports, worker):
    return replace(ports, executor=FakeExecutor({WORKER: worker}))


def test_it_commits_once_with_edges_and_everything_stored_is_found(ports, dataset):
    run = train(recipe(), dataset, ports)
    assert ports.records.commits == 1
    assert {(edge.parent, edge.child) for edge in ports.records.edges} == {
        ("dataset:orders@1", "run:orders@1"),
        (f"base:{run.base.digest}", "run:orders@1"),
    }
    assert ports.records.events(kind="train")[0].detail == {"candidate": run.candidate}
    assert get_tree(ports.blobs, run.candidate)["adapter_model.safetensors"] == b"weights"
    stored = load_token_rows(ports.blobs.get(run.token_blobs["train"]))
    assert [row.row for row in stored] == [row.id for row in examples(8)]
    ids = sorted(row.id for row in [*examples(8), *examples(2, offset=100)])
    assert ports.blobs.get(run.trained_rows) == canonical_json(ids)
    assert run.report["forecast"]["num_steps"] == 2
    assert run.report["measured"]["memory_bytes"] == 5


def test_the_run_folder_holds_no_path_of_workspace_or_vault_and_only_two_splits(ports, dataset):
    train(recipe(), dataset, ports)
    (folder,) = ports.runs_dir.iterdir()
    assert {path.name for path in folder.iterdir()} == {
        "job.json",
        "result.json",
        "candidate",
        *TOKEN_FILES.values(),
    }
    assert str(ports.runs_dir).encode() not in (folder / "job.json").read_bytes()


def test_what_is_made_is_used_again_without_a_worker(ports, dataset):
    first = train(recipe(), dataset, ports)
    again = train(recipe(), dataset, failing(ports, None))
    assert again == first
    assert ports.progress.finished[-1] == "re-used run orders@1"


def test_fingerprint_follows_content_and_settings_but_not_the_name_of_the_base(ports, dataset):
    base = ports.bases.resolve("tiny")
    usual = train_fingerprint(TrainSection(), dataset, base)
    assert train_fingerprint(TrainSection(base="/elsewhere/tiny"), dataset, base) == usual
    assert train_fingerprint(TrainSection(seed=1), dataset, base) != usual
    other_data = dataset.model_copy(update={"digest": digest_bytes(b"other")})
    assert train_fingerprint(TrainSection(), other_data, base) != usual
    other_base = replace(base, ref=base.ref.model_copy(update={"digest": digest_bytes(b"other")}))
    assert train_fingerprint(TrainSection(), dataset, other_base) != usual


def test_progress_shows_steps_and_losses(ports, dataset):
    train(recipe(), dataset, ports)
    assert (1, "loss 2.000, eval 1.500, 1,000 tokens/s") in ports.progress.updates
    assert "no validation rows" in ports.progress.finished[-1]


def test_the_speed_of_the_last_run_tells_how_long_the_next_one_takes(ports, dataset):
    assert measured_speed(ports.records, TrainSection()) is None
    run = train(recipe(), dataset, ports)
    assert measured_speed(ports.records, TrainSection()) is None  # the fake worker names no precision
    settings = {**run.settings, "precision": "fp32"}
    ports.records.stored["run"][run.ref] = run.model_copy(update={"settings": settings})
    assert measured_speed(ports.records, TrainSection()) == run.report["forecast"]["flops"] / 1.0
    assert measured_speed(ports.records, TrainSection(precision="bf16")) is None


def test_an_error_of_the_worker_is_raised_here_under_its_own_name(ports, dataset):
    def refusing(folder, on_line):
        on_line({"event": "error", "name": "SelfCheckFailed", "message": "packed_equals_unpacked: no"})
        return 1

    with pytest.raises(SelfCheckFailed, match="packed_equals_unpacked"):
        train(recipe(), dataset, failing(ports, refusing))
    assert ports.records.commits == 0

    def newer(folder, on_line):
        on_line({"event": "error", "name": "UnheardOf", "message": "from a newer worker"})
        return 1

    with pytest.raises(TrainingError, match="newer worker"):
        train(recipe(), dataset, failing(ports, newer))


def test_a_worker_that_dies_is_quoted_with_its_last_words(ports, dataset):
    def dying(folder, on_line):
        (folder / STDERR_FILE).write_text("noise\n" * 50 + "Segmentation fault\n")
        return -9

    with pytest.raises(WorkerFailed, match=r"(?s)signal 9 \(killed.*resumes.*Segmentation fault") as caught:
        train(recipe(), dataset, failing(ports, dying))
    assert str(caught.value).count("noise") == 14

    with pytest.raises(WorkerFailed, match="wrote nothing"):
        (next(ports.runs_dir.iterdir()) / STDERR_FILE).unlink()
        train(recipe(), dataset, failing(ports, lambda folder, on_line: 3))


@pytest.mark.parametrize("code", [INTERRUPTED_EXIT, -15])
def test_a_worker_stopped_before_its_first_step_is_an_interruption(ports, dataset, code):
    with pytest.raises(TrainingInterrupted, match="same command resumes"):
        train(recipe(), dataset, failing(ports, lambda folder, on_line: code))


def test_no_result_other_tokens_and_changed_candidate_files_are_refused(ports, dataset):
    with pytest.raises(WorkerFailed, match="holds no result"):
        train(recipe(), dataset, failing(ports, lambda folder, on_line: 0))

    def other_tokens(folder, on_line):
        honest_worker(folder, on_line)
        result = TrainResult.model_validate_json((folder / RESULT_FILE).read_bytes())
        changed = result.model_copy(update={"tokens": {**result.tokens, "train": digest_bytes(b"")}})
        (folder / RESULT_FILE).write_bytes(canonical_json(changed.to_json()))
        return 0

    with pytest.raises(BlobCorrupt, match="read other token files"):
        train(recipe(), dataset, failing(ports, other_tokens))

    def flipped(folder, on_line):
        honest_worker(folder, on_line)
        (folder / CANDIDATE_FOLDER / "adapter_model.safetensors").write_bytes(b"weightz")
        return 0

    with pytest.raises(BlobCorrupt, match=r"adapter_model\.safetensors is not what the worker wrote"):
        train(recipe(), dataset, failing(ports, flipped))
    assert ports.records.commits == 0


def test_an_unknown_base_and_a_read_only_workspace_are_refused_before_a_worker_starts(ports, dataset):
    with pytest.raises(BaseNotFound, match="nowhere"):
        train(recipe(base="nowhere"), dataset, ports)
    (ports.runs_dir.parent / "file").write_text("")
    with pytest.raises(StorageError, match="run folder"):
        train(recipe(), dataset, replace(ports, runs_dir=ports.runs_dir.parent / "file"))
