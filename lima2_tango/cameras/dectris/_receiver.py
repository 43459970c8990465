"""The receiver half: connects to the stream, waits for the detector to be armed, and reads the series."""

import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from lima2_tango.cameras.base import ReceiverHalf, block_length
from lima2_tango.core.acquisition import Sharing
from lima2_tango.core.errors import DetectorError
from lima2_tango.core.frame import Block, EndOfSeries, FrameSpec
from lima2_tango.core.pool import MIN_SLABS, Pool
from lima2_tango.core.series import Series
from lima2_tango.core.sink import OpenSink, Sink
from lima2_tango.core.storage import SavingParams

from ._detector import channels, errors, frame_spec, identify
from ._params import DectrisParams
from ._settings import check, differing, plan
from ._simplon import Simplon

if TYPE_CHECKING:  # what they load takes half a second: at the first Prepare, or in the background (`warm`)
    from ._pull import Puller
    from ._reading import Frames

ARMED_LIMIT = 30.0
"""The control arms the detector within this, or a receiver's Prepare fails [s]."""
ARMED = {"ready", "acquire"}
"""States of a detector that is armed."""
LOOK = 0.1
"""Between two looks whether it is armed [s]."""


class DectrisReceiver(ReceiverHalf[DectrisParams]):
    def __init__(self) -> None:
        self._address = ""
        self._simplon: Simplon | None = None
        self._puller: Puller | None = None
        self._frames: Frames | None = None
        self._sink: Sink | None = None
        self._saves: SavingParams | None = None
        self._threads: ThreadPoolExecutor | None = None

    def locate(self, address: str) -> None:
        self._address = address

    def promise(self, params: DectrisParams) -> FrameSpec:
        self.close()
        self._saves = None  # it has no chunks of the detector's
        self._who = identify(self._detector())
        self._await_armed(params)
        self.raw = frame_spec(self._detector(), params.det.stream)
        return self.raw

    def prepare(self, params: DectrisParams, rank: int, receivers: int, pool: Pool) -> FrameSpec:
        """Waits until the control has armed the detector: what it will send depends on all of its settings."""
        from ._pull import Puller
        from ._reading import Frames

        self.close()
        self._params, det = params, params.det
        self._saves = params.saving if params.saving.enabled else None
        simplon = self._detector()
        self._who = identify(simplon)
        columns, rows = self._who.dimensions
        self._puller = Puller(self._address, det.port, det.stream, 2 * columns * rows)
        try:
            self._await_armed(params)
            spec, names = frame_spec(simplon, det.stream), channels(simplon, det.stream)
        except BaseException:
            self.close()
            raise
        self.raw, length = spec, block_length(spec)
        if det.topology is Sharing.DISTRIBUTED_PROCESSING:
            self._threads = ThreadPoolExecutor(det.nb_pipeline_threads, "lima2-unpack")
        self._frames = Frames(spec, names, length, pool, self._threads)
        pool.reserve(length * spec.nbytes, MIN_SLABS)
        return spec

    def open_files(self, open_sink: OpenSink) -> None:
        self._close_files()
        if self._saves and self.raw is not None:
            self._sink = open_sink(self._saves, self.raw, "$.saving")

    def blocks(self, series: Series) -> Generator[Block | EndOfSeries]:
        """In the order of the detector's numbers. The files and the socket are closed behind the last."""
        from ._reading import Reading

        assert self._puller is not None
        assert self._frames is not None
        reading = Reading(self._params, self._frames, self._puller, self._detector(), series)
        try:
            for one in reading.blocks():
                self._save(one)
                yield one
            self._close_files()
            yield EndOfSeries(reading.local)
        finally:
            self.close()

    def abandon(self) -> None:
        """Others pull from the same stream: whoever stays connected takes their images."""
        self.close()

    def close(self) -> None:
        if self._puller is not None:
            self._puller.close()
            self._puller = None
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
            self._threads = None
        if self._simplon is not None:
            self._simplon.close()
            self._simplon = None
        self._close_files()

    def _detector(self) -> Simplon:
        if not self._address:
            raise DetectorError(
                "nobody has told where the detector is: set the device property detector of control and receivers to "
                "its address (host or host:port)"
            )
        if self._simplon is None:
            self._simplon = Simplon(self._address)
        return self._simplon

    def _await_armed(self, params: DectrisParams) -> None:
        """Until the detector is armed as these parameters ask; raises DetectorError past the bound, which says why."""
        simplon = self._detector()
        who = self._who
        how = plan(params, who)
        check(simplon, params, how, who)  # what the control will refuse, it need not be waited for
        deadline = time.monotonic() + ARMED_LIMIT
        while True:
            state = simplon.state
            others = differing(simplon, params, how, who) if state in ARMED else []
            if state in ARMED and not others:
                return
            if time.monotonic() > deadline:
                what = f"its {', '.join(others)} differ" if others else f"it is in state {state}{errors(simplon)}"
                raise DetectorError(
                    f"the detector was not armed for these parameters within {ARMED_LIMIT:.0f} s ({what}): prepare the "
                    "control with the same parameters, at the same time or before"
                )
            time.sleep(LOOK)

    def _save(self, one: Block) -> None:
        if self._sink is not None:
            self._sink.append(self._sink.encode(one))

    def _close_files(self) -> None:
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.close()
