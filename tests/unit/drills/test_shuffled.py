import json
from pathlib import Path

from tests.unit.evals.evaluation_world import HELD_OUT, TRAIN, VALIDATION, a_row, a_world

from tunewright.core.rows import load_split
from tunewright.core.text import content_id
from tunewright.drills.shuffled import mix_answers, shuffle_answers


def test_every_row_gets_another_rows_answer_and_an_id_of_its_own():
    mixed = mix_answers(TRAIN, seed=1)
    known = {row.answer for row in TRAIN}
    for old, new in zip(TRAIN, mixed, strict=True):
        assert new.prompt == old.prompt
        assert new.answer != old.answer
        assert new.answer in known
        assert new.id == content_id(new.messages)
    assert mix_answers(TRAIN, seed=1) == mixed
    assert mix_answers(TRAIN, seed=2) != mixed


def test_rows_that_all_say_the_same_stay_as_they_are():
    rows = [a_row("one", "yes"), a_row("two", "yes")]
    assert [row.answer for row in mix_answers(rows, seed=1)] == ["yes", "yes"]


def test_the_shuffled_version_keeps_held_out_and_explains_every_row(tmp_path: Path):
    world = a_world(tmp_path)
    made = shuffle_answers(world.dataset, world.ports, name="coffee-shuffled", seed=3)
    assert str(made.ref) == "coffee-shuffled@1", "no honest version has it as its ancestor"
    assert made.splits["held_out"] == world.dataset.splits["held_out"]
    assert made.parents == ()
    stored = [
        row.id for split in ("train", "validation") for row in load_split(made, split, world.ports.blobs)
    ]
    listed = [json.loads(line)["row"] for line in world.ports.blobs.get(made.lineage).splitlines()]
    assert set(listed) == {*stored, *(row.id for row in HELD_OUT)}
    assert listed == sorted(listed)
    assert len(stored) == len(TRAIN) + len(VALIDATION)
