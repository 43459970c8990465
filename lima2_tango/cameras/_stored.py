"""The frames of an open HDF5 dataset, from the file into memory of ours by the shortest way that its storage allows.

HDF5 decompresses a chunk into fresh memory and copies it from there; clearing that memory takes as long as the rest.
Chunks of one frame, compressed with bitshuffle and LZ4 alone, are therefore read and decompressed here.
"""

import os
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from lima2_tango.core import bitshuffle
from lima2_tango.core.errors import DetectorError

THREADS = min(4, len(os.sched_getaffinity(0)))
"""A frame is decompressed by so many at once, of which the reader itself is one."""
PART_BYTES = 1 << 20
"""Less than this is no work for a thread of its own [byte]."""


class StoredFrames(ABC):
    """Valid while the dataset is open. Used by one thread at a time."""

    @abstractmethod
    def read(self, first: int, step: int, out: NDArray[np.generic]) -> None:
        """The frames first, first + step, ... into `out` [frame, channel, row, column], C-contiguous."""

    @abstractmethod
    def close(self) -> None:
        """Give back threads and memory; no `read` afterwards."""


class ThroughHdf5(StoredFrames):
    """By HDF5, which knows every storage; what is not compressed it reads straight into `out`."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset

    def read(self, first: int, step: int, out: NDArray[np.generic]) -> None:
        if self._dataset.ndim == 2:
            self._dataset.read_direct(out[0, 0])
            return
        source = np.s_[first : first + (len(out) - 1) * step + 1 : step]
        self._dataset.read_direct(out[:, 0] if self._dataset.ndim == 3 else out, source)

    def close(self) -> None:
        """The dataset is its owner's."""


class BitshuffledFrames(StoredFrames):
    """Chunks of one frame, or of one of its channels, read by `pread` and decompressed in `out`, without the GIL."""

    def __init__(self, dataset: Any, path: Path) -> None:
        self._path = path
        self._file: int = dataset.file.id.get_vfd_handle()
        self._table = _chunk_table(dataset)
        self._chunk = np.empty(0, np.uint8)
        self._threads = ThreadPoolExecutor(max(1, THREADS - 1), "lima2-decompress")

    def read(self, first: int, step: int, out: NDArray[np.generic]) -> None:
        """As in the base. Raises DetectorError, with the frame's number in the file."""
        for number, image in zip(range(first, first + len(out) * step, step), out, strict=True):
            pixels = image.reshape(self._table.shape[1], -1)
            for (offset, size, mask), target in zip(self._table[number].tolist(), pixels, strict=True):
                if not size:
                    raise self._unreadable(number, "it was never written")
                try:
                    self._read_chunk(offset, size, mask, target)
                except (OSError, ValueError) as error:
                    raise self._unreadable(number, str(error)) from error

    def close(self) -> None:
        self._threads.shutdown()

    def _read_chunk(self, offset: int, size: int, mask: int, target: NDArray[np.generic]) -> None:
        if offset + size > os.fstat(self._file).st_size:
            raise ValueError("its chunk ends beyond the end of the file")
        if mask:  # the one filter was left out: the pixels are there as they are
            if size != target.nbytes:
                raise ValueError(f"its uncompressed chunk has {size} bytes, not {target.nbytes}")
            self._fetch(offset, target.view(np.uint8))
            return
        if size > len(self._chunk):
            self._chunk = np.empty(size + size // 4, np.uint8)  # chunks differ a little
        chunk = self._chunk[:size]
        self._fetch(offset, chunk)
        self._decompress(chunk, target)

    def _fetch(self, offset: int, into: NDArray[np.uint8]) -> None:
        done = 0
        while done < len(into):
            count = os.preadv(self._file, [into[done:].data], offset + done)
            if not count:
                raise ValueError("the file has become shorter")
            done += count

    def _decompress(self, chunk: NDArray[np.uint8], target: NDArray[np.generic]) -> None:
        at_most = max(1, min(THREADS, target.nbytes // PART_BYTES))
        mine, *others = bitshuffle.split(chunk, target.nbytes, target.itemsize, at_most)
        helpers = [self._threads.submit(bitshuffle.decompress, chunk, part, target) for part in others]
        try:
            bitshuffle.decompress(chunk, mine, target)
        finally:
            wait(helpers)  # milliseconds; until then the memory is theirs, whatever happened here
        for helper in helpers:
            helper.result()

    def _unreadable(self, number: int, why: str) -> DetectorError:
        remedy = "write the file again, or leave this frame out by $.det.frame_slice"
        what = f"frame {number} of {self._path} cannot be read: {why}; {remedy}"
        return DetectorError(what, path=str(self._path), frame=number)


def stored_frames(dataset: Any, path: Path, shape: tuple[int, int, int], dtype: np.dtype) -> StoredFrames:
    """The shortest way to the frames of `shape` (channel, row, column) that an open dataset holds."""
    if _is_bitshuffled_frames(dataset, shape, dtype):
        return BitshuffledFrames(dataset, path)
    return ThroughHdf5(dataset)


def _is_bitshuffled_frames(dataset: Any, shape: tuple[int, int, int], dtype: np.dtype) -> bool:
    """Whether each chunk is a frame, or one channel of it, in this machine's pixels and that one filter alone."""
    channels, image = shape[0], shape[1:]
    leads: list[tuple[int, ...]] = [(), (1,), (1, 1), (1, channels)]
    chunks_fit = dataset.chunks in {(*lead, *image) for lead in leads if len(lead) + 2 == dataset.ndim}
    whole = {2: image, 3: image, 4: shape}[dataset.ndim]
    if not chunks_fit or dataset.shape[-len(whole) :] != whole:
        return False
    plan = dataset.id.get_create_plist()
    if plan.get_nfilters() != 1 or dataset.file.userblock_size:
        return False
    code, _, options, _ = plan.get_filter(0)
    codec = (options[2], options[4]) if code == bitshuffle.FILTER and len(options) > 4 else None
    native: bool = dataset.id.get_type().equal(h5py.h5t.py_create(dtype))
    return native and codec == (dtype.itemsize, bitshuffle.LZ4)


def _chunk_table(dataset: Any) -> NDArray[np.uint64]:
    """[frame, chunk of the frame, (offset, size, filter mask)]; a size of 0 where there is no chunk."""
    leading = dataset.shape[:-2]
    frames = leading[0] if leading else 1
    per_frame = leading[1] // dataset.chunks[1] if len(leading) == 2 else 1
    table = np.zeros((frames, per_frame, 3), np.uint64)

    def note(chunk: Any) -> None:
        frame, channel = (*chunk.chunk_offset[:-2], 0, 0)[:2]
        table[frame, channel if per_frame > 1 else 0] = chunk.byte_offset, chunk.size, chunk.filter_mask

    dataset.id.chunk_iter(note)
    return table


def warm() -> None:
    """Load what decompresses, before the first frame waits for it."""
    pixels = np.zeros(64, np.uint8)
    chunk = np.empty(bitshuffle.compress_bound(pixels.nbytes, pixels.itemsize), np.uint8)
    size = bitshuffle.compress(pixels, chunk)
    bitshuffle.split(chunk[:size], pixels.nbytes, pixels.itemsize, 1)
