"""A hostile caller against the whole gateway, by the classes of the threat list.

Real HTTP in front, the real runtime and a trace store on disk behind; only the model is played.
"""

import asyncio
import dataclasses
import io
import json
import logging
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from tests.fake_engine import FakeEngine, fake_engine, open_stream
from tests.fakes import fake_ports
from tests.live_world import KEYS, a_policy
from tests.registry_world import RECIPE, TunedEngine, make_world
from tests.runtime_world import (
    QUICK,
    FakeWire,
    MortalEngines,
    Places,
    ServedWorld,
    a_served_world,
    running,
    until,
)
from tests.server_world import chat_body, eventually

import tunewright
from tunewright.backends.sql_records import SqlRecords
from tunewright.backends.sql_traces import open_traces
from tunewright.deploy.canary import Step
from tunewright.deploy.keys import KeyRing, new_key
from tunewright.deploy.rollout import read_state, start_rollout, take_step
from tunewright.errors import AliasConflict, ModelRevoked, StorageError, TunewrightError
from tunewright.feedback.exchange import encode_rows, export_row
from tunewright.ports import Ports
from tunewright.records import Rollout, RolloutState
from tunewright.registry.aliases import revoke, roll_back, set_alias
from tunewright.registry.register import register
from tunewright.server.gateway import build_gateway
from tunewright.server.listening import listening, take_port
from tunewright.server.options import GatewayOptions
from tunewright.values import Ref

PACKAGE = Path(tunewright.__file__).parent
CHAT = "/v1/chat/completions"
PROBE = "zebra-4711-probe"
Reply = tuple[int, dict[str, object], Mapping[str, str]]


class ReachableEngines(MortalEngines):
    """Engines whose address is that of the played one."""

    url = ""

    @contextmanager
    def start(self, base: Path):
        with super().start(base) as engine:
            engine.url = self.url or engine.url
            yield engine


@dataclass(frozen=True)
class Gateway:
    """What a test talks to, and what lies behind."""

    url: str
    port: int
    client: aiohttp.ClientSession
    world: ServedWorld
    engine: FakeEngine
    keys: Mapping[str, str]
    """Label -> secret."""

    async def post(self, path: str, body: object, key: str | None = "caller", **headers: str) -> Reply:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if key is not None:
            sent["Authorization"] = f"Bearer {self.keys.get(key, key)}"
        async with self.client.post(self.url + path, data=io.BytesIO(data), headers=sent) as response:
            return response.status, json.loads(await response.read()), response.headers

    async def get(self, path: str, key: str | None = "caller") -> tuple[int, str]:
        headers = {} if key is None else {"Authorization": f"Bearer {self.keys.get(key, key)}"}
        async with self.client.get(self.url + path, headers=headers) as response:
            return response.status, await response.text()

    async def answered(self, key: str = "caller", **fields: object) -> tuple[str, str]:
        """Ask, and return trace and feedback token."""
        status, reply, _ = await self.post(CHAT, chat_body(**fields), key)
        assert status == 200, reply
        told = reply["tunewright"]
        assert isinstance(told, dict)
        return str(told["trace"]), str(told["feedback_token"])

    async def world_flushed(self) -> None:
        """Wait until every answered request is in the trace store."""
        traces = self.world.live.traces
        await asyncio.sleep(0.1)
        await eventually(lambda: all(one.status != "open" for one in traces.newest(limit=99)))

    async def thumb(self, trace: str, token: str, key: str = "caller", **fields: object) -> Reply:
        body = {"trace": trace, "token": token, "kind": "thumb", "value": "down", **fields}
        return await self.post("/v1/feedback", body, key)


def a_world(folder: Path) -> ServedWorld:
    """One champion, a trace store on disk, and a registry in memory."""
    world = a_served_world(folder)
    engines = ReachableEngines()
    (folder / "ws").mkdir(exist_ok=True)
    live = dataclasses.replace(world.live, traces=open_traces(folder / "ws" / "traces.db", KEYS))
    ports = dataclasses.replace(world.ports, engines=engines)
    made = ServedWorld(Places(folder / "ws"), ports, live, engines, FakeWire(engines))
    made.model()
    return made


