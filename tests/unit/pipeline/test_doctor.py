from pathlib import Path

from tests.fakes import FakeBases

from tunewright.errors import BaseNotFound
from tunewright.pipeline.doctor import Finding, examine
from tunewright.ports import BaseFiles


class NoBases:
    def resolve(self, name: str) -> BaseFiles:
        raise BaseNotFound(f"{name}: no such folder")


def look(tmp_path: Path, bases: FakeBases | NoBases) -> dict[str, Finding]:
    found = examine(bases, workspace=tmp_path / "ws", config_dir=tmp_path / "keys", threads=2)
    return {finding.name: finding for finding in found}


def test_a_sound_machine_has_no_findings_but_those_of_its_size(tmp_path: Path):
    found = look(tmp_path, FakeBases())
    bad = {name for name, finding in found.items() if not finding.ok}
    assert bad <= {"memory", "disk"}
    assert "will be made in" in found["workspace"].detail


def test_a_missing_base_is_reported_with_the_error_that_a_run_would_give(tmp_path: Path):
    finding = look(tmp_path, NoBases())["tiny base"]
    assert not finding.ok
    assert "no such folder" in finding.detail


def test_a_key_that_others_can_read_is_named_with_the_command_that_mends_it(tmp_path: Path):
    keys = tmp_path / "keys"
    keys.mkdir()
    key = keys / "signing.key"
    key.write_bytes(b"secret")
    key.chmod(0o644)
    finding = look(tmp_path, FakeBases())["keys"]
    assert not finding.ok
    assert "signing.key" in finding.detail
    assert "chmod 600" in finding.detail
