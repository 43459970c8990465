"""The same for asyncio. Calls run in threads, as PyTango's own asyncio proxies do, so there is one logic and no copy.

A step of a loop takes little time, so a task that is cancelled leaves no thread behind for long.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from enum import Enum
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, Unpack

from lima2_tango.core.sparse import SparseFrame
from lima2_tango.core.state import State

from . import streams
from .connection import Client, connect
from .link import Frame, Rows
from .parameters import Json, Settings
from .records import Progress, RunRecord
from .run import PATIENCE, STOP_TIMEOUT, Run, getter

if TYPE_CHECKING:
    from .files import SavedRun


class _End(Enum):
    END = "nothing more"


END: Final = _End.END


class AsyncRun:
    """`Run` for asyncio; every method does what its namesake does."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.uuid = run.uuid

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.run.__exit__, kind, error, at)

    async def start(self) -> None:
        await asyncio.to_thread(self.run.start)

    async def trigger(self) -> None:
        await asyncio.to_thread(self.run.trigger)

    async def stop(self, timeout_s: float = STOP_TIMEOUT) -> RunRecord:
        await asyncio.to_thread(self.run.link.stop)
        return await self._over(timeout_s)

    async def result(self) -> RunRecord:
        return await asyncio.to_thread(self.run.result)

    async def progress(self) -> Progress:
        return await asyncio.to_thread(self.run.progress)

    def watch(self, period_s: float = 0.1) -> AsyncIterator[Progress]:
        return _each(streams.progress(self.run.link, period_s))

    async def wait(self, timeout_s: float) -> RunRecord:
        return await self._over(timeout_s)

    async def frame(self, index: int = -1, raw: bool = False) -> Frame:
        return await asyncio.to_thread(self.run.frame, index, raw)

    async def sparse_frame(self, index: int = -1) -> SparseFrame:
        return await asyncio.to_thread(self.run.sparse_frame, index)

    async def vector(self, index: int = -1, command: str = "getFaiAverint") -> Frame:
        return await asyncio.to_thread(self.run.vector, index, command)

    def frames(self, every: bool = False, raw: bool = False, timeout_s: float = PATIENCE) -> AsyncIterator[Frame]:
        follow = streams.every if every else streams.newest
        return _each(follow(self.run.link, getter(raw), timeout_s))

    def roi_statistics(self, timeout_s: float = PATIENCE) -> AsyncIterator[Rows]:
        return _each(streams.rows(self.run.link, "popRoiStatistics", timeout_s))

    def profiles(self, timeout_s: float = PATIENCE) -> AsyncIterator[Rows]:
        return _each(streams.rows(self.run.link, "popRoiProfiles", timeout_s))

    async def read(self) -> "SavedRun":
        return await asyncio.to_thread(self.run.read)

    async def _over(self, timeout_s: float) -> RunRecord:
        async for _ in _each(streams.until_over(self.run.link, timeout_s)):
            pass
        return await asyncio.to_thread(self.run.link.record)


class AsyncClient:
    """`Client` for asyncio; every method does what its namesake does. Connects where its block begins."""

    def __init__(self, device: str, tango_host: str | None = None) -> None:
        self.name = device
        self._tango_host = tango_host
        self._connected: Client | None = None

    async def __aenter__(self) -> Self:
        self._connected = await asyncio.to_thread(connect, self.name, self._tango_host)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._client.close()

    async def state(self) -> State:
        return await asyncio.to_thread(self._client.state)

    async def last_error(self) -> str:
        return await asyncio.to_thread(self._client.last_error)

    async def acq_params(self) -> Json:
        return await asyncio.to_thread(self._client.acq_params)

    async def proc_params(self) -> Json:
        return await asyncio.to_thread(self._client.proc_params)

    async def configure(self, **settings: Unpack[Settings]) -> None:
        await asyncio.to_thread(self._client.configure, **settings)

    async def replace(self, acq: Mapping[str, Any] | None = None, proc: Mapping[str, Any] | None = None) -> None:
        await asyncio.to_thread(self._client.replace, acq, proc)

    async def prepare(self, acq: Mapping[str, Any] | None = None, proc: Mapping[str, Any] | None = None) -> AsyncRun:
        return AsyncRun(await asyncio.to_thread(self._client.prepare, acq, proc))

    async def begin(self) -> AsyncRun:
        return AsyncRun(await asyncio.to_thread(self._client.begin))

    async def acquire(self, **settings: Unpack[Settings]) -> AsyncRun:
        return AsyncRun(await asyncio.to_thread(self._client.acquire, **settings))

    async def runs(self) -> list[RunRecord]:
        return await asyncio.to_thread(self._client.runs)

    async def run(self, uuid: str) -> AsyncRun:
        return AsyncRun(await asyncio.to_thread(self._client.run, uuid))

    async def last_run(self) -> AsyncRun | None:
        run = await asyncio.to_thread(self._client.last_run)
        return None if run is None else AsyncRun(run)

    async def stop(self) -> None:
        await asyncio.to_thread(self._client.stop)

    async def reset(self) -> None:
        await asyncio.to_thread(self._client.reset)

    @property
    def _client(self) -> Client:
        if self._connected is None:
            raise RuntimeError("not connected: use `async with aconnect(...) as lima`")
        return self._connected


def aconnect(device: str, tango_host: str | None = None) -> AsyncClient:
    """`connect` for asyncio: `async with aconnect("id00/limacontrol/simulator") as lima`."""
    return AsyncClient(device, tango_host)


async def _each(steps: Iterator[streams.T | None]) -> AsyncIterator[streams.T]:
    """What the steps find, each step in a thread."""
    while (item := await asyncio.to_thread(next, steps, END)) is not END:
        if item is not None:
            yield item
