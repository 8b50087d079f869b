"""Hostile adapters and bases, by the classes of the threat list: refused before a byte of them is used.

Nothing here needs a running engine: these are the functions that the engine and the registry pass
everything through.
"""

import json
import os
import pickle
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save
from tests.fakes import TINY_BASE, fake_ports
from tests.registry_world import RECIPE, NoOpEngine, TunedEngine, make_world

import tunewright
from tunewright.backends.base_models import LocalBases
from tunewright.backends.engine.adapter_files import (
    MAX_FILES,
    check_header,
    name_of_manifest,
    parse_settings,
    read_adapter,
)
from tunewright.backends.engine.adapters import build_adapter, load_adapter
from tunewright.backends.engine.handover import write_adapter
from tunewright.backends.engine.lora import Site, SitePart
from tunewright.core.chat_template import compile_chat_template
from tunewright.core.tokens import ChatTokenizer
from tunewright.errors import (
    AdapterRefused,
    BaseIncomplete,
    BaseMismatch,
    BaseNotFound,
    BlobCorrupt,
    EngineFailed,
    IndistinguishableFromBase,
    SignatureInvalid,
    TemplateMismatch,
)
from tunewright.registry.aliases import set_alias
from tunewright.registry.load import load_verified
from tunewright.registry.register import register
from tunewright.trees import get_tree, put_tree
from tunewright.values import Digest, Ref

PACKAGE = Path(tunewright.__file__).parent
SITES = {"mlp.down": Site(5, (SitePart("mlp.down", 0, 6),))}
CONFIG = {"peft_type": "LORA", "r": 2, "lora_alpha": 8}
DOWN, UP = (f"base_model.model.mlp.down.lora_{part}.weight" for part in "AB")
PATH_TRICKS = (
    "../evil",
    "..",
    ".",
    "",
    "/etc/passwd",
    "a/../../evil",
    "a\\..\\evil",
    "nul\0byte",
    "line\nbreak",
)
"""The last one stays in its folder; it is refused where files are handed over."""
PERCENT_TRICKS = ("..%2f..%2fevil", "%2e%2e%2fevil", "..%252fevil")
"""Nothing here decodes percent signs, so these are odd but plain names."""


