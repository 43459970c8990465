"""Where the blocks of one receiver come from: its own camera, or other ranks, or both."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable
from contextlib import closing, contextmanager
from threading import Thread
from typing import Any

import numpy as np

from lima2_tango.cameras.base import BLOCK_AGE, ReceiverHalf
from lima2_tango.core.acquisition import AcquisitionParams, Sharing
from lima2_tango.core.errors import AgreementError
from lima2_tango.core.frame import Block, EndOfSeries, FrameSpec
from lima2_tango.core.losses import placeholders
from lima2_tango.core.modules import Layout, Rectangle, whole
from lima2_tango.core.pool import Pool
from lima2_tango.core.series import HOLD_LIMIT, Series
from lima2_tango.transport.assembly import Intake
from lima2_tango.transport.far import Pump
from lima2_tango.transport.messages import ACQUIRER, Go
from lima2_tango.transport.outlet import ROOM_LIMIT
from lima2_tango.transport.reach import Reach
from lima2_tango.transport.scatter import Dealer, in_turn

log = logging.getLogger(__name__)

Items = Iterable[Block | EndOfSeries]
SHORT_WAIT = 0.05
"""A process that goes down waits no longer for its camera [s]."""
LEAVE_LIMIT = ROOM_LIMIT + HOLD_LIMIT
"""A receiver that ends early delivers its parts to the others for no longer than this [s]."""


class Windows:
    """The memory of this rank that others write frames into; kept from run to run while frames stay the same.

    Not where a writer of an older run is frozen in it, nor where modules lie elsewhere: nobody writes the gaps between
    them, which are zero because they were so from the beginning.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._intake: Intake | None = None
        self._covered: frozenset[Rectangle] = frozenset()

    def of(self, spec: FrameSpec, layout: Layout) -> Intake:
        """A window for such frames; raises MemoryBudgetError where there is no memory for it."""
        intake, wanted = self._intake, (spec, layout.covered)
        if intake is None or (intake.spec, self._covered) != wanted or intake.retire():
            self.close()
            self._intake = intake = Intake(spec, self._pool)
            self._covered = layout.covered
        return intake

    def close(self) -> None:
        """Give the memory up; safe twice."""
        if self._intake is not None:
            self._intake.close()
        self._intake = None


class Feed(ABC):
    """One run's source of blocks, made at Prepare."""

    spec: FrameSpec
    """Of the frames that the pipeline gets."""
    window: str = ""
    """Where others write frames, as `Participant.agree` tells them."""

    def open(self) -> None:  # noqa: B027 - most have nothing to do
        """The run begins, but nobody knows yet that this rank is ready."""

    def leave(self) -> None:  # noqa: B027 - most have nothing to do
        """The run is over for this rank, or has never begun."""

    @contextmanager
    @abstractmethod
    def joined(self, go: Go, series: Series, stop: Callable[[], None]) -> Generator[Items]:
        """The blocks and the end. Left early, it asks for a `stop` where the others need this rank until then."""


class OwnFrames(Feed):
    """The camera of this receiver delivers its frames, or its kept parts of them."""

    def __init__(
        self, camera: ReceiverHalf[Any], params: AcquisitionParams, rank: int, receivers: int, pool: Pool
    ) -> None:
        self._camera = camera
        self.spec = camera.prepare(params, rank, receivers, pool)

    def leave(self) -> None:
        self._camera.abandon()

    @contextmanager
    def joined(self, go: Go, series: Series, stop: Callable[[], None]) -> Generator[Items]:
        with closing(self._camera.blocks(series)) as items:
            yield items


class Scattered(Feed):
    """Another rank acquires, and scatters whole frames."""

    def __init__(self, camera: ReceiverHalf[Any], params: AcquisitionParams, windows: Windows, reach: Reach) -> None:
        self._reach = reach
        self.spec = camera.promise(params)
        self._intake = windows.of(self.spec, whole(self.spec))
        self.window = self._intake.address

    def open(self) -> None:
        self._intake.open()

    @contextmanager
    def joined(self, go: Go, series: Series, stop: Callable[[], None]) -> Generator[Items]:
        pumps = self._reach.pumps(go, [go.acquirer], whole(self.spec), [0], self._intake.memory, self.spec)
        try:
            with closing(self._intake.blocks(1, _acquirer, 1, series, [ACQUIRER])) as items:
                yield items
        finally:
            _join(pumps)


