"""A threshold collective: all ranks count photons until together they have enough, whoever found them.

A reduction would need every rank at every step; here each goes at its own speed, and one message stops them all.

mpiexec -n 4 python -m mpi4py docs/examples/streams/threshold.py
"""

import sys

import numpy as np

from lima2_tango.core.errors import AgreementError
from lima2_tango.transport.mpi import MpiWorld
from lima2_tango.transport.stream import Consumer, Producer, StreamSpec

ENOUGH = 100_000
REASON = "enough photons"


def collect(world: MpiWorld, stream: StreamSpec) -> int:
    """Sum what arrives until it is enough, then tell all to stop."""
    total = 0
    with Consumer(world.fabric, stream) as consumer:
        while total < ENOUGH and (element := consumer.take()) is not None:
            total += int(element.data[0])
            element.lease.release()
        consumer.abort(REASON)
    return total


def count(world: MpiWorld, stream: StreamSpec) -> None:
    """Count until told to stop; every rank at a speed of its own."""
    random = np.random.default_rng(world.rank)
    producer = Producer(world.fabric, stream)
    try:
        while True:
            photons = random.poisson(1000, 1 + 10 * world.rank).sum()
            producer.send_array(np.array([photons], np.int64))
    except AgreementError as stop:
        if REASON not in stop.what:
            raise
    producer.close()


def main() -> None:
    world = MpiWorld()
    workers = tuple(range(1, world.size))
    stream = StreamSpec("photons", workers, (0,), element_bytes=8, records=np.dtype(np.int64), credits=2)
    if world.rank == 0:
        total = collect(world, stream)
        sys.stdout.write(f"stopped {'in time' if ENOUGH <= total < 2 * ENOUGH else f'at {total}'}\n")
    else:
        count(world, stream)
    world.close()


if __name__ == "__main__":
    main()
