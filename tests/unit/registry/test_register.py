import dataclasses

import pytest
from tests.fakes import FakeBases, FakeEngines, fake_ports
from tests.registry_world import RECIPE, NoOpEngine, TunedEngine, make_world

from tunewright.errors import (
    BaseChanged,
    BlobCorrupt,
    EngineFailed,
    GateNotPassed,
    IndistinguishableFromBase,
    RegistryError,
    UnknownReference,
    UsageError,
)
from tunewright.ports import Generation
from tunewright.records import AliasState
from tunewright.registry.load import check_signature, load_verified
from tunewright.registry.register import next_semantic_version, register
from tunewright.registry.waive import is_waived, waive
from tunewright.trees import get_tree
from tunewright.values import Digest, Ref


@pytest.fixture
def ports(tmp_path):
    return fake_ports(tmp_path, TunedEngine())


def target(ports, alias):
    return ports.records.alias("shop", alias).target


def test_a_passing_candidate_becomes_a_signed_version_candidate_and_first_champion(ports):
    world = make_world(ports)
    model = register(RECIPE, world.report, ports)
    assert (model.ref, model.semantic_version, model.verdict) == (Ref("shop", 1), "1.0.0", "pass")
    assert (model.adapter, model.held_out) == (world.run.candidate, world.report.held_out)
    check_signature(model, ports.signer)
    assert target(ports, "candidate") == target(ports, "champion") == model.ref
    reasons = {e.detail["alias"]: e.detail["reason"] for e in ports.records.events(kind="alias")}
    assert reasons == {"champion": "first", "candidate": "registered"}
    roles = {(edge.parent, edge.role) for edge in ports.records.parents("model:shop@1")}
    assert roles == {
        ("run:shop@1", "run"),
        ("evaluation:shop@1", "evaluation"),
        ("dataset:shop@1", "dataset"),
        (f"base:{model.base.digest}", "base"),
    }


@pytest.mark.parametrize("verdict", ["fail", "inconclusive", "void"])
def test_anything_but_a_pass_is_refused_and_leaves_nothing(ports, verdict):
    world = make_world(ports, verdict=verdict)
    before = len(ports.records.events())
    with pytest.raises(GateNotPassed, match=rf"verdict {verdict} .*models waive shop@1"):
        register(RECIPE, world.report, ports)
    assert not ports.records.list("model")
    assert len(ports.records.events()) == before


def test_a_waiver_lets_through_by_name_but_never_makes_a_champion(ports):
    world = make_world(ports, verdict="inconclusive")
    assert not is_waived(world.report, ports)
    waive(world.report.ref, "too few rows, pilot only", "Ann", ports)
    assert is_waived(world.report, ports)
    model = register(RECIPE, world.report, ports)
    assert (model.verdict, model.waiver.author) == ("inconclusive", "Ann")
    assert model.waiver.reason == "too few rows, pilot only"
    assert (target(ports, "candidate"), target(ports, "champion")) == (model.ref, None)


def test_a_waiver_of_one_candidate_does_not_let_another_through(ports):
    first = make_world(ports, verdict="fail", seed=0)
    second = make_world(ports, verdict="fail", seed=1)
    waive(first.report.ref, "known", "Ann", ports)
    with pytest.raises(GateNotPassed):
        register(RECIPE, second.report, ports)


@pytest.mark.parametrize(("reason", "author"), [("", "Ann"), ("  ", "Ann"), ("why", ""), ("why", " ")])
def test_a_waiver_needs_reason_and_name(ports, reason, author):
    world = make_world(ports, verdict="fail")
    with pytest.raises(UsageError, match="needs a reason and a name"):
        waive(world.report.ref, reason, author, ports)
    assert not is_waived(world.report, ports)


def test_what_passed_needs_no_waiver_and_what_is_unknown_gets_none(ports):
    world = make_world(ports)
    with pytest.raises(UsageError, match="passed"):
        waive(world.report.ref, "why", "Ann", ports)
    with pytest.raises(UnknownReference, match="shop@1"):
        waive(Ref("shop", 7), "why", "Ann", ports)


