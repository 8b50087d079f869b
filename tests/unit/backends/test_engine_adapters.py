"""Adapters: what is refused before a byte of it is used, and that rows get exactly their own update."""

import json
import os
import pickle
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from tunewright.backends.engine.adapter_files import (
    check_header,
    name_of_manifest,
    parse_settings,
    read_adapter,
)
from tunewright.backends.engine.adapters import build_adapter, load_adapter
from tunewright.backends.engine.lora import FEW_TOKENS, Group, Site, SitePart, linear
from tunewright.errors import AdapterRefused, BaseMismatch, BlobCorrupt
from tunewright.values import Digest

SITES = {
    "attention.q+v": Site(6, (SitePart("attention.q", 0, 4), SitePart("attention.v", 4, 9))),
    "mlp.down": Site(5, (SitePart("mlp.down", 0, 6),)),
}
CONFIG = {"peft_type": "LORA", "r": 2, "lora_alpha": 8, "bias": "none", "init_lora_weights": True}


def tensors(seed: int = 0, **changed: torch.Tensor) -> dict[str, torch.Tensor]:
    shapes = {"attention.q": (6, 4), "mlp.down": (5, 6)}
    made: dict[str, torch.Tensor] = {}
    generator = torch.Generator().manual_seed(seed)
    for module, (inputs, outputs) in shapes.items():
        made[f"base_model.model.{module}.lora_A.weight"] = torch.randn(2, inputs, generator=generator)
        made[f"base_model.model.{module}.lora_B.weight"] = torch.randn(outputs, 2, generator=generator)
    return made | changed


def files(config: Mapping[str, object] = CONFIG, weights: bytes | None = None) -> dict[str, bytes]:
    return {
        "adapter_config.json": json.dumps(config).encode(),
        "adapter_model.safetensors": save(tensors()) if weights is None else weights,
    }


def build(given: Mapping[str, bytes]):
    return build_adapter(Digest("0" * 64), given, SITES, torch.float32)


def write(folder: Path, given: Mapping[str, bytes]) -> str:
    for name, data in given.items():
        (folder / name).write_bytes(data)
    return name_of_manifest(given)


def test_a_sound_adapter_loads_from_its_folder(tmp_path: Path):
    digest = write(tmp_path, files())
    adapter = load_adapter(tmp_path, digest, SITES, torch.float32)
    assert adapter.digest == digest
    assert set(adapter.updates) == set(SITES)


@pytest.mark.parametrize("num_tokens", [1, 3, FEW_TOKENS, FEW_TOKENS + 1])
def test_tokens_get_base_plus_scaled_update_and_parts_left_alone_stay_base(num_tokens: int):
    adapter, given = build(files()), tensors()
    x_NI = torch.randn(num_tokens, 6)
    weight_OI = torch.randn(9, 6)
    found = linear(x_NI, weight_OI, None, "attention.q+v", [Group(adapter, 0, num_tokens)])
    down, up = (given[f"base_model.model.attention.q.lora_{part}.weight"] for part in "AB")
    base = x_NI @ weight_OI.T
    torch.testing.assert_close(found[:, :4], base[:, :4] + 4.0 * (x_NI @ down.T @ up.T))
    torch.testing.assert_close(found[:, 4:], base[:, 4:])


def test_rank_stabilised_scaling_is_honoured():
    assert parse_settings(json.dumps(CONFIG).encode()).scale == 4.0
    assert parse_settings(json.dumps(CONFIG | {"use_rslora": True}).encode()).scale == pytest.approx(
        8 / 2**0.5
    )


def test_rows_of_several_adapters_and_the_base_do_not_mix():
    one, two = build(files()), build(files(weights=save(tensors(seed=5))))
    x_NI, weight_OI = torch.randn(7, 6), torch.randn(9, 6)
    mixed = linear(x_NI, weight_OI, None, "attention.q+v", [Group(one, 0, 3), Group(two, 5, 7)])
    for adapter, start, stop in ((one, 0, 3), (None, 3, 5), (two, 5, 7)):
        part = x_NI[start:stop]
        groups = [] if adapter is None else [Group(adapter, 0, len(part))]
        torch.testing.assert_close(
            mixed[start:stop], linear(part, weight_OI, None, "attention.q+v", groups), atol=1e-5, rtol=1e-5
        )


def test_a_poisoned_adapter_cannot_reach_other_rows():
    huge = tensors()
    huge["base_model.model.attention.q.lora_A.weight"] = torch.full((2, 6), 3e38)
    poisoned = build(files(weights=save(huge)))
    x_NI, weight_OI = torch.full((4, 6), 1e5), torch.randn(9, 6)
    found = linear(x_NI, weight_OI, None, "attention.q+v", [Group(poisoned, 0, 2)])
    assert not torch.isfinite(found[:2]).all()
    assert torch.equal(found[2:], linear(x_NI, weight_OI, None, "attention.q+v", [])[2:])


def test_bytes_other_than_those_named_are_refused(tmp_path: Path):
    digest = write(tmp_path, files())
    swapped = bytearray((tmp_path / "adapter_model.safetensors").read_bytes())
    swapped[-1] ^= 1
    (tmp_path / "adapter_model.safetensors").write_bytes(bytes(swapped))
    with pytest.raises(BlobCorrupt, match="hash to"):
        read_adapter(tmp_path, digest)


