"""Which way leads from this rank to the window of each receiver."""

from collections.abc import Callable, Sequence

from lima2_tango.core.errors import AgreementError
from lima2_tango.core.frame import FrameSpec
from lima2_tango.core.modules import Layout

from .fabric import Fabric
from .far import Pump, StreamOutlet, stream_of
from .messages import Go
from .outlet import Outlet, SharedOutlet
from .window import Address, Memory, attach


class Reach:
    """This rank's ways into the windows of others: memory of this host, streams to others."""

    def __init__(self, fabric: Callable[[], Fabric]) -> None:
        """`fabric` of the job, which is made when it is first needed."""
        self._fabric = fabric
        self._mapped: dict[str, Memory] = {}

    def outlets(self, go: Go, writer: int, layout: Layout, source: int, spec: FrameSpec) -> list[Outlet]:
        """To receiver 0, 1, ... of a run, whose frames are of `spec`, from writer number `writer`.

        Raises AgreementError where a window is not for such frames, or cannot be reached.
        """
        fabric, places = self._fabric(), layout.places(source)
        near = [text for text, rank in zip(go.windows, go.ranks, strict=True) if is_near(fabric, rank)]
        # A window stays mapped from run to run.
        self._mapped = {text: self._mapped.get(text) or _map(text, spec) for text in near}
        part = FrameSpec(spec.channels, 1, layout.pixels(source), spec.dtype)

        def outlet(text: str, rank: int) -> Outlet:
            if text in self._mapped:
                return SharedOutlet(self._mapped[text], writer, places)
            return StreamOutlet(fabric, stream_of(go.run, writer, (fabric.rank, rank), part), part)

        return [outlet(text, rank) for text, rank in zip(go.windows, go.ranks, strict=True)]

    def pumps(
        self, go: Go, ranks: Sequence[int], layout: Layout, sources: Sequence[int], memory: Memory, spec: FrameSpec
    ) -> list[Pump]:
        """For this receiver's own window: what brings the frames of writers on other hosts.

        `ranks` are the MPI ranks of writer 0, 1, ..., `sources` says whose modules each brings.
        """
        fabric = self._fabric()

        def pump(writer: int, rank: int, source: int) -> Pump:
            part = FrameSpec(spec.channels, 1, layout.pixels(source), spec.dtype)
            outlet = SharedOutlet(memory, writer, layout.places(source))
            bits = [1 << number for number in layout.numbers(source)]
            return Pump(fabric, stream_of(go.run, writer, (rank, fabric.rank), part), outlet, bits)

        numbered = enumerate(zip(ranks, sources, strict=True))
        return [pump(writer, rank, source) for writer, (rank, source) in numbered if not is_near(fabric, rank)]


def is_near(fabric: Fabric, rank: int) -> bool:
    """An MPI rank of this host."""
    return rank == fabric.rank or fabric.memory_of(rank) is not None


def _map(text: str, spec: FrameSpec) -> Memory:
    address = Address.parse(text)
    try:
        return attach(address, spec)
    except OSError as error:
        raise AgreementError(
            f"the frames of the receiver on {address.host} (process {address.pid}) cannot be reached from this rank: "
            f"{error.strerror}"
        ) from error
