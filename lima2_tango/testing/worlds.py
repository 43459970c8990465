"""Several ranks in one process: a job without MPI, for tests of what crosses ranks."""

from queue import Empty, SimpleQueue

from lima2_tango.transport.channel import Channel
from lima2_tango.transport.fabric import Fabric, LocalFabric, LocalJob


class MemoryWorld:
    """One rank of a job whose messages travel through queues; behaves as `transport.mpi.MpiWorld` does."""

    def __init__(self, rank: int, inboxes: list["SimpleQueue[tuple[int, bytes]]"], job: LocalJob) -> None:
        self.rank, self.size = rank, len(inboxes)
        self.fabric: Fabric = LocalFabric(rank, job)
        self._inboxes = inboxes

    def send(self, destination: int, data: bytes) -> None:
        self._inboxes[destination].put((self.rank, data))

    def poll(self) -> tuple[int, bytes] | None:
        try:
            return self._inboxes[self.rank].get_nowait()
        except Empty:
            return None

    def close(self) -> None:
        """Nothing to give back."""


def memory_job(size: int) -> list[Channel]:
    """Channels of a job of `size` ranks, not opened yet."""
    inboxes: list[SimpleQueue[tuple[int, bytes]]] = [SimpleQueue() for _ in range(size)]
    job = LocalJob(size)
    return [Channel(MemoryWorld(rank, inboxes, job)) for rank in range(size)]
