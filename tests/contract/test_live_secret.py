"""The secret of a workspace's live side: made once, outside the workspace, never made anew by accident."""

import multiprocessing
import stat

import pytest

from tunewright.backends.live_secret import load_live_keys
from tunewright.errors import SettingsError

SPAWN = multiprocessing.get_context("spawn")


def load(workspace, config, barrier, results) -> None:
    barrier.wait(60)
    results.put(load_live_keys(workspace, config))


def test_the_same_workspace_has_the_same_three_different_keys(tmp_path):
    keys = load_live_keys(tmp_path / "w", tmp_path / "config")
    assert keys == load_live_keys(tmp_path / "w", tmp_path / "config")
    assert len({keys.text, keys.token, keys.unit}) == 3
    assert {len(key) for key in (keys.text, keys.token, keys.unit)} == {32}
    assert keys != load_live_keys(tmp_path / "other", tmp_path / "config")


def test_the_secret_lies_outside_the_workspace_and_only_its_owner_may_read_it(tmp_path):
    load_live_keys(tmp_path / "w", tmp_path / "config")
    [path] = (tmp_path / "config" / "live").iterdir()
    assert path.name == f"{(tmp_path / 'w' / 'live_id').read_text().strip()}.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_bytes() not in (tmp_path / "w" / "live_id").read_bytes()


def test_two_processes_that_start_at_once_agree(tmp_path):
    barrier, results = SPAWN.Barrier(2), SPAWN.Queue()
    arguments = (tmp_path / "w", tmp_path / "config", barrier, results)
    workers = [SPAWN.Process(target=load, args=arguments) for _ in range(2)]
    for worker in workers:
        worker.start()
    first, second = results.get(timeout=60), results.get(timeout=60)
    for worker in workers:
        worker.join(60)
    assert first == second == load_live_keys(tmp_path / "w", tmp_path / "config")
    assert len(list((tmp_path / "config" / "live").iterdir())) == 1, "the loser's secret is gone"


def test_a_known_workspace_without_its_secret_is_an_error_and_not_a_new_secret(tmp_path):
    load_live_keys(tmp_path / "w", tmp_path / "config")
    with pytest.raises(SettingsError, match=r"traces.*is not on this machine; expected it at .*elsewhere"):
        load_live_keys(tmp_path / "w", tmp_path / "elsewhere")
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.chmod(0o644), "expected 0600"),
        (lambda path: path.write_bytes(b"short"), "holds 5 bytes; expected a key of 32"),
    ],
)
def test_a_secret_that_is_open_or_damaged_is_refused(tmp_path, damage, message):
    load_live_keys(tmp_path / "w", tmp_path / "config")
    [path] = (tmp_path / "config" / "live").iterdir()
    damage(path)
    with pytest.raises(SettingsError, match=message):
        load_live_keys(tmp_path / "w", tmp_path / "config")


def test_a_damaged_id_cannot_lead_out_of_the_folder(tmp_path):
    load_live_keys(tmp_path / "w", tmp_path / "config")
    (tmp_path / "w" / "live_id").write_text("../../etc/passwd")
    with pytest.raises(SettingsError, match="live_id is damaged"):
        load_live_keys(tmp_path / "w", tmp_path / "config")