class Assembled(Feed):
    """The camera of each receiver delivers parts of all frames; whole ones are assembled on receiver i % N."""

    def __init__(
        self,
        camera: ReceiverHalf[Any],
        params: AcquisitionParams,
        rank: int,
        receivers: int,
        pool: Pool,
        windows: Windows,
        reach: Reach,
    ) -> None:
        self._camera, self._params, self._rank, self._reach = camera, params, rank, reach
        layout = params.layout(receivers)
        part = camera.prepare(params, rank, receivers, pool)
        self.spec = FrameSpec(part.channels, layout.height, layout.width, part.dtype)
        self._intake = windows.of(self.spec, layout)
        self.window = self._intake.address

    def open(self) -> None:
        self._intake.open()

    @contextmanager
    def joined(self, go: Go, series: Series, stop: Callable[[], None]) -> Generator[Items]:
        layout = self._params.layout(go.receivers)
        everyone = range(go.receivers)
        pumps = self._reach.pumps(go, go.ranks, layout, everyone, self._intake.memory, self.spec)
        bringing = _Bringing(self._camera, self._dealer(go, layout, series), series, self._part_spec(layout), stop)
        bringing.start()
        items = self._intake.blocks(go.receivers, _receiver, _bits(layout, go.receivers), series)
        try:
            with closing(items):
                yield items
        except BaseException:
            stop()
            raise
        finally:
            bringing.join()
            _join(pumps)
        bringing.check()

    def _dealer(self, go: Go, layout: Layout, series: Series) -> Dealer:
        outlets = self._reach.outlets(go, self._rank, layout, self._rank, self.spec)
        return Dealer(outlets, in_turn(go.receivers), layout, self._rank, series)

    def _part_spec(self, layout: Layout) -> FrameSpec:
        return FrameSpec(self.spec.channels, 1, layout.pixels(self._rank), self.spec.dtype)


class _Bringing:
    """One receiver's parts of all frames on their way to all receivers; a thread.

    Where the camera fails, the others still wait for this rank's parts: it asks for a stop, and until the common
    end says of each frame that its parts are missing.
    """

    def __init__(
        self, camera: ReceiverHalf[Any], dealer: Dealer, series: Series, spec: FrameSpec, stop: Callable[[], None]
    ) -> None:
        self._camera, self._dealer, self._series, self._spec, self._stop = camera, dealer, series, spec, stop
        self._failure: Exception | None = None
        self._thread = Thread(target=self._main, name=f"lima2-parts-{series.rank}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def join(self) -> None:
        """Wait for the last part, within a bound."""
        self._thread.join(SHORT_WAIT if self._series.left else LEAVE_LIMIT)
        if self._thread.is_alive() and not self._series.left:
            self._failure = AgreementError(
                f"receiver {self._series.rank} could not deliver its parts to the others within {LEAVE_LIMIT:.0f} s "
                "after its own end: look at the logs of the others, then Reset"
            )

    def check(self) -> None:
        """Raise what went wrong with the camera or on the way."""
        if self._failure is not None:
            raise self._failure

    def _main(self) -> None:
        try:
            with closing(self._camera.blocks(self._series)) as items:
                for item in items:
                    if isinstance(item, Block):
                        self._hand_over(item)
        except Exception as error:  # noqa: BLE001 - boundary: the receiver's own thread raises it
            self._fail(error, f"receiver {self._series.rank} delivers no more parts")
            self._bring_nothing()
        try:
            self._dealer.end()
        except AgreementError as error:
            self._failure = self._failure or error

    def _hand_over(self, block: Block) -> None:
        """A receiver that fails gets no more parts, and the run ends with its name; the others get theirs."""
        try:
            self._dealer.hand_over(block)
        except AgreementError as error:
            self._fail(error, f"receiver {self._series.rank} delivers its parts to some receivers only")

    def _fail(self, error: Exception, what: str) -> None:
        self._failure = self._failure or error
        log.error("%s: %s", what, error)
        self._stop()

    def _bring_nothing(self) -> None:
        try:
            while True:
                local = self._dealer.frames
                indices = self._series.topology.owned(self._series.rank, local, 256)
                times = self._series.claim(indices, BLOCK_AGE)
                if not len(times):
                    return
                for block in placeholders(self._spec, local, indices[: len(times)], times):
                    self._hand_over(block)
        except Exception as error:  # noqa: BLE001 - boundary: the first failure is the one that is told
            log.error("receiver %d ends without its parts: %s", self._series.rank, error)  # noqa: TRY400


def make_feed(
    camera: ReceiverHalf[Any],
    params: AcquisitionParams,
    rank: int,
    receivers: int,
    pool: Pool,
    windows: Windows,
    reach: Reach,
) -> Feed:
    """The feed that the parameters ask for; raises ParamError or MemoryBudgetError for what cannot be."""
    makers: dict[Sharing, Callable[[], Feed]] = {
        Sharing.FULL_FRAMES: lambda: OwnFrames(camera, params, rank, receivers, pool),
        Sharing.DISTRIBUTED_PROCESSING: lambda: Scattered(camera, params, windows, reach),
        Sharing.PARTIAL_FRAMES: lambda: Assembled(camera, params, rank, receivers, pool, windows, reach),
        Sharing.KEPT_PARTIAL_FRAMES: lambda: OwnFrames(camera, params, rank, receivers, pool),
    }
    return makers[params.sharing]()


def _join(pumps: Iterable[Pump]) -> None:
    for pump in pumps:
        pump.join()


def _acquirer(_: int) -> str:
    return "the rank that acquires"


def _receiver(rank: int) -> str:
    return f"receiver {rank}"


def _bits(layout: Layout, receivers: int) -> int:
    return int(np.bitwise_or.reduce([layout.bits(rank) for rank in range(receivers)]))
