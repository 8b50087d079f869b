"""Hostile records and data, by the classes of the threat list: names, archives, signatures, the ledger."""

import dataclasses
import gzip
import io
import json
import os
import pickle
import sqlite3
import zipfile
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.fakes import fake_ports
from tests.registry_world import RECIPE, TunedEngine, make_world

from tunewright.app import App, open_app
from tunewright.backends.base_models import TINY
from tunewright.backends.file_blobs import FileBlobs
from tunewright.backends.signer import LocalSigner
from tunewright.backends.sql_engine import connect_read_only
from tunewright.backends.sql_records import SqlRecords
from tunewright.backends.vault import LocalVault
from tunewright.cli.progress import PlainProgress
from tunewright.errors import (
    DataError,
    ModelRevoked,
    SignatureInvalid,
    SourceUnreadable,
    TunewrightError,
    UnknownReference,
    UsageError,
)
from tunewright.ports import Ports
from tunewright.records import ModelVersion
from tunewright.registry.aliases import revoke, roll_back, set_alias
from tunewright.registry.load import load_verified, signed_bytes
from tunewright.registry.register import register
from tunewright.registry.verify import verify_workspace
from tunewright.settings import load_settings
from tunewright.values import Ref

NAMES = (
    "../x",
    "a/b",
    "a\\b",
    "..%2fx",
    "%252e",
    "a\0b",
    "",
    ".",
    "..",
    "A",
    "é",
    "a" * 65,
    "a\n",
    "-",
    "a b",
)


@pytest.fixture
def ports(tmp_path: Path) -> Ports:
    return fake_ports(tmp_path, TunedEngine())


@pytest.fixture
def app(tmp_path: Path) -> App:
    environment = {"TUNEWRIGHT_CONFIG": str(tmp_path / "keys"), "TUNEWRIGHT_THREADS": "1"}
    return open_app(load_settings(environment, workspace=tmp_path / "ws"), PlainProgress())


def refused_data(app: App, folder: Path, name: str, data: bytes) -> str:
    """Give a file as data; it must be refused and nothing made."""
    (folder / name).write_bytes(data)
    recipe = folder / "r.yaml"
    recipe.write_text(f"name: x\ndata: {{sources: [{{path: '{name}'}}]}}\n", "utf-8")
    with app, pytest.raises(DataError) as caught:
        app.run(recipe, until="curate")
    with app:
        assert app.data.all() == []
    return f"{type(caught.value).__name__}: {caught.value}"


@pytest.mark.parametrize("name", NAMES)
def test_class_01_a_path_trick_is_no_reference_alias_or_name(name: str, ports: Ports):
    with pytest.raises(UsageError, match="expected name@version"):
        Ref.parse(f"{name}@1")
    model = register(RECIPE, make_world(ports).report, ports)
    with pytest.raises(UsageError, match="is no alias"):
        set_alias("shop", name, target=model.ref, actor="eve", reason="x", ports=ports)


@pytest.mark.parametrize(
    "version", ["0", "01", "-1", "1.0", "9" * 5000, "9" * 20, "١", "²", "1\n", " 1", "1_0", "0x1"]
)
def test_class_01_a_version_is_a_plain_number_that_the_store_can_hold(version: str):
    with pytest.raises(UsageError, match="expected name@version"):
        Ref.parse(f"shop@{version}")
    assert Ref.parse("shop@999999999") == Ref("shop", 999_999_999)


@pytest.mark.parametrize("name", NAMES)
def test_class_01_a_path_trick_is_no_recipe_name_and_makes_no_file(name: str, app: App, tmp_path: Path):
    (tmp_path / "d.jsonl").write_text('{"prompt": "a", "completion": "b"}\n', "utf-8")
    recipe = tmp_path / "r.yaml"
    recipe.write_text(json.dumps({"name": name, "data": {"sources": [{"path": "d.jsonl"}]}}), "utf-8")
    with app, pytest.raises(TunewrightError):
        app.run(recipe, until="curate")
    assert not (tmp_path / "ws" / "runs").exists()


