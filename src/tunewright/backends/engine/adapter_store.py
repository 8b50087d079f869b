"""The adapters that can be asked for, by digest.

Adapters are never replaced: loading one that is there is a no-op, unloading takes only the name away, and
answers in the making keep the weights they began with.
"""

import asyncio
from collections.abc import Mapping
from pathlib import Path

import torch

from tunewright.backends.engine.adapters import load_adapter
from tunewright.backends.engine.lora import Adapter, Site
from tunewright.errors import RequestRefused

BASE = "base"
"""The name of the base without an adapter."""

MAX_ADAPTERS = 256


class AdapterStore:
    """Loaded adapters; confined to one event loop."""

    def __init__(self, sites: Mapping[str, Site], dtype: torch.dtype) -> None:
        """Start empty.

        Args:
            sites: where the base takes adapters.
            dtype: of the base.
        """
        self._sites = sites
        self._dtype = dtype
        self._adapters: dict[str, Adapter] = {}
        self._loading = asyncio.Lock()

    @property
    def names(self) -> list[str]:
        """Digests of the loaded adapters, sorted."""
        return sorted(self._adapters)

    def find(self, model: str) -> Adapter | None:
        """Find what a model name means; None is the base. Raises RequestRefused for an unknown one."""
        if model == BASE:
            return None
        if model not in self._adapters:
            raise RequestRefused(
                f"no model {model!r:.100}; expected `{BASE}` or the digest of a loaded adapter, see "
                "GET /v1/models",
                404,
                "model_not_found",
                "model",
            )
        return self._adapters[model]

    async def load(self, digest: str, folder: Path) -> Adapter:
        """Load an adapter, one at a time, while answers go on.

        Raises:
            AdapterRefused, BlobCorrupt, BaseMismatch: see `load_adapter`.
            RequestRefused: too many are loaded.
        """
        async with self._loading:
            if digest not in self._adapters:
                if len(self._adapters) >= MAX_ADAPTERS:
                    raise RequestRefused(
                        f"{MAX_ADAPTERS} adapters are loaded; expected fewer, so unload one first",
                        409,
                        "too_many_adapters",
                    )
                self._adapters[digest] = await asyncio.to_thread(
                    load_adapter, folder, digest, self._sites, self._dtype
                )
            return self._adapters[digest]

    def unload(self, digest: str) -> None:
        """Take an adapter's name away, at once. Raises RequestRefused for an unknown one."""
        self.find(digest)
        del self._adapters[digest]
