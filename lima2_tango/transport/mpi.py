"""The only file that speaks MPI: bytes to and from the other ranks of the job, never blocking."""

import os
import time
from collections import defaultdict, deque
from collections.abc import Callable
from threading import Lock
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from .arena import PAGE, Arena
from .fabric import Receiving, Sending, SendMode

_TAG = 2200
_NO_MEMORY_HOOKS = ("UCX_MEM_MMAP_HOOK_MODE", "none")
"""UCX notes every `munmap` for its cache of registered memory, which without RDMA it never reads again: 20 kB/s lost to
the stacks that each Tango request maps and unmaps. A site with RDMA sets the variable to `bistro`."""
_QUEUE_CELLS = 64
"""Messages that MPICH holds for a rank on its host, by default."""
_ON_THE_WAY = 16
"""Messages to a rank that it has not begun to take, at most; later ones wait in this process. MPI's queues serve all
ranks of a host together: a frozen one would fill them, and nothing would reach the others."""
FLUSH = 0.2
"""How long a rank that leaves waits for its last messages to be taken [s]."""
_SHARED_FOLDER = "/dev/shm"
"""Where MPI libraries keep the memory that ranks of a host have in common."""
_LEAST_ARENA = 16 << 20
"""With less memory in common than this for a rank, streams go by messages [byte]."""
_TYPES = 256
"""Datatypes kept for elements of different sizes; there are few in a stream, unless all its elements differ."""


def launched_rank() -> int | None:
    """MPI rank that an `mpiexec` has given to this process, known before MPI is there; None where none has."""
    marks = ("PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_RANK")
    return next((int(os.environ[mark]) for mark in marks if mark in os.environ), None)


def launched_by_mpi() -> bool:
    """True in a process that an `mpiexec` has started."""
    return launched_rank() is not None


class MpiWorld:
    """All ranks of the job. `send`, `poll` and `close` are called by one thread, the channel's."""

    def __init__(self) -> None:
        """Initialise MPI; raises ImportError where there is no mpi4py or no MPI library."""
        import mpi4py  # only a process of an MPI job pays for it

        mpi4py.rc.finalize = False
        os.environ.setdefault(*_NO_MEMORY_HOOKS)
        from mpi4py import MPI  # only a process of an MPI job pays for it

        self._mpi = MPI
        self._comm = MPI.COMM_WORLD.Dup()
        self.rank: int = self._comm.Get_rank()
        self.size: int = self._comm.Get_size()
        self.library: str = MPI.Get_library_version().split("\n")[0].strip()
        self._waiting: dict[int, deque[bytes]] = defaultdict(deque)
        self._sending: dict[int, deque[tuple[Any, bytes]]] = defaultdict(deque)
        """By destination: what it has not begun to take, with its memory."""
        self._touch_queues()
        self.fabric = MpiFabric(MPI)

    def _touch_queues(self) -> None:
        """Use every cell of the queues between ranks of a host once, or their pages come one by one during runs."""
        for _ in range(_QUEUE_CELLS):
            self._comm.Alltoall(bytearray(self.size), bytearray(self.size))

    def send(self, destination: int, data: bytes) -> None:
        self._waiting[destination].append(data)
        self._push(destination)

    def poll(self) -> tuple[int, bytes] | None:
        """The next message that has arrived, and who sent it; None when there is none."""
        self._push_all()
        status = self._mpi.Status()
        # The first probe lets MPI take in what has arrived, and only the next one finds it.
        probes = (self._comm.Improbe(self._mpi.ANY_SOURCE, _TAG, status) for _ in range(2))
        message = next((found for found in probes if found is not None), None)
        if message is None:
            return None
        data = bytearray(status.Get_count(self._mpi.BYTE))
        message.Recv([data, self._mpi.BYTE])
        return status.Get_source(), bytes(data)

    def close(self) -> None:
        """Let the last messages out, `FLUSH` seconds at most, and finalize; nothing may use MPI afterwards."""
        deadline = time.monotonic() + FLUSH
        while self._push_all() and time.monotonic() < deadline:
            time.sleep(1e-3)
        for sending in self._sending.values():
            for request, _ in sending:
                request.Cancel()
                request.Free()
        self._mpi.Finalize()

    def _push_all(self) -> bool:
        """Send what may leave; True while something has not been taken."""
        return sum(map(self._push, self._waiting)) > 0

    def _push(self, destination: int) -> bool:
        """Send what may leave to this rank; True while something has not been taken."""
        waiting, sending = self._waiting[destination], self._sending[destination]
        while sending and sending[0][0].Test():  # a rank takes messages of one sender in order
            sending.popleft()
        while waiting and len(sending) < _ON_THE_WAY:
            data = waiting.popleft()
            sending.append((self._comm.Issend([data, self._mpi.BYTE], destination, _TAG), data))
        return bool(sending)