def test_a_report_that_was_changed_in_memory_proves_nothing(ports):
    world = make_world(ports, verdict="fail")
    with pytest.raises(GateNotPassed, match="stored otherwise"):
        register(RECIPE, world.report.model_copy(update={"verdict": "pass"}), ports)


def test_a_verdict_on_another_candidate_or_other_held_out_rows_is_refused(ports):
    world = make_world(ports)
    for field in ("candidate", "held_out"):
        other = world.report.model_copy(update={field: Digest("9" * 64)})
        ports.records.stored["evaluation"][world.report.ref] = other
        with pytest.raises(GateNotPassed, match="999999999999"):
            register(RECIPE, other, ports)


def test_an_adapter_without_a_run_is_refused(ports):
    world = make_world(ports)
    other = world.report.model_copy(update={"run": None})
    ports.records.stored["evaluation"][world.report.ref] = other
    with pytest.raises(RegistryError, match="without a training run"):
        register(RECIPE, other, ports)


def test_registering_again_re_uses_and_moves_nothing(ports):
    first = make_world(ports, seed=0)
    model = register(RECIPE, first.report, ports)
    newer = register(RECIPE, make_world(ports, seed=1).report, ports)
    events = len(ports.records.events())
    assert register(RECIPE, first.report, ports) == model
    assert target(ports, "candidate") == newer.ref, "an old recipe run again must not take the alias back"
    assert len(ports.records.events()) == events
    assert "re-used model shop@1" in ports.progress.finished[-1]


def test_a_crash_between_record_and_alias_is_mended_by_running_again(ports):
    world = make_world(ports)
    model = register(RECIPE, world.report, ports)
    ports.records.alias_states.clear()
    ports.records.ledger[:] = [e for e in ports.records.ledger if e.kind != "alias"]
    assert register(RECIPE, world.report, ports) == model
    assert target(ports, "candidate") == target(ports, "champion") == model.ref


def test_a_second_passing_model_leaves_the_champion_alone(ports):
    first = register(RECIPE, make_world(ports, seed=0).report, ports)
    second = register(RECIPE, make_world(ports, seed=1).report, ports)
    assert (target(ports, "champion"), target(ports, "candidate")) == (first.ref, second.ref)


def test_losing_the_race_for_the_first_champion_is_no_failure(ports):
    world = make_world(ports)
    honest = ports.records.move_alias

    def overtaken(expected, new, event):
        if expected.alias == "champion" and expected.revision == 0:
            ports.records.move_alias = honest
            state = AliasState(name="shop", alias="champion", target=Ref("shop", 9), revision=1)
            ports.records.alias_states["shop", "champion"] = state
        return honest(expected, new, event)

    ports.records.move_alias = overtaken
    model = register(RECIPE, world.report, ports)
    assert (target(ports, "champion"), target(ports, "candidate")) == (Ref("shop", 9), model.ref)


def test_an_adapter_that_changes_nothing_is_refused(tmp_path):
    ports = fake_ports(tmp_path, NoOpEngine())
    world = make_world(ports)
    with pytest.raises(IndistinguishableFromBase, match="all 4 probes are answered exactly as the base"):
        register(RECIPE, world.report, ports)
    assert not ports.records.list("model")


def test_probes_come_from_four_train_rows_one_request_at_a_time(ports):
    world = make_world(ports)
    model = register(RECIPE, world.report, ports)
    engine = ports.engines.engine
    asked = {request.messages[-1]["content"] for request in engine.requests}
    assert len(model.probes) == len(asked) == 4
    assert asked <= {f"order {n}" for n in range(1, 7)}, "never validation or held-out rows"
    assert {request.max_tokens for request in engine.requests} == {16}
    assert {request.temperature for request in engine.requests} == {0.0}
    for probe in model.probes:
        assert bytes(probe.token_ids) == b"<assistant>tuned"[len("<assistant>") :]
        assert bytes(probe.base_token_ids) == b"same"
        assert len(probe.logprobs) == len(probe.token_ids)


