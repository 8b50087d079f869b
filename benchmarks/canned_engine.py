"""A fake engine for measuring what stands in front of it: real HTTP, answers that cost nothing.

    python benchmarks/canned_engine.py [--port 0] [--events 8]

Speaks the built-in engine's wire format as far as a gateway uses it: /health, /tokenize, chat and text
completions, whole and streamed. When it is ready it prints one JSON line, {"port": n, "token": text}.
"""

import argparse
import asyncio
import json
import signal

import orjson

TOKEN = "canned"
WORDS = "Your order is on its way; it arrives on Tuesday, and the coffee is still warm then."
PROMPT_TOKENS = 24

_LAST_CHUNK = b"0\r\n\r\n"
_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"
    b"Cache-Control: no-cache\r\n\r\n"
)


class CannedAnswers(asyncio.Protocol):
    """One connection; answers in the order of the requests."""

    def __init__(self, num_events: int) -> None:
        self._num_events = num_events
        self._waiting = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where answers go."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer every request that is complete."""
        self._waiting += data
        while (end := self._waiting.find(b"\r\n\r\n")) >= 0:
            head = self._waiting[:end]
            size = _body_size(head)
            if len(self._waiting) < end + 4 + size:
                return
            body = self._waiting[end + 4 : end + 4 + size]
            self._waiting = self._waiting[end + 4 + size :]
            self._answer(head, body)

    def _answer(self, head: bytes, body: bytes) -> None:
        path = head.split(b" ", 2)[1]
        if f"Bearer {TOKEN}".encode() not in head:
            self._write(_whole({"error": {"message": "missing or wrong bearer token"}}, b"401 Unauthorized"))
        elif path in (b"/v1/chat/completions", b"/v1/completions"):
            self._complete(path == b"/v1/chat/completions", orjson.loads(body))
        elif path == b"/tokenize":
            self._write(_whole({"tokens": list(range(PROMPT_TOKENS)), "count": PROMPT_TOKENS}))
        else:
            self._write(_whole({"status": "ok"}))

    def _complete(self, is_chat: bool, asked: dict[str, object]) -> None:
        head = {"id": "canned", "created": 1, "model": asked["model"]}
        digest = asked["model"]
        if not asked.get("stream"):
            self._write(_whole(_reply(head, digest, is_chat=is_chat)))
            return
        self._write(_STREAM_HEAD)
        for number in range(self._num_events):
            is_last = number == self._num_events - 1
            event = _event(head, digest, number, is_chat=is_chat, is_last=is_last)
            self._write(_chunk(b"data: " + orjson.dumps(event) + b"\n\n"))
        no_choices: list[object] = []
        counted = {**head, "tunewright": {"digest": digest}, "choices": no_choices, "usage": _usage()}
        self._write(_chunk(b"data: " + orjson.dumps(counted) + b"\n\n"))
        self._write(_chunk(b"data: [DONE]\n\n") + _LAST_CHUNK)

    def _write(self, data: bytes) -> None:
        assert self._transport is not None, "connection_made comes first"
        if not self._transport.is_closing():
            self._transport.write(data)


def _body_size(head: bytes) -> int:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


def _whole(fields: dict[str, object], status: bytes = b"200 OK") -> bytes:
    body = orjson.dumps(fields)
    size = str(len(body)).encode()
    return (
        b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %s\r\n\r\n" % (status, size) + body
    )


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def _usage() -> dict[str, object]:
    answered = len(WORDS.split())
    return {
        "prompt_tokens": PROMPT_TOKENS,
        "completion_tokens": answered,
        "total_tokens": PROMPT_TOKENS + answered,
    }


def _reply(head: dict[str, object], digest: object, *, is_chat: bool) -> dict[str, object]:
    said = {"message": {"role": "assistant", "content": WORDS}} if is_chat else {"text": WORDS}
    choice = {"index": 0, **said, "logprobs": None, "finish_reason": "stop"}
    return {
        **head,
        "object": "chat.completion" if is_chat else "text_completion",
        "tunewright": {"digest": digest, "latency_s": 0.0},
        "choices": [choice],
        "usage": _usage(),
    }


def _event(
    head: dict[str, object], digest: object, number: int, *, is_chat: bool, is_last: bool
) -> dict[str, object]:
    word = f"word {number} "
    said: dict[str, object] = {"delta": {"content": word}} if is_chat else {"text": word}
    choice = {"index": 0, **said, "logprobs": None, "finish_reason": "stop" if is_last else None}
    kind = "chat.completion.chunk" if is_chat else "text_completion"
    return {**head, "object": kind, "tunewright": {"digest": digest}, "choices": [choice]}


async def _serve(port: int, num_events: int) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    server = await loop.create_server(lambda: CannedAnswers(num_events), "127.0.0.1", port, backlog=512)
    async with server:
        taken = server.sockets[0].getsockname()[1]
        print(json.dumps({"port": taken, "token": TOKEN}), flush=True)
        await stopped.wait()


def main() -> None:
    """Answer until SIGTERM."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--events", type=int, default=8, help="of a streamed answer, besides its counts")
    options = parser.parse_args()
    asyncio.run(_serve(options.port, options.events))


if __name__ == "__main__":
    main()
