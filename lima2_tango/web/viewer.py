"""One browser, as the server sees it: its own slots, in which the newest wins."""

import asyncio
import json
from dataclasses import dataclass, field

from .view import View

ORDER = ("refusal", "pixel", "status", "runs", "picture")
"""What is sent first where several wait."""

Payload = str | bytes


@dataclass(eq=False)
class Viewer:
    """What waits for a browser: never more than one of each kind, however slow it is."""

    view: View = field(default_factory=View)
    ready: bool = True
    """The last picture was drawn: another one may be sent."""
    changed: bool = True
    """The view is another one since the last picture."""
    seen: tuple[str, int] = ("", -1)
    """Run and frame of the last picture."""
    due: float = 0.0
    """When it may have the next picture: one that asks without end costs no more than its share."""
    point: int = 0
    """Number of the last point of curves that was sent."""
    _slots: dict[str, Payload] = field(default_factory=dict)
    _filled: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def waits(self) -> bool:
        """A picture would be drawn at once."""
        return self.ready and self.view.playing

    def put(self, kind: str, payload: Payload | dict[str, object]) -> None:
        """In place of the last of its kind, if that still waits."""
        self._slots[kind] = json.dumps(payload) if isinstance(payload, dict) else payload
        self._filled.set()

    async def take(self) -> Payload:
        """The next thing to send; waits until there is one."""
        await self._filled.wait()
        kind = next(kind for kind in ORDER if kind in self._slots)
        payload = self._slots.pop(kind)
        if not self._slots:
            self._filled.clear()
        return payload

    def look(self, view: View) -> None:
        """The browser looks otherwise."""
        self.changed |= view != self.view
        self.view = view
