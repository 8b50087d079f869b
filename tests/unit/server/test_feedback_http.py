"""POST /v1/feedback: its form, and that everything else is the runtime's say."""

import json

import pytest
from tests.server_world import FakeRuntime, World, play

from tunewright.errors import RequestRefused, StorageError
from tunewright.server.feedback_endpoint import parse_feedback

TRACE = "tr_" + "1" * 32


def body(**fields: object) -> bytes:
    return json.dumps({"trace": TRACE, "token": "t", "kind": "thumb", "value": "up", **fields}).encode()


def refused(data: bytes, header: str | None = None) -> RequestRefused:
    with pytest.raises(RequestRefused) as caught:
        parse_feedback(data, header)
    return caught.value


def test_feedback_is_handed_to_the_runtime_and_answered_with_id_and_status():
    async def scene(world: World):
        given = {"trace": TRACE, "token": "t", "kind": "edit", "text": "better", "author": "ann"}
        status, reply, _ = await world.post("/v1/feedback", {**given, "consent": "train"})
        assert (status, reply) == (200, {"id": f"fb_{1:032x}", "status": "pending"})
        (draft,) = world.runtime.feedback
        assert (draft.trace, draft.token, draft.kind, draft.text) == (TRACE, "t", "edit", "better")
        assert (draft.author, draft.consent, draft.value) == ("ann", "train", None)

    play(scene)


def test_the_token_may_come_in_its_header():
    async def scene(world: World):
        given = {"trace": TRACE, "kind": "harm"}
        status, _, _ = await world.post("/v1/feedback", given, X_Tunewright_Feedback_Token="from-header")
        assert status == 200
        assert world.runtime.feedback[0].token == "from-header"

    play(scene)


@pytest.mark.parametrize(
    ("value", "expected"), [("up", 1.0), ("down", 0.0), (1, 1.0), (0, 0.0), (1.0, 1.0), (0.0, 0.0)]
)
def test_a_thumb_is_up_or_down(value: object, expected: float):
    assert parse_feedback(body(value=value), None).value == expected


@pytest.mark.parametrize(
    ("fields", "status", "param"),
    [
        ({"value": None}, 422, "value"),
        ({"value": 0.5}, 422, "value"),
        ({"value": 2}, 422, "value"),
        ({"value": "sideways"}, 400, "value"),
        ({"value": True}, 400, "value"),
        ({"kind": "rating", "value": 0}, 422, "value"),
        ({"kind": "rating", "value": 6}, 422, "value"),
        ({"kind": "rating", "value": "up"}, 422, "value"),
        ({"kind": "rating", "value": None}, 422, "value"),
        ({"kind": "harm", "value": 1}, 422, "value"),
        ({"kind": "edit", "value": None}, 422, "text"),
        ({"kind": "edit", "value": None, "text": "  "}, 422, "text"),
        ({"kind": "comment", "value": None}, 422, "text"),
        ({"kind": "edit", "value": None, "text": "ä" * 40_000}, 413, "text"),
        ({"kind": "praise"}, 400, "kind"),
        ({"trace": 5}, 400, "trace"),
        ({"trace": "x" * 100}, 400, "trace"),
        ({"token": None}, 403, "token"),
        ({"token": ""}, 400, "token"),
        ({"token": "t" * 5000}, 400, "token"),
        ({"author": ""}, 400, "author"),
        ({"consent": "all"}, 400, "consent"),
        ({"digest": "x"}, 400, "digest"),
    ],
)
def test_a_wrong_form_is_refused_by_field(fields: dict[str, object], status: int, param: str):
    error = refused(body(**fields))
    assert (error.status, error.param) == (status, param)


def test_a_rating_lies_between_one_and_five():
    assert parse_feedback(body(kind="rating", value=4), None).value == 4.0


def test_nan_and_doubled_fields_and_garbage_are_refused():
    assert refused(b'{"trace": "t", "token": "t", "kind": "rating", "value": NaN}').status == 400
    assert "twice" in str(refused(body()[:-1] + b', "value": "down"}'))
    assert refused(b"\xff").status == 400
    assert refused(b"[" * 100_000).status == 400
    assert "fields" in str(refused(json.dumps({f"f{i}": 0 for i in range(100_000)}).encode()))


@pytest.mark.parametrize("status", [403, 404, 422, 429, 503])
def test_what_the_runtime_refuses_is_said_as_it_is(status: int):
    async def scene(world: World):
        got, reply, _ = await world.post("/v1/feedback", json.loads(body()))
        assert (got, reply["error"]["code"]) == (status, "its_code")

    play(scene, runtime=FakeRuntime(feedback_error=RequestRefused("no", status, "its_code")))


def test_a_trace_store_that_cannot_be_written_is_a_503():
    class Full(FakeRuntime):
        async def give_feedback(self, draft, caller):
            raise StorageError("traces.db: disk full")

    async def scene(world: World):
        status, reply, headers = await world.post("/v1/feedback", json.loads(body()))
        assert (status, reply["error"]["code"]) == (503, "storage_unavailable")
        assert "Retry-After" in headers

    play(scene, runtime=Full())
