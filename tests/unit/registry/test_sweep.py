import dataclasses
import os
from datetime import UTC, datetime, timedelta

import pytest
from tests.fakes import fake_ports
from tests.registry_world import RECIPE, TunedEngine, make_world

from tunewright.backends.file_blobs import FileBlobs
from tunewright.registry.load import load_verified
from tunewright.registry.register import register
from tunewright.registry.sweep import sweep_orphans
from tunewright.trees import put_tree

TOMORROW = datetime.now(UTC) + timedelta(hours=25)


@pytest.fixture
def ports(tmp_path):
    return dataclasses.replace(fake_ports(tmp_path, TunedEngine()), blobs=FileBlobs(tmp_path / "blobs"))


def test_only_old_orphans_are_removed(ports):
    model = register(RECIPE, make_world(ports).report, ports)
    kept = set(ports.blobs.digests())
    orphan = put_tree(ports.blobs, {"weights": b"of a run that was killed"})
    report = sweep_orphans(ports.records, ports.blobs, TOMORROW)
    assert orphan in report.removed
    assert len(report.removed) == 2, "the manifest and its file"
    assert set(ports.blobs.digests()) == kept
    assert (report.num_young, report.num_referenced) == (0, len(kept))
    assert load_verified(model, ports)


def test_blobs_younger_than_a_day_are_left_to_running_stages(ports):
    make_world(ports)
    orphan = ports.blobs.put(b"a stage is about to name this")
    report = sweep_orphans(ports.records, ports.blobs, datetime.now(UTC) + timedelta(hours=23))
    assert (report.removed, report.num_young) == ((), 1)
    assert ports.blobs.has(orphan)


def test_the_memory_of_the_vault_is_kept_though_only_a_head_names_it(ports):
    make_world(ports)
    memory = ports.records.head("vault").partition(":")[2]
    sweep_orphans(ports.records, ports.blobs, TOMORROW)
    assert ports.blobs.has(memory)


def test_files_of_a_damaged_tree_are_kept_for_repair(ports, tmp_path):
    world = make_world(ports)
    before = set(ports.blobs.digests())
    file = next(
        path
        for path in (tmp_path / "blobs").rglob("*")
        if path.is_file() and path.read_bytes() == b"weights 0"
    )
    file.chmod(0o644)
    file.write_bytes(b"damaged")
    sweep_orphans(ports.records, ports.blobs, TOMORROW)
    assert set(ports.blobs.digests()) == before
    assert world.run.candidate in before


def test_temporary_files_of_a_crash_go_too(ports, tmp_path):
    make_world(ports)
    left = tmp_path / "blobs" / "tmp" / ".1-abc.tmp"
    left.write_bytes(b"half")
    assert sweep_orphans(ports.records, ports.blobs, datetime.now(UTC)).num_scratch == 0
    old = (datetime.now(UTC) - timedelta(days=2)).timestamp()
    os.utime(left, (old, old))
    assert sweep_orphans(ports.records, ports.blobs, datetime.now(UTC)).num_scratch == 1
    assert not left.exists()
