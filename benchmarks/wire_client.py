"""A client that costs little: HTTP/1.1 over raw asyncio streams, connections kept and used again."""

import asyncio
import selectors
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

import orjson

T = TypeVar("T")
CHAT, TEXT, FEEDBACK = "/v1/chat/completions", "/v1/completions", "/v1/feedback"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    body: bytes
    """Of a stream: all its events."""
    first_s: float
    """When the first byte of the body was read, by the monotonic clock."""


@dataclass(frozen=True, slots=True)
class Timing:
    """One request of an open loop, in seconds from the moment it was due."""

    first_s: float
    last_s: float
    status: int


class Connections:
    """Kept connections to one port; one more is opened whenever none is idle."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def ask(self, request: bytes) -> Answer:
        """Send a request and read the whole answer."""
        reader, writer = self._idle.pop() if self._idle else await self._open()
        writer.write(request)
        answer = await read_answer(reader)
        self._idle.append((reader, writer))
        return answer

    async def hang_up(self, request: bytes, *, after_s: float) -> None:
        """Send a request on a connection of its own and leave before the whole answer is there."""
        _, writer = await self._open()
        writer.write(request)
        await writer.drain()
        await asyncio.sleep(after_s)
        writer.transport.abort()

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self._port)

    def close(self) -> None:
        """Close what is idle."""
        for _, writer in self._idle:
            writer.close()


def post(path: str, secret: str, fields: dict[str, object]) -> bytes:
    """Write a request."""
    body = orjson.dumps(fields)
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {secret}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def get(path: str, secret: str) -> bytes:
    """Write a request without a body."""
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {secret}\r\n\r\n".encode()


async def read_answer(reader: asyncio.StreamReader) -> Answer:
    """Read one answer, with a length or in chunks."""
    head = await reader.readuntil(b"\r\n\r\n")
    status, lower = int(head[9:12]), head.lower()
    if b"transfer-encoding: chunked" not in lower:
        size = int(lower.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
        body = await reader.readexactly(size)
        return Answer(status, body, time.monotonic())
    parts: list[bytes] = []
    first_s: float | None = None
    while size := int(await reader.readline(), 16):
        part = await reader.readexactly(size + 2)
        first_s = first_s or time.monotonic()
        parts.append(part[:-2])
    await reader.readexactly(2)
    return Answer(status, b"".join(parts), first_s or time.monotonic())


async def open_loop(
    port: int, request_of: Callable[[int], bytes], *, rate: float, number: int
) -> list[Timing]:
    """Send requests evenly spaced, whatever the answers do; each counts from the moment it was due."""
    connections, start_s = Connections(port), time.monotonic() + 0.05

    async def one(index: int, due_s: float) -> Timing:
        answer = await connections.ask(request_of(index))
        return Timing(answer.first_s - due_s, time.monotonic() - due_s, answer.status)

    asking: list[asyncio.Task[Timing]] = []
    for index in range(number):
        due_s = start_s + index / rate
        wait_s = due_s - time.monotonic()
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        asking.append(asyncio.create_task(one(index, due_s)))
    timings = await asyncio.gather(*asking)
    connections.close()
    return timings


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run on a loop that wakes up to the microsecond; the usual one rounds to whole milliseconds."""
    make = lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())  # noqa: E731
    with asyncio.Runner(loop_factory=make) as runner:
        return runner.run(work)
