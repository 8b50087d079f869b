"""Serve a workspace in one process: take the port, start the runtime, answer, and end in order."""

import asyncio
import gc
import ipaddress
import signal
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from aiohttp import web

from tunewright.app import App
from tunewright.deploy.keys import NewKey
from tunewright.errors import SettingsError
from tunewright.live_ports import Live
from tunewright.pipeline.rollout_verbs import RolloutVerbs
from tunewright.ports import Ports
from tunewright.server.gateway import FRONT, build_gateway
from tunewright.server.listening import listening, take_port
from tunewright.server.opening import RuntimeOptions
from tunewright.server.options import GatewayOptions
from tunewright.server.runtime import Runtime
from tunewright.server.seams import Caller, ServedModel
from tunewright.settings import Settings

DRAIN_S = 30.0
"""Answers in the making may take so long to end; a second signal ends them at once."""

KEY_WAIT_S = 5.0
MAX_RETENTION_DAYS = 3650
_POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """Where to listen and what to serve."""

    host: str = "127.0.0.1"
    port: int = 8080
    """0 takes a free one."""
    base: str | None = None
    """Base to run; absent: the champions', or the shipped one."""
    retention_days: int = 30
    has_open_metrics: bool = False


@dataclass(frozen=True, slots=True)
class Started:
    """What a person must know once requests are answered."""

    url: str
    """Such as http://127.0.0.1:8080; the OpenAI base URL is this and `/v1`."""
    port: int
    is_loopback: bool
    """Whether only this machine can reach it."""
    models: tuple[ServedModel, ...]
    first_keys: tuple[NewKey, ...]
    """Made just now, because there were none; their secrets are not stored."""


@dataclass(frozen=True, slots=True)
class _Served:
    """The workspace as the runtime needs it; opened once."""

    settings: Settings
    ports: Ports
    live: Live
    rollouts: RolloutVerbs


def _say_nothing(started: Started) -> None:
    """Tell nobody."""


def serve(app: App, options: ServeOptions, *, on_ready: Callable[[Started], None] = _say_nothing) -> int:
    """Serve until SIGTERM or Ctrl-C; return the exit code.

    Args:
        app: the workspace.
        options: see there.
        on_ready: called once requests are answered.

    Raises:
        SettingsError: the port is in use, or an option is out of range; nothing was loaded then.
        WorkspaceBusy: another process serves this workspace.
        StorageError, BaseModelError, EngineFailed: it cannot be served.
    """
    _check(options)
    taken = take_port(options.host, options.port)
    try:
        return asyncio.run(_serve(app, options, taken, on_ready))
    finally:
        taken.close()


def _check(options: ServeOptions) -> None:
    if not 0 <= options.port < 2**16:
        raise SettingsError(f"port {options.port} does not exist; expected 0 (a free one) to 65535")
    if not 1 <= options.retention_days <= MAX_RETENTION_DAYS:
        raise SettingsError(
            f"retention of {options.retention_days} days; expected 1 to {MAX_RETENTION_DAYS} days"
        )


async def _serve(
    app: App, options: ServeOptions, taken: socket.socket, on_ready: Callable[[Started], None]
) -> int:
    signals: asyncio.Queue[int] = asyncio.Queue()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, signals.put_nowait, number)
    served = _Served(app.settings, app.ports, app.live, app.rollouts)
    retain = timedelta(days=options.retention_days)
    runtime = Runtime(served, RuntimeOptions(base=options.base, retain=retain))
    if not await _start_unless(signals, runtime):
        return 0
    try:
        gateway = build_gateway(runtime, GatewayOptions(has_open_metrics=options.has_open_metrics))
        async with listening(gateway, taken) as site:
            started = await _started(app, options, taken, runtime)
            gc.freeze()  # what is loaded by now stays; looking through it again would hold up answers
            on_ready(started)
            await signals.get()
            await site.stop()
            await _drain(gateway, signals)
    finally:
        await runtime.stop()
    return 0


async def _start_unless(signals: "asyncio.Queue[int]", runtime: Runtime) -> bool:
    """Start the runtime; give up when a signal comes first."""
    starting, stopping = asyncio.create_task(runtime.start()), asyncio.create_task(signals.get())
    await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if starting.done():
        stopping.cancel()
        await starting  # raises what went wrong
        return True
    starting.cancel()
    await asyncio.wait({starting})
    return False


async def _started(app: App, options: ServeOptions, taken: socket.socket, runtime: Runtime) -> Started:
    keys = tuple(app.keys.first())
    await _until_known(keys, runtime)
    address, port = taken.getsockname()[:2]
    ip = ipaddress.ip_address(address.partition("%")[0])
    shown = "127.0.0.1" if ip == ipaddress.IPv4Address(0) else "::1" if ip.is_unspecified else str(ip)
    url = f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"
    anybody = Caller(key_id="", role="caller", tenant="", consent="none")
    return Started(url, port, ip.is_loopback, tuple(runtime.models(anybody)), keys)


async def _until_known(keys: Sequence[NewKey], runtime: Runtime) -> None:
    """Wait until the runtime has read the new keys, so that the first request with one is let in."""
    async with asyncio.timeout(KEY_WAIT_S):
        while any(runtime.caller(key.secret) is None for key in keys):
            await asyncio.sleep(_POLL_S)


async def _drain(gateway: web.Application, signals: "asyncio.Queue[int]") -> None:
    """Let answers in the making end, for a bounded time, or until a second signal."""
    front = gateway[FRONT]
    front.is_stopping = True
    deadline_s = asyncio.get_running_loop().time() + DRAIN_S
    while front.num_in_flight and signals.empty() and asyncio.get_running_loop().time() < deadline_s:
        await asyncio.sleep(_POLL_S)
