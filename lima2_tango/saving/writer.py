"""A series of HDF5 files: the sink that pipelines save into.

Nothing is synchronised to the disk (no fsync): a file that has its final name survives the death of this process, but
not a power cut in the seconds after it, until the operating system or the file server has written it out. A disk that
fails so late is not seen here.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from lima2_tango.core.errors import ParamError, SavingError
from lima2_tango.core.frame import Block, FrameSpec, Lease
from lima2_tango.core.meter import Meter
from lima2_tango.core.packed import PackedBlock
from lima2_tango.core.sink import OpenSink
from lima2_tango.core.sparse import SparseSpec
from lima2_tango.core.storage import FileExistsPolicy, SavingParams
from lima2_tango.core.units import bytes_text

from .aside import Aside
from .compression import Buffers, Chunk, compressor, nbytes
from .datafile import DataFile, template
from .folder import check_existing, check_folder, check_space
from .layout import Group, Rows, SeriesMetadata, data_paths, file_tree, series_tree
from .names import FileNames

CHUNK_LIMIT = 2**32 - 1
"""HDF5's largest chunk [byte]."""


@dataclass(slots=True)
class Encoded:
    """A block ready to be written, with the memory that its chunks lie in."""

    local: int
    index: NDArray[np.int64]
    time: NDArray[np.float64]
    valid: NDArray[np.bool_]
    missing: NDArray[np.uint64]
    chunks: Sequence[Sequence[Chunk]]
    """[frame][channel]"""
    buffer: NDArray[np.uint8] | None = None
    lease: Lease | None = None


