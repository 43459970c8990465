"""Addresses of the page: what is answered, and to whom."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from lima2_tango.client.errors import UnreachableError
from lima2_tango.core.errors import Lima2Error, ParamError, as_lima2
from lima2_tango.core.params import Params

from .access import DeniedError, Role
from .actions import Order, RoiOrder, graph_of
from .guard import Guarded
from .page import Page, check_role, refusal, role_of
from .report import explained
from .socket import LiveSocket

log = logging.getLogger(__name__)

STATIC = Path(__file__).parent / "static"
LARGEST_BODY = 1 << 18
"""Bytes of an order: regions and lists of modules included."""
T = TypeVar("T", bound=Params)


def application(page: Page) -> ASGIApp:
    """The ASGI application of one page."""
    routes = [
        Route("/", _answering(page, _index, Role.NOBODY)),
        Route("/api/login", _answering(page, _login, Role.NOBODY), methods=["POST"]),
        Route("/api/about", _answering(page, _about, Role.NOBODY)),
        Route("/api/form", _answering(page, _form, Role.READER)),
        Route("/api/graph", _answering(page, _graph, Role.READER)),
        Route("/api/order", _answering(page, _order, Role.OPERATOR), methods=["POST"]),
        Route("/api/regions", _answering(page, _regions, Role.OPERATOR), methods=["POST"]),
        Route("/api/file", _answering(page, _file, Role.OPERATOR)),
        WebSocketRoute("/live", LiveSocket(page)),
        Mount("/static", StaticFiles(directory=STATIC)),
    ]

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None]:
        loops = asyncio.create_task(page.hub.run())
        try:
            yield
        finally:
            loops.cancel()
            with suppress(asyncio.CancelledError):
                await loops

    handlers: dict[Any, Any] = {HTTPException: _no_such_thing}
    return Guarded(page, Starlette(routes=routes, lifespan=lifespan, exception_handlers=handlers))


Answerer = Callable[[Page, Request], Awaitable[Response]]


def _answering(page: Page, answer: Answerer, least: Role) -> Callable[[Request], Awaitable[Response]]:
    """What goes wrong is a sentence with its remedy, whatever it was."""

    async def endpoint(request: Request) -> Response:
        try:
            check_role(page, request, least)
            return await answer(page, request)
        except Lima2Error as error:
            return refusal(error)
        except asyncio.CancelledError:  # the page ends, and does not wait for what hangs
            return refusal(UnreachableError("the page is being ended: open it again"))
        except Exception as error:  # boundary: one request fails, the page goes on
            log.exception("%s failed", request.url.path)
            return refusal(as_lima2(error), 500)

    return endpoint


async def _no_such_thing(_: Request, error: Exception) -> Response:
    code = error.status_code if isinstance(error, HTTPException) else 500
    told = {404: "there is nothing at this address", 405: "this address is not asked in this way"}
    return JSONResponse(
        {"error": explained(f"{told.get(code, 'this cannot be answered')}: open the page itself")}, code
    )


async def _index(_: Page, request: Request) -> Response:
    return FileResponse(STATIC / "index.html")


async def _about(page: Page, request: Request) -> Response:
    role = role_of(page, request)
    return JSONResponse({
        "title": page.title,
        "control": page.actions.control if role else "",
        "tango_host": page.actions.tango_host if role else "",
        "role": role.name.lower(),
        "tokens": bool(page.tokens.by_role),
        "files": role is Role.OPERATOR and await page.in_thread(page.actions.gives_files),
    })


class Login(Params):
    token: str = ""


async def _login(page: Page, request: Request) -> Response:
    token = (await _body(request, Login)).token
    if page.tokens.role(token) is Role.NOBODY:
        raise DeniedError("this token is not known here: copy it whole from the file of --token-file")
    answer = JSONResponse({"role": page.tokens.role(token).name.lower()})
    answer.set_cookie(page.cookie, token, httponly=True, samesite="strict", secure=page.secure)
    return answer


async def _form(page: Page, _: Request) -> Response:
    return JSONResponse(await page.in_thread(page.actions.filled))


async def _graph(page: Page, request: Request) -> Response:
    return JSONResponse(await page.in_thread(graph_of, request.query_params.get("pipeline", "")))


async def _order(page: Page, request: Request) -> Response:
    order = await _body(request, Order)
    try:
        with page.hub.starting(order.command == "start"):
            return JSONResponse({"told": await page.in_thread(page.actions.obey, order)})
    finally:
        await page.hub.refresh()


async def _regions(page: Page, request: Request) -> Response:
    wanted = await _body(request, RoiOrder)
    told = await page.in_thread(page.actions.set_regions, wanted)
    await page.hub.refresh()
    return JSONResponse({"told": told})


async def _file(page: Page, request: Request) -> Response:
    path = await page.in_thread(page.actions.file, request.query_params.get("path", ""))
    return FileResponse(path, filename=path.name, media_type="application/octet-stream")


async def _body(request: Request, kind: type[T]) -> T:
    """JSON of this kind; raises ParamError. A form of another site cannot send this type without asking first."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise ParamError("Content-Type", request.headers.get("content-type", ""), "send application/json")
    text = b""
    async for chunk in request.stream():
        text += chunk
        if len(text) > LARGEST_BODY:
            raise ParamError("$", f"{len(text)} bytes and more", f"send at most {LARGEST_BODY} bytes")
    try:
        return kind.parse(text.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ParamError("$", repr(text[:40]), "this is not UTF-8: send JSON") from error
