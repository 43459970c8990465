"""What the demo replays: the real frame out of its package, and the files that the Reader reads."""

import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np

from lima2_tango import __version__
from lima2_tango.core.errors import DataLossError
from lima2_tango.core.frame import Block, FrameSpec, Lease
from lima2_tango.core.storage import FileExistsPolicy, SavingParams
from lima2_tango.saving.layout import SeriesMetadata
from lima2_tango.saving.writer import Encoded, SeriesWriter

from .frames import DemoFrames, Image

SHAPE = (4362, 4148)
"""An EIGER2 16M [row, column]."""
PIXEL_SIZE = 75e-6
"""[m]"""
PREFIX = "eiger2"
"""Beginning of the input files' names."""
FRAMES_PER_FILE = 50
FIRST_EXPOSURE = 1_700_000_000.0
"""When the first frame claims to have been taken [s since the epoch]."""
PERIOD = 0.01
"""Between two frames, as the files claim [s]."""


def real_frame() -> Image:
    """A frame of an EIGER2 16M as its stream delivered it: the file is one HDF5 chunk (bitshuffle and LZ4)."""
    chunk = files("tickit_devices").joinpath("eiger", "data", "frame_sample").read_bytes()
    nbytes = int.from_bytes(chunk[:8], "big")
    if nbytes != 2 * SHAPE[0] * SHAPE[1]:
        raise DataLossError(f"the frame in tickit_devices has {nbytes} bytes, not those of an EIGER2 16M: reinstall it")
    with h5py.File("frame", "w", driver="core", backing_store=False) as memory:
        dataset = memory.create_dataset("data", SHAPE, np.uint16, chunks=SHAPE, **hdf5plugin.Bitshuffle())
        dataset.id.write_direct_chunk((0, 0), chunk)
        image: Image = dataset[()]
    return image


class InputFiles:
    """The series that the Reader replays, in `folder`."""

    def __init__(self, frames: DemoFrames, count: int, folder: Path) -> None:
        self._frames = frames
        self._count = count
        self._folder = folder
        self._memory = threading.local()

    def reader_params(self) -> dict[str, object]:
        """What the Reader needs to know (`det` of the acquisition parameters)."""
        return {
            "base_path": str(self._folder),
            "filename_prefix": PREFIX,
            "filename_rank": 0,
            "nb_frames_per_file": FRAMES_PER_FILE,
            "dataset_path": "/entry_0000/measurement/data",
        }

    def write(self, done: Callable[[], object], workers: int) -> None:
        """Make, compress and write all frames in `workers` threads; `done` is called after each."""
        writer = self._writer()
        waiting: deque[Future[Encoded]] = deque()
        try:
            with ThreadPoolExecutor(workers, "demo-frames") as pool:
                for index in range(self._count):
                    waiting.append(pool.submit(self._encode, writer, index))
                    if len(waiting) > 2 * workers:
                        writer.append(waiting.popleft().result())
                        done()
                while waiting:
                    writer.append(waiting.popleft().result())
                    done()
        finally:
            writer.close()

    def _encode(self, writer: SeriesWriter, index: int) -> Encoded:
        if not hasattr(self._memory, "image"):
            self._memory.image = np.empty(self._frames.shape, np.uint16)
        image = self._frames.frame(index, self._memory.image)
        time = np.array([FIRST_EXPOSURE + index * PERIOD])
        return writer.encode(Block(image[np.newaxis, np.newaxis], np.array([index]), index, time, Lease()))

    def _writer(self) -> SeriesWriter:
        params = SavingParams(
            base_path=str(self._folder),
            filename_prefix=PREFIX,
            nb_frames_per_file=FRAMES_PER_FILE,
            file_exists_policy=FileExistsPolicy.OVERWRITE,
        )
        rows, columns = self._frames.shape
        metadata = SeriesMetadata(
            plugin="demo",
            model="EIGER2 16M, simulated over a real frame",
            serial="",
            pixel_size=(PIXEL_SIZE, PIXEL_SIZE),
            expo_time_us=round(PERIOD * 1e6),
            latency_time_us=0,
            acquisition_json="{}",
            processing_json="{}",
            rank=0,
            version=__version__,
        )
        spec = FrameSpec(1, rows, columns, np.dtype(np.uint16))
        return SeriesWriter(params, spec, "$.demo", 0, metadata, self._count, exact=True)


def workers() -> int:
    """Threads that keep this machine busy."""
    return os.cpu_count() or 1