def test_a_link_is_not_followed(tmp_path: Path):
    folder = tmp_path / "adapter"
    folder.mkdir()
    digest = write(folder, files())
    (tmp_path / "moved").write_bytes((folder / "adapter_config.json").read_bytes())
    (folder / "adapter_config.json").unlink()
    (folder / "adapter_config.json").symlink_to(tmp_path / "moved")
    with pytest.raises(AdapterRefused, match="no links"):
        read_adapter(folder, digest)


def test_a_pipe_or_a_folder_inside_is_refused_without_waiting(tmp_path: Path):
    digest = write(tmp_path, files())
    os.mkfifo(tmp_path / "extra")
    with pytest.raises(AdapterRefused, match="not a plain file"):
        read_adapter(tmp_path, digest)


@pytest.mark.parametrize("name", ["adapter_model.bin", "weights.pt", "data.PKL", "modeling_evil.py"])
def test_files_that_may_hold_code_are_refused_unopened(tmp_path: Path, name: str):
    given = files() | {name: pickle.dumps({"a": 1})}
    with pytest.raises(AdapterRefused, match="may hold code"):
        read_adapter(tmp_path, write(tmp_path, given))


def test_a_missing_part_is_named(tmp_path: Path):
    only = {"adapter_config.json": json.dumps(CONFIG).encode()}
    with pytest.raises(AdapterRefused, match=r"no adapter_model\.safetensors"):
        read_adapter(tmp_path, write(tmp_path, only))
    with pytest.raises(AdapterRefused, match="cannot be read"):
        read_adapter(tmp_path / "nowhere", "0" * 64)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("peft_type", "IA3"),
        ("peft_type", None),
        ("r", 0),
        ("r", 2.5),
        ("r", True),
        ("lora_alpha", "16"),
        ("lora_alpha", 0),
        ("bias", "all"),
        ("use_dora", True),
        ("modules_to_save", ["lm_head"]),
        ("fan_in_fan_out", True),
        ("rank_pattern", {"q": 4}),
        ("init_lora_weights", "pissa"),
        ("layer_replication", [[0, 2]]),
        ("auto_map", {"AutoModel": "evil.Model"}),
        ("something_new", True),
    ],
)
def test_a_configuration_that_would_change_the_arithmetic_is_refused_by_name(field: str, value: object):
    with pytest.raises(AdapterRefused, match=field):
        parse_settings(json.dumps(CONFIG | {field: value}).encode())


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff", b"[" * 100_000, b" " * 2_000_000])
def test_a_configuration_that_is_no_json_object_is_refused(data: bytes):
    with pytest.raises(AdapterRefused, match=r"adapter_config\.json"):
        parse_settings(data)


def test_a_huge_header_is_refused_before_it_is_read():
    with pytest.raises(AdapterRefused, match="header claims"):
        check_header((2**60).to_bytes(8, "little") + b"{}")
    with pytest.raises(AdapterRefused, match="header claims"):
        check_header(b"\x01")


def test_a_header_with_too_many_tensors_is_refused():
    header = json.dumps({str(index): 0 for index in range(100_001)}).encode()
    with pytest.raises(AdapterRefused, match="at most 100000"):
        check_header(len(header).to_bytes(8, "little") + header)


def test_overlapping_or_truncated_tensors_are_refused():
    entry = {"dtype": "F32", "shape": [1, 1], "data_offsets": [0, 4]}
    header = json.dumps({"a": entry, "b": entry}).encode()
    for data in (len(header).to_bytes(8, "little") + header + b"\0" * 4, save(tensors())[:-4]):
        with pytest.raises(AdapterRefused, match="not safetensors"):
            build(files(weights=data))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_and_infinity_are_refused(value: float):
    bad = tensors()
    bad["base_model.model.mlp.down.lora_B.weight"][3, 1] = value
    with pytest.raises(AdapterRefused, match="NaN or infinity"):
        build(files(weights=save(bad)))


def test_numbers_that_overflow_once_scaled_are_refused():
    bad = tensors()
    bad["base_model.model.mlp.down.lora_B.weight"][0, 0] = 3e38
    with pytest.raises(AdapterRefused, match="overflow"):
        build(files(weights=save(bad)))


@pytest.mark.parametrize(
    ("changed", "error", "said"),
    [
        ({"base_model.model.mlp.up.lora_A.weight": torch.ones(2, 6)}, AdapterRefused, "only one of"),
        ({"base_model.model.mlp.down.magnitude": torch.ones(2, 6)}, AdapterRefused, "no LoRA matrix"),
        ({"base_model.model.mlp.down.lora_A.weight": torch.ones(3, 5)}, AdapterRefused, "rank 2"),
        ({"base_model.model.mlp.down.lora_A.weight": torch.ones(2, 7)}, BaseMismatch, "maps 7 to 6"),
        ({"base_model.model.mlp.down.lora_B.weight": torch.ones(9, 2)}, BaseMismatch, "maps 5 to 9"),
        (
            {
                "base_model.model.other.lora_A.weight": torch.ones(2, 5),
                "base_model.model.other.lora_B.weight": torch.ones(6, 2),
            },
            BaseMismatch,
            "no such linear layer",
        ),
        ({"base_model.model.mlp.down.lora_A.weight": torch.ones(2, 5).long()}, AdapterRefused, "float32"),
        ({"base_model.model.mlp.down.lora_A.weight": torch.ones(10)}, AdapterRefused, "1 dimensions"),
    ],
)
def test_tensors_that_do_not_fit_are_refused_with_what_was_expected(
    changed: dict[str, torch.Tensor], error: type[Exception], said: str
):
    with pytest.raises(error, match=said):
        build(files(weights=save(tensors(**changed))))
