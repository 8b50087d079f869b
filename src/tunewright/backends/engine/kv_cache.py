"""Keys and values of the rows being answered, and attention over them.

Every row owns a slot; slots 0 to B-1 are in use, a row that leaves is replaced by the last one. Tokens of all
rows go through the model as one flat sequence; only attention knows which token belongs to whom.

Shapes: N tokens in a flat batch, H query heads, K key-value heads, D size of a head, S slots, C places in a
slot, B rows, T tokens of one row.
"""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

MIN_SLOTS = 4
MIN_PLACES = 128


class Attention(Protocol):
    """Attends from the tokens of a flat batch, each to its own row's past."""

    def __call__(self, layer: int, q_NHD: Tensor, k_NKD: Tensor, v_NKD: Tensor, scale: float) -> Tensor:
        """Return the outputs, NHD; keeps keys and values if the rows go on."""
        ...


@dataclass(frozen=True, slots=True)
class CacheShape:
    """What a base needs for each token."""

    num_layers: int
    num_heads: int
    """Key-value heads."""
    head_size: int
    dtype: torch.dtype

    @property
    def token_bytes(self) -> int:
        """Memory for the keys and values of one token."""
        return 2 * self.num_layers * self.num_heads * self.head_size * self.dtype.itemsize


class KvCache:
    """Storage that grows with the rows, by doubling, and is never given back."""

    def __init__(self, shape: CacheShape) -> None:
        self.shape = shape
        self._keys_SKCD: list[Tensor] = []
        self._values_SKCD: list[Tensor] = []
        self._num_slots = 0
        self._num_places = 0

    def reserve(self, num_rows: int, num_tokens: int) -> None:
        """Make room for rows of this length; what is stored stays."""
        if num_rows <= self._num_slots and num_tokens <= self._num_places:
            return
        slots = max(self._num_slots, _doubled(MIN_SLOTS, num_rows))
        places = max(self._num_places, _doubled(MIN_PLACES, num_tokens))
        self._keys_SKCD = self._grown(self._keys_SKCD, slots, places)
        self._values_SKCD = self._grown(self._values_SKCD, slots, places)
        self._num_slots, self._num_places = slots, places

    def _grown(self, old: list[Tensor], slots: int, places: int) -> list[Tensor]:
        grown: list[Tensor] = []
        for layer in range(self.shape.num_layers):
            size = (slots, self.shape.num_heads, places, self.shape.head_size)
            fresh_SKCD = torch.zeros(size, dtype=self.shape.dtype)
            if old:
                fresh_SKCD[: self._num_slots, :, : self._num_places] = old[layer]
            grown.append(fresh_SKCD)
        return grown

    def move(self, source: int, target: int, num_tokens: int) -> None:
        """Copy a row into another slot."""
        for store_SKCD in (*self._keys_SKCD, *self._values_SKCD):
            store_SKCD[target, :, :num_tokens] = store_SKCD[source, :, :num_tokens]

    def layer(self, index: int) -> tuple[Tensor, Tensor]:
        """Keys and values of a layer, SKCD each."""
        return self._keys_SKCD[index], self._values_SKCD[index]


@dataclass(frozen=True, slots=True)
class Segment:
    """A row's tokens within a flat batch, half-open."""

    start: int
    stop: int
    slot: int | None
    """Where its keys and values are kept; None if the row does not go on."""


