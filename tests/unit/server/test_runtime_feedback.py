import asyncio

import pytest
from tests.runtime_world import (
    CALLER,
    a_served_world,
    asked,
    jump,
    running,
    well,
)

from tunewright.errors import RequestRefused, StorageError
from tunewright.server.seams import Caller, FeedbackDraft


@pytest.fixture
def world(tmp_path):
    return a_served_world(tmp_path)


def play(scene):
    asyncio.run(asyncio.wait_for(scene, 30))


def draft(ticket, **changes) -> FeedbackDraft:
    fields = {
        "trace": ticket.trace.id,
        "token": ticket.feedback_token,
        "kind": "thumb",
        "value": 0.0,
        "text": None,
        "author": None,
        "consent": None,
    }
    return FeedbackDraft(**fields | changes)


def test_feedback_is_stored_before_it_is_confirmed_also_on_an_answer_just_given(world):
    world.model()

    async def scene():
        async with running(world) as runtime:
            ticket = runtime.admit(asked(unit="ann"), CALLER)
            runtime.finish(ticket, well(ticket.trace.digest, text="helo"))
            edit = draft(ticket, kind="edit", value=None, text="hello", consent="train")
            feedback = await runtime.give_feedback(edit, CALLER)
            assert world.live.traces.all_feedback[feedback.id].is_bad
            assert feedback.edit_distance == pytest.approx(0.2)
            assert world.live.traces.texts[feedback.id].text == "hello"

    play(scene())


def test_another_tenants_trace_looks_as_if_it_were_not_there(world):
    stranger = Caller("3" * 12, "admin", "other", "train")

    async def scene():
        async with running(world) as runtime:
            ticket = runtime.admit(asked("base"), CALLER)
            said: list[str] = []
            for given, caller in (
                (draft(ticket), stranger),
                (draft(ticket, trace="tr_" + "0" * 32), CALLER),
            ):
                with pytest.raises(RequestRefused) as found:
                    await runtime.give_feedback(given, caller)
                assert (found.value.status, found.value.code) == (404, "trace_not_found")
                said.append(str(found.value))
            assert said[0] == said[1]

    play(scene())


def test_forged_and_expired_tokens_and_floods_are_refused(world):
    async def scene():
        async with running(world) as runtime:
            one, two = (runtime.admit(asked("base"), CALLER) for _ in range(2))

            async def status(given):
                with pytest.raises(RequestRefused) as found:
                    await runtime.give_feedback(given, CALLER)
                return found.value.status

            assert await status(draft(one, token=two.feedback_token)) == 403
            assert await status(draft(one, value=7.0)) == 422
            for _ in range(19):
                await runtime.give_feedback(draft(one), CALLER)
            assert await status(draft(one)) == 429
            world.live.traces.broken = StorageError("read-only")
            assert await status(draft(two)) == 503
            world.live.traces.broken = None
            jump(world, 31 * 86400)
            assert await status(draft(two)) in (403, 404)

    play(scene())