class MpiFabric:
    """The ranks of the job as streams see them; made by all ranks together, and used by any thread of each.

    Its communicator is its own: elements never meet messages. The memory that the ranks of a host have in common is one
    window, as large as streams could ever need; the system gives a page when it is first touched. So no run makes
    anything together, and a rank that takes no part is not asked.
    """

    def __init__(self, mpi: Any) -> None:
        """Collective. Raises RuntimeError where threads cannot use MPI at once."""
        if mpi.Query_thread() < mpi.THREAD_MULTIPLE:
            raise RuntimeError("this MPI library was built without MPI_THREAD_MULTIPLE, which streams need")
        self._mpi = mpi
        self._comm = mpi.COMM_WORLD.Dup()
        self.rank: int = self._comm.Get_rank()
        self.size: int = self._comm.Get_size()
        self._types: dict[np.dtype, Any] = {}
        self._leaving: list[tuple[Any, object]] = []
        """Sends that nobody else waits for, with their memory."""
        self._lock = Lock()
        self._window: Any = None
        self.own: Arena | None = None
        self._local: dict[int, int] = {}
        self._share()

    def _share(self) -> None:
        """Make the window of the host's ranks; none where their memory would be too small to serve."""
        host = self._comm.Split_type(self._mpi.COMM_TYPE_SHARED)
        mine = np.array([_arena_bytes(host.Get_size())])
        host.Allreduce(self._mpi.IN_PLACE, mine, self._mpi.MIN)
        if mine[0] < _LEAST_ARENA or host.Get_size() == 1:
            return
        self._window = self._mpi.Win.Allocate_shared(int(mine[0]), 1, comm=host)
        self._window.Lock_all()  # MPICH orders stores only between locks, though nobody is kept out
        ranks = np.empty(host.Get_size(), np.int64)
        host.Allgather(np.array([self.rank]), ranks)
        self._local = {rank: place for place, rank in enumerate(ranks.tolist())}
        memory = self.memory_of(self.rank)
        if memory is not None:
            self.own = Arena(memory, _room)

    def memory_of(self, rank: int) -> NDArray[np.uint8] | None:
        if rank not in self._local:
            return None
        memory, _ = self._window.Shared_query(self._local[rank])
        return np.frombuffer(memory, np.uint8)

    def fence(self) -> None:
        if self._window is not None:
            self._window.Sync()

    def tell(self, rank: int, tag: int, note: bytes) -> None:
        request = self._comm.Isend([note, self._mpi.BYTE], rank, tag)
        self._keep(request, note)

    def hear(self, rank: int, tag: int) -> bytes | None:
        status = self._mpi.Status()
        message = self._comm.Improbe(rank, tag, status)
        if message is None:
            return None
        note = bytearray(status.Get_count(self._mpi.BYTE))
        message.Recv([note, self._mpi.BYTE])
        return bytes(note)

    def post(self, rank: int, tag: int, data: NDArray[np.uint8], dtype: np.dtype, mode: SendMode) -> Sending:
        send = {SendMode.SYNCHRONOUS: self._comm.Issend, SendMode.READY: self._comm.Irsend}.get(mode, self._comm.Isend)
        buffer = self._typed(data, dtype)
        return _MpiSending(self._keep, send(buffer, rank, tag), active=True)

    def prepare(self, rank: int, tag: int, data: NDArray[np.uint8], dtype: np.dtype) -> Sending:
        request = self._comm.Send_init(self._typed(data, dtype), rank, tag)
        return _MpiSending(self._keep, request, active=False)

    def receiving(self, rank: int, tag: int, memory: NDArray[np.uint8]) -> Receiving:
        # MPI_PACKED takes what was sent with any datatype (MPI-4.1, section 3.3.1)
        return _MpiReceiving(self._mpi, self._comm.Recv_init([memory, len(memory), self._mpi.PACKED], rank, tag))

    def _keep(self, request: Any, memory: object) -> None:
        """Hold memory until its send has left, which nobody waits for."""
        with self._lock:
            self._leaving = [(sent, data) for sent, data in self._leaving if not sent.Test()]
            self._leaving.append((request, memory))

    def _typed(self, data: NDArray[np.uint8], dtype: np.dtype) -> list[Any]:
        with self._lock:
            datatype = self._types.get(dtype)
            if datatype is None:
                datatype = self._datatype(dtype)
        return [data, len(data) // dtype.itemsize, datatype]

    def _datatype(self, dtype: np.dtype) -> Any:
        """MPI's description of a type of numpy's; kept, and the oldest are freed."""
        from mpi4py.util import dtlib  # only a process of an MPI job pays for it

        if len(self._types) >= _TYPES:  # MPI frees a type when the last send that uses it is done
            self._types.pop(next(iter(self._types))).Free()
        datatype = dtlib.from_numpy_dtype(dtype).Dup()  # a name for predefined ones too, which must not be freed
        self._types[dtype] = datatype.Commit()
        return datatype


class _MpiSending:
    def __init__(self, keep: Callable[[Any, object], None], request: Any, *, active: bool) -> None:
        self._keep, self._request, self._active = keep, request, active

    def start(self) -> None:
        self._request.Start()
        self._active = True

    def left(self) -> bool:
        if self._active and self._request.Test():
            self._active = False
        return not self._active

    def give_up(self, memory: object) -> None:
        if not self.left():
            self._keep(self._request, memory)
        elif self._request:  # a prepared one
            self._request.Free()


class _MpiReceiving:
    def __init__(self, mpi: Any, request: Any) -> None:
        self._mpi, self._request = mpi, request
        self._status = mpi.Status()
        self._active = False

    def start(self) -> None:
        self._request.Start()
        self._active = True

    def arrived(self) -> int | None:
        if not self._request.Test(self._status):
            return None
        self._active = False
        return int(self._status.Get_count(self._mpi.BYTE))

    def cancel(self) -> None:
        if self._active:
            self._request.Cancel()
            self._request.Wait()  # local: a receive that is cancelled is either matched or not (MPI-4.1, section 3.8.4)
            self._active = False
        self._request.Free()


def _arena_bytes(sharers: int) -> int:
    """A quarter of the computer's memory for all its ranks, or half of what the system can give now, if less [byte]."""
    limit = min(int(psutil.virtual_memory().total) // 4, _room() // 2)
    return limit // sharers // PAGE * PAGE


def _room() -> int:
    """Bytes that the system can still give to memory in common."""
    try:
        folder = os.statvfs(_SHARED_FOLDER)
    except OSError:  # no such folder: the library keeps it elsewhere, and nobody can tell
        return int(psutil.virtual_memory().available)
    return folder.f_bavail * folder.f_frsize
