"""Load a base from its folder and make it ready to decode."""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.utils import logging as transformers_logging

from tunewright.backends.base_models import LocalBases
from tunewright.backends.engine.adapter_store import AdapterStore
from tunewright.backends.engine.backbone import context_tokens, own_logits, prove
from tunewright.backends.engine.backbone_llama import backbone_of
from tunewright.backends.engine.decoder import BatchDecoder
from tunewright.backends.engine.service import ServedBase
from tunewright.core.tokens import ChatTokenizer

PROOF_TOKENS = 24
"""Length of the row that the engine's arithmetic is proven on."""

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, slots=True)
class LoadedBase:
    """A base that is ready."""

    served: ServedBase
    adapters: AdapterStore
    decoder: BatchDecoder


def load_base(
    folder: Path, *, threads: int, dtype: Literal["float32", "bfloat16"], cache_bytes: int
) -> LoadedBase:
    """Load, choose how to run, and prove that against the model's own forward pass.

    Args:
        folder: the base; nothing outside it is read and no code of it is run.
        threads: of the numeric library.
        dtype: of weights and arithmetic.
        cache_bytes: memory for keys and values.

    Raises:
        BaseNotFound, BaseIncomplete: missing or damaged files, or an architecture that cannot be served.
    """
    torch.set_num_threads(threads)
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    files = LocalBases(hub_cache=folder).resolve(str(folder.absolute()))
    with torch.inference_mode():
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype=_DTYPES[dtype]
        )
        model = model.eval()
        context, vocabulary = context_tokens(model), int(model.config.vocab_size)
        probe = [(7919 * place + 11) % vocabulary for place in range(min(PROOF_TOKENS, context))]
        expected_NV = own_logits(model, probe)
        backbone = backbone_of(model)
        prove(backbone, probe, expected_NV)
    return LoadedBase(
        ServedBase(files.ref.digest, ChatTokenizer.from_base(files), context),
        AdapterStore(backbone.sites, _DTYPES[dtype]),
        BatchDecoder(backbone, cache_bytes=cache_bytes),
    )
