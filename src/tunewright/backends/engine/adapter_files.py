"""Adapter files, read with distrust: verified bytes and a checked configuration come out; no tensors.

Nothing here runs what an adapter brings: its configuration is data, of which every field that would change
the arithmetic is known by name and either understood or refused.
"""

import json
import math
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from tunewright.errors import AdapterRefused, BlobCorrupt
from tunewright.values import Digest, Json, canonical_json, digest_bytes

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
MAX_FILES = 64
MAX_ADAPTER_BYTES = 2 * 2**30
MAX_CONFIG_BYTES = 2**20
MAX_HEADER_BYTES = 16 * 2**20
MAX_TENSORS = 100_000
MAX_RANK = 4096

_CODE_SUFFIXES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".npy", ".npz", ".py", ".so")
_CODE_STARTS = (
    *(bytes([0x80, protocol]) for protocol in range(2, 6)),
    b"PK\x03\x04",
    b"\x93NUMPY",
    b"\x7fELF",
)
"""How pickles, zip archives (what torch saves), arrays that may hold pickles, and libraries begin."""

_USED = {"peft_type", "r", "lora_alpha", "use_rslora", "bias", "init_lora_weights"}
_HARMLESS = {
    "auto_mapping",
    "base_model_name_or_path",
    "ensure_weight_tying",
    "exclude_modules",
    "inference_mode",
    "layers_pattern",
    "layers_to_transform",
    "lora_dropout",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
    "target_modules",
    "task_type",
}
"""Say how the adapter was made, or what the tensors' names say too; every other field must be off."""

_PLAIN_STARTS = (True, False, "gaussian", "orthogonal", "eva", None)
"""Ways to initialise an adapter that leave the base's weights as they were."""


@dataclass(frozen=True, slots=True)
class LoraSettings:
    """What the arithmetic needs from adapter_config.json."""

    rank: int
    scale: float
    """What B A is multiplied by: alpha / rank, or alpha / sqrt(rank) for rank-stabilised LoRA."""


def read_adapter(folder: Path, digest: str) -> dict[str, bytes]:
    """Read a folder once, into memory, and check that the bytes read are those the digest names.

    Raises:
        AdapterRefused: not a plain folder of plain files, too large, or with files that can hold code.
        BlobCorrupt: the files do not hash to the digest.
    """
    files = _read_folder(folder)
    manifest = {name: digest_bytes(data) for name, data in files.items()}
    found = digest_bytes(canonical_json(manifest))
    if found != digest:
        raise BlobCorrupt(
            f"adapter {digest}: its {len(files)} files hash to {found}; expected the digest it is named by. "
            "Nothing was loaded; fetch the adapter again."
        )
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        if name not in files:
            raise AdapterRefused(f"adapter {digest} has no {name}; expected {CONFIG_FILE} and {WEIGHTS_FILE}")
    return files


def _read_folder(folder: Path) -> dict[str, bytes]:
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in islice(entries, MAX_FILES + 1))
        if len(names) > MAX_FILES:
            raise AdapterRefused(f"{folder} has more than {MAX_FILES} files; expected at most so many")
        files: dict[str, bytes] = {}
        for name in names:
            files[name] = _read_file(folder / name, MAX_ADAPTER_BYTES - sum(map(len, files.values())))
        return files
    except (OSError, ValueError) as error:  # the latter: a NUL in the folder's name
        raise AdapterRefused(
            f"the adapter folder {str(folder)!r:.300} cannot be read: {error}; expected a folder of plain "
            "files, no links"
        ) from error


