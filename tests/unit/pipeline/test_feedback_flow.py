"""From a correction to the next dataset version, with the real curation; and the verbs on feedback."""

import dataclasses
import json
import random
from datetime import timedelta
from pathlib import Path

import pytest
from tests.fakes import START, fake_ports
from tests.live_world import a_trace, live

from tunewright.core.rows import load_split
from tunewright.errors import BlobCorrupt, SourceUnreadable, UnknownReference, UsageError
from tunewright.feedback.attach import Given, attach
from tunewright.pipeline.feedback_verbs import FeedbackVerbs
from tunewright.pipeline.flow import run_recipe
from tunewright.pipeline.harvested import make_mask, write_harvest
from tunewright.pipeline.load import load_recipe
from tunewright.pipeline.show_feedback import (
    harvest_text,
    nothing_text,
    shown_block,
    shown_json,
    shown_row,
    shown_text,
)
from tunewright.pipeline.show_lineage import row_json, row_text
from tunewright.recipe import DataSection, SourceSpec
from tunewright.records import DatasetVersion, Example, Feedback, TraceText
from tunewright.registry.explain import explain_row
from tunewright.registry.verify import verify_workspace

NOUNS = "lamp chair kettle table shelf mirror carpet pillow heater basket bottle candle".split()
VERBS = "return exchange repair order cancel track gift assemble store clean paint compare".split()
RECIPE = """
name: shop
data:
  sources: [{path: orders.jsonl}]
flywheel: {author_cap: 0.5, model_answer_cap: 0.5}
"""
UNTIL = START + timedelta(days=30)


def order(number: int) -> dict[str, str]:
    random_ = random.Random(number)
    code = "".join(random_.choices("bcdfghjklmnpqrstvwxz", k=9))
    noun, verb = random_.choice(NOUNS), random_.choice(VERBS)
    return {"prompt": f"{code} how do I {verb} the {noun} {number}?", "completion": f'{{"item": "{noun}"}}'}


@pytest.fixture
def ports(tmp_path: Path):
    made = fake_ports(tmp_path)
    lines = [json.dumps(order(number)) + "\n" for number in range(150)]
    (made.data_root / "orders.jsonl").write_text("".join(lines), encoding="utf-8")
    (made.data_root / "shop.yaml").write_text(RECIPE, encoding="utf-8")
    return made


@pytest.fixture
def world(tmp_path: Path):
    return live(tmp_path)


@pytest.fixture
def verbs(ports, world) -> FeedbackVerbs:
    return FeedbackVerbs(ports, world)


def build(ports, world) -> DatasetVersion:
    """`tunewright data build shop.yaml`."""
    recipe = load_recipe(ports.data_root / "shop.yaml")
    return run_recipe(recipe, ports, harvest_dir=world.harvest_dir, until="curate").dataset


def answered(world, seq: int, prompt: str, answer: str = '{"item": "wrong"}', **changes) -> None:
    """One answered request."""
    trace = a_trace(seq, **({"consent": "train"} | changes))
    turn = {"role": "user", "content": prompt}
    world.traces.write([trace, TraceText(owner=trace.id, messages=(turn,), text=answer, expires_at=UNTIL)])


def said(world, seq: int, kind="edit", value=None, text: str | None = None, **changes) -> Feedback:
    """What a user says of it, as the gateway stores it."""
    trace = world.traces.get(a_trace(seq).id)
    kept = world.traces.text(trace.id, START)
    draft = Given(trace.id, "token", kind, value, text, **changes)
    at = START + timedelta(seconds=seq)
    feedback, words = attach(
        draft, trace, kept.text if kept else None, keys=world.keys, at=at, retain_until=UNTIL
    )
    world.traces.write([one for one in (feedback, words) if one is not None])
    return feedback


def rows_of(dataset: DatasetVersion, ports) -> dict[str, list[Example]]:
    session = ports.vault.open("audit", "dataset", "tester")
    return {name: load_split(dataset, name, ports.blobs, session) for name in dataset.splits}


def harvested_row(dataset: DatasetVersion, ports, answer: str) -> list[tuple[str, Example]]:
    sides = rows_of(dataset, ports).items()
    return [(side, row) for side, rows in sides for row in rows if row.answer == answer]


