"""The demo's acquisition: what a client of a beamline does, through the real conductor."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from lima2.client.exceptions import ConductorConnectionError
from lima2.client.services import AcquisitionSuccess, ConductorServices, init
from lima2.common.exceptions import by_type
from numpy.typing import NDArray
from requests import RequestException

from lima2_tango.core.errors import DataLossError, Lima2Error

from .rois import ARCS, RECTANGLES

PIPELINE = "LimaProcessingLegacy"
PREFIX = "demo"
EXPOSURE = 1000
"""Of one frame [us]: short enough that the disk and the cores set the pace."""
FRAMES_PER_FILE = 50
FRAMES_KEPT = 4
"""Frames that stay in memory for readers: nobody looks, and touching fresh memory costs as much as compressing."""
POLL = 0.1
"""Between two looks at the progress [s]."""
STALL_TIMEOUT = 60.0
"""Without a new frame for this long, something hangs [s]."""


CONDUCTOR_ERRORS: tuple[type[Exception], ...] = (ConductorConnectionError, RequestException, *by_type)
"""What the client raises when the conductor refuses, fails or is gone."""


class AcquisitionFailedError(Lima2Error):
    """The conductor reports a failure, or nothing moves any more."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What an acquisition left."""

    master: Path
    dataset: str
    """Where the images are in the master file."""
    statistics: list[NDArray[np.void]]
    """[region] rows in order of the global frame number."""
    seconds: float
    """From start to the last frame processed."""


class Acquisition:
    """One series through the conductor at `host:port`."""

    def __init__(self, host: str, port: int, nb_frames: int, detector: dict[str, object], folder: Path) -> None:
        """`detector` are the camera's own parameters; the images go to `folder`."""
        self._client: ConductorServices = init(hostname=host, port=port)
        self._nb_frames = nb_frames
        self._detector = detector
        self._folder = folder

    def run(self, progress: Callable[[int], object]) -> Taken:
        """Prepare, start, wait; `progress` is told how many frames were processed.

        Raises AcquisitionFailedError with what the conductor said, DataLossError where statistics are missing.
        """
        try:
            return self._run(progress)
        except CONDUCTOR_ERRORS as error:
            raise AcquisitionFailedError(f"the conductor says: {error}") from error

    def _run(self, progress: Callable[[int], object]) -> Taken:
        client = self._client
        client.handshake()
        client.acquisition.prepare(**self._parameters())
        regions = range(len(RECTANGLES) + len(ARCS))
        with ThreadPoolExecutor(len(regions), "demo-statistics") as pool:
            begin = time.monotonic()
            client.acquisition.start()
            streams = [pool.submit(self._read, region) for region in regions]
            self._wait(progress)
            seconds = time.monotonic() - begin
            self._check_result()
            statistics = [self._complete(stream, region) for region, stream in zip(regions, streams, strict=True)]
        master, dataset = client.pipeline.master_files()["frame"]
        return Taken(Path(master), dataset, statistics, seconds)

    def _parameters(self) -> dict[str, Any]:
        control, receiver = self._client.acquisition.default_params()
        for params in (control, receiver):
            params["acq"] |= {"nb_frames": self._nb_frames, "expo_time": EXPOSURE, "latency_time": 0}
            params["det"] |= self._detector
        processing = self._client.pipeline.default_params(PIPELINE)
        processing["class_name"] = PIPELINE
        processing["statistics"] = {
            "enabled": True,
            "rect_rois": [roi.model_dump() for roi in RECTANGLES],
            "arc_rois": [roi.model_dump() for roi in ARCS],
        }
        processing["profiles"]["enabled"] = False
        processing["buffers"] |= {"nb_frames_buffer": FRAMES_KEPT, "nb_input_frames_buffer": FRAMES_KEPT}
        processing["saving"] |= {
            "enabled": True,
            "base_path": str(self._folder),
            "filename_prefix": PREFIX,
            "compression": "bshuf_lz4",
            "nb_frames_per_file": FRAMES_PER_FILE,
            "file_exists_policy": "overwrite",
        }
        return {"control": control, "receiver": receiver, "processing": processing}

    def _read(self, region: int) -> NDArray[np.void]:
        """All rows of a region, as they come while the series runs."""
        chunks: Iterator[NDArray[np.void]] = self._client.pipeline.reduced_data("roi_stats", region)
        rows = [chunk.reshape(-1) for chunk in chunks]
        if not rows:
            raise DataLossError(f"no statistics of region {region} arrived")
        return np.concatenate(rows)

    def _wait(self, progress: Callable[[int], object]) -> None:
        """Until acquisition and processing are over; raises AcquisitionFailedError where nothing moves."""
        client, last, moved = self._client, -1, time.monotonic()
        while client.acquisition.running() or client.pipeline.running():
            processed = client.pipeline.progress()
            progress(processed)
            if processed != last:
                last, moved = processed, time.monotonic()
            elif time.monotonic() - moved > STALL_TIMEOUT:
                client.acquisition.stop()
                raise AcquisitionFailedError(f"no frame came for {STALL_TIMEOUT:g} s after {processed} frames")
            time.sleep(POLL)
        progress(client.pipeline.progress())

    def _complete(self, stream: Future[NDArray[np.void]], region: int) -> NDArray[np.void]:
        rows = stream.result(STALL_TIMEOUT)
        if len(rows) != self._nb_frames:
            raise DataLossError(f"region {region} has statistics of {len(rows)} frames instead of {self._nb_frames}")
        return rows

    def _check_result(self) -> None:
        result = self._client.acquisition.result()
        if not isinstance(result, AcquisitionSuccess):
            raise AcquisitionFailedError(f"the conductor reports a failure: {result}")