def _read_file(path: Path, room_bytes: int) -> bytes:
    """Read one plain file without following a link."""
    if path.suffix.lower() in _CODE_SUFFIXES:
        raise AdapterRefused(
            f"adapter file {path.name!r} may hold code; expected safetensors only. Convert it first."
        )
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise AdapterRefused(f"adapter file {path.name!r} is not a plain file")
        if status.st_size > room_bytes:
            raise AdapterRefused(f"the adapter has more than {MAX_ADAPTER_BYTES} bytes")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            data = file.read(room_bytes)
    finally:
        os.close(descriptor)
    if path.name != WEIGHTS_FILE and data.startswith(_CODE_STARTS):
        raise AdapterRefused(
            f"adapter file {path.name!r} is a pickle or an archive, whatever its name says, and may hold "
            "code; expected safetensors and text only. Convert it first."
        )
    return data


def parse_settings(data: bytes) -> LoraSettings:
    """Read adapter_config.json. Raises AdapterRefused naming the field."""
    config = _object(data)
    _check_fields(config)
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if not isinstance(rank, int) or isinstance(rank, bool) or not 1 <= rank <= MAX_RANK:
        raise AdapterRefused(
            f"{CONFIG_FILE}: r is {rank!r:.80}; expected a whole number from 1 to {MAX_RANK}"
        )
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not 0 < alpha < 1e9:
        raise AdapterRefused(f"{CONFIG_FILE}: lora_alpha is {alpha!r:.80}; expected a number above 0")
    return LoraSettings(rank, alpha / (math.sqrt(rank) if config.get("use_rslora") else rank))


def _object(data: bytes) -> dict[str, Json]:
    if len(data) > MAX_CONFIG_BYTES:
        raise AdapterRefused(f"{CONFIG_FILE} has {len(data)} bytes; expected at most {MAX_CONFIG_BYTES}")
    try:
        config: Json = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise AdapterRefused(f"{CONFIG_FILE} is not JSON: {error!s:.200}") from error
    if not isinstance(config, dict):
        raise AdapterRefused(f"{CONFIG_FILE} is not a JSON object")
    return config


def _check_fields(config: Mapping[str, Json]) -> None:
    if config.get("peft_type") != "LORA":
        raise AdapterRefused(f"{CONFIG_FILE}: peft_type is {config.get('peft_type')!r:.80}; expected 'LORA'")
    if config.get("bias", "none") != "none":
        raise AdapterRefused(f"{CONFIG_FILE}: bias is {config['bias']!r:.80}; expected 'none'")
    if config.get("init_lora_weights") not in _PLAIN_STARTS:
        raise AdapterRefused(
            f"{CONFIG_FILE}: init_lora_weights is {config['init_lora_weights']!r:.80}, which changes the "
            "base's own weights; expected an adapter that leaves the base as it is"
        )
    for name, value in config.items():
        if name not in _USED and name not in _HARMLESS and value not in (None, False, [], {}, ""):
            raise AdapterRefused(
                f"{CONFIG_FILE}: {name!r:.80} is {value!r:.80}; this engine serves plain LoRA on linear "
                "layers and expects it to be off"
            )


def check_header(data: bytes) -> None:
    """Look at a safetensors header before anything is allocated for it. Raises AdapterRefused."""
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 or size > min(len(data) - 8, MAX_HEADER_BYTES):
        raise AdapterRefused(
            f"{WEIGHTS_FILE}: the header claims {size} bytes of a file of {len(data)}; expected at most "
            f"{MAX_HEADER_BYTES}. It is truncated or not safetensors."
        )
    try:
        header: Json = json.loads(data[8 : 8 + size])
    except (ValueError, RecursionError) as error:
        raise AdapterRefused(f"{WEIGHTS_FILE}: the header is not JSON: {error!s:.200}") from error
    if not isinstance(header, dict) or len(header) > MAX_TENSORS:
        raise AdapterRefused(f"{WEIGHTS_FILE}: expected a header that names at most {MAX_TENSORS} tensors")


def name_of_manifest(files: Mapping[str, bytes]) -> Digest:
    """Compute the digest an adapter is named by."""
    return digest_bytes(canonical_json({name: digest_bytes(data) for name, data in files.items()}))
