"""Once a run has settled, frames pass from the camera's memory to files without new memory for their pixels."""

import gc
import time
import tracemalloc
from collections.abc import Iterator
from threading import Event, Thread

import fabio.edfimage
import numpy as np
import pytest

from lima2_tango.core.acquisition import AcquisitionParams, Flip, Image
from lima2_tango.core.frame import Block, FrameSpec, Lease
from lima2_tango.core.pool import Pool
from lima2_tango.processing.executor import Workers
from lima2_tango.processing.legacy import Legacy
from lima2_tango.processing.pipeline import Setup
from lima2_tango.processing.pipelines.legacy import LegacyParams
from lima2_tango.saving.writer import opener
from lima2_tango.testing.sinks import METADATA

SPEC = FrameSpec(1, 512, 512, np.dtype(np.uint16))
PER_BLOCK = 4
SETTLING, STEADY = 40, 200
"""Blocks."""
RECTANGLE = {"topleft": {"x": 100, "y": 100}, "dimensions": {"x": 64, "y": 64}}


@pytest.fixture
def workers() -> Iterator[Workers]:
    threads = Workers(2)
    yield threads
    threads.close()


@pytest.mark.parametrize("compression", ["none", "bshuf_lz4"])
@pytest.mark.parametrize("corrected", [False, True], ids=["plain", "flipped_and_corrected"])
def test_a_settled_run_allocates_no_memory_for_pixels(workers, tmp_path, compression, corrected):
    pixels = np.random.default_rng(0).poisson(20, (PER_BLOCK, *SPEC.shape)).astype(SPEC.dtype)
    changes = {}
    acquisition = AcquisitionParams()
    if corrected:
        fabio.edfimage.EdfImage(data=np.ones(SPEC.shape[1:], np.float32)).write(tmp_path / "flat.edf")
        changes = {"flatfield": {"enabled": True, "path": str(tmp_path / "flat.edf")}}
        acquisition = AcquisitionParams(img=Image(flip=Flip.LEFT_RIGHT))
    params = LegacyParams.model_validate(
        changes
        | {
            "statistics": {"rect_rois": [RECTANGLE]},
            "saving": {"base_path": str(tmp_path), "compression": compression, "nb_frames_per_file": 100_000},
        },
        strict=False,
    )
    gate, full = Event(), Thread(target=lambda: feed(0, SETTLING))

    def open_sink(*arguments):
        writer = opener(0, METADATA, None)(*arguments)
        append = writer.append
        writer.append = lambda encoded: gate.wait(10) and append(encoded)
        return writer

    setup = Setup(acquisition, SPEC, 0, Pool(64 << 20), workers, open_sink)
    pipeline = Legacy(params, setup)
    pipeline.activate(1)

    def feed(first: int, count: int) -> None:
        for number in range(first, first + count):
            local = number * PER_BLOCK
            index = np.arange(local, local + PER_BLOCK)
            pipeline.put(Block(pixels, index, local, index * 1e-3, Lease()))
        pipeline._stage.drain()
        pipeline.pop("popRoiStatistics")

    full.start()  # the writer waits until the queue is full: whatever can be in use at once has been
    deadline = time.monotonic() + 10
    while not pipeline.pressure().queue_waits or len(pipeline._stage._parked) < pipeline._stage.in_flight - 1:
        assert time.monotonic() < deadline, "the queue was never full"
        time.sleep(1e-3)
    gate.set()
    full.join(20)
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        feed(SETTLING, STEADY)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    pipeline.finish()
    pipeline.erase()
    assert pipeline.counters.read()["nb_frames_saved"] == (SETTLING + STEADY) * PER_BLOCK
    rows_and_columns = STEADY * PER_BLOCK * 256  # a row of statistics, and the file's columns, which double
    assert peak - before < SPEC.nbytes // 2 + rows_and_columns, "this is as much as a frame, or more"
