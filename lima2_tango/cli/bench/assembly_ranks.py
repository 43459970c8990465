"""The two ranks that P5 measures: a bare copy into memory in common first, then the way that frames of a run take.

`python -m mpi4py -m lima2_tango.cli.bench.assembly_ranks FRAMES REPEATS`: rank 0 prints seconds as JSON. Each rank has
four modules of every frame; frame i becomes whole on rank i % 2, which looks at it and gives its slot back.
"""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Thread
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lima2_tango.core.acquisition import Acq
from lima2_tango.core.errors import DataLossError
from lima2_tango.core.frame import Block, EndOfSeries, FrameSpec, Lease
from lima2_tango.core.modules import Layout, Module
from lima2_tango.core.pool import Pool
from lima2_tango.core.series import Series
from lima2_tango.transport.assembly import Intake
from lima2_tango.transport.outlet import SharedOutlet
from lima2_tango.transport.scatter import Dealer, in_turn
from lima2_tango.transport.topology import Assembled
from lima2_tango.transport.window import Address, attach

RANKS = 2
SLOTS = 16
"""Frames of each window."""
DISTINCT = 8
"""Parts of frames that a rank sends in turn."""
BARE, OURS = "bare copy", "assembled"


@dataclass(frozen=True)
class Shape:
    """Eight modules, two beside each other, four below each other."""

    rows: int = 512
    columns: int = 1024
    frame: FrameSpec = field(init=False)
    layout: Layout = field(init=False)

    def __post_init__(self) -> None:
        height, width = 4 * self.rows, 2 * self.columns
        modules = tuple(
            Module(y * self.rows, x * self.columns, self.rows, self.columns, 0, y // 2, f"module {2 * y + x}")
            for y in range(4)
            for x in range(2)
        )
        object.__setattr__(self, "frame", FrameSpec(1, height, width, np.dtype(np.uint16)))
        object.__setattr__(self, "layout", Layout(height, width, modules))

    def parts(self, rank: int) -> NDArray[np.uint16]:
        """[which, channel, row, column] four modules one after the other, other pixels in each."""
        shape = (DISTINCT, 1, 4 * self.rows, self.columns)
        return np.random.default_rng(rank).integers(0, 65535, shape, np.uint16)

    def wholes(self) -> NDArray[np.uint16]:
        """[which, channel, row, column] the frames that they become, put together module by module."""
        frames = np.zeros((DISTINCT, *self.frame.shape), np.uint16)
        for rank in range(RANKS):
            parts = self.parts(rank)
            for place, number in enumerate(self.layout.numbers(rank)):
                at = self.layout.modules[number].place
                module = parts[:, :, place * self.rows : (place + 1) * self.rows]
                frames[:, :, at.top : at.top + at.height, at.left : at.left + at.width] = module
        return frames


def main() -> None:
    """Print {"": {side: [seconds of each repeat]}} on rank 0."""
    count, repeats = int(sys.argv[1]), int(sys.argv[2])
    from mpi4py import MPI  # the reference is MPI's own window

    comm, shape = MPI.COMM_WORLD, Shape()
    rank = comm.Get_rank()
    parts = shape.parts(rank)
    bare, ours = _bare(MPI, comm, parts), _assembly(comm, shape, parts)
    seconds: dict[str, list[float]] = {BARE: [], OURS: []}
    for repeat in range(repeats + 1):  # the first is not measured: all pixels are compared
        expected = shape.wholes() if repeat == 0 else None
        for name, spent in ((BARE, bare(count)), (OURS, ours(count, expected))):
            if repeat:
                seconds[name].append(comm.allreduce(spent, MPI.MAX))
    if rank == 0:
        sys.stdout.write(json.dumps({"": seconds}) + "\n")
        sys.stdout.flush()


def _bare(mpi: Any, comm: Any, parts: NDArray[np.uint16]) -> Callable[[int], float]:
    """Copy each part as it is into a slot of the window of the rank whose turn it is, with one counter each.

    A slot is free again when both ranks have counted that the one SLOTS before it is written.
    """
    rank, size = comm.Get_rank(), parts[0].nbytes
    window = mpi.Win.Allocate_shared(4096 + SLOTS * RANKS * size, 1, comm=comm)
    window.Lock_all()
    memories = [np.frombuffer(window.Shared_query(owner)[0], np.uint8) for owner in range(RANKS)]
    words = [memory[:4096].data.cast("q") for memory in memories]
    slots = [memory[4096:].reshape(SLOTS, RANKS, size) for memory in memories]
    slots[rank][:, :, ::4096] = 0
    flat = parts.reshape(DISTINCT, -1).view(np.uint8)
    words[rank][0] = 0
    comm.Barrier()
    done = 0

    def move(count: int) -> float:
        nonlocal done
        comm.Barrier()
        begin = time.perf_counter()
        for number in range(done, done + count):
            while min(words[0][0], words[1][0]) <= number - RANKS * SLOTS:
                time.sleep(0)
            np.copyto(slots[number % RANKS][number // RANKS % SLOTS, rank], flat[number % DISTINCT])
            window.Sync()
            words[rank][0] = number + 1
        comm.Barrier()
        done += count
        return time.perf_counter() - begin

    return move


def _assembly(comm: Any, shape: Shape, parts: NDArray[np.uint16]) -> Callable[[int, NDArray[np.uint16] | None], float]:
    """As in a run: one thread deals blocks of parts to both windows, another takes whole frames from this rank's."""
    rank, spec, layout = comm.Get_rank(), shape.frame, shape.layout
    intake = Intake(spec, Pool(4 * SLOTS * spec.nbytes))
    windows = [attach(Address.parse(text), spec) for text in comm.allgather(intake.address)]
    modules = sum(layout.bits(source) for source in range(RANKS))

    def move(count: int, expected: NDArray[np.uint16] | None) -> float:
        intake.open()
        comm.Barrier()
        outlets = [SharedOutlet(window, rank, layout.places(rank)) for window in windows]
        dealer = Dealer(outlets, in_turn(RANKS), layout, rank)
        series = Series(Acq(nb_frames=count, expo_time=1, latency_time=0), Assembled(RANKS), rank)
        comm.Barrier()
        begin = time.perf_counter()
        thread = Thread(target=_deal, args=(dealer, parts, count), name="dealer")
        thread.start()
        _take(intake.blocks(RANKS, str, modules, series), rank, count, expected)
        thread.join()
        comm.Barrier()
        return time.perf_counter() - begin

    return move


def _deal(dealer: Dealer, parts: NDArray[np.uint16], count: int) -> None:
    for number in range(count):
        data = parts[number % DISTINCT][np.newaxis]
        dealer.hand_over(Block(data, np.array([number]), number, np.zeros(1), Lease()))
    dealer.end()


def _take(blocks: Any, rank: int, count: int, expected: NDArray[np.uint16] | None) -> None:
    """Every frame once and whole; all its pixels, where it is said which."""
    due = rank
    for block in blocks:
        if isinstance(block, EndOfSeries):
            break
        for place, index in enumerate(block.index):
            same = expected is None or np.array_equal(block.data[place], expected[index % DISTINCT])
            if index != due or block.missing is not None or not same:
                raise DataLossError(f"frame {index} came where {due} was due, not whole, or with other pixels")
            due += RANKS
        block.lease.release()
    if due < count:
        raise DataLossError(f"{due // RANKS} frames came of {count // RANKS}")


if __name__ == "__main__":
    main()
