"""Monitoring of a running application: ranks that compute say now and then how far they are, and never wait for it.

mpiexec -n 4 python -m mpi4py docs/examples/streams/monitoring.py
"""

import sys

import numpy as np

from lima2_tango.transport.mpi import MpiWorld
from lima2_tango.transport.stream import Consumer, Producer, StreamSpec

REPORT = np.dtype([("step", "<u4"), ("skipped", "<u4"), ("change", "<f8")])
STEPS = 2000


def relax(rank: int, producer: Producer) -> None:
    """Heat in a rod, by Jacobi's iteration; reports that find no room are skipped, and counted in the next one."""
    heat, skipped = np.zeros(300), 0
    heat[0] = rank
    for step in range(1, STEPS + 1):
        before = heat.copy()
        heat[1:-1] = (before[:-2] + before[2:]) / 2
        if step % 10 == 0:
            report = np.array([(step, skipped, np.abs(heat - before).max())], REPORT)
            if producer.room() or step == STEPS:  # only the last one is waited for
                producer.send_array(report)
            else:
                skipped += 1


def main() -> None:
    world = MpiWorld()
    monitor, workers = 0, tuple(range(1, world.size))
    stream = StreamSpec("progress", workers, (monitor,), element_bytes=REPORT.itemsize, records=REPORT, credits=4)
    if world.rank == monitor:
        last = {}
        with Consumer(world.fabric, stream) as consumer:
            for element in consumer:
                last[element.source] = element.data[0].copy()
                element.lease.release()
        for rank, report in sorted(last.items()):
            sys.stdout.write(f"rank {rank} ended at step {report['step']}\n")
    else:
        with Producer(world.fabric, stream) as producer:
            relax(world.rank, producer)
    world.close()


if __name__ == "__main__":
    main()
