"""Every Bases port finds the shipped base, says the same about it, and refuses what it cannot serve."""

import json
import os
import shutil
from pathlib import Path

import pytest
from tests.fakes import FakeBases

import tunewright.demo
from tunewright.backends.base_models import LocalBases
from tunewright.core.tokens import ChatTokenizer
from tunewright.errors import BaseIncomplete, BaseNotFound
from tunewright.settings import hub_cache_folder

TINY = Path(tunewright.demo.__file__).parent / "base"
SMALL_FILES = ("config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


@pytest.fixture(params=["local", "fake"])
def bases(request, tmp_path):
    return LocalBases(hub_cache=tmp_path / "hub") if request.param == "local" else FakeBases()


@pytest.fixture
def local(tmp_path) -> LocalBases:
    return LocalBases(hub_cache=tmp_path / "hub", hash_cache=tmp_path / "work" / "hashes.json")


def make_base(folder: Path) -> Path:
    """A folder with the tiny base's small files and a weight file of one number."""
    folder.mkdir(parents=True)
    for name in SMALL_FILES:
        shutil.copy(TINY / name, folder)
    header = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"\0\0\0\0")
    return folder


def test_the_shipped_base_is_found_whole_and_its_tokenizer_works(bases):
    found = bases.resolve("tiny")
    assert found.ref.name == "tiny"
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= set(found.files)
    assert found.config["model_type"] == "llama"
    assert ChatTokenizer.from_base(found).eos_id == 2
    assert found == bases.resolve("tiny")


def test_an_unknown_name_is_refused_with_the_name(bases):
    with pytest.raises(BaseNotFound, match="no-such-base"):
        bases.resolve("no-such-base")


def test_both_ports_agree_on_the_tokenizer_digest(tmp_path):
    ours = LocalBases(hub_cache=tmp_path).resolve("tiny")
    assert ours.ref.tokenizer_digest == FakeBases().resolve("tiny").ref.tokenizer_digest


def test_a_missing_base_names_the_folders_looked_in_and_how_to_supply_one(local, tmp_path):
    with pytest.raises(BaseNotFound) as caught:
        local.resolve("org/model@abc")
    text = str(caught.value)
    assert str(tmp_path / "hub" / "models--org--model" / "snapshots") in text
    assert "hf download" in text


def test_a_snapshot_of_the_offline_cache_is_found_by_commit_or_by_the_name_it_was_fetched_under(
    local, tmp_path
):
    repository = tmp_path / "hub" / "models--org--model"
    make_base(repository / "snapshots" / "abc123")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc123")
    pinned = local.resolve("org/model@abc123")
    assert local.resolve("org/model@main").ref.digest == pinned.ref.digest
    for unpinned in ("org/model", "org/model@other"):
        with pytest.raises(BaseNotFound, match="name it as org/model@abc123"):
            local.resolve(unpinned)


def test_a_local_folder_is_known_by_content_not_by_name(local, tmp_path):
    one, other = make_base(tmp_path / "one"), make_base(tmp_path / "other")
    (other / "README.md").write_text("not part of the model")
    assert local.resolve(str(one)).ref.digest == local.resolve(str(other)).ref.digest
    (other / "generation_config.json").write_text("{}")
    assert local.resolve(str(one)).ref.digest != local.resolve(str(other)).ref.digest


@pytest.mark.parametrize("missing", ["config.json", "tokenizer.json", "tokenizer_config.json"])
def test_each_missing_file_is_named(local, tmp_path, missing: str):
    folder = make_base(tmp_path / "base")
    (folder / missing).unlink()
    with pytest.raises(BaseIncomplete, match=f"has no {missing}"):
        local.resolve(str(folder))


def test_a_missing_chat_template_is_named_and_one_inside_the_configuration_counts(local, tmp_path):
    folder = make_base(tmp_path / "base")
    template = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(BaseIncomplete, match="no chat template"):
        local.resolve(str(folder))
    config = json.loads((folder / "tokenizer_config.json").read_text())
    for inside in (template, [{"name": "tools", "template": "x"}, {"name": "default", "template": template}]):
        (folder / "tokenizer_config.json").write_text(json.dumps({**config, "chat_template": inside}))
        assert local.resolve(str(folder)).chat_template == template


def test_pickled_weights_are_refused_with_the_way_to_convert_them(local, tmp_path):
    folder = make_base(tmp_path / "base")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(BaseIncomplete, match=r"pytorch_model\.bin.*can run code.*convert"):
        local.resolve(str(folder))
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(BaseIncomplete, match="has no weights"):
        local.resolve(str(folder))


def test_truncated_weights_missing_shards_and_garbage_are_refused(local, tmp_path):
    folder = make_base(tmp_path / "base")
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1])
    with pytest.raises(BaseIncomplete, match=f"has {len(whole) - 1} bytes, expected {len(whole)}"):
        local.resolve(str(folder))
    weights.write_bytes(b"garbage that is no header")
    with pytest.raises(BaseIncomplete, match="header"):
        local.resolve(str(folder))
    weights.write_bytes(whole)
    index = {"weight_map": {"w": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(BaseIncomplete, match="lacks the weight file model-00002"):
        local.resolve(str(folder))


def test_broken_json_and_broken_text_are_refused_with_the_file(local, tmp_path):
    folder = make_base(tmp_path / "base")
    (folder / "config.json").write_text("{")
    with pytest.raises(BaseIncomplete, match=r"config\.json is not JSON"):
        local.resolve(str(folder))
    (folder / "config.json").write_bytes(b"\xff\xfe{}")
    with pytest.raises(BaseIncomplete, match=r"config\.json cannot be read as UTF-8"):
        local.resolve(str(folder))


def test_hashes_are_kept_while_a_file_stays_and_made_anew_when_it_changes(local, tmp_path):
    folder = make_base(tmp_path / "base")
    first = local.resolve(str(folder)).ref.digest
    cache = tmp_path / "work" / "hashes.json"
    known = json.loads(cache.read_text())
    assert len(known) == 5
    forged = {key: "0" * 64 for key in known}
    cache.write_text(json.dumps(forged))
    fresh = LocalBases(hub_cache=tmp_path, hash_cache=cache)
    assert set(fresh.resolve(str(folder)).files.values()) == {"0" * 64}
    for file in folder.iterdir():
        os.utime(file, ns=(1, 1))
    assert LocalBases(hub_cache=tmp_path, hash_cache=cache).resolve(str(folder)).ref.digest == first
    cache.write_text("not json")
    assert LocalBases(hub_cache=tmp_path, hash_cache=cache).resolve(str(folder)).ref.digest == first


def test_the_cache_folder_follows_hugging_face_s_variables():
    assert hub_cache_folder({"HF_HUB_CACHE": "/a", "HF_HOME": "/b"}) == Path("/a")
    assert hub_cache_folder({"HF_HOME": "/b"}) == Path("/b/hub")
    assert hub_cache_folder({}) == Path.home() / ".cache" / "huggingface" / "hub"