@asynccontextmanager
async def gateway(folder: Path, options: GatewayOptions | None = None) -> AsyncGenerator[Gateway]:
    world, engine = a_world(folder), FakeEngine()
    secrets = {
        label: world.keys.add(role, tenant, "train").secret
        for label, role, tenant in (
            ("caller", "caller", "acme"),
            ("rival", "caller", "rival"),
            ("viewer", "viewer", "acme"),
        )
    }
    async with fake_engine(engine) as engine_url, aiohttp.ClientSession() as client:
        assert isinstance(world.engines, ReachableEngines)
        world.engines.url = engine_url
        async with running(world, QUICK) as runtime:
            taken = take_port("127.0.0.1", 0)
            port = taken.getsockname()[1]
            app = build_gateway(runtime, options or GatewayOptions(retry_pauses_s=(0.0, 0.0)))
            async with listening(app, taken):
                yield Gateway(f"http://127.0.0.1:{port}", port, client, world, engine, secrets)
    world.live.traces.close()


def play(
    folder: Path, scene: Callable[[Gateway], Awaitable[None]], options: GatewayOptions | None = None
) -> None:
    async def run() -> None:
        async with gateway(folder, options) as made, asyncio.timeout(60):
            await scene(made)

    asyncio.run(run())


def code_of(reply: dict[str, object]) -> str:
    error = reply["error"]
    assert isinstance(error, dict)
    return str(error["code"])


