"""The small endpoints: what is served, token ids, health and figures."""

from collections.abc import Mapping
from contextlib import aclosing

import orjson
from aiohttp import web

from tunewright.core import openai_wire as wire
from tunewright.errors import RequestRefused
from tunewright.server.bodies import load_object, read_body
from tunewright.server.engine_calls import CALLS, Call
from tunewright.server.front_desk import FrontDesk
from tunewright.server.metrics import CONTENT_TYPE
from tunewright.server.seams import Caller, ServedModel
from tunewright.values import Json


async def list_models(request: web.Request, desk: FrontDesk, caller: Caller) -> web.Response:
    """GET /v1/models."""
    lines: list[Json] = [_line(model, desk.started_at) for model in desk.runtime.models(caller)]
    return json_reply({"object": "list", "data": lines})


async def show_model(request: web.Request, desk: FrontDesk, caller: Caller) -> web.Response:
    """GET /v1/models/{id}."""
    return json_reply(_line(_find(request.match_info["id"], desk, caller), desk.started_at))


async def tokenize(request: web.Request, desk: FrontDesk, caller: Caller) -> web.Response:
    """POST /tokenize: the ids that the base's engine would be fed; they do not depend on the adapter."""
    with desk.slot():
        body = await read_body(request, desk.options.body_timeout_s)
        wire.parse_tokenize(body)
        fields = load_object(body)
        asked = fields.pop("model", None)
        if isinstance(asked, str):
            _find(asked, desk, caller)
        call = Call("/tokenize", "base", orjson.dumps(fields))
        async with aclosing(request.app[CALLS].answers(call)) as answers:
            return web.Response(body=await anext(answers), content_type="application/json")


async def healthz(request: web.Request) -> web.Response:
    """GET /healthz: this process answers."""
    return json_reply({"status": "ok"})


def readyz(desk: FrontDesk) -> web.Response:
    """GET /readyz: whether traffic may come; problems that do not keep it away are named, too."""
    readiness = desk.runtime.readiness()
    is_ready = readiness.is_ready and not desk.is_stopping
    status = "ready" if is_ready else "stopping" if desk.is_stopping else "not_ready"
    problems: list[Json] = list(readiness.problems)
    return json_reply({"status": status, "problems": problems}, 200 if is_ready else 503)


def show_metrics(desk: FrontDesk) -> web.Response:
    """GET /metrics, in Prometheus' text format."""
    return web.Response(body=desk.meters.render(), headers={"Content-Type": CONTENT_TYPE})


def json_reply(value: Mapping[str, Json], status: int = 200) -> web.Response:
    """Write a JSON object."""
    return web.Response(body=orjson.dumps(value), status=status, content_type="application/json")


def _find(asked: str, desk: FrontDesk, caller: Caller) -> ServedModel:
    models = desk.runtime.models(caller)
    found = next((model for model in models if model.id == asked), None)
    if found is None:
        known = ", ".join(model.id for model in models[:20]) or "none yet"
        raise RequestRefused(
            f"model {asked[:200]!r} is not served; expected one of: {known}", 404, "model_not_found", "model"
        )
    return found


def _line(model: ServedModel, created: int) -> dict[str, Json]:
    told: dict[str, Json] = {
        "digest": model.digest,
        "model": None if model.model is None else str(model.model),
    }
    if model.note is not None:
        told["note"] = model.note
    return {
        "id": model.id,
        "object": "model",
        "created": created,
        "owned_by": "tunewright",
        "tunewright": told,
    }