class PromptAttention:
    """Causal attention within each segment of a flat batch."""

    def __init__(self, segments: Sequence[Segment], cache: KvCache) -> None:
        self._segments = segments
        self._cache = cache

    def __call__(self, layer: int, q_NHD: Tensor, k_NKD: Tensor, v_NKD: Tensor, scale: float) -> Tensor:
        """Attend, and keep what rows that go on need."""
        out_NHD = torch.empty_like(q_NHD)
        shares_heads = q_NHD.shape[1] != k_NKD.shape[1]
        for segment in self._segments:
            part = slice(segment.start, segment.stop)
            q_HTD, k_KTD, v_KTD = (x[part].transpose(0, 1) for x in (q_NHD, k_NKD, v_NKD))
            if segment.slot is not None:
                keys_SKCD, values_SKCD = self._cache.layer(layer)
                keys_SKCD[segment.slot, :, : k_KTD.shape[1]] = k_KTD
                values_SKCD[segment.slot, :, : v_KTD.shape[1]] = v_KTD
            out_1HTD = scaled_dot_product_attention(
                q_HTD[None], k_KTD[None], v_KTD[None], is_causal=True, scale=scale, enable_gqa=shares_heads
            )
            out_NHD[part] = out_1HTD[0].transpose(0, 1)
        return out_NHD


class StepAttention:
    """Attention of one new token a row over everything stored for that row."""

    def __init__(self, slots_N: Tensor, positions_N: Tensor, cache: KvCache) -> None:
        """Prepare one step.

        Args:
            slots_N: the slot of each token; all of 0 to N-1 occur, in any order.
            positions_N: the place of each token in its row.
            cache: with room for these places.
        """
        self._cache = cache
        self._slots_N = slots_N
        self._positions_N = positions_N
        self._num_places = int(positions_N.max()) + 1
        self._mask_B11C = self._mask()
        self._is_sorted = bool((slots_N[1:] > slots_N[:-1]).all())

    def _mask(self) -> Tensor | None:
        """0 where a slot's token may look, minus infinity elsewhere; None if all rows are equally long."""
        if bool((self._positions_N == self._positions_N[0]).all()):
            return None
        positions_B = torch.empty_like(self._positions_N)
        positions_B[self._slots_N] = self._positions_N
        beyond_BC = torch.arange(self._num_places)[None, :] > positions_B[:, None]
        mask_BC = torch.zeros(beyond_BC.shape, dtype=self._cache.shape.dtype)
        return mask_BC.masked_fill_(beyond_BC, float("-inf"))[:, None, None, :]

    def __call__(self, layer: int, q_NHD: Tensor, k_NKD: Tensor, v_NKD: Tensor, scale: float) -> Tensor:
        """Store the new keys and values, then attend in the order of slots."""
        keys_SKCD, values_SKCD = self._cache.layer(layer)
        keys_SKCD[self._slots_N, :, self._positions_N] = k_NKD
        values_SKCD[self._slots_N, :, self._positions_N] = v_NKD
        num_rows, num_heads = q_NHD.shape[0], k_NKD.shape[1]
        q_BHD = q_NHD
        if not self._is_sorted:
            q_BHD = torch.empty_like(q_NHD)
            q_BHD[self._slots_N] = q_NHD
        out_BKGD = scaled_dot_product_attention(
            q_BHD.reshape(num_rows, num_heads, -1, q_NHD.shape[-1]),  # heads that share keys look like tokens
            keys_SKCD[:num_rows, :, : self._num_places],
            values_SKCD[:num_rows, :, : self._num_places],
            attn_mask=self._mask_B11C,
            scale=scale,
        )
        out_BHD = out_BKGD.reshape(q_NHD.shape)
        return out_BHD if self._is_sorted else out_BHD[self._slots_N]


class JointAttention:
    """Two attentions side by side: the first tokens of a flat batch use one, the rest the other."""

    def __init__(self, first: Attention, num_first: int, rest: Attention) -> None:
        self._first = first
        self._num_first = num_first
        self._rest = rest

    def __call__(self, layer: int, q_NHD: Tensor, k_NKD: Tensor, v_NKD: Tensor, scale: float) -> Tensor:
        """Attend in both parts."""
        at = self._num_first
        first_NHD = self._first(layer, q_NHD[:at], k_NKD[:at], v_NKD[:at], scale)
        return torch.cat((first_NHD, self._rest(layer, q_NHD[at:], k_NKD[at:], v_NKD[at:], scale)))


def _doubled(least: int, wanted: int) -> int:
    size = least
    while size < wanted:
        size *= 2
    return size
