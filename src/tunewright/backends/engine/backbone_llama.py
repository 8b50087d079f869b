"""The Llama architecture in fewer and larger steps than transformers takes: fused products, no module calls.

On a small base most of a decoding step is overhead between products; without it a step takes two thirds of
the time. Covers Llama, Mistral and Qwen2; the weights are taken over from the transformers model.

Shapes: N tokens in a flat batch, M of them wanted, E hidden size, F size between gate and down, H query
heads, K key-value heads, D size of a head, V vocabulary, O outputs, C places of the context.
"""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false, reportUnknownParameterType=false

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import LlamaForCausalLM, MistralForCausalLM, PreTrainedModel, Qwen2ForCausalLM

from tunewright.backends.engine.backbone import Backbone, FlatBatch, GenericBackbone, cache_shape
from tunewright.backends.engine.lora import Group, Site, SitePart, linear

_CLASSES = (LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM)
_FIXED_ROPE = ("default", "linear", "llama3", "yarn")
"""Rotary embeddings that depend on nothing but the position."""


def backbone_of(model: PreTrainedModel) -> Backbone:
    """Choose how to run a model; it is taken over and must not be used any more."""
    values = model.config.to_dict()
    rope: object = (values.get("rope_parameters") or {}).get("rope_type")
    if type(model) in _CLASSES and values["hidden_act"] == "silu" and rope in _FIXED_ROPE:
        return LlamaBackbone(model)
    return GenericBackbone(model)


@dataclass(frozen=True, slots=True)
class _Product:
    """A site with its weights."""

    name: str
    weight_OI: Tensor
    bias_O: Tensor | None

    def __call__(self, x_NI: Tensor, groups: Sequence[Group]) -> Tensor:
        return linear(x_NI, self.weight_OI, self.bias_O, self.name, groups)


@dataclass(frozen=True, slots=True)
class _Layer:
    attention_norm_E: Tensor
    qkv: _Product
    out: _Product
    mlp_norm_E: Tensor
    gate_up: _Product
    down: _Product


class LlamaBackbone:
    """A Llama that runs on flat batches."""

    def __init__(self, model: Any) -> None:  # Any: three classes with the same attributes and no common type
        """Take over the weights; the model's own layers are emptied to free their memory."""
        self.shape = cache_shape(model)
        self.sites: dict[str, Site] = {}
        config = model.config
        self._num_heads = int(config.num_attention_heads)
        self._norm_eps = float(config.rms_norm_eps)
        self._embedding_VE: Tensor = model.model.embed_tokens.weight
        self._norm_E: Tensor = model.model.norm.weight
        self._head_VE: Tensor = model.lm_head.weight
        places = torch.arange(int(config.max_position_embeddings))[None]
        cos_1CD, sin_1CD = model.model.rotary_emb(self._embedding_VE, places)
        self._cos_C1D, self._sin_C1D = cos_1CD[0][:, None], _signed(sin_1CD[0])[:, None]
        self._layers: list[_Layer] = []
        for index, layer in enumerate(model.model.layers):
            self._layers.append(self._take(f"model.layers.{index}", layer))
            model.model.layers[index] = nn.Identity()

    def _take(self, path: str, layer: Any) -> _Layer:  # Any: as above
        attention, mlp = layer.self_attn, layer.mlp
        projections = {"q_proj": attention.q_proj, "k_proj": attention.k_proj, "v_proj": attention.v_proj}
        return _Layer(
            attention_norm_E=layer.input_layernorm.weight,
            qkv=self._fuse(f"{path}.self_attn", projections),
            out=self._fuse(f"{path}.self_attn", {"o_proj": attention.o_proj}),
            mlp_norm_E=layer.post_attention_layernorm.weight,
            gate_up=self._fuse(f"{path}.mlp", {"gate_proj": mlp.gate_proj, "up_proj": mlp.up_proj}),
            down=self._fuse(f"{path}.mlp", {"down_proj": mlp.down_proj}),
        )

    def _fuse(self, path: str, modules: dict[str, nn.Linear]) -> _Product:
        parts: list[SitePart] = []
        for name, module in modules.items():
            start = parts[-1].stop if parts else 0
            parts.append(SitePart(f"{path}.{name}", start, start + module.out_features))
        linears = list(modules.values())
        site = f"{path}.{'+'.join(modules)}"
        self.sites[site] = Site(linears[0].in_features, tuple(parts))
        weights: list[Tensor] = [module.weight for module in linears]
        biases: list[Tensor] = [
            module.bias for module in linears if "bias" in dict(module.named_parameters())
        ]
        return _Product(
            site,
            weights[0] if len(weights) == 1 else torch.cat(weights),
            torch.cat(biases) if biases else None,
        )

    def logits(self, batch: FlatBatch) -> Tensor:
        """Run the model, MV."""
        x_NE = functional.embedding(batch.tokens_N, self._embedding_VE)
        cos_N1D, sin_N1D = self._cos_C1D[batch.positions_N], self._sin_C1D[batch.positions_N]
        for index, layer in enumerate(self._layers):
            normed_NE = self._normed(x_NE, layer.attention_norm_E)
            attended_NE = self._attend(index, normed_NE, (cos_N1D, sin_N1D), batch)
            x_NE = layer.out(attended_NE, batch.groups).add_(x_NE)
            gate_up_NF = layer.gate_up(self._normed(x_NE, layer.mlp_norm_E), batch.groups)
            gate_NF, up_NF = gate_up_NF.chunk(2, -1)
            x_NE = layer.down(functional.silu(gate_NF) * up_NF, batch.groups).add_(x_NE)
        kept_ME = x_NE if batch.keep_M is None else x_NE[batch.keep_M]
        return functional.linear(self._normed(kept_ME, self._norm_E), self._head_VE)

    def _normed(self, x_NE: Tensor, weight_E: Tensor) -> Tensor:
        return functional.rms_norm(x_NE, weight_E.shape, weight_E, self._norm_eps)

    def _attend(self, layer: int, x_NE: Tensor, turn: tuple[Tensor, Tensor], batch: FlatBatch) -> Tensor:
        heads, kv_heads, size = self._num_heads, self.shape.num_heads, self.shape.head_size
        qkv_NHD = self._layers[layer].qkv(x_NE, batch.groups).view(-1, heads + 2 * kv_heads, size)
        qk_NHD = _turned(qkv_NHD[:, : heads + kv_heads], *turn)
        out_NHD = batch.attention(
            layer, qk_NHD[:, :heads], qk_NHD[:, heads:], qkv_NHD[:, heads + kv_heads :], size**-0.5
        )
        return out_NHD.reshape(-1, heads * size)


def _signed(sin_CD: Tensor) -> Tensor:
    """Negate the first half, so that turning needs no negation of its own."""
    half = sin_CD.shape[-1] // 2
    return torch.cat((-sin_CD[:, :half], sin_CD[:, half:]), -1)


def _turned(x_NHD: Tensor, cos_N1D: Tensor, sin_N1D: Tensor) -> Tensor:
    """Apply rotary position embeddings."""
    first_NHD, second_NHD = x_NHD.chunk(2, -1)
    return torch.addcmul(x_NHD * cos_N1D, torch.cat((second_NHD, first_NHD), -1), sin_N1D)
