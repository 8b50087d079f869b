"""How a base becomes something trainable: LoRA by PEFT, or full fine-tuning; and the files of a candidate."""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false

import json
import warnings
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import save
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from tunewright.errors import BaseIncomplete, RecipeError
from tunewright.recipe import TrainSection
from tunewright.train import attention
from tunewright.values import Digest, digest_bytes

ADAPTER = "default"
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "generation_config.json",
)


@dataclass(frozen=True, slots=True)
class Trainable:
    """A model with the parameters that will be trained."""

    causal: PreTrainedModel
    """The causal language model; adapters, if any, sit inside its layers."""
    adapted: PeftModel | None
    """PEFT's wrapper around `causal`; None for full fine-tuning."""
    parameters: Mapping[str, nn.Parameter]
    """Saved name -> parameter, sorted by name."""

    @contextmanager
    def adapter_off(self) -> Generator[None]:
        """Switch the adapter off for a while; nothing to switch for full fine-tuning."""
        if self.adapted is None:
            yield
        else:
            with self.adapted.disable_adapter():
                yield

    def weights(self) -> dict[str, Tensor]:
        """Copy the trained tensors to the CPU."""
        return {name: value.detach().to("cpu", copy=True) for name, value in self.parameters.items()}

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Put tensors of the same names back, into the same memory."""
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(weights[name])

    def digest(self) -> Digest:
        """Hash the trained tensors as they are now."""
        return digest_bytes(save(self.weights()))


def load_base(folder: Path, settings: TrainSection, device: torch.device) -> PreTrainedModel:
    """Load a base's weights with the document attention, frozen.

    Raises:
        BaseIncomplete: transformers cannot build this architecture or read its weights.
    """
    attention.register()
    is_stored_bf16 = settings.precision == "bf16" and settings.method == "lora"
    try:
        found = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=torch.bfloat16 if is_stored_bf16 else torch.float32,
            attn_implementation=attention.NAME,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
        # With the loading info asked for, a pair comes back; the library's types do not say so.
        model, loaded = cast("tuple[PreTrainedModel, dict[str, set[str]]]", found)
    except (ValueError, TypeError, KeyError, OSError, RuntimeError) as error:
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise BaseIncomplete(
            f"the base at {folder} cannot be loaded ({said}); expected a causal language model of an "
            "architecture that this transformers knows, with weights that fit its config.json. Choose "
            "another base, or copy its folder again."
        ) from error
    if missing := sorted(loaded["missing_keys"]):
        raise BaseIncomplete(
            f"the base at {folder} lacks {len(missing)} tensors that its config.json asks for, such as "
            f"{missing[0]}; they would be random numbers. Copy the folder again."
        )
    model.requires_grad_(requires_grad=False)
    nn.Module.to(model, device)
    return model.eval()


def num_embeddings(model: PreTrainedModel) -> int:
    """Count the token ids a model has embeddings for."""
    return cast("nn.Embedding", model.get_input_embeddings()).num_embeddings


def make_trainable(model: PreTrainedModel, settings: TrainSection) -> Trainable:
    """Add an adapter, or free all weights. The caller has seeded torch, which decides the adapter's start.

    Raises:
        RecipeError: a LoRA target names no linear layer, or the head or embeddings.
    """
    if settings.method == "full":
        model.requires_grad_(requires_grad=True)
        parameters = {name: value for name, value in model.named_parameters()}  # tied ones come once
        return Trainable(model, None, dict(sorted(parameters.items())))
    config = LoraConfig(
        r=settings.lora.rank,
        lora_alpha=settings.lora.alpha,  # pyright: ignore[reportArgumentType]  (a float works and is stored)
        lora_dropout=settings.lora.dropout,
        target_modules=_targets(model, settings),
        bias="none",
        task_type="CAUSAL_LM",
    )
    with warnings.catch_warnings():  # PEFT still reads an attribute that transformers has renamed
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        adapted = get_peft_model(model, config, adapter_name=ADAPTER)
    parameters = {
        name.replace(f".{ADAPTER}.", "."): value
        for name, value in adapted.named_parameters()
        if value.requires_grad
    }
    return Trainable(model, adapted, dict(sorted(parameters.items())))


def _targets(model: PreTrainedModel, settings: TrainSection) -> str | list[str]:
    targets = settings.lora.targets
    if targets == "all_linear":
        return "all-linear"
    head = model.get_output_embeddings()
    linear = {
        name.rsplit(".", 1)[-1]
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module is not head
    }
    if unknown := sorted(set(targets) - linear):
        raise RecipeError(
            f"train.lora.targets: {unknown[0]!r} is no linear layer of this base below its head; expected "
            f"`all_linear` or some of {', '.join(sorted(linear))}"
        )
    return sorted(targets)


def candidate_files(
    trainable: Trainable, weights: Mapping[str, Tensor], base_name: str, base_folder: Path
) -> dict[str, bytes]:
    """Make a candidate's files: the same tensors give the same bytes, and no path of this machine is inside.

    For LoRA: adapter_config.json and adapter_model.safetensors in PEFT's format. For full fine-tuning: a
    whole base folder, in fp32.
    """
    tensors = {name: weights[name].contiguous() for name in sorted(weights)}
    data = save(tensors, metadata={"format": "pt"})
    if trainable.adapted is not None:
        config = trainable.adapted.peft_config[ADAPTER].to_dict()
        config |= {"base_model_name_or_path": public_name(base_name), "inference_mode": True}
        return {"adapter_config.json": _json_bytes(config), "adapter_model.safetensors": data}
    config = json.loads((base_folder / "config.json").read_text("utf-8")) | {"dtype": "float32"}
    copied = {
        name: (base_folder / name).read_bytes() for name in TOKENIZER_FILES if (base_folder / name).is_file()
    }
    return copied | {"config.json": _json_bytes(config), "model.safetensors": data}


def public_name(base_name: str) -> str:
    """Name a base without a path of this machine: a folder by its last part."""
    is_path = base_name.startswith(("/", ".", "~")) or Path(base_name).is_dir()
    return Path(base_name).name if is_path else base_name


def _json_bytes(value: object) -> bytes:
    text = json.dumps(value, indent=2, sort_keys=True, default=_plain)
    return (text + "\n").encode()


def _plain(value: object) -> object:
    """Write sets as sorted lists and enumerations as their text."""
    if isinstance(value, set | frozenset):
        return sorted(str(item) for item in value)
    return str(value)