class SeriesWriter:
    """Sink of one receiver's frames into files of `nb_frames_per_file` rows each."""

    def __init__(
        self,
        params: SavingParams,
        spec: FrameSpec,
        json_path: str,
        rank: int,
        metadata: SeriesMetadata,
        expected_frames: int | None,
        exact: bool = False,
        vectors: bool = False,
    ) -> None:
        """Check everything that can be known at Prepare; makes `base_path`, but no file. Raises ParamError.

        `json_path` is where `params` were (`$.saving`). `expected_frames` bounds what this receiver may write, None
        when nothing does; `exact` says that it will be just as many, unless the run is stopped. `vectors` as of
        `core.sink.OpenSink`.
        """
        self._params, self._spec, self._metadata = params, spec, metadata
        nb_files = None if expected_frames is None else max(1, -(-expected_frames // params.nb_frames_per_file))
        self._names = FileNames(params, json_path, rank, nb_files)
        self._compressor = compressor(params.compression)
        self._check_chunk(json_path)
        check_folder(params, json_path)
        check_existing(params, self._names, json_path)
        check_space(params, spec, json_path, expected_frames if exact else None)
        self._template = self._image(vectors)
        self._data_paths = data_paths(params, spec, vectors)
        self._buffers = Buffers()
        self._aside = Aside(params.base_path)
        self._aside_lock = Lock()
        self._begun = False
        self._file: DataFile | None = None
        self._next_number = params.start_number
        self._error: SavingError | None = None
        self._saved = 0
        self.written = Meter()

    @property
    def nb_frames_saved(self) -> int:
        """Frames whose bytes were handed to the file system so far."""
        return self._saved

    def encode(self, block: Block) -> Encoded:
        """Compress the block's frames, in any number of threads at once; raises SavingError."""
        self._check_block(block)
        self._begin()
        encoded = Encoded(block.local, block.index.copy(), block.time.copy(), *flags(block), ())
        if self._compressor.keeps_pixels:
            block.lease.retain()
            encoded.lease = block.lease
        try:
            if not self._as_packed(block, encoded):
                encoded.chunks = self._compressed(block.data, encoded)
        except BaseException:
            self.discard(encoded)
            raise
        return encoded

    def append(self, encoded: Encoded) -> None:
        """Write what `encode` returned, in order of local index; raises SavingError, and from then on always."""
        try:
            if self._error is not None:
                raise self._error
            self._check_order(encoded)
            for row, chunks in enumerate(encoded.chunks):
                file = self._file or self._open_next()
                valid, missing = bool(encoded.valid[row]), int(encoded.missing[row])
                file.write(chunks, int(encoded.index[row]), float(encoded.time[row]), valid, missing)
                self._saved += 1
                self.written.add(sum(map(nbytes, chunks)))
                if file.full:
                    self._complete()
        except SavingError as error:
            self._error = error
            raise
        finally:
            self.discard(encoded)

    def discard(self, encoded: Encoded) -> None:
        """Give back the memory of what will not be written; safe twice."""
        encoded.chunks = ()
        buffer, encoded.buffer = encoded.buffer, None
        lease, encoded.lease = encoded.lease, None
        if buffer is not None:
            self._buffers.give_back(buffer)
        if lease is not None:
            lease.release()

    def close(self) -> None:
        """Complete, trim and name the last file; safe twice, and after a failure. Raises SavingError."""
        try:
            self._complete()
        finally:
            with self._aside_lock:
                self._begun = True
                self._aside.restore()
            self._buffers.clear()

    def _begin(self) -> None:
        """At the first block: files that will be replaced must not be read as this run's (contract R13)."""
        if self._begun:
            return
        with self._aside_lock:
            if not self._begun and self._params.file_exists_policy is FileExistsPolicy.OVERWRITE:
                self._aside.hide(self._names)
            self._begun = True

    def _as_packed(self, block: Block, encoded: Encoded) -> bool:
        """Take the chunks that the detector has made, where they are compressed as those of the files."""
        if not isinstance(block, PackedBlock) or block.packing is None:
            return False
        if block.packing.compression is not self._params.compression:
            return False
        if encoded.lease is None:
            block.lease.retain()
            encoded.lease = block.lease
        encoded.chunks = block.packing.chunks()
        return True

    def _compressed(self, data: NDArray[np.generic], encoded: Encoded) -> Sequence[Sequence[Chunk]]:
        """Chunks of all frames, one behind the other in one buffer."""
        frames, channels = data.shape[:2]
        bound = self._compressor.bound(self._spec.nbytes // channels, data.itemsize)
        room = encoded.buffer = self._buffers.take(bound * frames * channels)
        chunks: list[list[Chunk]] = []
        for frame in data:
            chunks.append([])
            for pixels in frame:
                chunk = self._compressor.compress(pixels, room)
                chunks[-1].append(chunk)
                if bound:
                    room = room[len(chunk) :]
        return chunks

    def _open_next(self) -> DataFile:
        number = self._next_number
        final = os.path.join(self._params.base_path, self._names.name(number))
        capacity = self._params.nb_frames_per_file
        self._file = DataFile(final, number, capacity, self._template, self._data_paths)
        self._next_number = number + 1
        return self._file

    def _complete(self) -> None:
        """Complete the file under way, if there is one."""
        file, self._file = self._file, None
        if file is None:
            return
        replace = self._params.file_exists_policy is FileExistsPolicy.OVERWRITE
        file.complete(lambda rows: self._tree(rows, os.path.basename(file.final)), replace)
        if file.rows:
            self._aside.replaced(os.path.basename(file.final))

    def _image(self, vectors: bool) -> bytes:
        """What each file begins as."""
        tree = series_tree(self._params, self._spec, self._metadata, vectors)
        return template(tree, self._compressor.dataset_options, self._params.nb_frames_per_file)

    def _tree(self, rows: Rows, name: str) -> Group:
        return file_tree(self._params, self._metadata, rows, name, datetime.now(UTC))

    def _check_chunk(self, json_path: str) -> None:
        nbytes = self._spec.nbytes // self._spec.channels
        if max(nbytes, self._compressor.bound(nbytes, self._spec.dtype.itemsize)) > CHUNK_LIMIT:
            reason = f"a frame of {bytes_text(nbytes)} is more than an HDF5 chunk can hold; use a smaller image"
            raise ParamError(f"{json_path}.enabled", True, reason)

    def _check_block(self, block: Block) -> None:
        spec = block.spec
        if spec != self._spec:
            raise SavingError(
                f"frames of {spec.shape} {spec.dtype} came where {self._spec.shape} {self._spec.dtype} was promised"
            )
        if isinstance(block, PackedBlock) and block.packing is not None:
            return
        data = block.data
        if len(data) and not data[0].flags.c_contiguous:
            raise SavingError("the pixels of a frame are not one behind the other in memory: a node must copy them")

    def _check_order(self, encoded: Encoded) -> None:
        if encoded.local != self._saved:
            raise SavingError(f"frames from local index {encoded.local} came where {self._saved} was due")


def flags(block: Block) -> tuple[NDArray[np.bool_], NDArray[np.uint64]]:
    """For each frame, whether it is real, and its missing modules; copies."""
    valid = np.ones(len(block), np.bool_) if block.valid is None else block.valid.copy()
    missing = np.zeros(len(block), np.uint64) if block.missing is None else block.missing.copy()
    return valid, missing


def opener(rank: int, metadata: SeriesMetadata, expected_frames: int | None, exact: bool = False) -> OpenSink:
    """What a pipeline of receiver `rank` opens its sinks with; see SeriesWriter for the rest."""

    def open_sink(
        params: SavingParams,
        spec: FrameSpec,
        json_path: str,
        /,
        *,
        vectors: bool = False,
        sparse: SparseSpec | None = None,
        fewer: bool = False,
    ) -> SeriesWriter:
        if sparse is None:
            known = exact and not fewer
            return SeriesWriter(params, spec, json_path, rank, metadata, expected_frames, known, vectors)
        from .sparse import SparseWriter  # it builds on this module

        return SparseWriter(params, sparse, json_path, rank, metadata, expected_frames)

    return open_sink
