"""Run a base model on a flat batch of tokens, whatever its architecture; choose and prove the way to run it.

`GenericBackbone` runs the model as transformers has it, with attention and adapters put in. `LlamaBackbone`
(its own file) computes the common architecture with fewer, larger steps. Before a base is served, `prove`
compares the way chosen with the model's own forward pass.

Shapes: N tokens in a flat batch, M of them whose logits are wanted, H query heads, K key-value heads, D size
of a head, V vocabulary.
"""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false, reportUnknownParameterType=false, reportUnknownLambdaType=false

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from tunewright.backends.engine.kv_cache import (
    Attention,
    CacheShape,
    KvCache,
    PromptAttention,
    Segment,
    StepAttention,
)
from tunewright.backends.engine.lora import Group, Site, SitePart, add_updates
from tunewright.errors import BaseIncomplete

ATTENTION = "tunewright_engine"
"""Under this name transformers finds the engine's attention."""

PROOF_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.25, torch.float16: 0.05}
"""Largest difference of a log-probability allowed between the engine and the model's own forward pass."""


@dataclass(frozen=True, slots=True)
class FlatBatch:
    """Tokens of all rows, one after the other."""

    tokens_N: Tensor
    positions_N: Tensor
    attention: Attention
    groups: Sequence[Group] = ()
    """Which tokens use which adapter; those in no group use the base."""
    keep_M: Tensor | None = None
    """Places whose logits are wanted; None is all."""


class Backbone(Protocol):
    """A base that runs."""

    @property
    def shape(self) -> CacheShape:
        """What its cache must hold."""
        ...

    @property
    def sites(self) -> Mapping[str, Site]:
        """Where adapters can be put."""
        ...

    def logits(self, batch: FlatBatch) -> Tensor:
        """Run the model, MV."""
        ...


class _AdaptedLinear(nn.Module):
    """A linear layer of the base with every row's own update."""

    def __init__(self, base: nn.Linear, site: str, groups: "_Groups") -> None:
        super().__init__()
        self.base = base
        self.site = site
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        out = self.base(x)
        if self.groups.now:
            add_updates(out.view(-1, out.shape[-1]), x.reshape(-1, x.shape[-1]), self.site, self.groups.now)
        return out


class _Groups:
    """The groups of the batch that is running, shared by all layers."""

    now: Sequence[Group] = ()


class GenericBackbone:
    """Any causal language model of transformers that lets its attention be replaced."""

    def __init__(self, model: PreTrainedModel) -> None:
        """Take the model over; it is changed in place."""
        self.shape = cache_shape(model)
        self._model = model
        self._groups = _Groups()
        self.sites = self._put_in_sites()
        ALL_ATTENTION_FUNCTIONS.register(ATTENTION, _attend)
        model.set_attn_implementation(ATTENTION)

    def _put_in_sites(self) -> dict[str, Site]:
        head = self._model.get_output_embeddings()
        layers = [
            (name, module)
            for name, module in self._model.named_modules()
            if isinstance(module, nn.Linear) and module is not head
        ]
        for name, module in layers:
            parent, _, child = name.rpartition(".")
            adapted = _AdaptedLinear(module, name, self._groups)
            self._model.get_submodule(parent).register_module(child, adapted)
        return {
            name: Site(module.in_features, (SitePart(name, 0, module.out_features),))
            for name, module in layers
        }

    def logits(self, batch: FlatBatch) -> Tensor:
        """Run the model, MV."""
        self._groups.now = batch.groups
        return self._model(
            input_ids=batch.tokens_N[None],
            position_ids=batch.positions_N[None],
            use_cache=False,
            logits_to_keep=0 if batch.keep_M is None else batch.keep_M,
            engine_attention=batch.attention,
        ).logits[0]


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    engine_attention: Attention | None = None,
    **others: Any,  # Any: whatever an architecture hands to its attention
) -> tuple[Tensor, None]:
    """Attend as transformers calls it: query (1, H, N, D), key and value (1, K, N, D)."""
    unknown = sorted(name for name in ("softcap", "s_aux", "position_bias") if others.get(name) is not None)
    if engine_attention is None or unknown:
        needed = ", ".join(unknown) or "an attention of its own"
        raise BaseIncomplete(
            f"the architecture {type(module).__name__} needs {needed}, which the engine does not have; "
            "serve this base with another engine"
        )
    q_NHD, k_NKD, v_NKD = (x[0].transpose(0, 1) for x in (query, key, value))
    scale = q_NHD.shape[-1] ** -0.5 if scaling is None else scaling
    out_NHD = engine_attention(int(str(module.layer_idx)), q_NHD, k_NKD, v_NKD, scale)
    return out_NHD[None], None


def cache_shape(model: PreTrainedModel) -> CacheShape:
    """Read from the configuration what the cache must hold."""
    config: Any = model.config  # Any: every architecture has a configuration class of its own
    values = config.to_dict()
    num_heads = int(values["num_attention_heads"])
    return CacheShape(
        num_layers=int(values["num_hidden_layers"]),
        num_heads=int(values.get("num_key_value_heads") or num_heads),
        head_size=int(values.get("head_dim") or values["hidden_size"] // num_heads),
        dtype=model.dtype,
    )


def context_tokens(model: PreTrainedModel) -> int:
    """Longest row that can be served: the trained context, within any sliding window."""
    values: Mapping[str, Any] = model.config.to_dict()  # Any: JSON of the architecture
    longest = int(values["max_position_embeddings"])
    slides = values.get("use_sliding_window", True) and values.get("sliding_window")
    return min(longest, int(values["sliding_window"])) if slides else longest


def own_logits(model: PreTrainedModel, tokens: Sequence[int]) -> Tensor:
    """What the model's own forward pass gives for one row, all places; to be taken before it is changed."""
    return model(input_ids=torch.tensor([list(tokens)]), use_cache=False).logits[0]


def prove(backbone: Backbone, tokens: Sequence[int], expected_NV: Tensor) -> None:
    """Compare the engine's arithmetic with the model's own, on a prompt and on a step that uses the cache.

    Raises:
        BaseIncomplete: they differ, so this base would be served wrongly.
    """
    cache = KvCache(backbone.shape)
    cache.reserve(1, len(tokens))
    tokens_N, positions_N = torch.tensor(tokens), torch.arange(len(tokens))
    prompt = PromptAttention((Segment(0, len(tokens) - 1, 0),), cache)
    found_NV = backbone.logits(FlatBatch(tokens_N[:-1], positions_N[:-1], prompt))
    step = StepAttention(torch.tensor([0]), positions_N[-1:], cache)
    last_1V = backbone.logits(FlatBatch(tokens_N[-1:], positions_N[-1:], step))
    both_NV = torch.log_softmax(torch.stack([torch.cat([found_NV, last_1V]), expected_NV]).float(), -1)
    difference = float((both_NV[0] - both_NV[1]).abs().max())
    allowed = PROOF_TOLERANCE[backbone.shape.dtype]
    if not difference <= allowed:
        raise BaseIncomplete(
            f"the engine's log-probabilities differ from the model's own by {difference:.3g}; expected at "
            f"most {allowed:g}. This architecture is not served rightly; use another engine for it."
        )
