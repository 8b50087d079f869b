from pathlib import Path

import pytest

from tunewright.errors import SettingsError
from tunewright.settings import load_settings


def test_the_workspace_defaults_to_a_folder_of_the_current_one():
    assert load_settings({}).workspace == Path.cwd() / ".tunewright"


def test_an_argument_wins_over_the_environment(tmp_path: Path):
    settings = load_settings({"TUNEWRIGHT_HOME": "/elsewhere"}, workspace=tmp_path)
    assert settings.workspace == tmp_path
    assert settings.records_url == f"sqlite:///{tmp_path}/registry.db"


def test_a_mistyped_variable_is_refused_rather_than_ignored():
    with pytest.raises(SettingsError, match="TUNEWRIGHT_HOEM"):
        load_settings({"TUNEWRIGHT_HOEM": "/x"})


def test_a_missing_data_folder_is_named(tmp_path: Path):
    with pytest.raises(SettingsError, match="nowhere does not exist"):
        load_settings({"TUNEWRIGHT_DATA": str(tmp_path / "nowhere")})


@pytest.mark.parametrize("threads", ["0", "-1", "two"])
def test_a_bad_number_of_threads_is_refused(threads: str):
    with pytest.raises(SettingsError, match="TUNEWRIGHT_THREADS"):
        load_settings({"TUNEWRIGHT_THREADS": threads})


def test_keys_lie_outside_the_workspace_by_default():
    settings = load_settings({"XDG_CONFIG_HOME": "/home/me/.config"})
    assert settings.config_dir == Path("/home/me/.config/tunewright")
    assert settings.workspace not in settings.config_dir.parents
