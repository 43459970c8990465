"""What all browsers share: one look at the devices, one copy of the newest frame, however many look on.

Nothing is fetched that nobody waits for: a picture is made when a browser has drawn its last one.
"""

import asyncio
import json
import logging
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lima2_tango.client.device import Device
from lima2_tango.client.live import Live, LiveFrame, Sight
from lima2_tango.core.errors import Lima2Error, StateError, as_lima2

from .masks import Masks
from .picture import draw
from .regions import Curves, channel_of, regions_of
from .report import status
from .source import Source, find_source
from .threads import Threads
from .viewer import Viewer
from .wire import pack, point_text

log = logging.getLogger(__name__)

LOOK = 0.2
"""Between two looks at the devices [s]."""
READ = 1.0
"""Between two reads of what seldom changes: parameters and the log of runs [s]."""
IDLE = 2.0
"""The same where no browser is there [s]."""
PACE = 1 / 30
"""Between two pictures of one browser, whatever it asks for [s]."""
WAKE = 1e-3
"""A timer never comes before its time, give or take a clock's tick [s]."""
THREADS = 4
"""One for each loop, and one for who has just changed something."""


class Hub:
    """Three loops of one event loop: devices, parameters, pictures. What Tango answers is waited for in threads."""

    def __init__(self, live: Live, control: Callable[[], Device], rate: float) -> None:
        """`rate` bounds the pictures a second; `control` connects to the control device."""
        self._live, self._connect, self._period = live, control, 1.0 / rate
        self._control: Device | None = None
        self._in_thread = Threads(THREADS)
        self._viewers: set[Viewer] = set()
        self._poke = asyncio.Event()
        self._watched = asyncio.Event()
        self._sight: Sight | None = None
        self._source = Source()
        self._curves = Curves()
        self._masks = Masks()
        self._told: dict[str, str] = {}
        """The last payload of each kind, for who comes."""
        self._params: tuple[str, str] = ("", "")
        self._version = 0
        """Counts the changes of the parameters, whoever makes them."""
        self._proc: dict[str, Any] = {}
        self._acq: dict[str, Any] = {}
        self._runs: list[dict[str, Any]] = []
        self._trouble = ""
        self._starting = False
        self.frame: LiveFrame | None = None

    @property
    def runs(self) -> Sequence[dict[str, Any]]:
        """The control's log of runs, newest first."""
        return self._runs

    def join(self, viewer: Viewer) -> None:
        """Another browser: it gets what is known at once; the first ends the rest of the loops."""
        self._viewers.add(viewer)
        self._watched.set()
        for kind, payload in self._told.items():
            viewer.put(kind, payload)
        self.poke()

    def leave(self, viewer: Viewer) -> None:
        self._viewers.discard(viewer)
        if not self._viewers:
            self._watched.clear()
            self._told.pop("status", None)  # nobody looks from now on: it is of the past for who comes next

    def poke(self) -> None:
        """A browser waits for a picture."""
        self._poke.set()

    def pixel(self, column: int, row: int, channel: int) -> dict[str, object]:
        """Value of a pixel of the newest frame, in full resolution."""
        if self.frame is None:
            return {"kind": "pixel", "x": column, "y": row, "value": None}
        image = self._channel(self.frame.data, channel)
        inside = row < image.shape[0] and column < image.shape[1]
        value = image[row, column].item() if inside else None
        if isinstance(value, float) and not np.isfinite(value):
            value = str(value)
        return {"kind": "pixel", "x": column, "y": row, "value": value, "frame": self.frame.index}

    @contextmanager
    def starting(self, wanted: bool) -> Generator[None]:
        """While this page starts a run; where two press Start at once the second is told, and everybody sees it.

        Raises StateError. A control that is asked to prepare twice at the same time may refuse both.
        """
        if wanted and self._starting:
            raise StateError("somebody has just pressed Start, and the run is being prepared: wait for it, or stop it")
        if not wanted:
            yield
            return
        self._starting = True
        try:
            yield
        finally:
            self._starting = False

    async def run(self) -> None:
        """Until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep(self._look, LOOK))
            group.create_task(self._keep(self._read, READ))
            group.create_task(self._show())

    async def refresh(self) -> None:
        """Somebody changed something: read it at once."""
        with suppress(Lima2Error):
            await self._read()
            await self._look()

    async def _keep(self, step: Callable[[], Any], period: float) -> None:
        """One step each period; more seldom where nobody looks on, until somebody does."""
        while True:
            begin = time.monotonic()
            await self._try(step)
            if self._viewers:
                await asyncio.sleep(max(0.02, begin + period - time.monotonic()))
            else:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._watched.wait(), IDLE)

    def _note(self, sentence: str) -> None:
        if sentence != self._trouble:
            log.warning("%s", sentence)
        self._trouble = sentence

    async def _look(self) -> None:
        if not self._viewers and self._sight is not None:
            return
        sight = await self._in_thread(self._live.look)
        if sight.uuid != self._source.uuid:
            self._source = await self._in_thread(find_source, self._live, sight.uuid)
            await self._read()  # its regions and its frames
        told = status(sight, self._sight, self._asked_for(sight.uuid))
        told |= {"pipeline": self._source.pipeline, "watched": len(self._viewers), "params": self._version}
        told["starting"] = self._starting
        told["no_picture"] = self._source.silence(self.frame)
        self._sight = sight
        self._tell("status", told)
        self.poke()

    def _asked_for(self, uuid: str) -> int:
        for run in self._runs:
            if run["uuid"] == uuid:
                return int(run["nb_frames"])
        return int(self._acq.get("acq", {}).get("nb_frames", 0))

    async def _read(self) -> None:
        if not self._viewers and self._params != ("", ""):
            return
        found = await self._in_thread(self._read_control)
        params = (str(found["acq_params"] or ""), str(found["proc_params"] or ""))
        self._version += params != self._params
        self._params = params
        self._acq, self._proc = (json.loads(text or "{}") for text in self._params)
        await self._in_thread(self._masks.ask, self._proc.get("mask") or {})
        runs = [json.loads(text) for text in (found["runs"] if found["runs"] is not None else ())]
        regions = {"rect": [], "arc": [], **_rois(self._proc)}
        text = json.dumps({"kind": "runs", "runs": runs, "regions": regions})
        if text != self._told.get("runs"):
            self._runs = runs
            self._tell("runs", text)

    def _read_control(self) -> dict[str, Any]:
        device = self._control or self._connect()
        self._control = None  # who fails is asked anew
        found = device.read("acq_params", "proc_params", "runs")
        self._control = device
        return found

    def _tell(self, kind: str, payload: str | dict[str, Any]) -> None:
        text = payload if isinstance(payload, str) else json.dumps(payload)
        self._told[kind] = text
        for viewer in self._viewers:
            viewer.put(kind, text)

    async def _show(self) -> None:
        """Fetches and draws, as fast as browsers take it and no faster than the rate."""
        due = time.monotonic()
        while True:
            await self._poke.wait()
            self._poke.clear()
            if self._source.getter and time.monotonic() >= due and any(viewer.waits for viewer in self._viewers):
                due = max(due + self._period, time.monotonic())  # on the beat, as long as it is kept
                await self._try(self._fetch)
                asyncio.get_running_loop().call_at(due + WAKE, self.poke)
            await self._try(self._serve)

    async def _try(self, step: Callable[[], Any]) -> None:
        """What fails is told once, and tried again at the next step."""
        try:
            await step()
        except Lima2Error as error:  # a run is being erased, or a server is gone: the status says which
            self._note(str(error))
        except Exception as error:  # noqa: BLE001 - boundary: the page goes on, and says so
            self._note(str(as_lima2(error)))

    async def _fetch(self) -> None:
        source = self._source
        seen = self.frame.index if self.frame is not None and self.frame.uuid == source.uuid else -1
        newest = partial(self._live.newest, source.uuid, source.getter, source.label, seen)
        frame = await self._in_thread(newest)
        if frame is not None:
            self.frame = frame
            self._curves.begin(frame.uuid, regions_of(self._proc))
            await self._in_thread(self._add_point, frame)

    async def _serve(self) -> None:
        """Each that waits gets the newest frame; those that look alike get the same bytes."""
        frame = self.frame
        if frame is None:
            return
        key = (frame.uuid, frame.index)
        wanting = [each for each in self._viewers if each.waits and (each.seen != key or each.changed)]
        now = time.monotonic()
        waiting = [each for each in wanting if each.due <= now]
        if len(waiting) < len(wanting):
            asyncio.get_running_loop().call_later(PACE, self.poke)
        drawn: dict[Any, Any] = {}
        for viewer in waiting:
            view = viewer.view
            if view not in drawn:
                drawn[view] = await self._in_thread(self._drawn, frame, view)
            points = [point_text(point) for point in self._curves.since(viewer.point)]
            viewer.put("picture", pack(frame, drawn[view], self._curves, points, view.channel))
            viewer.point = self._curves.last
            viewer.seen, viewer.ready, viewer.changed = key, False, viewer.view != view
            viewer.due = now + PACE

    def _add_point(self, frame: LiveFrame) -> None:
        self._curves.add(frame.index, channel_of(self._proc, frame.data), self._masks.of(frame.data.shape))

    def _drawn(self, frame: LiveFrame, view: Any) -> Any:
        image = self._channel(frame.data, view.channel)
        return draw(image, view, self._masks.of(frame.data.shape) if view.mask else None)

    @staticmethod
    def _channel(data: NDArray[Any], channel: int) -> NDArray[Any]:
        found: NDArray[Any] = data[min(channel, len(data) - 1)]
        return found


def _rois(proc: dict[str, Any]) -> dict[str, Any]:
    block = proc.get("statistics") or {}
    return {"rect": block.get("rect_rois", []), "arc": block.get("arc_rois", [])}
