"""Looks at every request before anything else does: by which name, and from whose page, we are asked."""

from typing import Any

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from .access import DeniedError
from .page import Page, refusal

HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; "
    "form-action 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
"""Of every answer: the page is whole, and nobody else's page has it inside."""


class Guarded:
    """The name by which we are asked, and who asks, are looked at before anything else."""

    def __init__(self, page: Page, inner: ASGIApp) -> None:
        self._page, self._inner = page, inner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in {"http", "websocket"}:
            await self._inner(scope, receive, send)
            return
        headers = HTTPConnection(scope).headers
        try:
            self._page.door.check(headers.get("host", ""), headers.get("origin"))
        except DeniedError as error:
            if scope["type"] == "http":
                await refusal(error)(scope, receive, send)
            else:
                await WebSocket(scope, receive, send).close(1008)
            return

        async def sent(message: Any) -> None:
            if message["type"] == "http.response.start":
                known = {name.lower() for name, _ in message["headers"]}
                extra = [(k.lower().encode(), v.encode()) for k, v in HEADERS.items()]
                message["headers"] = [*message["headers"], *(each for each in extra if each[0] not in known)]
            await send(message)

        await self._inner(scope, receive, sent)
