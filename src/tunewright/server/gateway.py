"""The gateway's HTTP side: endpoints, who may call them, and errors in the OpenAI shape. START HERE.

Nothing of the engine's administration is reachable; the engine speaks to this process only.
"""

import logging
import random
import re
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable

import orjson
from aiohttp import web

from tunewright.core import openai_replies as replies
from tunewright.core import openai_wire as wire
from tunewright.errors import RequestRefused, StorageError, TunewrightError
from tunewright.server import completions, endpoints
from tunewright.server.auth import authenticate
from tunewright.server.engine_calls import CALLS, EngineCalls, engine_session
from tunewright.server.feedback_endpoint import give_feedback
from tunewright.server.front_desk import FrontDesk
from tunewright.server.options import GatewayOptions
from tunewright.server.seams import Caller, GatewayRuntime, Role

logger = logging.getLogger(__name__)

REQUEST_ID_HEADER = "X-Request-Id"
RETRY_AFTER_S = {429: 1, 503: 2}
"""Told to clients, which then ask again by themselves."""

FRONT = web.AppKey("front_desk", FrontDesk)
SPOKEN = web.AppKey("spoken", set[web.RequestHandler])
"""Connections that have sent a whole request head; `listening` closes those that never do."""

_NAMES = web.AppKey("names", random.Random)
"""Names requests; no secrets, so no system call for each."""

_SAFE_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_Endpoint = Callable[[web.Request, FrontDesk, Caller], Awaitable[web.StreamResponse]]


def build_gateway(runtime: GatewayRuntime, options: GatewayOptions) -> web.Application:
    """Put endpoints, keys and limits together; `listening.listen` makes it answer."""
    app = web.Application(middlewares=[_speak_openai], client_max_size=wire.MAX_BODY_BYTES)
    app[FRONT] = desk = FrontDesk(runtime, options)
    app[SPOKEN] = set()
    app[_NAMES] = random.Random(secrets.randbits(256))
    app.on_response_prepare.append(_name_request)
    app.cleanup_ctx.append(_connect)
    add = app.router.add_route
    add("POST", "/v1/chat/completions", _for(desk, "caller", completions.chat))
    add("POST", "/v1/completions", _for(desk, "caller", completions.text))
    add("GET", "/v1/models", _for(desk, "caller", endpoints.list_models))
    add("GET", "/v1/models/{id:.+}", _for(desk, "caller", endpoints.show_model))
    add("POST", "/tokenize", _for(desk, "caller", endpoints.tokenize))
    add("POST", "/v1/feedback", _for(desk, "caller", give_feedback))
    add("GET", "/metrics", _open_metrics if options.has_open_metrics else _for(desk, "viewer", _metrics))
    add("GET", "/healthz", endpoints.healthz)
    add("GET", "/readyz", _readyz)
    return app


def _for(desk: FrontDesk, role: Role, endpoint: _Endpoint) -> _Handler:
    """Let in whoever has this role, or a higher one."""

    async def checked(request: web.Request) -> web.StreamResponse:
        caller = authenticate(request.headers.getall("Authorization", []), desk.runtime, role)
        return await endpoint(request, desk, caller)

    return checked


async def _metrics(request: web.Request, desk: FrontDesk, caller: Caller) -> web.Response:
    return endpoints.show_metrics(desk)


async def _open_metrics(request: web.Request) -> web.Response:
    return endpoints.show_metrics(request.app[FRONT])


async def _readyz(request: web.Request) -> web.Response:
    return endpoints.readyz(request.app[FRONT])


async def _connect(app: web.Application) -> AsyncGenerator[None]:
    """Keep the connections to the engine for as long as the gateway runs."""
    desk = app[FRONT]
    async with engine_session() as session:
        app[CALLS] = EngineCalls(session, desk.runtime, desk.options)
        yield


async def _name_request(request: web.Request, response: web.StreamResponse) -> None:
    """Name every reply, so that a caller can ask about it."""
    given = request.headers.get(REQUEST_ID_HEADER, "")
    name = given if _SAFE_ID.fullmatch(given) else f"req_{request.app[_NAMES].getrandbits(96):024x}"
    response.headers[REQUEST_ID_HEADER] = name
    response.headers["Server"] = "tunewright"


@web.middleware
async def _speak_openai(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """Turn every error into the OpenAI shape."""
    request.app[SPOKEN].add(request.protocol)
    try:
        return await handler(request)
    except web.HTTPException as error:
        return _error_reply(request, _of_http(request, error), dict(error.headers))
    except TunewrightError as error:
        return _error_reply(request, _of_ours(error))
    except ConnectionError:
        raise  # the client is gone: nobody to answer
    except Exception as error:  # noqa: BLE001  # the boundary of a request: one bug must not show its insides
        _log_bug(error)
        if request.writer.output_size:
            raise ConnectionResetError("an answer broke off") from None
        return _error_reply(request, RequestRefused("the gateway failed", 500, "gateway_failed"))


def _log_bug(error: BaseException) -> None:
    """Say what failed and where, without the message: it may quote what a user wrote."""
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    place = f"{last.tb_frame.f_code.co_filename}:{last.tb_lineno}" if last else "unknown"
    logger.error("a request failed: %s at %s", type(error).__name__, place)


def _of_http(request: web.Request, error: web.HTTPException) -> RequestRefused:
    where = f"{request.method} {request.path[:200]}"
    if error.status == 404:
        return RequestRefused(f"{where}: there is no such endpoint", 404, "unknown_endpoint")
    if error.status == 405:
        allowed = error.headers.get("Allow", "")
        return RequestRefused(f"{where}: expected method {allowed}", 405, "method_not_allowed")
    return RequestRefused(f"{where}: {error.reason}", error.status)


def _of_ours(error: TunewrightError) -> RequestRefused:
    if isinstance(error, RequestRefused):
        return error
    if isinstance(error, StorageError):
        return RequestRefused(str(error), 503, "storage_unavailable")
    logger.error("a request failed: %s", type(error).__name__)
    return RequestRefused("the gateway failed", 500, "gateway_failed")


def _error_reply(
    request: web.Request, refused: RequestRefused, headers: dict[str, str] | None = None
) -> web.Response:
    request.app[FRONT].meters.refuse(refused.status)
    told = {name: value for name, value in (headers or {}).items() if name == "Allow"}
    if refused.status == 401:
        told["WWW-Authenticate"] = "Bearer"
    if refused.status in RETRY_AFTER_S:
        told["Retry-After"] = str(RETRY_AFTER_S[refused.status])
    body = orjson.dumps(replies.refusal(refused))
    response = web.Response(body=body, status=refused.status, content_type="application/json", headers=told)
    if refused.status in (408, 413):
        response.force_close()  # the rest of the body may still be under way
    return response