def test_a_full_model_is_probed_on_its_own_files_with_the_bases_tokenizer(tmp_path):
    seen = []

    class Engines(FakeEngines):
        def start(self, base):
            files = {path.name: path.read_bytes() for path in base.iterdir()}
            seen.append(files)
            self.engine.answer = lambda request: files.get("note", b"base").decode()
            return super().start(base)

    ports = dataclasses.replace(fake_ports(tmp_path), engines=Engines())
    files = {"model.safetensors": b"full weights", "note": b"tuned"}
    world = make_world(ports, method="full", adapter=files)
    model = register(RECIPE, world.report, ports)
    assert seen[1]["model.safetensors"] == b"full weights 0"
    assert seen[1]["tokenizer.json"] == seen[0]["tokenizer.json"]
    assert bytes(model.probes[0].token_ids) == b"tuned 0"
    assert not ports.engines.engine.adapters


def test_an_engine_that_answers_with_another_model_is_caught(tmp_path):
    class Impostor(TunedEngine):
        def generate(self, requests, *, on_done=lambda done: None):
            answers = super().generate(requests, on_done=on_done)
            return [dataclasses.replace(a, model="base") for a in answers if isinstance(a, Generation)]

    ports = fake_ports(tmp_path, Impostor())
    with pytest.raises(EngineFailed, match="base answered"):
        register(RECIPE, make_world(ports).report, ports)


def test_a_base_that_changed_since_training_is_refused(ports, tmp_path):
    world = make_world(ports)
    folder = tmp_path / "changed"
    folder.mkdir()
    for path in FakeBases().folders["tiny"].iterdir():
        text = path.read_bytes()
        (folder / path.name).write_bytes(text + b"\n" if path.name == "config.json" else text)
    other = dataclasses.replace(ports, bases=FakeBases({"tiny": folder}))
    with pytest.raises(BaseChanged, match="run shop@1"):
        register(RECIPE, world.report, other)


def test_a_damaged_adapter_is_not_registered(ports):
    world = make_world(ports)
    file = next(iter(get_tree(ports.blobs, world.run.candidate).values()))
    ports.blobs.stored = {d: b"x" if data == file else data for d, data in ports.blobs.stored.items()}
    with pytest.raises(BlobCorrupt):
        register(RECIPE, world.report, ports)
    assert not ports.records.list("model")


def test_semantic_versions_say_what_changed(ports):
    world = make_world(ports)
    model = register(RECIPE, world.report, ports)
    assert next_semantic_version(None, world.run) == "1.0.0"
    assert next_semantic_version(model, world.run) == "1.0.1"
    data = world.run.model_copy(update={"dataset_digest": Digest("1" * 64)})
    assert next_semantic_version(model, data) == "1.1.0"
    for field in ("digest", "tokenizer_digest"):
        base = world.run.base.model_copy(update={field: Digest("1" * 64)})
        assert next_semantic_version(model, data.model_copy(update={"base": base})) == "2.0.0"
    later = model.model_copy(update={"semantic_version": "3.12.9"})
    assert next_semantic_version(later, world.run) == "3.12.10"


def test_versions_follow_the_previous_model_of_the_name(ports):
    versions = [
        register(RECIPE, make_world(ports, seed=seed, data=data).report, ports).semantic_version
        for seed, data in ((0, ""), (1, "more rows"), (2, "more rows"))
    ]
    assert versions == ["1.0.0", "1.1.0", "1.1.1"]


def test_loading_gives_the_verified_files(ports):
    world = make_world(ports)
    model = register(RECIPE, world.report, ports)
    assert load_verified(model, ports) == {
        "adapter_model.safetensors": b"weights 0",
        "adapter_config.json": b"{} 0",
    }