ZIP = io.BytesIO()
with zipfile.ZipFile(ZIP, "w", zipfile.ZIP_DEFLATED) as archive:
    archive.writestr("../../evil.jsonl", b"\0" * 10_000_000)

ARCHIVES = {
    "a zip that slips out of its folder": (ZIP.getvalue(), "is a zip archive"),
    "a gzip bomb": (gzip.compress(b"\0" * 10_000_000), "is compressed with gzip"),
    "a zstandard frame": (b"\x28\xb5\x2f\xfd" + b"\0" * 50, "is compressed with zstandard"),
    "a tar": (b"../evil" + b"\0" * 250 + b"ustar\x0000" + b"\0" * 512, "not a text file"),
}


@pytest.mark.parametrize("name", ["d.jsonl", "d.csv", "d.txt"])
@pytest.mark.parametrize("case", ARCHIVES)
def test_class_02_an_archive_given_as_data_is_refused_and_never_unpacked(
    case: str, name: str, app: App, tmp_path: Path
):
    data, said = ARCHIVES[case]
    before = {*tmp_path.parent.iterdir()}
    assert said in refused_data(app, tmp_path, name, data)
    assert {*tmp_path.parent.iterdir()} == before


def test_class_02_a_blob_that_was_replaced_by_a_link_does_not_pass_for_it(tmp_path: Path):
    blobs = FileBlobs(tmp_path / "blobs")
    digest = blobs.put(b"good")
    file = next(
        path for path in (tmp_path / "blobs").rglob("*") if path.is_file() and path.read_bytes() == b"good"
    )
    (tmp_path / "other").write_bytes(b"evil")
    file.unlink()
    file.symlink_to(tmp_path / "other")
    with pytest.raises(TunewrightError, match=digest):
        blobs.get(digest)


