"""The only file that speaks MPI: bytes to and from the other ranks of the job, never blocking."""

import os
import time
from typing import Any

_TAG = 2200
_NO_MEMORY_HOOKS = ("UCX_MEM_MMAP_HOOK_MODE", "none")
"""UCX notes every `munmap` for its cache of registered memory, which without RDMA it never reads again: 20 kB/s lost to
the stacks that each Tango request maps and unmaps. A site with RDMA sets the variable to `bistro`."""
_QUEUE_CELLS = 64
"""Messages that MPICH holds for a rank on its host, by default."""
FLUSH = 0.2
"""How long a rank that leaves waits for its last messages to be taken [s]."""


def launched_by_mpi() -> bool:
    """True in a process that an `mpiexec` has started."""
    marks = ("PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_RANK")
    return any(mark in os.environ for mark in marks)


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
        self._sending: list[tuple[Any, bytes]] = []
        self._touch_queues()

    def _touch_queues(self) -> None:
        """Use every cell of the queues between ranks of a host once, or their pages come one by one during runs."""
        for _ in range(_QUEUE_CELLS):
            self._comm.Alltoall(bytearray(self.size), bytearray(self.size))

    def send(self, destination: int, data: bytes) -> None:
        self._sending.append((self._comm.Isend([data, self._mpi.BYTE], destination, _TAG), data))

    def poll(self) -> tuple[int, bytes] | None:
        """The next message that has arrived, and who sent it; None when there is none."""
        self._forget_sent()
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
        while self._forget_sent() and time.monotonic() < deadline:
            time.sleep(1e-3)
        for request, _ in self._sending:
            request.Cancel()
            request.Free()
        self._mpi.Finalize()

    def _forget_sent(self) -> bool:
        """Drop what has left; True while something has not."""
        self._sending = [(request, data) for request, data in self._sending if not request.Test()]
        return bool(self._sending)
