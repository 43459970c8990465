"""The WebSocket of a browser: what it asks to see, and what it is sent."""

import asyncio
import json
import logging
from contextlib import suppress

from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from lima2_tango.core.errors import Lima2Error

from .access import Role
from .page import Page, role_of
from .report import explained
from .view import Message
from .viewer import Viewer

log = logging.getLogger(__name__)

MOST_VIEWERS = 200


class LiveSocket:
    """One WebSocket for each browser."""

    def __init__(self, page: Page) -> None:
        self._page, self._open = page, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        socket = WebSocket(scope, receive, send)
        if role_of(self._page, socket) < Role.READER or self._open >= MOST_VIEWERS:
            await socket.close(1008)
            return
        await socket.accept()
        viewer = Viewer()
        self._open += 1
        self._page.hub.join(viewer)
        sender = asyncio.create_task(self._send(socket, viewer))
        try:
            await self._receive(socket, viewer)
        except WebSocketDisconnect:
            log.debug("a browser has left")
        finally:
            self._open -= 1
            self._page.hub.leave(viewer)
            sender.cancel()

    @staticmethod
    async def _send(socket: WebSocket, viewer: Viewer) -> None:
        with suppress(WebSocketDisconnect, RuntimeError):  # it has left: its receiver ends the viewer
            while True:
                payload = await viewer.take()
                await (socket.send_bytes(payload) if isinstance(payload, bytes) else socket.send_text(payload))

    async def _receive(self, socket: WebSocket, viewer: Viewer) -> None:
        while True:
            message = await socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            try:
                self._on(viewer, Message.parse(message.get("text") or ""))
            except Lima2Error as error:
                viewer.put("refusal", json.dumps({"kind": "refusal", "error": explained(error.what)}))

    def _on(self, viewer: Viewer, message: Message) -> None:
        if message.view is not None:
            viewer.look(message.view)
        if message.drawn:
            viewer.ready = True
        if message.pixel is not None:
            viewer.put("pixel", json.dumps(self._page.hub.pixel(*message.pixel, viewer.view.channel)))
        if message.view is not None or message.drawn:
            self._page.hub.poke()
