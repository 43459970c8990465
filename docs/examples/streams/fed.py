"""The other side of feeder.c: ranks in Python take the frames of programs in C, and look at every pixel.

mpicc -O2 -o feeder feeder.c
mpiexec -n 2 ./feeder frames 3 100 : -n 3 python -m mpi4py fed.py frames 2 100
"""

import sys

import numpy as np

from lima2_tango.transport.mpi import MpiWorld
from lima2_tango.transport.stream import Consumer, StreamSpec

SHAPE = (256, 320)


def expected(index: int, feeder: int) -> np.ndarray:
    """The frame as feeder.c makes it."""
    pixels = np.arange(SHAPE[0] * SHAPE[1]) + 257 * index + 1031 * feeder
    return pixels.astype(np.uint16).reshape(SHAPE)


def main() -> None:
    name, feeders, frames = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    world = MpiWorld()
    consumers = tuple(range(feeders, world.size))
    stream = StreamSpec(name, tuple(range(feeders)), consumers, element_bytes=2 * SHAPE[0] * SHAPE[1], credits=4)
    due = {feeder: range(world.rank - feeders, frames, len(consumers)) for feeder in range(feeders)}
    came: dict[int, list[int]] = {feeder: [] for feeder in range(feeders)}
    with Consumer(world.fabric, stream) as consumer:
        for element in consumer:
            index = int(element.index[0])
            if not np.array_equal(element.data[0, 0], expected(index, element.source)):
                raise ValueError(f"frame {index} of feeder {element.source} is wrong")
            came[element.source].append(index)
            element.lease.release()
    if came != {feeder: list(indices) for feeder, indices in due.items()}:
        raise ValueError(f"frames {came} came, {due} were due")
    sys.stdout.write(f"rank {world.rank} took {sum(map(len, came.values()))} frames\n")
    world.close()


if __name__ == "__main__":
    main()
