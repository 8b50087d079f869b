"""Low-rank updates for rows of different adapters in one flat batch.

The tokens of one adapter lie side by side, so each adapter costs two small products on its own rows and
touches no other's. Shapes: N tokens in a flat batch, I inputs, O outputs of a layer, R rank, P layers that
were fused.
"""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from tunewright.values import Digest

FEW_TOKENS = 64
"""Up to here one product with the zeros between blocks costs less than a product for each block."""


@dataclass(frozen=True, slots=True)
class SitePart:
    """A linear layer of the base, as part of the product that computes it."""

    module: str
    """Its path in the model, such as `model.layers.0.self_attn.q_proj`."""
    start: int
    stop: int
    """Which outputs of the site are its own, half-open."""


@dataclass(frozen=True, slots=True)
class Site:
    """One product of the base: a linear layer, or several with the same input fused into one."""

    num_inputs: int
    parts: tuple[SitePart, ...]


@dataclass(frozen=True, slots=True)
class SiteUpdate:
    """What an adapter adds at a site."""

    down_QI: Tensor
    """The A matrices of all its parts, one below the other; Q = ranks in sum."""
    up_QO: Tensor
    """The B^T matrices of all its parts times the scale, as blocks; zero elsewhere."""
    blocks: tuple[tuple[slice, slice], ...]
    """Where each part's block lies: its rows and its columns of `up_QO`."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """A loaded adapter, ready for the sites of its base. Immutable; rows that use it keep it alive."""

    digest: Digest
    updates: Mapping[str, SiteUpdate]
    """Site name -> what to add; sites it leaves alone are absent."""
    num_bytes: int


@dataclass(frozen=True, slots=True)
class Group:
    """The tokens of one adapter within a flat batch, half-open."""

    adapter: Adapter
    start: int
    stop: int


def linear(
    x_NI: Tensor, weight_OI: Tensor, bias_O: Tensor | None, site: str, groups: Sequence[Group]
) -> Tensor:
    """Apply a site of the base with every row's own update, NO."""
    out_NO = functional.linear(x_NI, weight_OI, bias_O)
    add_updates(out_NO, x_NI, site, groups)
    return out_NO


def add_updates(out_NO: Tensor, x_NI: Tensor, site: str, groups: Sequence[Group]) -> None:
    """Add every row's own update to `out_NO`, in place."""
    for group in groups:
        update = group.adapter.updates.get(site)
        if update is None:
            continue
        covers_all = group.start == 0 and group.stop == x_NI.shape[0]
        x_GI = x_NI if covers_all else x_NI[group.start : group.stop]
        out_GO = out_NO if covers_all else out_NO[group.start : group.stop]
        low_GQ = functional.linear(x_GI, update.down_QI)
        if x_GI.shape[0] <= FEW_TOKENS:
            out_GO.addmm_(low_GQ, update.up_QO)
            continue
        for ranks, outputs in update.blocks:
            out_GO[:, outputs].addmm_(low_GQ[:, ranks], update.up_QO[ranks, outputs])


def site_update(
    site: Site, pairs: Mapping[str, tuple[Tensor, Tensor]], dtype: torch.dtype
) -> SiteUpdate | None:
    """Gather what an adapter has for a site.

    Args:
        site: the product.
        pairs: module path -> (A, RI; B times the scale, OR), in fp32.
        dtype: of the base.

    Returns:
        None if it has nothing for any of the parts.
    """
    present = [(part, *pairs[part.module]) for part in site.parts if part.module in pairs]
    if not present:
        return None
    down_QI = torch.cat([down_RI for _, down_RI, _ in present]).to(dtype)
    up_QO = torch.zeros(down_QI.shape[0], site.parts[-1].stop, dtype=dtype)
    blocks: list[tuple[slice, slice]] = []
    end = 0
    for part, down_RI, up_OR in present:
        blocks.append((slice(end, end + down_RI.shape[0]), slice(part.start, part.stop)))
        up_QO[blocks[-1]] = up_OR.T.to(dtype)
        end += down_RI.shape[0]
    return SiteUpdate(down_QI, up_QO, tuple(blocks))


def update_bytes(update: SiteUpdate) -> int:
    """Memory that an update takes."""
    return sum(x.numel() * x.element_size() for x in (update.down_QI, update.up_QO))
