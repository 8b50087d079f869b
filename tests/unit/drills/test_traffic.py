"""Simulated users against a small server that behaves as the gateway does, and misbehaves on demand."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from aiohttp import web

from tunewright.drills.gateway_client import Target, client_session, wait_until_known
from tunewright.drills.traffic import Habits, Question, SimulatedUsers, Traffic
from tunewright.errors import EngineFailed

QUESTIONS = [Question(({"role": "user", "content": f"{n} plus 1"},), str(n + 1)) for n in range(10)]


@dataclass
class Gateway:
    """Answers wrongly on adapter `bad`; every other user gets it."""

    problems: list[int | str] = field(default_factory=list)
    """Statuses, or `cut` for a stream that breaks off, for the next attempts."""
    attempts: int = 0
    bodies: list[dict] = field(default_factory=list)
    feedback: list[dict] = field(default_factory=list)
    refuse_feedback: bool = False

    async def models(self, request: web.Request) -> web.Response:
        is_known = request.headers["Authorization"] == "Bearer secret"
        return web.json_response({"data": []}, status=200 if is_known else 401)

    async def chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.attempts += 1
        problem = self.problems.pop(0) if self.problems else None
        if isinstance(problem, int):
            return web.json_response({"error": {"message": "busy"}}, status=problem)
        self.bodies.append(body)
        number = int(body["messages"][-1]["content"].split()[0])
        is_bad = int(body["user"].rsplit("-", 1)[1]) % 2 == 1
        text = "no idea" if is_bad else str(number + 1)
        told = {
            "trace": f"tr_{self.attempts}",
            "digest": "bad" if is_bad else "good",
            "model": "shop@2" if is_bad else "shop@1",
            "feedback_token": "token",
        }
        if not body["stream"]:
            return web.json_response({"choices": [{"message": {"content": text}}], "tunewright": told})
        return await self.stream(request, text, told, is_cut=problem == "cut")

    async def stream(self, request: web.Request, text: str, told: dict, *, is_cut: bool):
        response = web.StreamResponse()
        await response.prepare(request)
        first = {"choices": [{"delta": {"content": text[:1]}}], "tunewright": told}
        second = {"choices": [{"delta": {"content": text[1:]}}], "tunewright": {"digest": told["digest"]}}
        last = {"error": {"message": "stopped"}} if is_cut else second
        for event in (first, last):
            await response.write(f"data: {json.dumps(event)}\n\n".encode())
        if not is_cut:
            await response.write(b"data: [DONE]\n\n")
        return response

    async def hear(self, request: web.Request) -> web.Response:
        self.feedback.append(await request.json())
        return web.json_response({}, status=429 if self.refuse_feedback else 200)


def run(
    gateway: Gateway,
    habits: Habits,
    count: int,
    *,
    until: Callable[[], bool] = lambda: False,
    attempts: int = 4,
) -> Traffic:
    async def everything() -> Traffic:
        app = web.Application()
        app.router.add_get("/v1/models", gateway.models)
        app.router.add_post("/v1/chat/completions", gateway.chat)
        app.router.add_post("/v1/feedback", gateway.hear)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        target = Target(f"http://127.0.0.1:{port}", "secret", "shop", attempts=attempts, first_pause_s=0.01)
        users = SimulatedUsers(7, QUESTIONS, lambda answer, truth: answer == truth, habits)
        try:
            return await users.send(target, count, concurrency=3, until=until)
        finally:
            await runner.cleanup()

    return asyncio.run(everything())


def test_answers_are_counted_by_digest_and_judged_by_the_truth():
    traffic = run(Gateway(), Habits(rate=0.0), 10)
    assert traffic.requests == 10
    assert traffic.by_digest == {"good": 5, "bad": 5}
    assert traffic.right_by_digest == {"good": 1.0, "bad": 0.0}
    assert (traffic.retries, traffic.failures, traffic.thumbs) == (0, (), 0)


def test_users_rate_by_the_truth_and_correct_bad_answers_for_training():
    gateway = Gateway()
    traffic = run(gateway, Habits(rate=1.0, correct=1.0), 10)
    assert (traffic.thumbs, traffic.corrections) == (10, 5)
    thumbs = Counter(said["value"] for said in gateway.feedback if said["kind"] == "thumb")
    assert thumbs == {"up": 5, "down": 5}
    edits = [said for said in gateway.feedback if said["kind"] == "edit"]
    assert {said["consent"] for said in edits} == {"train"}
    assert {said["text"] for said in edits} <= {question.truth for question in QUESTIONS}
    assert all(said["token"] == "token" and said["author"].startswith("user-7-") for said in gateway.feedback)


def test_a_slip_turns_the_thumb_round():
    gateway = Gateway()
    run(gateway, Habits(rate=1.0, slip=1.0), 4)
    assert Counter(said["value"] for said in gateway.feedback) == {"up": 2, "down": 2}
    by_trace = {said["trace"]: said["value"] for said in gateway.feedback}
    assert len(by_trace) == 4


def test_feedback_that_is_not_taken_is_counted_and_not_sent_again():
    gateway = Gateway(refuse_feedback=True)
    traffic = run(gateway, Habits(rate=1.0), 4)
    assert (traffic.thumbs, traffic.feedback_refused, len(gateway.feedback)) == (0, 4, 4)


@pytest.mark.parametrize("problem", [503, 429, 502])
def test_a_busy_gateway_is_asked_again_and_the_retry_is_counted(problem: int):
    traffic = run(Gateway(problems=[problem, problem]), Habits(rate=0.0), 5)
    assert (len(traffic.answered), traffic.retries, traffic.failures) == (5, 2, ())


def test_a_stream_is_put_together_and_one_that_breaks_off_is_asked_again():
    gateway = Gateway(problems=["cut"])
    traffic = run(gateway, Habits(rate=0.0, stream=1.0), 6)
    assert (len(traffic.answered), traffic.retries) == (6, 1)
    assert traffic.right_by_digest["good"] == 1.0


def test_a_wrong_request_fails_at_once_and_a_dead_gateway_after_all_attempts():
    wrong = run(Gateway(problems=[400]), Habits(rate=0.0), 3)
    assert (len(wrong.answered), len(wrong.failures)) == (2, 1)
    assert "status 400" in wrong.failures[0]
    dead = run(Gateway(problems=[503] * 20), Habits(rate=0.0), 1, attempts=3)
    assert "no answer in 3 attempts; the last said: status 503" in dead.failures[0]


def test_nothing_is_sent_once_it_is_over():
    gateway = Gateway()
    traffic = run(gateway, Habits(rate=0.0), 50, until=lambda: gateway.attempts >= 10)
    assert 10 <= traffic.requests < 15


def test_the_same_seed_sends_the_same_requests():
    first, again = Gateway(), Gateway()
    habits = Habits(rate=0.5, correct=0.5, returning=0.5, stream=0.5)
    run(first, habits, 20)
    run(again, habits, 20)

    def sent(gateway: Gateway) -> list[str]:
        return sorted(json.dumps(body, sort_keys=True) for body in gateway.bodies)

    assert sent(first) == sent(again)
    users = [body["user"] for body in first.bodies]
    assert len(set(users)) < len(users), "some came back"


def test_a_gateway_that_does_not_know_the_key_is_an_error_and_no_failed_traffic():
    async def ask(url: str) -> None:
        async with client_session() as session:
            await wait_until_known(session, Target(url, "wrong", "shop"), limit_s=0.0)

    with pytest.raises(EngineFailed, match=r"cannot be reached .* serve this workspace"):
        asyncio.run(ask("http://127.0.0.1:1"))


def test_stretches_of_traffic_add_up():
    one, two = run(Gateway(), Habits(rate=1.0), 4), run(Gateway(), Habits(rate=1.0), 6)
    both = one + two
    assert (both.requests, both.thumbs) == (10, 10)
