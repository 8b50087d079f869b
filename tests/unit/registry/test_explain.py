import json

import pytest
from tests.fakes import fake_ports
from tests.registry_world import RAW_DIGEST, RECIPE, TunedEngine, make_world, row

from tunewright.errors import BlobCorrupt, BlobMissing, UnknownReference, UsageError
from tunewright.registry.explain import digest_in, explain_model, explain_row, read_lineage
from tunewright.registry.register import register
from tunewright.values import Ref


@pytest.fixture
def ports(tmp_path):
    return fake_ports(tmp_path, TunedEngine())


@pytest.fixture
def world(ports):
    made = make_world(ports)
    register(RECIPE, made.report, ports)
    return made


def explained(ports, version=1):
    return explain_model(Ref("shop", version), ports.records, ports.blobs, digest_in(ports.data_root))


def test_a_model_is_explained_down_to_the_lines_of_its_raw_files(ports, world):
    found = explained(ports)
    assert (found.run, found.evaluation, found.datasets) == (world.run, world.report, (world.dataset,))
    lines = {(line.split, line.sources) for line in found.rows}
    assert ("train", ((RAW_DIGEST, "orders.jsonl", 1),)) in lines
    assert ("held_out", ((RAW_DIGEST, "orders.jsonl", 10),)) in lines
    assert len(found.rows) == 10
    assert [state.state for state in found.sources] == ["unchanged"]


def test_a_raw_file_that_changed_or_is_gone_is_said(ports, world):
    file = ports.data_root / "orders.jsonl"
    file.write_text("other")
    (state,) = explained(ports).sources
    assert state.state == "changed"
    assert f"{RAW_DIGEST[:12]} then" in state.sentence
    file.unlink()
    (state,) = explained(ports).sources
    assert (state.state, "orders.jsonl is missing" in state.sentence) == ("missing", True)


def test_ancestors_of_a_dataset_are_listed_nearest_first(ports, world):
    records = ports.records.stored["dataset"]
    old = world.dataset
    records[Ref("shop", 2)] = old.model_copy(update={"ref": Ref("shop", 2), "parents": (old.ref,)})
    records[Ref("shop", 3)] = old.model_copy(
        update={"ref": Ref("shop", 3), "parents": (Ref("shop", 2), old.ref)}
    )
    model = ports.records.get("model", Ref("shop", 1))
    ports.records.stored["model"][model.ref] = model.model_copy(update={"dataset": Ref("shop", 3)})
    assert [dataset.ref.version for dataset in explained(ports).datasets] == [3, 2, 1]


def test_an_unknown_model_names_the_nearest(ports, world):
    with pytest.raises(UnknownReference, match="shop@1"):
        explained(ports, 2)


@pytest.mark.parametrize("asked", ["orders.jsonl:3", row(3).id[:8], row(3).id, "data/orders.jsonl:3"])
def test_a_row_leads_to_every_model_trained_on_it(ports, world, asked):
    (use,) = explain_row(asked, ports.records, ports.blobs)
    assert (use.line.row, use.line.split) == (row(3).id, "train")
    assert (use.dataset, use.runs, use.models, use.judged) == (
        Ref("shop", 1),
        (Ref("shop", 1),),
        (Ref("shop", 1),),
        (),
    )


def test_validation_counts_as_trained(ports, world):
    (use,) = explain_row("orders.jsonl:8", ports.records, ports.blobs)
    assert (use.line.split, use.models) == ("validation", (Ref("shop", 1),))


def test_a_held_out_row_was_judged_on_and_trained_by_nobody(ports, world):
    (use,) = explain_row("orders.jsonl:10", ports.records, ports.blobs)
    assert (use.line.split, use.runs, use.models, use.judged) == ("held_out", (), (), (Ref("shop", 1),))


def test_a_row_is_found_in_every_dataset_version(ports, world):
    register(RECIPE, make_world(ports, data="more", seed=1).report, ports)
    uses = explain_row("orders.jsonl:3", ports.records, ports.blobs)
    assert [(use.dataset.version, [m.version for m in use.models]) for use in uses] == [(1, [1]), (2, [2])]


def test_a_row_nobody_kept_points_to_data_why(ports, world):
    with pytest.raises(UnknownReference, match=r"data why orders\.jsonl:99"):
        explain_row("orders.jsonl:99", ports.records, ports.blobs)


@pytest.mark.parametrize("asked", ["orders.jsonl", "orders.jsonl:x", ":3", "abc", "zzzzzzzz", ""])
def test_what_is_no_row_is_refused(ports, world, asked):
    with pytest.raises(UsageError, match="is no row; expected file:line"):
        explain_row(asked, ports.records, ports.blobs)


def test_another_file_of_like_name_is_not_taken_for_it(ports, world):
    with pytest.raises(UnknownReference):
        explain_row("my-orders.jsonl:3", ports.records, ports.blobs)


def test_a_prefix_that_fits_several_rows_is_refused(ports, world):
    lines = [json.loads(line) for line in ports.blobs.get(world.dataset.lineage).splitlines()]
    for line in lines:
        line["row"] = "abcdef" + line["row"][6:]
    blob = ports.blobs.put("\n".join(json.dumps(line) for line in lines).encode())
    dataset = world.dataset.model_copy(update={"lineage": blob})
    ports.records.stored["dataset"][dataset.ref] = dataset
    with pytest.raises(UsageError, match="abcdef fits 10 rows"):
        explain_row("abcdef", ports.records, ports.blobs)


def test_damaged_lineage_is_named_and_does_not_crash(ports, world):
    for line in (
        b"no json",
        b"[1]",
        b"null",
        b'{"row": "a"}',
        b'{"row":1,"split":1,"cluster":1,"sources":[[1]]}',
    ):
        with pytest.raises(BlobCorrupt, match="line 1 of a lineage blob"):
            list(read_lineage(line))
    del ports.blobs.stored[world.dataset.lineage]
    with pytest.raises(BlobMissing):
        explained(ports)
