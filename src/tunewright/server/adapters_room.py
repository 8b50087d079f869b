"""Which adapters the engine holds: verified, loaded from the verified bytes, and probed before any traffic.

A swap never waits for an unload: an adapter that nobody wants any more leaves when nobody uses it.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet

from tunewright.core.references import get_record
from tunewright.errors import EngineFailed, TunewrightError
from tunewright.ports import Engine, Ports
from tunewright.records import ModelVersion, Probe, TrainingRun
from tunewright.registry.load import load_verified
from tunewright.registry.probes import Answer, repeats
from tunewright.server.engine_room import Running
from tunewright.server.engine_wire import EngineWire
from tunewright.server.routing import PROBE_MISMATCH

logger = logging.getLogger(__name__)

KEEP_UNWANTED_S = 600.0
RETRY_REFUSED_S = 60.0


class AdaptersRoom:
    """Loads, probes and unloads; confined to one event loop."""

    def __init__(
        self,
        ports: Ports,
        wire: EngineWire,
        *,
        num_in_use: Callable[[str], int],
        keep_unwanted_s: float = KEEP_UNWANTED_S,
    ) -> None:
        """Start empty.

        Args:
            ports: where models come from.
            wire: the engine's other calls.
            num_in_use: digest -> requests it answers now.
            keep_unwanted_s: how long a version asked for by name stays loaded after its last use.
        """
        self._ports = ports
        self._wire = wire
        self._num_in_use = num_in_use
        self._keep_unwanted_s = keep_unwanted_s
        self._models: dict[str, ModelVersion] = {}
        self._used_s: dict[str, float] = {}
        self._refused: dict[str, tuple[str, float]] = {}
        self._lock = asyncio.Lock()

    @property
    def resident(self) -> AbstractSet[str]:
        """Digests that may take traffic."""
        return self._models.keys()

    @property
    def refused(self) -> Mapping[str, str]:
        """Digest -> why it was not loaded; begins with `probe_mismatch` when its probes were not repeated."""
        return {digest: reason for digest, (reason, _) in self._refused.items()}

    def use(self, digest: str) -> None:
        """Remember that a digest was asked for now."""
        self._used_s[digest] = time.monotonic()

    async def refill(self, running: Running) -> None:
        """Load everything again into an engine just started. Raises EngineFailed when it died of it."""
        async with self._lock:
            models, self._models = list(self._models.values()), {}
            try:
                for model in models:
                    await self._load(model, running)
            except EngineFailed:
                self._models |= {model.adapter: model for model in models}  # for the next attempt
                raise

    async def load(self, model: ModelVersion, running: Running) -> bool:
        """Make a version resident; False when it is refused, see `refused`. Raises EngineFailed."""
        async with self._lock:
            if model.adapter in self._models:
                return True
            self.use(model.adapter)
            return await self._load(model, running)

    def is_due(self, digest: str) -> bool:
        """Say whether a version is neither loaded nor refused a moment ago."""
        if digest in self._models:
            return False
        refused = self._refused.get(digest)
        return refused is None or time.monotonic() - refused[1] > RETRY_REFUSED_S

    async def trim(self, wanted: Sequence[str], running: Running) -> None:
        """Unload what nobody wants, uses, or has asked for lately."""
        async with self._lock:
            now_s = time.monotonic()
            for digest in self._models.keys() - set(wanted):
                is_cold = now_s - self._used_s.get(digest, 0.0) > self._keep_unwanted_s
                if is_cold and not self._num_in_use(digest):
                    model = self._models.pop(digest)
                    self._used_s.pop(digest, None)
                    await self._wire.unload(running.upstream, digest)
                    logger.info("unloaded %s", model.ref)

    async def _load(self, model: ModelVersion, running: Running) -> bool:
        reason = await self._try(model, running)
        if reason is None:
            self._models[model.adapter] = model
            self._refused.pop(model.adapter, None)
            logger.info("loaded %s (%s), probes repeated", model.ref, model.adapter[:12])
            return True
        if model.adapter not in self._refused:
            logger.error("refused %s: %s", model.ref, reason)
        self._refused[model.adapter] = (reason, time.monotonic())
        await self._wire.unload(running.upstream, model.adapter)
        return False

    async def _try(self, model: ModelVersion, running: Running) -> str | None:
        try:
            return await asyncio.to_thread(load_and_probe, model, running.engine, self._ports)
        except EngineFailed as error:
            if await self._wire.health(running.upstream) != "ok":
                raise
            return str(error)  # it is alive and does not take this adapter
        except TunewrightError as error:
            return str(error)


def load_and_probe(model: ModelVersion, engine: Engine, ports: Ports) -> str | None:
    """Load a model from verified bytes and replay its probes; say why it must not take traffic, or None.

    Raises:
        SignatureInvalid, ModelRevoked, BlobMissing, BlobCorrupt: it is not what was registered.
        BaseMismatch, EngineFailed: the engine does not take it, or has failed.
    """
    run = get_record(ports.records, TrainingRun, model.run)
    if run.method != "lora":
        return f"it was trained with method {run.method}, and this server serves adapters (method lora) only"
    if not model.probes:
        return "it has no fingerprint probes, so nobody can tell whether it is the one that answers"
    engine.load_adapter(model.adapter, load_verified(model, ports))
    finding = repeats(model.probes, [replay(engine, probe, model.adapter) for probe in model.probes])
    return None if finding.holds else f"{PROBE_MISMATCH}: {'; '.join(finding.reasons)}"


def replay(engine: Engine, probe: Probe, model: str) -> Answer:
    """Score a probe's recorded answer alone, as it was scored when it was recorded."""
    row = [*probe.prompt_ids, *probe.token_ids]
    logprobs = engine.logprobs([row], model)[0]
    return Answer(probe.token_ids, tuple(logprobs[len(probe.prompt_ids) :]))
