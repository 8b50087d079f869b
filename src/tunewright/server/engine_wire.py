"""What the gateway itself says to the engine over HTTP: is it alive, forget an adapter, answer a mirror."""

import time
from typing import Literal, Protocol, cast

import aiohttp
import orjson

from tunewright.server.seams import Finish, Upstream

HEALTH_TIMEOUT_S = 5.0
MIRROR_TIMEOUT_S = 600.0

Health = Literal["ok", "silent", "dead"]
"""silent: no answer in time, or a broken one; dead: nobody listens, or the decoding thread ended."""


class EngineWire(Protocol):
    """The few calls that are no work of a stage."""

    async def health(self, upstream: Upstream) -> Health:
        """Look whether the engine is alive."""
        ...

    async def unload(self, upstream: Upstream, digest: str) -> None:
        """Take an adapter's name away; a failure is left to the next look at the engine's health."""
        ...

    async def mirror(self, upstream: Upstream, path: str, body: bytes) -> Finish:
        """Ask without streaming and say how it went; an error is a Finish, too."""
        ...


class HttpEngineWire:
    """Implements EngineWire; confined to one event loop."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Open the connections' pool; each connection carries one request, so that none is stale."""
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        self._session = aiohttp.ClientSession(connector=connector, trust_env=False)

    async def stop(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    async def health(self, upstream: Upstream) -> Health:
        """GET /health."""
        timeout = aiohttp.ClientTimeout(HEALTH_TIMEOUT_S)
        try:
            async with self._open().get(
                upstream.url + "/health", headers=_headers(upstream), timeout=timeout
            ) as response:
                await response.read()
                return "ok" if response.status == 200 else "dead"
        except aiohttp.ClientConnectorError:
            return "dead"
        except (aiohttp.ClientError, TimeoutError, OSError):
            return "silent"

    async def unload(self, upstream: Upstream, digest: str) -> None:
        """POST /v1/unload_lora_adapter."""
        try:
            await self._post(upstream, "/v1/unload_lora_adapter", orjson.dumps({"lora_name": digest}))
        except (aiohttp.ClientError, TimeoutError, OSError):
            return

    async def mirror(self, upstream: Upstream, path: str, body: bytes) -> Finish:
        """POST a completion."""
        started_s = time.monotonic()
        try:
            status, data = await self._post(upstream, path, body)
        except (aiohttp.ClientError, TimeoutError, OSError):
            return Finish("interrupted", error="engine_lost")
        return read_reply(status, data, latency_s=time.monotonic() - started_s)

    async def _post(self, upstream: Upstream, path: str, body: bytes) -> tuple[int, bytes]:
        timeout = aiohttp.ClientTimeout(MIRROR_TIMEOUT_S)
        headers = _headers(upstream) | {"Content-Type": "application/json"}
        async with self._open().post(
            upstream.url + path, data=body, headers=headers, timeout=timeout
        ) as response:
            return response.status, await response.read()

    def _open(self) -> aiohttp.ClientSession:
        assert self._session is not None, "start() comes first"
        return self._session


def mirrored_body(body: bytes, digest: str) -> bytes:
    """Ask another model the same, in one piece; everything else stays as the user wrote it."""
    asked: dict[str, object] = orjson.loads(body)
    kept = {key: value for key, value in asked.items() if key not in ("stream", "stream_options")}
    return orjson.dumps(kept | {"model": digest})


def read_reply(status: int, data: bytes, *, latency_s: float) -> Finish:
    """Read how a completion went; a reply of an unexpected form is the engine's error."""
    try:
        reply: object = orjson.loads(data)
    except orjson.JSONDecodeError:
        return Finish("error", error="engine_failed", latency_s=latency_s)
    if status != 200:
        code = _text(_at(reply, "error", "code")) or "engine_failed"
        return Finish("error", error=code, latency_s=latency_s)
    choice = _at(reply, "choices", 0)
    return Finish(
        "ok",
        text=_text(_at(choice, "message", "content")) or _text(_at(choice, "text")),
        digest=_text(_at(reply, "tunewright", "digest")) or None,
        finish_reason=_text(_at(choice, "finish_reason")) or None,
        num_prompt_tokens=_number(_at(reply, "usage", "prompt_tokens")),
        num_tokens=_number(_at(reply, "usage", "completion_tokens")),
        latency_s=latency_s,
    )


def _at(value: object, *path: str | int) -> object:
    """Walk into JSON; None where a step leads nowhere."""
    for step in path:
        if isinstance(step, str):
            value = cast("dict[str, object]", value).get(step) if isinstance(value, dict) else None
        else:
            items = cast("list[object]", value) if isinstance(value, list) else []
            value = items[step] if step < len(items) else None
    return value


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


def _headers(upstream: Upstream) -> dict[str, str]:
    return {"Authorization": f"Bearer {upstream.token}"}
