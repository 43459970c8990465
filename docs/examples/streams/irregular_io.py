"""Irregular parallel I/O: workers find a different number of peaks in each frame, one rank writes them all.

mpiexec -n 4 python -m mpi4py docs/examples/streams/irregular_io.py peaks.bin
"""

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lima2_tango.transport.mpi import MpiWorld
from lima2_tango.transport.stream import Consumer, Producer, StreamSpec

PEAK = np.dtype([("frame", "<u4"), ("row", "<u2"), ("column", "<u2"), ("photons", "<f4")])
FRAMES, MOST = 200, 500


def peaks_of(frame: int) -> NDArray[Any]:
    """What a search would find: up to MOST peaks, none in some frames."""
    random = np.random.default_rng(frame)
    peaks = np.zeros(random.integers(0, MOST), PEAK)
    peaks["frame"] = frame
    peaks["row"], peaks["column"] = random.integers(0, 2048, (2, len(peaks)))
    peaks["photons"] = random.exponential(100, len(peaks))
    return peaks


def main(path: str) -> None:
    world = MpiWorld()
    writer, workers = 0, tuple(range(1, world.size))
    stream = StreamSpec("peaks", workers, (writer,), element_bytes=MOST * PEAK.itemsize, records=PEAK)
    if world.rank == writer:
        # Workers never wait for the file, as long as the writer keeps up on average.
        with open(path, "wb") as file, Consumer(world.fabric, stream) as consumer:
            elements = consumer.operate(lambda element: file.write(element.data.tobytes()))
            peaks = consumer.statistics.bytes // PEAK.itemsize
        sys.stdout.write(f"{peaks} peaks of {elements} frames written\n")
    else:
        with Producer(world.fabric, stream) as producer:
            for frame in range(world.rank - 1, FRAMES, len(workers)):
                producer.send_array(peaks_of(frame), np.array([frame]))
    world.close()


if __name__ == "__main__":
    main(sys.argv[1])