class Evil:
    """Unpickling it makes a folder."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize("name", ["d.pkl", "d.jsonl", "d.csv", "d.parquet", "d.npy", "d.pt"])
@pytest.mark.parametrize("protocol", [0, 4])
def test_class_21_a_pickle_given_as_data_is_never_opened_as_one(
    name: str, protocol: int, app: App, tmp_path: Path
):
    said = refused_data(app, tmp_path, name, pickle.dumps(Evil(tmp_path / "ran"), protocol))
    assert name in said
    assert not (tmp_path / "ran").exists()


def test_class_21_a_data_folder_with_a_loading_script_is_refused_and_never_run(app: App, tmp_path: Path):
    folder = tmp_path / "dataset"
    folder.mkdir()
    (folder / "dataset.py").write_text(f"import os; os.mkdir({str(tmp_path / 'ran')!r})", "utf-8")
    recipe = tmp_path / "r.yaml"
    recipe.write_text("name: x\ndata: {sources: [{path: dataset}]}\n", "utf-8")
    with app, pytest.raises(SourceUnreadable, match="is a folder"):
        app.run(recipe, until="curate")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("path", ["https://example.org/d.jsonl", "s3://bucket/d.jsonl", "file:///etc/passwd"])
def test_class_11_a_recipe_that_names_an_address_fetches_nothing(path: str, app: App, tmp_path: Path):
    recipe = tmp_path / "r.yaml"
    recipe.write_text(f"name: x\ndata: {{sources: [{{path: '{path}'}}]}}\n", "utf-8")
    with app, pytest.raises(SourceUnreadable, match="does not exist"):
        app.run(recipe, until="curate")


def test_class_21_a_row_may_say_anything_about_code_and_stays_text(app: App, tmp_path: Path):
    rows = [
        {"prompt": f"number {n} !!python/object/apply:os.mkdir", "completion": f"__import__('os').mkdir({n})"}
        for n in range(30)
    ]
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    recipe = tmp_path / "r.yaml"
    recipe.write_text("name: x\ndata: {sources: [{path: d.jsonl}]}\n", "utf-8")
    with app:
        dataset = app.run(recipe, until="curate")[0].dataset
    assert dataset.rows_in == 30


@pytest.mark.parametrize(
    "tag", ["!!python/object/apply:os.mkdir [ran]", "!!python/name:os.system", "&a [*a, *a]"]
)
def test_class_21_a_recipe_cannot_make_python_objects(tag: str, app: App, tmp_path: Path):
    recipe = tmp_path / "r.yaml"
    recipe.write_text(f"name: {tag}\ndata: {{sources: [{{path: d.jsonl}}]}}\n", "utf-8")
    with app, pytest.raises(TunewrightError, match=r"r\.yaml:1"):
        app.plan(recipe)
    assert not Path("ran").exists()


def resigned(model: ModelVersion, ports: Ports, **changes: object) -> ModelVersion:
    """Somebody with the signing key signs other facts."""
    changed = model.model_copy(update=changes)
    signature, key_id = ports.signer.sign(signed_bytes(changed))
    return changed.model_copy(update={"signature": signature, "key_id": key_id})


@pytest.mark.parametrize("signature", ["", "AAAA", "not base64 at all", "=" * 88])
def test_class_09_a_missing_or_wrong_signature_is_refused(signature: str, ports: Ports, tmp_path: Path):
    real = dataclasses.replace(ports, signer=LocalSigner(tmp_path / "ws", tmp_path / "config"))
    model = register(RECIPE, make_world(real).report, real)
    load_verified(model, real)
    with pytest.raises(SignatureInvalid, match="does not fit"):
        load_verified(model.model_copy(update={"signature": signature}), real)
    for key_id in ("", "../../keys/evil", "0" * 32):
        with pytest.raises(SignatureInvalid, match="does not know"):
            load_verified(model.model_copy(update={"key_id": key_id}), real)


def test_class_09_a_signature_replayed_on_another_version_is_refused(ports: Ports):
    one, two = (register(RECIPE, make_world(ports, seed=seed).report, ports) for seed in range(2))
    replayed = two.model_copy(update={"signature": one.signature, "key_id": one.key_id})
    with pytest.raises(SignatureInvalid):
        load_verified(replayed, ports)
    with pytest.raises(SignatureInvalid):
        load_verified(one.model_copy(update={"ref": Ref("shop", 9)}), ports)


def test_class_10_a_rollback_never_lands_on_a_revoked_digest(ports: Ports):
    models = [register(RECIPE, make_world(ports, seed=seed).report, ports) for seed in range(3)]
    for model in models[1:]:
        set_alias("shop", "champion", target=model.ref, actor="ann", reason="better", ports=ports)
    revoke(models[1].ref, actor="ann", reason="leaks", ports=ports)
    moved = roll_back("shop", "champion", actor="ann", reason="errors", ports=ports)
    assert moved.target == models[0].ref
    revoke(models[0].ref, actor="ann", reason="leaks too", ports=ports)
    with pytest.raises(UnknownReference, match="no earlier version"):
        roll_back("shop", "champion", actor="ann", reason="again", ports=ports)
    with pytest.raises(ModelRevoked, match="revoked by ann"):
        set_alias("shop", "champion", target=models[1].ref, actor="eve", reason="please", ports=ports)


def test_class_10_the_same_revoked_bytes_under_another_version_are_refused_too(ports: Ports):
    model = register(RECIPE, make_world(ports).report, ports)
    revoke(model.ref, actor="ann", reason="leaks", ports=ports)
    with pytest.raises(ModelRevoked, match="leaks"):
        load_verified(resigned(model, ports, ref=Ref("shop", 7)), ports)


@contextmanager
def workspace(folder: Path):
    """A real workspace on disk."""
    folder.mkdir(exist_ok=True)
    records = SqlRecords(f"sqlite:///{folder / 'registry.db'}")
    try:
        yield dataclasses.replace(
            fake_ports(folder, TunedEngine()),
            records=records,
            blobs=FileBlobs(folder / "blobs"),
            vault=LocalVault(records, folder, folder.parent / "config"),
            signer=LocalSigner(folder, folder.parent / "config"),
        )
    finally:
        records.close()


def tamper(folder: Path, *statements: str) -> None:
    """Do what somebody with write access to the file can do."""
    with sqlite3.connect(folder / "registry.db") as connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            connection.execute(statement)
    connection.close()


LAST = "(SELECT max(seq) FROM ledger)"


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE ledger SET actor = 'eve' WHERE seq = 2", "it was edited"),
        ("DELETE FROM ledger WHERE seq = 2", "an event before it was removed or put in"),
        (f"DELETE FROM ledger WHERE seq = {LAST}", "alias"),
        ("DELETE FROM ledger WHERE seq > 1", "has no event"),
        ("UPDATE ledger SET seq = seq + 100 WHERE seq > 2", "an event before it was removed or put in"),
        ("UPDATE ledger SET detail = '[[[[' WHERE seq = 3", "it was edited"),
    ],
)
def test_class_24_an_edited_or_truncated_ledger_is_named_at_its_first_broken_link(
    statement: str, said: str, tmp_path: Path
):
    folder = tmp_path / "ws"
    with workspace(folder) as ports:
        register(RECIPE, make_world(ports).report, ports)
        assert verify_workspace(ports.records, ports.blobs, ports.signer).ok
    tamper(folder, statement)
    with workspace(folder) as ports:
        found = verify_workspace(ports.records, ports.blobs, ports.signer)
    assert not found.ok
    assert said in " ".join(found.problems)


def test_class_24_the_store_itself_refuses_to_change_or_remove_an_event(tmp_path: Path):
    folder = tmp_path / "ws"
    with workspace(folder) as ports:
        make_world(ports)
    connection = sqlite3.connect(folder / "registry.db")
    for statement in ("UPDATE ledger SET actor = 'eve'", "DELETE FROM ledger"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            connection.execute(statement)
    connection.close()


def test_class_24_a_cut_end_shows_against_the_newest_hash_kept_elsewhere(tmp_path: Path):
    folder = tmp_path / "ws"
    with workspace(folder) as ports:
        register(RECIPE, make_world(ports).report, ports)
        before = verify_workspace(ports.records, ports.blobs, ports.signer)
        revoke(Ref("shop", 1), actor="ann", reason="leaks", ports=ports)
        kept = verify_workspace(ports.records, ports.blobs, ports.signer).newest_hash
    tamper(folder, f"DELETE FROM ledger WHERE seq = {LAST}")
    with workspace(folder) as ports:
        found = verify_workspace(ports.records, ports.blobs, ports.signer)
    assert found.newest_hash == before.newest_hash != kept
    assert any("cut off its newest events" in sentence for sentence in found.proves)


def test_a_workspace_that_cannot_be_written_is_read_and_refuses_writes(tmp_path: Path):
    folder = tmp_path / "ws"
    with workspace(folder) as ports:
        make_world(ports)
    connection = connect_read_only(folder / "registry.db")
    assert connection.execute("SELECT count(*) FROM ledger").fetchone()[0] > 0
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        connection.execute("CREATE TABLE x (y)")
    connection.close()
    assert sorted(path.name for path in folder.iterdir() if "registry" in path.name) == ["registry.db"]


def test_a_base_is_looked_up_beside_the_recipe_first_and_recorded_by_its_whole_path(
    app: App, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    recipes, elsewhere = tmp_path / "recipes", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (recipes / "bases").mkdir(parents=True)
    (recipes / "bases" / "mine").symlink_to(TINY)
    recipe = recipes / "r.yaml"
    rows = "".join(json.dumps({"prompt": f"say {n}", "completion": f"number {n}"}) + "\n" for n in range(30))
    (recipes / "d.jsonl").write_text(rows, "utf-8")
    recipe.write_text("name: x\ndata: {sources: [{path: d.jsonl}]}\ntrain: {base: bases/mine}\n", "utf-8")
    monkeypatch.chdir(elsewhere)
    with app:
        assert app.plan(recipe).rows_in == 30
        found = app._at(recipe).bases.resolve("bases/mine")
    assert found.ref.name == str(recipes / "bases" / "mine")
    with app, pytest.raises(TunewrightError, match="was not found"):
        app.ports.bases.resolve("bases/mine")
