"""Whole frames of one receiver in memory that the ranks of its host share: several write parts, one reads.

A ring of slots, one frame each. Every writer puts its part of a frame straight into the frame's slot and then counts
it; a frame is complete when all have counted it. The reader lends complete frames out as blocks, without a copy, and
a slot is free again when its block is. So a pixel is copied once, from where its camera put it to where it is
processed, and no lock is held: each counter has one writer, which is the scheme of Lamport, "Proving the correctness of
multiprocess programs", IEEE Trans. Softw. Eng. SE-3 (1977) 125. It relies on stores becoming visible in their order,
as on x86-64.

The memory has no name: it belongs to its processes and ends with them, killed or not. Other processes of the host
reach it through the file descriptor of the one that made it.
"""

import json
import mmap
import os
import socket
from dataclasses import asdict, dataclass
from threading import Lock
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from lima2_tango.core.errors import AgreementError
from lima2_tango.core.frame import FrameSpec

WRITERS = 64
"""Most ranks that can write into one window."""
LINE = 8
"""Counters lie this far apart, each in a cache line of its own [int64]."""
PAGE = 4096
REASON = 1024
"""Most bytes of the sentence with which a writer ends early."""
NONE = -1


@dataclass(frozen=True, slots=True)
class Address:
    """How other ranks find a window; travels as text."""

    host: str
    pid: int
    descriptor: int
    identity: str
    """Of this memory alone: a later window of the process may get the same descriptor."""
    slots: int
    shape: tuple[int, int, int]
    """Of a frame: (channel, row, column)."""
    dtype: str

    @property
    def spec(self) -> FrameSpec:
        return FrameSpec(*self.shape, np.dtype(self.dtype))

    def text(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def parse(cls, text: str) -> "Address":
        fields = json.loads(text)
        return cls(**{**fields, "shape": tuple(fields["shape"])})


class Memory:
    """The arrays of a window, as every rank that has mapped it sees them."""

    def __init__(self, address: Address, descriptor: int) -> None:
        """Map the memory behind the descriptor; raises OSError where that cannot be."""
        spec, slots = address.spec, address.slots
        self._map = mmap.mmap(descriptor, size_of(spec, slots))
        self._taken = 0
        # Of the run: how often the window was opened, the slot number at which it began.
        self.run: NDArray[np.int64] = self._array(np.int64, (LINE,))
        # Written by the reader: frames before this number are free again, frames taken, and whether it wants more.
        self.free: NDArray[np.int64] = self._array(np.int64, (LINE,))
        self.taken: NDArray[np.int64] = self._array(np.int64, (LINE,))
        self.closed: NDArray[np.int64] = self._array(np.int64, (LINE,))
        # By writer: frames written, and how many there are in all, `NONE` while it is not known.
        self.written: NDArray[np.int64] = self._array(np.int64, (WRITERS, LINE))[:, 0]
        self.total: NDArray[np.int64] = self._array(np.int64, (WRITERS, LINE))[:, 0]
        # By writer: not zero while it writes, so that nobody uses the memory again under a writer that is frozen there.
        self.inside: NDArray[np.int64] = self._array(np.int64, (WRITERS, LINE))[:, 0]
        # By writer: why it ended too early, UTF-8; nothing where it did not.
        self.reason: NDArray[np.uint8] = self._array(np.uint8, (WRITERS, REASON))
        # By slot: global index and time of the frame; by writer and slot: its modules that are missing.
        self.index: NDArray[np.int64] = self._array(np.int64, (slots,))
        self.time: NDArray[np.float64] = self._array(np.float64, (slots,))
        self.missing: NDArray[np.uint64] = self._array(np.uint64, (WRITERS, slots))
        self._taken = -(-self._taken // PAGE) * PAGE
        self.frames: NDArray[np.generic] = self._array(spec.dtype, (slots, *spec.shape))

    def _array(self, dtype: Any, shape: tuple[int, ...]) -> NDArray[Any]:
        array: NDArray[Any] = np.ndarray(shape, dtype, self._map, self._taken)
        self._taken += array.nbytes
        return array


def fence() -> None:
    """What this thread has stored others see before it loads anything more, which x86-64 does not keep by itself.

    To take a lock is an atomic instruction, and loads and stores do not pass one (Intel SDM, volume 3A, "Loads and
    Stores Are Not Reordered with Locked Instructions").
    """
    with Lock():
        pass


def size_of(spec: FrameSpec, slots: int) -> int:
    """Bytes of a window."""
    counters = 8 * LINE * (4 + 3 * WRITERS) + WRITERS * REASON + 8 * slots * (2 + WRITERS)
    return -(-counters // PAGE) * PAGE + slots * spec.nbytes


def create(spec: FrameSpec, slots: int) -> tuple[Address, Memory]:
    """New memory of this process, touched; raises OSError where the computer has not so much."""
    descriptor = os.memfd_create("lima2-frames", os.MFD_CLOEXEC)
    size = size_of(spec, slots)
    os.posix_fallocate(descriptor, 0, size)
    shape = spec.shape
    address = Address(socket.gethostname(), os.getpid(), descriptor, uuid4().hex, slots, shape, spec.dtype.str)
    return address, Memory(address, descriptor)


def attach(address: Address, spec: FrameSpec) -> Memory:
    """Map another rank's memory; raises AgreementError where it is not what this rank writes, OSError where it cannot.

    `spec` is the frame that this rank writes parts of.
    """
    if address.spec != spec:
        raise AgreementError(
            f"this rank writes parts of frames {spec.shape} {spec.dtype}, another receiver expects {address.shape} "
            f"{address.dtype}: write the same acq_params to all devices"
        )
    descriptor = os.open(f"/proc/{address.pid}/fd/{address.descriptor}", os.O_RDWR | os.O_CLOEXEC)
    try:
        return Memory(address, descriptor)
    finally:
        os.close(descriptor)
