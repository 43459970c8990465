"""The file under HDF5: a device that never fails in front of HDF5, and tells us of every failure.

HDF5 does not survive an error while it closes a file: what stays behind in the library crashes the process at the next
file. So HDF5 always hears of success. What the disk refused is kept here and offered again in `settle`, after the
reserve has made room.
"""

import errno
import os


class Part:
    """The binary file that h5py writes through; unbuffered, as HDF5 has its own buffers. Not thread-safe.

    It costs some 20 us a chunk over HDF5's own driver.
    """

    def __init__(self, path: str) -> None:
        """Make the file; raises OSError."""
        self._descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o666)
        self._position = 0
        self._end = 0
        self._owed: dict[int, bytes] = {}
        self._lost: OSError | None = None
        self.error: OSError | None = None
        """The first failure of which `forget` and `settle` have not been told."""

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._position = self._end + offset if whence == os.SEEK_END else offset
        return self._position

    def tell(self) -> int:
        return self._position

    def read(self, size: int) -> bytes:
        buffer = bytearray(size)
        self.readinto(memoryview(buffer))
        return bytes(buffer)

    def readinto(self, buffer: memoryview) -> int:
        """Fill the buffer; what lies behind the end, or cannot be read, is zero."""
        view = memoryview(buffer).cast("B")
        count = 0
        try:
            count = os.preadv(self._descriptor, [view], self._position)
        except OSError as error:
            self._lost = self.error = self.error or error
        view[count:] = bytes(len(view) - count)
        if owed := self._owed.get(self._position):
            view[: len(owed)] = owed[: len(view)]
        return len(view)

    def write(self, data: memoryview) -> int:
        position, size = self._position, len(data)
        try:
            if os.pwrite(self._descriptor, data, position) != size:
                self._write_all(memoryview(data), position)
            if self._owed:
                self._overlay(position, data)
        except OSError as error:
            self.error = self.error or error
            self._overlay(position, data)
            self._owed[position] = bytes(data)
        self._end = max(self._end, position + size)
        return size

    def truncate(self, size: int | None = None) -> int:
        size = self._position if size is None else size
        try:
            os.ftruncate(self._descriptor, size)
        except OSError as error:
            self._lost = self.error = self.error or error
        self._end = size
        return size

    def flush(self) -> None:
        """Nothing is buffered here."""

    def forget(self, nbytes: int) -> None:
        """A chunk of `nbytes` that was refused is not wanted any more."""
        self._owed = {position: data for position, data in self._owed.items() if len(data) != nbytes}
        self.error = None

    def settle(self) -> None:
        """Write what was refused; raises OSError when it is refused again, or when a read or truncation had failed."""
        owed, self._owed, self.error = self._owed, {}, None
        if self._lost is not None:
            raise self._lost
        for position, data in owed.items():
            self._write_all(memoryview(data), position)

    def close(self) -> None:
        """Raises OSError: a file server reports here what it could not store."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _overlay(self, position: int, data: memoryview) -> None:
        """What is owed must not undo what is written after it: HDF5 uses the place of what it has freed again."""
        end = position + len(data)
        for start, owed in list(self._owed.items()):
            first, last = max(start, position), min(start + len(owed), end)
            if last - first == len(owed):
                del self._owed[start]
            elif first < last:
                newer = bytes(data[first - position : last - position])
                self._owed[start] = owed[: first - start] + newer + owed[last - start :]

    def _write_all(self, view: memoryview, position: int) -> None:
        while view:
            count = os.pwrite(self._descriptor, view, position)
            if count == 0:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            view, position = view[count:], position + count