async def raw(port: int, data: bytes, seconds: float = 10.0) -> bytes:
    """Speak plain bytes; return all that comes back until the gateway closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    async with asyncio.timeout(seconds):
        answer = await reader.read()
    writer.close()
    return answer


@pytest.mark.parametrize(
    "field", ["api_base", "base_url", "lora_path", "webhook", "image_url", "chat_template"]
)
def test_class_12_an_unknown_field_never_reaches_the_engine(field: str, tmp_path: Path):
    async def scene(made: Gateway) -> None:
        status, reply, _ = await made.post(CHAT, chat_body(**{field: "http://169.254.169.254/"}))
        assert (status, code_of(reply)) == (400, "unknown_field")
        assert made.engine.bodies == []

    play(tmp_path, scene)


@pytest.mark.parametrize(
    "model",
    ["../shop", "shop/../base", "..%2fshop", "%2e%2e", "nul\0byte", "shop\\..", "SHOP", "shop@0", "shop@9"],
)
def test_class_01_a_path_trick_is_no_model(model: str, tmp_path: Path):
    async def scene(made: Gateway) -> None:
        status, reply, _ = await made.post(CHAT, chat_body(model=model))
        assert status in (403, 404), reply
        assert made.engine.bodies == []

    play(tmp_path, scene)


def test_class_13_administration_needs_the_role_and_the_engines_own_is_not_there_at_all(tmp_path: Path):
    async def scene(made: Gateway) -> None:
        assert (await made.get("/metrics", "caller"))[0] == 403
        assert (await made.get("/metrics", None))[0] == 401
        assert (await made.get("/metrics", "viewer"))[0] == 200
        for path in (
            "/v1/load_lora_adapter",
            "/v1/unload_lora_adapter",
            "/admin",
            "/v1/rollouts",
            "/v1/keys",
        ):
            for key in ("caller", "viewer"):
                status, reply, _ = await made.post(path, {"lora_name": "a" * 64, "lora_path": "/etc"}, key)
                assert (status, code_of(reply)) == (404, "unknown_endpoint")
        digest = made.world.ports.records.latest("model", "shop").to_json()["adapter"]
        for model in ("shop@1", "shop:candidate", digest):
            status, reply, _ = await made.post(CHAT, chat_body(model=model), "caller")
            assert status == 403, "a caller asks for champions only"
        assert made.engine.bodies == []

    play(tmp_path, scene)


def test_class_13_another_tenants_trace_is_answered_as_one_that_does_not_exist(tmp_path: Path):
    async def scene(made: Gateway) -> None:
        trace, token = await made.answered("caller")
        theirs = await made.thumb(trace, token, "rival")
        unknown = await made.thumb("tr_" + "0" * 32, token, "rival")
        assert (theirs[0], theirs[1]) == (unknown[0], unknown[1])
        assert theirs[0] == 404
        assert (await made.thumb(trace, token, "caller"))[0] == 200

    play(tmp_path, scene)


HOSTILE_KEYS = (
    "",
    "x",
    "' OR 1=1 --",
    '"; DROP TABLE ledger; --',
    "tw-" + "A" * 43,
    "k" * 100_000,
    "\u00e9",
    "tw-\t",
    "null",
    "0" * 64,
)


def test_class_14_hostile_keys_are_refused_alike(tmp_path: Path):
    async def scene(made: Gateway) -> None:
        hashes = [key.sha256 for key in made.world.keys.all()]
        for secret in (*HOSTILE_KEYS, *hashes, made.keys["caller"][:-1], made.keys["caller"] + "x"):
            head = (
                f"GET /v1/models HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {secret}"
            )
            answer = await raw(made.port, head.encode() + b"\r\n\r\n")
            assert answer.startswith((b"HTTP/1.1 401", b"HTTP/1.1 400", b"HTTP/1.0 400")), answer[:200]
        good = f"Authorization: Bearer {made.keys['caller']}\r\n"
        for doubled in (good * 2, good + "Authorization: Bearer x\r\n", good + "authorization: x\r\n"):
            answer = await raw(
                made.port,
                f"GET /v1/models HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{doubled}\r\n".encode(),
            )
            assert answer.startswith(b"HTTP/1.1 401"), answer[:200]
        assert (await made.get("/v1/models"))[0] == 200

    play(tmp_path, scene)


def test_class_14_secrets_are_compared_in_constant_time_and_every_key_is_looked_at(tmp_path: Path):
    for name in ("deploy/keys.py", "feedback/tokens.py", "backends/engine/server.py"):
        assert "hmac.compare_digest(" in (PACKAGE / name).read_text("utf-8"), name
    ports = fake_ports(tmp_path)
    made = [new_key("caller", "acme", "none", actor="ann") for _ in range(200)]
    for key in made:
        ports.records.append(key.event)
    ring = KeyRing.from_events(ports.records.events())

    def seconds(secret: str) -> float:
        started_s = time.thread_time()
        for _ in range(20):
            ring.find(secret)
        return time.thread_time() - started_s

    asked = {"first": made[0].secret, "last": made[-1].secret, "none": "tw-" + "A" * 43}
    best = {name: min(seconds(secret) for _ in range(15)) for name, secret in asked.items()}
    assert max(best.values()) < 3 * min(best.values()), "the place of a key must not show in the time"


HEAVY = {
    "deep lists": b'{"messages":' + b"[" * 1_000_000,
    "a million messages": b'{"model":"shop","messages":[' + b"{}," * 10**6 + b"{}]}",
    "a flood of fields": b"{" + b",".join(b'"%d":1' % number for number in range(500_000)) + b"}",
    "invalid UTF-8": b'{"model":"shop","messages":[{"role":"user","content":"\xff\xfe"}]}',
    "a lone surrogate": b'{"model":"shop","messages":[{"role":"user","content":"\\ud800"}]}',
    "max_tokens": json.dumps(chat_body(max_tokens=2**31)).encode(),
    "n": json.dumps(chat_body(n=10_000)).encode(),
    "not a number": b'{"model":"shop","temperature":NaN,"messages":[]}',
    "nothing": b"",
}


def test_class_15_heavy_and_broken_bodies_are_refused_while_others_are_answered(tmp_path: Path):
    async def scene(made: Gateway) -> None:
        for path in (CHAT, "/v1/completions", "/tokenize", "/v1/feedback"):
            for name, body in HEAVY.items():
                started_s = time.thread_time()
                status, reply, _ = await made.post(path, body)
                assert status in (400, 403, 413, 422), (path, name, reply)
                assert len(json.dumps(reply)) < 2000
                assert time.thread_time() - started_s < 3, (path, name)
        assert made.engine.bodies == []
        await made.answered()

    play(tmp_path, scene)


def test_class_15_a_hundred_megabytes_are_refused_unread_announced_or_not(tmp_path: Path):
    async def scene(made: Gateway) -> None:
        head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {made.keys['caller']}\r\n"
        answer = await raw(made.port, f"{head}Content-Length: {100 * 2**20}\r\n\r\n".encode() + b"{" * 1000)
        assert b" 413 " in answer.split(b"\r\n")[0]
        chunk = b"100000\r\n" + b" " * 2**20 + b"\r\n"
        reader, writer = await asyncio.open_connection("127.0.0.1", made.port)
        writer.write(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + chunk * 10)  # and never an end
        async with asyncio.timeout(10):
            assert b" 413 " in await reader.readline()
        writer.close()
        await made.answered()

    play(tmp_path, scene)


def test_class_15_slow_clients_hold_nobody_up_and_lose_their_place(tmp_path: Path):
    options = GatewayOptions(retry_pauses_s=(0.0,), header_timeout_s=0.4, body_timeout_s=0.4, max_in_flight=4)

    async def scene(made: Gateway) -> None:
        head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {made.keys['caller']}\r\n"
        slow = [head.encode()] * 20 + [f"{head}Content-Length: 100\r\n\r\n{{".encode()] * 3
        waiting = asyncio.gather(*(raw(made.port, data) for data in slow))
        await asyncio.sleep(0.05)
        await made.answered()
        answers = await waiting
        assert all(b" 408 " in answer.split(b"\r\n")[0] for answer in answers), answers
        await made.answered()

    play(tmp_path, scene, options)


def test_class_15_a_client_that_hangs_up_mid_stream_cancels_the_work_and_its_trace_is_closed(tmp_path: Path):
    async def scene(made: Gateway) -> None:
        async def endless(request, body):
            response = await open_stream(request)
            try:
                while True:
                    await response.write(b'data: {"choices":[],"tunewright":{"digest":"x"}}\n\n')
                    await asyncio.sleep(0.01)
            finally:
                made.engine.was_hung_up_on.set()

        made.engine.behaviours.append(endless)
        reader, writer = await asyncio.open_connection("127.0.0.1", made.port)
        body = json.dumps(chat_body(stream=True)).encode()
        head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {made.keys['caller']}\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        await reader.read(300)
        writer.transport.abort()
        async with asyncio.timeout(5):
            await made.engine.was_hung_up_on.wait()
        await eventually(
            lambda: [t.status for t in made.world.live.traces.newest(limit=5)] not in ([], ["open"])
        )
        (trace,) = made.world.live.traces.newest(limit=5)
        assert trace.status in ("cancelled", "error")

    play(tmp_path, scene)


def test_class_17_the_same_question_of_two_tenants_is_asked_twice_and_shares_nothing(tmp_path: Path):
    async def scene(made: Gateway) -> None:
        seen = [
            await made.post(CHAT, chat_body(user="ann", seed=1, temperature=0), key)
            for key in ("caller", "rival", "caller")
        ]
        assert len(made.engine.bodies) == 3, "no reply comes from a cache"
        told = [reply["tunewright"] for _, reply, _ in seen]
        assert len({one["trace"] for one in told}) == len({one["feedback_token"] for one in told}) == 3
        for _, _, headers in seen:
            assert "public" not in headers.get("Cache-Control", "")
        await until(lambda: len(made.world.live.traces.newest(limit=9)) == 3)
        units = {t.unit for t in made.world.live.traces.newest(limit=9)}
        assert len(units) == 2, "one user name of two tenants is two units"

    play(tmp_path, scene)


def test_class_19_forged_replayed_and_foreign_tokens_are_refused(tmp_path: Path):
    async def scene(made: Gateway) -> None:
        (one, token), (two, other) = await made.answered(), await made.answered()
        rival, theirs = await made.answered("rival")
        for forged in (other, theirs, "A" * len(token), token[:-1], token + "A", token.swapcase(), "x"):
            status, reply, _ = await made.thumb(one, forged)
            assert status == 403, (forged, reply)
            assert forged not in json.dumps(reply) or len(forged) < 5
        assert (await made.thumb(rival, theirs))[0] == 404
        assert (await made.thumb(one, token))[0] == 200
        assert (await made.thumb(two, other))[0] == 200
        made.world.ports.clock.now += timedelta(days=400)
        assert (await made.thumb(two, other))[0] in (403, 404), "a token is no good for ever"

    play(tmp_path, scene)


def test_class_19_a_flood_of_feedback_is_stopped_and_others_are_heard(tmp_path: Path):
    async def scene(made: Gateway) -> None:
        trace, token = await made.answered()
        statuses = [(await made.thumb(trace, token, author=f"a{n}"))[0] for n in range(40)]
        assert statuses.count(200) <= 20
        assert 429 in statuses
        another, mine = await made.answered("rival")
        assert (await made.thumb(another, mine, "rival"))[0] == 200

    play(tmp_path, scene)


INJECTIONS = (
    "<script>alert(1)</script>",
    '=HYPERLINK("http://evil","x")',
    "+cmd|'/c calc'!A0",
    "@SUM(1)",
    "\x1b[2J\x1b]0;owned\x07",
    "\u202eevil",
    "-1+1\t=2",
)


@pytest.mark.parametrize("comment", INJECTIONS)
def test_class_19_a_comment_is_text_in_every_export_and_moves_no_terminal(comment: str, tmp_path: Path):
    async def scene(made: Gateway) -> None:
        trace, token = await made.answered()
        status, reply, _ = await made.thumb(trace, token, kind="comment", value=None, text=comment)
        assert status == 200, reply
        traces = made.world.live.traces
        (feedback,) = traces.feedback(trace=trace)
        text = traces.text(feedback.id, made.world.ports.clock())
        assert text is not None
        assert not set(text.text or "") & {"\x1b", "\x07", "\u202e"}
        rows = [(feedback, export_row(traces.text(trace, made.world.ports.clock()), text))]
        for line in encode_rows(rows, "csv", texts=True).decode().splitlines()[1:]:
            for cell in line.split(","):
                assert not cell.strip('" ').startswith(("=", "+", "@", "-", "\t"))

    play(tmp_path, scene)


def test_class_20_a_probe_string_in_prompts_is_found_in_no_log_file_ledger_or_metric(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
):
    caplog.set_level(logging.DEBUG)

    async def scene(made: Gateway) -> None:
        said = [{"role": "user", "content": f"my secret is {PROBE}"}]
        trace, token = await made.answered(messages=said, user=PROBE)
        await made.answered(messages=said, stream=False)
        await made.post(CHAT, chat_body(messages=said, model=PROBE))
        await made.post(CHAT, chat_body(messages=said, max_tokens=2**31))
        await made.post("/v1/completions", {"model": "shop", "prompt": PROBE, "max_tokens": 4})
        await made.post("/tokenize", {"messages": said})
        await made.thumb(trace, token, kind="comment", value=None, text=PROBE, author=PROBE)
        await made.thumb(trace, token, kind="edit", value=None, text=f"better {PROBE}", author=PROBE)
        made.engine.behaviours.append(_failing)
        await made.post(CHAT, chat_body(messages=said))
        assert PROBE not in (await made.get("/metrics", "viewer"))[1]
        await made.world_flushed()
        stored = [one.to_json() for one in made.world.live.traces.newest(limit=50)]
        assert PROBE not in json.dumps(stored)
        assert PROBE not in json.dumps([event.to_json() for event in made.world.ports.records.events()])
        kept = made.world.live.traces.text(trace, made.world.ports.clock())
        assert kept is not None and PROBE in json.dumps(kept.to_json()), "whoever has the key can read it"
        on_disk(tmp_path)

    play(tmp_path, scene)
    on_disk(tmp_path)
    said = capfd.readouterr()
    assert PROBE not in caplog.text + said.out + said.err


async def _failing(request, body):
    return web.json_response({"error": {"message": f"a bug that quotes {body}"}}, status=500)


def on_disk(folder: Path) -> None:
    """No file holds the probe string, neither as it is nor in UTF-16: databases and their logs included."""
    looked = [path for path in folder.rglob("*") if path.is_file()]
    assert any(path.name.startswith("traces.db") for path in looked)
    for path in looked:
        data = path.read_bytes()
        assert PROBE.encode() not in data and PROBE.encode("utf-16-le") not in data, path


@pytest.fixture
def two(tmp_path: Path) -> tuple[Ports, Rollout, RolloutState]:
    """A rollout of the second version, on a real database."""
    records = SqlRecords(f"sqlite:///{tmp_path / 'registry.db'}")
    ports = dataclasses.replace(fake_ports(tmp_path, TunedEngine()), records=records)
    one, other = (register(RECIPE, make_world(ports, seed=n, data=str(n)).report, ports) for n in range(2))
    rollout, state = start_rollout(other, one, a_policy(), ports)
    yield ports, rollout, state
    records.close()


PROMOTE = Step("promote", "It is better.", 1.0, 4)
ROLL_BACK = Step("roll_back", "Errors rose.", 0.0, 0)


def race(*moves: Callable[[], object]) -> list[object]:
    """Do all at once; give each result, or the error of ours it ended with."""
    gate, found = threading.Barrier(len(moves)), []

    def run(move: Callable[[], object]) -> None:
        gate.wait()
        try:
            found.append(move())
        except TunewrightError as error:
            found.append(error)

    threads = [threading.Thread(target=run, args=(move,)) for move in moves]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_class_23_of_concurrent_promotes_one_wins_and_the_others_are_told(two):
    ports, rollout, state = two
    found = race(*[lambda: take_step(rollout, state, PROMOTE, ports, actor="ann")] * 4)
    assert sum(isinstance(one, RolloutState) for one in found) == 1
    lost = [one for one in found if isinstance(one, AliasConflict)]
    assert len(lost) == 3
    assert all("moved by another process first" in str(one) for one in lost)
    assert ports.records.alias("shop", "champion").target == rollout.candidate


def test_class_23_a_promote_during_a_rollback_leaves_alias_and_rollout_in_agreement(two):
    ports, rollout, state = two
    race(
        lambda: take_step(rollout, state, PROMOTE, ports, actor="ann"),
        lambda: take_step(rollout, state, ROLL_BACK, ports, actor="gateway"),
    )
    after = read_state(ports.records, "shop")
    assert after is not None
    expected = {"promoted": rollout.candidate, "rolled_back": rollout.incumbent}[after.phase]
    assert ports.records.alias("shop", "champion").target == expected
    assert after.revision == state.revision + 1


def test_class_23_concurrent_moves_of_an_alias_lose_none_and_invent_none(two):
    ports, _, _ = two
    found = race(
        *[
            lambda n=n: set_alias(
                "shop", "blue", target=Ref("shop", 1 + n % 2), actor=f"a{n}", reason="race", ports=ports
            )
            for n in range(6)
        ]
    )
    assert all(not isinstance(one, TunewrightError) or isinstance(one, AliasConflict) for one in found)
    won = [one for one in found if not isinstance(one, TunewrightError)]
    state = ports.records.alias("shop", "blue")
    assert state.revision == len(won) >= 1
    assert len(ports.records.events(kind="alias", subject="alias:shop/blue")) == len(won)


class Dying:
    """A Records whose disk fails at the very moment of the flip."""

    def __init__(self, records: SqlRecords) -> None:
        self.records = records
        self.alias, self.head, self.events = records.alias, records.head, records.events
        self.latest, self.get, self.list, self.tip = records.latest, records.get, records.list, records.tip

    def move_alias(self, *args: object, **kwargs: object) -> None:
        raise StorageError("registry: the disk is full")

    append = move_alias


def test_class_23_a_crash_between_write_and_flip_changes_nothing_and_the_same_command_goes_on(two):
    ports, rollout, state = two
    dying = dataclasses.replace(ports, records=Dying(ports.records))
    for step in (PROMOTE, ROLL_BACK):
        with pytest.raises(StorageError, match="disk is full"):
            take_step(rollout, state, step, dying, actor="ann")
    assert read_state(ports.records, "shop") == state
    assert ports.records.alias("shop", "champion").target == rollout.incumbent
    assert take_step(rollout, state, PROMOTE, ports, actor="ann").phase == "promoted"


def test_class_23_a_promotion_of_a_candidate_revoked_meanwhile_is_refused(two):
    ports, rollout, _ = two
    revoke(rollout.candidate, actor="ann", reason="leaks", ports=ports)
    with pytest.raises(ModelRevoked, match="leaks"):
        set_alias("shop", "champion", target=rollout.candidate, actor="eve", reason="x", ports=ports)


def test_class_23_a_clock_that_jumps_orders_nothing_and_loses_nothing(tmp_path: Path):
    async def scene(made: Gateway) -> None:
        clock = made.world.ports.clock
        for jump in (timedelta(0), timedelta(hours=-5), timedelta(days=3), timedelta(days=-9)):
            clock.now += jump
            trace, token = await made.answered()
            assert (await made.thumb(trace, token))[0] == 200
        await made.world_flushed()
        traces = made.world.live.traces.newest(limit=9)
        assert [one.seq for one in traces] == sorted((one.seq for one in traces), reverse=True)
        assert len(traces) == 4
        assert all(one.closed_at >= one.at for one in traces)

    play(tmp_path, scene)


def test_class_10_a_champion_revoked_while_serving_gets_no_further_request(tmp_path: Path):
    async def scene(made: Gateway) -> None:
        await made.answered()
        revoke(Ref("shop", 1), actor="ann", reason="leaks", ports=made.world.ports)
        with pytest.raises(TunewrightError, match="no earlier version"):
            roll_back("shop", "champion", actor="ann", reason="x", ports=made.world.ports)

        async def status() -> int:
            return (await made.post(CHAT, chat_body()))[0]

        deadline = time.monotonic() + 20
        while await status() == 200:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
        num_asked = len(made.engine.bodies)
        assert await status() in (404, 503)
        assert len(made.engine.bodies) == num_asked

    play(tmp_path, scene)


def test_an_engine_killed_mid_request_is_seen_as_a_retry_at_most(tmp_path: Path):
    async def scene(made: Gateway) -> None:
        async def die(request, body):
            request.transport.abort()
            raise ConnectionResetError

        made.engine.behaviours.append(die)
        await made.answered()
        assert len(made.engine.bodies) == 2
        await until(lambda: len(made.world.live.traces.newest(limit=9)) == 1)

    play(tmp_path, scene)
