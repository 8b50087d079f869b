"""Make a loaded adapter of verified bytes: tensors checked one by one against the base.

Shapes: R rank, I inputs, O outputs of a linear layer.
"""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import Tensor

from tunewright.backends.engine.adapter_files import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    LoraSettings,
    check_header,
    parse_settings,
    read_adapter,
)
from tunewright.backends.engine.lora import Adapter, Site, SitePart, SiteUpdate, site_update, update_bytes
from tunewright.errors import AdapterRefused, BaseMismatch
from tunewright.values import Digest

_PREFIX = "base_model.model."
_DOWN, _UP = ".lora_A.weight", ".lora_B.weight"
_DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def load_adapter(folder: Path, digest: str, sites: Mapping[str, Site], dtype: torch.dtype) -> Adapter:
    """Read, verify and build an adapter; from the bytes that were hashed, never from the path again.

    Raises:
        AdapterRefused: its files are not a plain LoRA adapter.
        BlobCorrupt: its files do not hash to the digest.
        BaseMismatch: its tensors do not fit the base.
    """
    return build_adapter(Digest(digest), read_adapter(folder, digest), sites, dtype)


def build_adapter(
    digest: Digest, files: Mapping[str, bytes], sites: Mapping[str, Site], dtype: torch.dtype
) -> Adapter:
    """Build an adapter of files whose digest was checked. Raises AdapterRefused, BaseMismatch."""
    settings = parse_settings(files[CONFIG_FILE])
    pairs = _pairs(_tensors(files[WEIGHTS_FILE]), settings)
    _check_against_base(pairs, sites)
    updates: dict[str, SiteUpdate] = {}
    for name, site in sites.items():
        update = site_update(site, pairs, dtype)
        if update is not None:
            updates[name] = update
    if not all(_is_finite(update) for update in updates.values()):
        raise AdapterRefused(
            f"{WEIGHTS_FILE}: its numbers overflow {dtype} once scaled; expected finite ones"
        )
    return Adapter(digest, updates, sum(update_bytes(update) for update in updates.values()))


def _tensors(data: bytes) -> dict[str, Tensor]:
    check_header(data)
    try:
        tensors = load_safetensors(data)
    except (SafetensorError, ValueError, KeyError) as error:
        raise AdapterRefused(f"{WEIGHTS_FILE} is not safetensors: {error!s:.300}") from error
    for name, tensor in tensors.items():
        if tensor.dtype not in _DTYPES or tensor.ndim != 2:
            raise AdapterRefused(
                f"{WEIGHTS_FILE}: {name!r:.200} is {tensor.dtype} of {tensor.ndim} dimensions; expected a "
                "matrix of float32, float16 or bfloat16"
            )
        if not bool(torch.isfinite(tensor).all()):
            raise AdapterRefused(
                f"{WEIGHTS_FILE}: {name!r:.200} holds NaN or infinity; expected finite numbers"
            )
    if not tensors:
        raise AdapterRefused(f"{WEIGHTS_FILE} holds no tensor")
    return tensors


def _pairs(tensors: Mapping[str, Tensor], settings: LoraSettings) -> dict[str, tuple[Tensor, Tensor]]:
    """Pair A and B of each layer: module path -> (A, RI; B times the scale, OR), in fp32."""
    for name in tensors:
        if not (name.startswith(_PREFIX) and name.endswith((_DOWN, _UP))):
            raise AdapterRefused(
                f"{WEIGHTS_FILE}: {name!r:.200} is no LoRA matrix of a linear layer; expected names such as "
                f"{_PREFIX}model.layers.0.self_attn.q_proj{_DOWN}"
            )
    modules = {name.removeprefix(_PREFIX).removesuffix(_DOWN).removesuffix(_UP) for name in tensors}
    pairs: dict[str, tuple[Tensor, Tensor]] = {}
    for module in sorted(modules):
        down_RI, up_OR = tensors.get(_PREFIX + module + _DOWN), tensors.get(_PREFIX + module + _UP)
        if down_RI is None or up_OR is None:
            raise AdapterRefused(f"{WEIGHTS_FILE}: {module} has only one of lora_A and lora_B; expected both")
        if down_RI.shape[0] != settings.rank or up_OR.shape[1] != settings.rank:
            raise AdapterRefused(
                f"{WEIGHTS_FILE}: {module} has A {tuple(down_RI.shape)} and B {tuple(up_OR.shape)}; expected "
                f"rank {settings.rank}, as {CONFIG_FILE} says"
            )
        pairs[module] = (down_RI.float(), up_OR.float() * settings.scale)
    return pairs


def _check_against_base(pairs: Mapping[str, tuple[Tensor, Tensor]], sites: Mapping[str, Site]) -> None:
    layers: dict[str, tuple[Site, SitePart]] = {
        part.module: (site, part) for site in sites.values() for part in site.parts
    }
    for module, (down_RI, up_OR) in pairs.items():
        if module not in layers:
            raise BaseMismatch(
                f"the adapter changes {module}, and the base has no such linear layer that takes an adapter; "
                "expected an adapter trained on this base"
            )
        site, part = layers[module]
        expected, found = (site.num_inputs, part.stop - part.start), (down_RI.shape[1], up_OR.shape[0])
        if found != expected:
            raise BaseMismatch(
                f"the adapter's {module} maps {found[0]} to {found[1]} numbers, the base's {expected[0]} to "
                f"{expected[1]}; expected an adapter trained on this base"
            )


def _is_finite(update: SiteUpdate) -> bool:
    return all(bool(torch.isfinite(x).all()) for x in (update.down_QI, update.up_QO))