def test_a_correction_is_found_in_the_next_dataset_version_and_led_back_to_its_trace(ports, world, verbs):
    first = build(ports, world)
    answered(world, 1, "qqzzpp wheres my purple gramophone from Tromso?")
    correction = said(world, 1, text='{"item": "gramophone"}')
    assert build(ports, world) == first, "nothing changes before somebody approves and harvests"
    [approved] = verbs.approve([correction.id[:12]], note="right", reviewer="rita")
    assert (approved.status, approved.reviewer) == ("approved", "rita")
    made = verbs.harvest(ports.data_root / "shop.yaml")
    assert made is not None
    path = verbs.file_of(made)
    assert path.read_bytes() == ports.blobs.get(made.blob)
    second = build(ports, world)
    assert (str(second.ref), second.rows_in) == ("shop@2", first.rows_in + 1)
    [(side, row)] = harvested_row(second, ports, '{"item": "gramophone"}')
    assert row.group == "u:" + a_trace(1).unit
    assert row.time == a_trace(1).at
    [use] = explain_row(f"{path.name}:1", ports.records, ports.blobs)
    [origin] = use.origins
    assert (origin.trace, origin.feedback, str(origin.harvest)) == (a_trace(1).id, correction.id, "shop@1")
    assert correction.id in row_text("shop-1.jsonl:1", [use])
    assert correction.id in json.dumps(row_json([use]))
    [used] = verbs.uses(correction.id)
    [(dataset, sentence)] = used.fates
    assert str(dataset) == "shop@2"
    assert side in sentence.replace("held out", "held_out")
    assert build(ports, world) == second


def test_harvests_accumulate_and_use_harvest_false_leaves_them_out(ports, world, verbs):
    build(ports, world)
    for seq in (1, 2):
        answered(world, seq, f"zzqqkk number {seq} wheres my purple gramophone {'x' * seq}?")
        verbs.approve([said(world, seq, text=f'{{"item": "gramophone {seq}"}}').id], reviewer="rita")
        made = verbs.harvest(ports.data_root / "shop.yaml")
        assert made is not None
        assert made.ref.version == seq
    both = build(ports, world)
    assert len([source for source in both.sources if "harvest" in source.path]) == 2
    without = RECIPE.replace("author_cap: 0.5", "use_harvest: false, author_cap: 0.5")
    (ports.data_root / "shop.yaml").write_text(without, encoding="utf-8")
    assert len(build(ports, world).sources) == 1


def test_a_correction_like_a_held_out_row_never_lands_in_train(ports, world, verbs):
    first = build(ports, world)
    held_out = rows_of(first, ports)["held_out"]
    prompts = [row.messages[0].content for row in held_out[:8]]
    variants = [prompts[0], prompts[1].upper(), f"{prompts[2]} ", prompts[3].replace("how do I", "how do  i")]
    variants += [f"{prompt} please" for prompt in prompts[4:]]
    answers = [f'{{"item": "corrected {seq}"}}' for seq in range(1, len(variants) + 1)]
    for seq, (prompt, answer) in enumerate(zip(variants, answers, strict=True), start=1):
        answered(world, seq, prompt)
        verbs.approve([said(world, seq, text=answer).id], reviewer="rita")
    assert verbs.harvest(ports.data_root / "shop.yaml") is not None
    second = build(ports, world)
    sides = rows_of(second, ports)
    trained = {row.answer for side in ("train", "validation") for row in sides[side]}
    assert not trained & set(answers)
    assert {row.id for row in held_out} <= {row.id for row in sides["held_out"]}


def test_a_user_who_fed_training_is_never_held_out(ports, world, verbs):
    build(ports, world)
    for seq in range(1, 9):
        answered(world, seq, f"{order(900 + seq)['prompt']} asked by one user", unit="7" * 32)
        verbs.approve([said(world, seq, text=f'{{"item": "of one user {seq}"}}').id], reviewer="rita")
        verbs.harvest(ports.data_root / "shop.yaml")
        sides = rows_of(build(ports, world), ports)
        mine = {side for side, rows in sides.items() for row in rows if row.group == "u:" + "7" * 32}
        assert len(mine & {"train", "validation"}) == 0 or "held_out" not in mine


