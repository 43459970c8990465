"""What every sink must do, whatever it writes: subclass SinkContract and give it an `open_sink` fixture."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401 - reading needs the filter
import numpy as np

from lima2_tango.core.frame import Block, FrameSpec, Lease
from lima2_tango.core.sink import Sink
from lima2_tango.saving.layout import SeriesMetadata

SPEC = FrameSpec(channels=2, height=5, width=7, dtype=np.dtype("u2"))
METADATA = SeriesMetadata(
    plugin="Simulator",
    model="Model 1",
    serial="SN-7",
    pixel_size=(75e-6, 80e-6),
    expo_time_us=1500,
    latency_time_us=500,
    acquisition_json='{"acq": {"nb_frames": 7}}',
    processing_json='{"class_name": "LimaProcessingLegacy"}',
    rank=0,
    version="1.2.3",
)


def read_images(path: Path | str) -> np.ndarray:
    """All images of a data file with default group names."""
    with h5py.File(path) as file:
        images: np.ndarray = file["entry_0000/instrument/detector/data"][:]
        return images


class CountedLease(Lease):
    """A lease that tells when its last holder has let go."""

    def __init__(self) -> None:
        self.returned = 0
        super().__init__(self._count_return)

    def _count_return(self) -> None:
        self.returned += 1


def pixels(spec: FrameSpec, index: int) -> np.ndarray:
    """Frame `index` of a series of frames that all differ: [channel, row, column]."""
    rng = np.random.default_rng(index)
    if spec.dtype.kind == "f":
        return rng.normal(0, 1000, spec.shape).astype(spec.dtype)
    info = np.iinfo(spec.dtype)
    return rng.integers(info.min, info.max, spec.shape, spec.dtype, endpoint=True)


def make_block(spec: FrameSpec, local: int, count: int, stride: int = 1, offset: int = 0) -> Block:
    """Frames `local` to `local + count` of the receiver that has every `stride`-th from `offset`, 1 ms apart."""
    index = np.arange(local, local + count) * stride + offset
    data = np.stack([pixels(spec, int(i)) for i in index])
    return Block(data, index, local, np.asarray(1.7e9 + index * 1e-3, np.float64), CountedLease())


class SinkContract:
    """A subclass overrides the fixture `open_sink`: a function that opens a new sink for frames of SPEC.

    Its sinks may be opened one after the other, each over what the last one left.
    """

    def test_counts_exactly_the_frames_appended(self, open_sink: Callable[[], Sink]) -> None:
        sink = open_sink()
        assert sink.nb_frames_saved == sink.written.total == 0
        sink.append(sink.encode(make_block(SPEC, 0, 3)))
        assert sink.nb_frames_saved == 3
        assert sink.written.total > 0
        sink.append(sink.encode(make_block(SPEC, 3, 4)))
        sink.close()
        assert sink.nb_frames_saved == 7

    def test_encodes_in_any_order_and_thread(self, open_sink: Callable[[], Sink]) -> None:
        sink = open_sink()
        blocks = [make_block(SPEC, local, 4) for local in range(0, 40, 4)]
        with ThreadPoolExecutor(4) as workers:
            encoded = list(workers.map(sink.encode, reversed(blocks)))
        for one in reversed(encoded):
            sink.append(one)
        sink.close()
        assert sink.nb_frames_saved == 40

    def test_closes_twice(self, open_sink: Callable[[], Sink]) -> None:
        sink = open_sink()
        sink.append(sink.encode(make_block(SPEC, 0, 1)))
        sink.close()
        sink.close()
        assert sink.nb_frames_saved == 1

    def test_closes_without_a_frame(self, open_sink: Callable[[], Sink]) -> None:
        sink = open_sink()
        sink.close()
        assert sink.nb_frames_saved == 0

    def test_holds_no_frame_memory_after_append_or_discard(self, open_sink: Callable[[], Sink]) -> None:
        sink = open_sink()
        for local, use in ((0, sink.append), (2, sink.discard)):
            block = make_block(SPEC, local, 2)
            encoded = sink.encode(block)
            block.lease.release()
            use(encoded)
            assert isinstance(block.lease, CountedLease)
            assert block.lease.returned == 1
        sink.close()
        assert sink.nb_frames_saved == 2

    def test_closes_with_blocks_not_appended(self, open_sink: Callable[[], Sink]) -> None:
        sink = open_sink()
        sink.append(sink.encode(make_block(SPEC, 0, 2)))
        late = sink.encode(make_block(SPEC, 2, 2))
        sink.close()
        sink.discard(late)
        assert sink.nb_frames_saved == 2

    def test_a_second_series_follows_the_first(self, open_sink: Callable[[], Sink]) -> None:
        for count in (3, 5):
            sink = open_sink()
            sink.append(sink.encode(make_block(SPEC, 0, count)))
            sink.close()
            assert sink.nb_frames_saved == count
