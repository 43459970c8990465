"""The two ranks that P9 measures: bare MPI and a bare ring first, then our stream, the same bytes in the same job.

`python -m mpi4py -m lima2_tango.cli.bench.stream_ranks BYTES REPEATS`: the receiving rank prints seconds as JSON.
"""

import json
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lima2_tango.core.errors import DataLossError
from lima2_tango.core.frame import Block, Lease
from lima2_tango.transport.mpi import MpiWorld
from lima2_tango.transport.stream import Consumer, Producer, SendMode, StreamSpec

SIZES = (4 << 10, 1 << 20, 8 << 20, 32 << 20)
"""Of a frame [byte]."""
BATCH = 1 << 20
"""Frames travel in blocks of this size, as everywhere; a larger one alone [byte]."""
DEPTH = 8
"""Slots of a ring, posted receives, credits."""
SHARED = "shared"
Frames = list[NDArray[np.uint8]]
Side = Callable[[Any, int, Frames, int], float]
"""One side's way to move frames: takes communicator, rank, frames to send or room for them, and how many.

Returns seconds."""


def main() -> None:
    """Print {size: {side: [seconds of each repeat]}} on rank 1."""
    total, repeats = int(sys.argv[1]), int(sys.argv[2])
    world = MpiWorld()
    from mpi4py import MPI  # the references are MPI itself

    comm = MPI.COMM_WORLD.Dup()
    seconds: dict[int, dict[str, list[float]]] = {}
    for size in SIZES:
        count = max(2 * DEPTH, min(total // size, 16384))
        times = seconds[size] = {}
        for repeat in range(repeats + 1):  # the first is not measured: it touches the memory
            for name, side in _sides(MPI, comm, world, size, repeat).items():
                spent = side(comm, world.rank, [np.full(size, value, np.uint8) for value in range(DEPTH)], count)
                if repeat:
                    times.setdefault(name, []).append(spent * total / (size * count))
    if world.rank == 1:
        sys.stdout.write(json.dumps(seconds) + "\n")
        sys.stdout.flush()
    comm.Barrier()
    world.close()


def _sides(mpi: Any, comm: Any, world: MpiWorld, size: int, repeat: int) -> dict[str, Side]:
    modes = {
        str(mode): _stream(
            world, comm, StreamSpec(f"{size} {repeat} {mode}", (0,), (1,), max(size, BATCH), mode=mode, shared=False)
        )
        for mode in SendMode
    }
    shared = _stream(world, comm, StreamSpec(f"{size} {repeat}", (0,), (1,), max(size, BATCH)))
    bare: dict[str, Side] = {"Send": _send, "Isend": _isend, "Send_init": _send_init}
    return {**bare, **modes, "bare ring": _bare_ring(mpi), SHARED: shared}


def _started(comm: Any) -> float:
    """When both ranks were ready."""
    comm.Barrier()
    return time.perf_counter()


def _send(comm: Any, rank: int, frames: Frames, count: int) -> float:
    begin = _started(comm)
    for number in range(count):
        if rank == 0:
            comm.Send(frames[number % DEPTH], 1)
        else:
            comm.Recv(frames[number % DEPTH], 0)
    return time.perf_counter() - begin


def _isend(comm: Any, rank: int, frames: Frames, count: int) -> float:
    requests: deque[Any] = deque()
    begin = _started(comm)
    for number in range(count):
        if len(requests) == DEPTH:
            requests.popleft().Wait()
        frame = frames[number % DEPTH]
        requests.append(comm.Isend(frame, 1) if rank == 0 else comm.Irecv(frame, 0))
    for request in requests:
        request.Wait()
    return time.perf_counter() - begin


def _send_init(comm: Any, rank: int, frames: Frames, count: int) -> float:
    requests = [comm.Send_init(frame, 1) if rank == 0 else comm.Recv_init(frame, 0) for frame in frames]
    begin = _started(comm)
    for number in range(count):
        if number >= DEPTH:
            requests[number % DEPTH].Wait()
        requests[number % DEPTH].Start()
    for request in requests:
        request.Wait()
    spent = time.perf_counter() - begin
    for request in requests:
        request.Free()
    return spent


def _bare_ring(mpi: Any) -> Side:
    """Copy into slots of a window that both ranks share, with one counter for each; the receiver reads in place."""

    def move(comm: Any, rank: int, frames: Frames, count: int) -> float:
        size = len(frames[0])
        window = mpi.Win.Allocate_shared(128 + DEPTH * size if rank == 0 else 0, 1, comm=comm)
        window.Lock_all()
        memory = np.frombuffer(window.Shared_query(0)[0], np.uint8)
        memory[::4096] = 0
        words, slots = memory[:128].data.cast("q"), memory[128:].reshape(DEPTH, size)
        begin = _started(comm)
        for number in range(count):
            _wait(words, 8 if rank == 0 else 0, number - DEPTH if rank == 0 else number)
            if rank == 0:
                np.copyto(slots[number % DEPTH], frames[number % DEPTH])
            window.Sync()
            words[rank * 8] = number + 1
        spent = time.perf_counter() - begin
        comm.Barrier()
        window.Unlock_all()
        return spent

    return move


def _wait(words: memoryview, word: int, beyond: int) -> None:
    while words[word] <= beyond:
        time.sleep(0)


def _stream(world: MpiWorld, comm: Any, spec: StreamSpec) -> Side:
    def move(_: Any, rank: int, frames: Frames, count: int) -> float:
        if rank == 0:
            return _produce(comm, Producer(world.fabric, spec), frames, count)
        return _consume(comm, Consumer(world.fabric, spec), frames, count)

    return move


def _produce(comm: Any, producer: Producer, frames: Frames, count: int) -> float:
    size = len(frames[0])
    batch = max(1, BATCH // size)
    blocks = [np.repeat(frame[np.newaxis, np.newaxis, np.newaxis], batch, 0) for frame in frames]
    index, times = np.arange(batch), np.zeros(batch)
    begin = _started(comm)
    for number in range(0, count, batch):
        producer.send(Block(blocks[number // batch % DEPTH], index + number, number, times, Lease()))
    producer.close()
    return time.perf_counter() - begin


def _consume(comm: Any, consumer: Consumer, frames: Frames, count: int) -> float:
    batch, due = max(1, BATCH // len(frames[0])), 0
    while not consumer.statistics.carriers:  # until it has its memory, as a run has it before it starts
        consumer.take(timeout=0)
    begin = _started(comm)
    for element in consumer:
        value = due // batch % DEPTH
        if element.index[0] != due or element.data[0, 0, 0, 0] != value or element.data[-1, 0, 0, -1] != value:
            raise DataLossError(f"frame {element.index[0]} came where {due} was due, or with other pixels")
        due += len(element)
        element.lease.release()
    spent = time.perf_counter() - begin
    consumer.close()
    if due < count:
        raise DataLossError(f"{due} frames came of {count}")
    return spent


if __name__ == "__main__":
    main()