def test_personal_data_is_masked_and_secrets_are_left_out(ports, world, verbs):
    answered(world, 1, "zzqqkk write to ann.smith@example.org about my gramophone please")
    answered(world, 2, "zzqqkk my key is AKIA" + "IOSFODNN7EXAMPLE")
    for seq in (1, 2):
        verbs.approve([said(world, seq, text=f"done {seq}").id], reviewer="rita")
    made = verbs.harvest(ports.data_root / "shop.yaml")
    assert made is not None
    assert made.left_out == {"secret": 1}
    assert b"ann.smith" not in ports.blobs.get(made.blob)
    assert b"<EMAIL_1>" in ports.blobs.get(made.blob)


@pytest.mark.parametrize(
    ("turns", "expected"),
    [
        (("user", "assistant"), None),
        (("developer", "user", "assistant"), None),
        (("assistant", "assistant"), "roles_out_of_order"),
        (("user", "tool", "assistant"), "tool_calls_not_supported_yet"),
        (("pirate", "assistant"), "unknown_role"),
    ],
)
def test_a_prompt_that_curation_cannot_use_is_refused_at_harvest(turns, expected):
    mask = make_mask(DataSection(sources=(SourceSpec(path="x"),)))
    found = mask(tuple({"role": role, "content": "hello"} for role in turns))
    assert (found if isinstance(found, str) else None) == expected


def test_a_harvested_file_that_is_gone_is_written_again_and_one_that_was_edited_is_refused(
    ports, world, verbs
):
    answered(world, 1, "zzqqkk wheres my gramophone?")
    verbs.approve([said(world, 1, text="here").id], reviewer="rita")
    made = verbs.harvest(ports.data_root / "shop.yaml")
    assert made is not None
    path = verbs.file_of(made)
    path.unlink()
    assert write_harvest(made, ports.blobs, world.harvest_dir).read_bytes() == ports.blobs.get(made.blob)
    path.chmod(0o600)
    path.write_text("{}\n", encoding="utf-8")
    with pytest.raises(BlobCorrupt, match="Delete the file"):
        build(ports, world)


def test_verify_reads_the_rows_of_a_harvest(ports, world, verbs):
    answered(world, 1, "zzqqkk wheres my gramophone?")
    verbs.approve([said(world, 1, text="here").id], reviewer="rita")
    made = verbs.harvest(ports.data_root / "shop.yaml")
    assert made is not None
    assert verify_workspace(ports.records, ports.blobs, ports.signer).ok
    ports.blobs.stored[made.blob] = b"other"
    found = verify_workspace(ports.records, ports.blobs, ports.signer)
    assert found.first_broken is not None
    assert "rows of harvest:shop@1" in found.first_broken


def test_text_is_shown_only_when_asked_for_and_the_ledger_tells_of_the_look(ports, world, verbs):
    answered(world, 1, "zzqqkk wheres my\x1b[31m gramophone?", consent="review")
    one = said(world, 1, text="in the attic")
    [plain] = verbs.list()
    assert (plain.said, plain.text, len(ports.records.events(kind="look"))) == (None, None, 0)
    assert "attic" not in json.dumps(shown_json(plain, with_text=False))
    [shown] = verbs.list(with_text=True)
    assert shown.text is not None
    assert shown.text.text == "in the attic"
    assert "\x1b" not in "".join(shown_row(shown)) + shown_block(shown)
    assert "\x1b" not in shown_text(shown, [], with_text=True)
    assert len(ports.records.events(kind="look")) == 1
    assert verbs.show(one.id[:9]).feedback == one
    with pytest.raises(UnknownReference):
        verbs.show("fb_nothing")


def test_the_queue_can_be_cut_by_kind_status_rollout_and_length(ports, world, verbs):
    for seq in range(1, 6):
        answered(world, seq, f"question {seq}", rollout="shop@1" if seq == 1 else None)
        said(world, seq, "thumb", 0.0)
    said(world, 5, "escalation")
    assert verbs.list(limit=2)[0].feedback.kind == "escalation"
    assert len(verbs.list(kind="thumb")) == 5
    assert len(verbs.list(rollout="shop@1")) == 1
    verbs.reject([verbs.list(kind="escalation")[0].feedback.id], reviewer="rita")
    assert [one.feedback.status for one in verbs.list(status="rejected")] == ["rejected"]
    assert len(verbs.list(status=None, limit=None)) == 6


