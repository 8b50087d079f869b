"""The wrapping records: everything passes, but for the one commit that must not."""

import signal
import subprocess
import sys
from pathlib import Path

from tests.unit.evals.evaluation_world import a_world

from tunewright.drills.doomed import KillingRecords
from tunewright.ports import Records
from tunewright.records import EventDraft
from tunewright.values import Ref

COMMIT = """
from tunewright.drills.doomed import KillingRecords
from tunewright.ports import Commit
from tunewright.records import EventDraft

class Inner:
    def commit(self, commit):
        print("committed", commit.kind, flush=True)

records = KillingRecords(Inner(), "run")
for kind in ("dataset", "run"):
    event = EventDraft(kind=kind, actor="a", subject="s")
    records.commit(Commit(kind=kind, name="n", make=lambda ref: None, event=event))
"""


def test_whatever_is_no_commit_passes_on(tmp_path: Path):
    world = a_world(tmp_path)
    records: Records = KillingRecords(world.records, "model")
    ref = Ref("coffee", 1)
    assert records.get("run", ref) == world.run
    assert records.latest("run", "coffee") == world.run
    assert records.find("run", world.run.fingerprint) == world.run
    assert list(records.list("dataset")) == [world.dataset]
    assert records.tip() == world.records.tip()
    assert records.append(EventDraft(kind="x", actor="a", subject="s")).seq == records.tip()
    assert records.events(kind="x") == world.records.events(kind="x")
    assert records.alias("coffee", "champion").target is None
    assert records.head("nothing") is None
    assert not records.parents("run:coffee@1")
    assert not records.children("run:coffee@1")
    assert not records.aliases()


def test_the_doomed_kind_ends_the_process_before_anything_is_committed():
    ended = subprocess.run([sys.executable, "-c", COMMIT], capture_output=True, text=True, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert ended.stdout == "committed dataset\n", "another kind is committed, the doomed one is not"