class Evil:
    """Unpickling it makes a file."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.trace),)


def weights(**changed: torch.Tensor) -> bytes:
    return save({DOWN: torch.ones(2, 5), UP: torch.ones(6, 2)} | changed)


def files(config: Mapping[str, object] = CONFIG, data: bytes | None = None) -> dict[str, bytes]:
    return {
        "adapter_config.json": json.dumps(config).encode(),
        "adapter_model.safetensors": weights() if data is None else data,
    }


def load(folder: Path, given: Mapping[str, bytes]):
    """Put an adapter into a folder and load it as the engine does, under its true digest."""
    folder.mkdir(exist_ok=True)
    for name, data in given.items():
        (folder / name).write_bytes(data)
    return load_adapter(folder, name_of_manifest(given), SITES, torch.float32)


def header(fields: object, rest: bytes = b"") -> bytes:
    text = json.dumps(fields).encode()
    return len(text).to_bytes(8, "little") + text + rest


@pytest.fixture
def ports(tmp_path: Path):
    return fake_ports(tmp_path, TunedEngine())


def everything_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.parametrize("name", PATH_TRICKS[:-1])
def test_class_01_a_path_trick_in_a_manifest_is_refused_wherever_it_is_read(name: str, ports):
    tree = put_tree(ports.blobs, {name: b"x"})
    with pytest.raises(BlobCorrupt, match="expected plain names inside the folder"):
        get_tree(ports.blobs, tree)


@pytest.mark.parametrize("name", PATH_TRICKS)
def test_class_01_a_path_trick_in_an_adapters_file_names_writes_nothing(name: str, tmp_path: Path):
    inner = tmp_path / "handed over"
    inner.mkdir()
    with pytest.raises(EngineFailed, match="expected plain file names"):
        write_adapter(inner, "a" * 64, {"good.txt": b"", name: b"x"})
    assert everything_in(tmp_path) == {"handed over"}


@pytest.mark.parametrize("name", PERCENT_TRICKS)
def test_class_01_percent_signs_are_never_decoded(name: str, tmp_path: Path):
    write_adapter(tmp_path, "a" * 64, {name: b"x"})
    assert everything_in(tmp_path) == {"a" * 64, f"{'a' * 64}/{name}"}


def test_class_01_an_adapters_own_name_is_a_digest_and_nothing_else(tmp_path: Path):
    for digest in ("../evil", "a" * 63, "A" * 64, "", "a" * 64 + "/.."):
        with pytest.raises(EngineFailed, match="expected the digest of its manifest"):
            write_adapter(tmp_path, digest, files())
    with pytest.raises(EngineFailed, match="expected plain file names"):
        write_adapter(tmp_path, "a" * 64, {"n" * 300: b""})
    assert everything_in(tmp_path) == set()


def test_class_01_a_folder_name_with_a_nul_is_refused_as_a_folder():
    with pytest.raises(AdapterRefused, match="cannot be read"):
        read_adapter(Path("/tmp/nul\0byte"), "a" * 64)


@pytest.mark.parametrize("name", ["org/model@../../../..", "org/model@/etc", "x" * 5000])
def test_class_01_a_bases_revision_is_no_path(name: str, tmp_path: Path):
    with pytest.raises(BaseNotFound):
        LocalBases(hub_cache=tmp_path).resolve(name)


def test_class_02_a_symbolic_link_in_an_adapter_folder_is_not_followed(tmp_path: Path):
    secret = tmp_path / "secret"
    secret.write_bytes(files()["adapter_config.json"])
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").symlink_to(secret)
    (folder / "adapter_model.safetensors").write_bytes(weights())
    with pytest.raises(AdapterRefused, match="no links"):
        load_adapter(folder, name_of_manifest(files()), SITES, torch.float32)


def test_class_02_a_link_planted_where_files_are_handed_over_is_not_written_through(tmp_path: Path):
    outside = tmp_path / "outside"
    outside.write_text("mine", "utf-8")
    folder = tmp_path / ("a" * 64)
    folder.mkdir()
    (folder / "adapter_config.json").symlink_to(outside)
    with pytest.raises(EngineFailed, match="cannot be handed over"):
        write_adapter(tmp_path, "a" * 64, files())
    assert outside.read_text("utf-8") == "mine"


def test_class_02_folders_pipes_and_too_many_files_are_refused_and_leave_nothing_open(tmp_path: Path):
    before = len(os.listdir("/proc/self/fd"))
    for make in (lambda path: path.mkdir(), os.mkfifo):
        folder = tmp_path / f"adapter {len(everything_in(tmp_path))}"
        folder.mkdir()
        make(folder / "extra")
        with pytest.raises(AdapterRefused, match="not a plain file"):
            read_adapter(folder, "a" * 64)
    crowd = tmp_path / "crowd"
    crowd.mkdir()
    for number in range(MAX_FILES + 1):
        (crowd / str(number)).touch()
    with pytest.raises(AdapterRefused, match=f"more than {MAX_FILES} files"):
        read_adapter(crowd, "a" * 64)
    assert len(os.listdir("/proc/self/fd")) == before


def test_class_02_an_archive_beside_the_weights_is_refused_and_never_unpacked(tmp_path: Path):
    with pytest.raises(AdapterRefused, match=r"'extra\.txt' is a pickle or an archive"):
        load(tmp_path / "a", files() | {"extra.txt": b"PK\x03\x04" + b"\0" * 100})


def test_class_02_a_sparse_giant_is_refused_by_its_size_before_it_is_read(tmp_path: Path):
    with (tmp_path / "adapter_model.safetensors").open("wb") as file:
        file.truncate(3 * 2**30)
    with pytest.raises(AdapterRefused, match="more than 2147483648 bytes"):
        read_adapter(tmp_path, "a" * 64)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("name", ["weights.pkl", "adapter_model.bin", "README.md", "tokenizer.json"])
def test_class_03_a_pickle_is_refused_under_any_name(name: str, protocol: int, tmp_path: Path):
    evil = pickle.dumps(Evil(tmp_path / "ran"), protocol)
    with pytest.raises(AdapterRefused, match="may hold"):
        load(tmp_path / "a", files() | {name: evil})
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_config.json"])
def test_class_03_a_pickle_in_place_of_weights_or_configuration_is_never_run(name: str, tmp_path: Path):
    for protocol in range(6):
        evil = pickle.dumps(Evil(tmp_path / "ran"), protocol)
        with pytest.raises(AdapterRefused):
            load(tmp_path / "a", files() | {name: evil})
    assert not (tmp_path / "ran").exists()


def test_class_03_a_base_whose_weights_are_pickles_is_refused(tmp_path: Path):
    base = copy_of_tiny(tmp_path)
    (base / "model.safetensors").unlink()
    (base / "pytorch_model.bin").write_bytes(pickle.dumps(Evil(tmp_path / "ran")))
    with pytest.raises(BaseIncomplete, match="only pickled weights"):
        LocalBases(hub_cache=tmp_path).resolve(str(base))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("size", [2**63, 2**40, 17 * 2**20])
def test_class_04_safetensors_header_with_a_huge_length_is_refused(size: int, tmp_path: Path):
    with pytest.raises(AdapterRefused, match=f"the header claims {size} bytes"):
        load(tmp_path / "a", files(data=size.to_bytes(8, "little") + b"{}"))


def test_class_04_a_million_tensors_are_refused():
    entry = '"%d":{"dtype":"F32","shape":[],"data_offsets":[0,0]},'
    text = ("{" + "".join(entry % number for number in range(100_001)))[:-1].encode() + b"}"
    with pytest.raises(AdapterRefused, match="names at most 100000 tensors"):
        check_header(len(text).to_bytes(8, "little") + text)
    with pytest.raises(AdapterRefused, match="the header claims"):  # as large as a million entries are
        check_header((60 * 10**6).to_bytes(8, "little") + b"{" + b" " * 60 * 10**6)


@pytest.mark.parametrize(
    "data",
    [
        header({DOWN: {"dtype": "F32", "shape": [2, 5], "data_offsets": [0, 40]}} | {
            UP: {"dtype": "F32", "shape": [2, 5], "data_offsets": [0, 40]}}, b"\0" * 40),
        header({DOWN: {"dtype": "F32", "shape": [2, 5], "data_offsets": [40, 0]}}, b"\0" * 40),
        header({DOWN: {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 40]}}, b"\0" * 40),
        header({DOWN: {"dtype": "F32", "shape": [2, 5], "data_offsets": [-1, 40]}}, b"\0" * 40),
        header({DOWN: {"dtype": "X9", "shape": [2, 5], "data_offsets": [0, 40]}}, b"\0" * 40),
        header({DOWN: 5}, b"\0" * 40),
        header([1, 2]),
        header("text"),
        b"\x08\0\0\0\0\0\0\0[[[[[[[[",
    ],
    ids=["overlap", "backwards", "giant shape", "negative", "dtype", "number", "list", "text", "deep"],
)  # fmt: skip
def test_class_04_a_header_that_contradicts_itself_is_refused(data: bytes, tmp_path: Path):
    with pytest.raises(AdapterRefused, match=r"adapter_model\.safetensors"):
        load(tmp_path / "a", files(data=data))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_class_04_nan_and_infinity_are_refused(value: float, tmp_path: Path):
    with pytest.raises(AdapterRefused, match="NaN or infinity"):
        load(tmp_path / "a", files(data=weights(**{DOWN: torch.full((2, 5), value)})))


@pytest.mark.parametrize(
    "start",
    [
        (2**62).to_bytes(8, "little") + b"{}",
        b"\x80\x96\x98\0\0\0\0\0" + b"[" * 10_000_000,
        header({"a": {"shape": [1], "data_offsets": []}}),
        header({"a": {"shape": "x", "data_offsets": [0, "y"]}}),
        header({"a": 5, "b": None}),
        header([1]),
    ],
    ids=["huge", "deep", "no offsets", "words", "numbers", "list"],
)
def test_class_04_a_hostile_header_of_a_base_is_refused(start: bytes, tmp_path: Path):
    base = copy_of_tiny(tmp_path)
    (base / "model.safetensors").write_bytes(start)
    with pytest.raises(BaseIncomplete, match="header"):
        LocalBases(hub_cache=tmp_path).resolve(str(base))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("peft_type", "PROMPT_TUNING"),
        ("peft_type", "os.system"),
        ("auto_map", {"AutoModel": "evil.Model"}),
        ("trust_remote_code", True),
        ("base_model_class", "evil.Model"),
        ("corda_config", {"file": "evil.pt"}),
        ("eva_config", {"x": 1}),
        ("lora_bias", True),
        ("target_parameters", ["x"]),
        ("trainable_token_indices", [1]),
    ],
)
def test_class_05_a_configuration_with_code_or_of_unknown_type_is_refused_by_field(field: str, value: object):
    with pytest.raises(AdapterRefused, match=f"{field}'? is"):
        parse_settings(json.dumps(CONFIG | {field: value}).encode())


def test_class_05_a_library_named_by_a_configuration_is_never_imported(tmp_path: Path):
    (tmp_path / "evil_library.py").write_text("raise SystemExit('imported')", "utf-8")
    sys.path.insert(0, str(tmp_path))
    try:
        named = {"auto_mapping": {"parent_library": "evil_library", "base_model_class": "Evil"}}
        assert load(tmp_path / "a", files(CONFIG | named)).updates
    finally:
        sys.path.remove(str(tmp_path))
    assert "evil_library" not in sys.modules


@pytest.mark.parametrize("field", ["auto_map", "trust_remote_code"])
def test_class_06_remote_code_in_an_adapter_is_refused(field: str):
    with pytest.raises(AdapterRefused, match=field):
        parse_settings(json.dumps(CONFIG | {field: {"AutoConfig": "org/repo--evil.Config"}}).encode())


def test_class_06_auto_map_in_a_base_is_refused_before_anything_is_loaded(tmp_path: Path):
    base = copy_of_tiny(tmp_path)
    config = json.loads((base / "config.json").read_text("utf-8"))
    config["auto_map"] = {"AutoModelForCausalLM": "modeling_evil.Evil"}
    (base / "config.json").write_text(json.dumps(config), "utf-8")
    (base / "modeling_evil.py").write_text(f"import os; os.mkdir({str(tmp_path / 'ran')!r})", "utf-8")
    with pytest.raises(BaseIncomplete, match="has auto_map, so the model brings code of its own"):
        LocalBases(hub_cache=tmp_path).resolve(str(base))
    assert not (tmp_path / "ran").exists()


def test_class_06_no_source_of_ours_trusts_remote_code():
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text("utf-8")
        assert "trust_remote_code=True" not in text, path
        assert text.count("from_pretrained(") <= text.count("trust_remote_code=False") + text.count(
            "`from_pretrained("
        ), f"{path} loads a model without saying that its code is not trusted"


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{ messages.__class__.__mro__[1].__subclasses__() }}", "unsafe"),
        ("{{ raise_exception.__globals__['json'] }}", "unsafe"),
        ("{{ cycler.__init__.__globals__.os.popen('id').read() }}", "unsafe"),
        ("{% import 'os' as os %}", "no loader"),
        ("{{ 'a' * 10**10 }}", "makes a value of about 10,000,000,000 characters"),
        ("{% for i in range(10**9) %}{% endfor %}", "Range too big"),
        ("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", "more than 2 s"),
    ],
)
def test_class_07_a_template_that_reaches_out_or_burns_time_or_memory_is_stopped(template: str, said: str):
    render = compile_chat_template(template, {})
    with pytest.raises(TemplateMismatch, match=said):
        render([{"role": "user", "content": "hi"}], True)


def test_class_07_a_message_that_looks_like_a_template_is_text(tmp_path: Path):
    tokenizer = ChatTokenizer.from_base(LocalBases(hub_cache=tmp_path).resolve("tiny"))
    for text in ("{{ 7 * 7 }}", "{% for i in range(9) %}x{% endfor %}", "{# gone #}", "{{ messages }}"):
        chat = [{"role": "user", "content": text}]
        assert text in tokenizer.render(chat, add_generation_prompt=True)


def test_class_07_a_template_that_an_adapter_brings_is_never_used(tmp_path: Path):
    hostile = {
        "chat_template.jinja": b"{{ ''.__class__ }}",
        "tokenizer_config.json": b'{"chat_template": "x"}',
    }
    adapter = load(tmp_path / "a", files() | hostile)
    assert set(adapter.updates) == {"mlp.down"}, "only weights come from an adapter; text is the base's"


@pytest.mark.parametrize(
    ("config", "changed", "error", "said"),
    [
        ({"r": 3}, {}, AdapterRefused, "expected rank 3"),
        ({"r": 2**31}, {}, AdapterRefused, "from 1 to 4096"),
        ({"lora_alpha": float("nan")}, {}, AdapterRefused, "lora_alpha is nan"),
        ({}, {DOWN: torch.ones(2, 7)}, BaseMismatch, "maps 7 to 6 numbers, the base's 5 to 6"),
        ({}, {UP: torch.ones(9, 2)}, BaseMismatch, "maps 5 to 9"),
        ({}, {DOWN: torch.ones(2, 5, 1)}, AdapterRefused, "3 dimensions"),
        ({}, {DOWN: torch.ones(0, 5)}, AdapterRefused, "expected rank 2"),
        ({}, {DOWN.replace("down", "up"): torch.ones(2, 5)}, AdapterRefused, "only one of"),
    ],
)
def test_class_08_a_rank_or_shape_that_does_not_fit_is_refused_with_both(
    config: dict[str, object],
    changed: dict[str, torch.Tensor],
    error: type[Exception],
    said: str,
    tmp_path: Path,
):
    with pytest.raises(error, match=said):
        load(tmp_path / "a", files(CONFIG | config, weights(**changed)))


def test_class_08_an_adapter_of_another_base_is_refused_by_layer(tmp_path: Path):
    other = {name.replace("mlp.down", "transformer.h.0"): torch.ones(2, 2) for name in (DOWN, UP)}
    with pytest.raises(BaseMismatch, match=r"changes transformer\.h\.0, and the base has no such"):
        load(tmp_path / "a", files(data=save(other)))


def test_class_09_a_file_swapped_after_verification_is_refused_by_the_engine(tmp_path: Path):
    """Verified bytes are handed over as files; what the engine reads must hash to the same digest again."""
    given = files()
    folder = write_adapter(tmp_path, name_of_manifest(given), given)
    (folder / "adapter_model.safetensors").write_bytes(weights(**{DOWN: torch.zeros(2, 5)}))
    with pytest.raises(BlobCorrupt, match="expected the digest it is named by"):
        load_adapter(folder, name_of_manifest(given), SITES, torch.float32)


def test_class_09_the_bytes_that_were_hashed_are_the_bytes_that_are_loaded(tmp_path: Path):
    given = files()
    folder = write_adapter(tmp_path, name_of_manifest(given), given)
    read = read_adapter(folder, name_of_manifest(given))
    shutil.rmtree(folder)  # whatever happens on the disk from here on
    assert build_adapter(Digest("a" * 64), read, SITES, torch.float32).updates


def test_class_18_a_manifest_that_the_registry_does_not_know_is_never_pointed_to(ports):
    """What can be said of a poisoned adapter: only one made and judged here, byte for byte, can be served."""
    model = register(RECIPE, make_world(ports).report, ports)
    poisoned = put_tree(ports.blobs, {"adapter_model.safetensors": b"poison", "adapter_config.json": b"{}"})
    forged = model.model_copy(update={"ref": Ref("shop", 2), "adapter": poisoned})
    with pytest.raises(SignatureInvalid):
        load_verified(forged, ports)
    ports.records.stored["model"][forged.ref] = forged
    with pytest.raises(SignatureInvalid):
        set_alias("shop", "champion", target=forged.ref, actor="eve", reason="x", ports=ports)
    assert ports.records.alias("shop", "champion").target == model.ref


def test_class_18_an_adapter_that_changes_nothing_is_not_registered(tmp_path: Path):
    ports = fake_ports(tmp_path, NoOpEngine())
    with pytest.raises(IndistinguishableFromBase, match="expected at least one other answer"):
        register(RECIPE, make_world(ports).report, ports)


def copy_of_tiny(folder: Path) -> Path:
    return Path(shutil.copytree(TINY_BASE, folder / "base"))