def test_a_review_of_several_is_all_or_nothing(ports, world, verbs):
    for seq in (1, 2):
        answered(world, seq, f"question {seq}")
        said(world, seq, "edit", text="better", author="tester" if seq == 2 else "ann")
    ids = [one.feedback.id for one in verbs.list()]
    with pytest.raises(UsageError, match="author"):
        verbs.approve(ids)
    assert {one.feedback.status for one in verbs.list(status=None)} == {"pending"}
    assert len(verbs.approve(ids, reviewer="rita")) == 2


def test_an_import_names_bad_rows_and_changes_nothing_the_second_time(ports, world, verbs, tmp_path):
    answered(world, 1, "question 1")
    trace = a_trace(1).id
    lines = [
        {"trace": trace, "kind": "edit", "text": "better", "author": "ann"},
        {"trace": trace, "kind": "thumb", "value": "down"},
        {"trace": trace, "kind": "thumb", "value": 7},
        {"trace": "tr_nowhere", "kind": "thumb", "value": 1},
    ]
    file = tmp_path / "given.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    done = verbs.import_(file)
    assert (done.added, done.known, [bad.line for bad in done.bad]) == (2, 0, [3, 4])
    assert "out of range" in done.bad[0].reason
    assert "no trace" in done.bad[1].reason
    stored = verbs.list(status=None)
    assert {(one.feedback.kind, one.feedback.source) for one in stored} == {
        ("edit", "import"),
        ("thumb", "import"),
    }
    ports.clock.tick(3600)
    again = verbs.import_(file)
    assert (again.added, again.known) == (0, 2)
    assert verbs.list(status=None) == stored
    assert len(ports.records.events(kind="import_feedback")) == 1
    with pytest.raises(SourceUnreadable):
        verbs.import_(tmp_path / "gone.jsonl")


def test_an_export_holds_text_only_when_asked_for(ports, world, verbs, tmp_path):
    answered(world, 1, "=question 1")
    said(world, 1, text="=cmd|calc")
    assert verbs.export(tmp_path / "plain.csv") == 1
    assert "calc" not in (tmp_path / "plain.csv").read_text(encoding="utf-8")
    assert not ports.records.events(kind="look")
    verbs.export(tmp_path / "texts.csv", with_text=True)
    assert "'=cmd|calc" in (tmp_path / "texts.csv").read_text(encoding="utf-8")
    [look] = ports.records.events(kind="look")
    assert look.detail == {"purpose": "export", "feedback": 1}
    verbs.export(tmp_path / "texts", "jsonl", with_text=True)
    assert json.loads((tmp_path / "texts").read_text(encoding="utf-8"))["text"] == "=cmd|calc"
    with pytest.raises(UsageError, match="jsonl"):
        verbs.export(tmp_path / "unclear")


def test_words_say_what_was_left_out_and_what_to_do_next(ports, world, verbs):
    recipe = ports.data_root / "shop.yaml"
    assert "feedback approve" in nothing_text(verbs.left_out(recipe))
    answered(world, 1, "zzqqkk wheres my gramophone?", consent="review")
    verbs.approve([said(world, 1, text="here").id], reviewer="rita")
    assert verbs.harvest(recipe) is None
    assert "no consent to train" in nothing_text(verbs.left_out(recipe))
    verbs.approve([said(world, 1, text="here it is", consent="train").id], reviewer="rita")
    made = verbs.harvest(recipe)
    assert made is not None
    assert "tunewright data build" in harvest_text(made, verbs.file_of(made), recipe)


def test_a_look_into_another_workspace_finds_no_harvest(ports, world, tmp_path):
    folder = tmp_path / "other"
    folder.mkdir()
    other = dataclasses.replace(fake_ports(folder), data_root=ports.data_root)
    assert len(build(other, live(folder)).sources) == 1
