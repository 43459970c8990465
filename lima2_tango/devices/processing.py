"""Tango skin of one run's processing; it exists from Prepare until the run is erased."""

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any, ClassVar

import numpy as np
import tango

from lima2_tango.control.live import STATISTICS, Regions, look_at, newest_number, regions_of
from lima2_tango.control.run import Run
from lima2_tango.core import encoded
from lima2_tango.core.errors import NotAvailableError
from lima2_tango.core.leaves import label_of
from lima2_tango.core.live import Look
from lima2_tango.processing.pipeline import Pressure
from lima2_tango.processing.plugin import PipelinePlugin

from .commands import command
from .errors import as_dev_failed, as_tango_text, text_of
from .live import LiveDevice
from .shown import attribute

EVENTS = ("is_finished", "last_error")


class ProcessingDevice(LiveDevice):
    """Counts, frames and rows of one run on one receiver. The factory sets `plugin`, the server `process`."""

    process: ClassVar[Any]
    plugin: ClassVar[PipelinePlugin]

    def init_device(self) -> None:
        super().init_device()
        self._run: Run | None = self.process.run_of(self.get_name())
        for name in EVENTS:
            self.get_device_attr().get_attr_by_name(name).set_data_ready_event(True)
        if self._run is not None:
            # Set, not added: Tango calls this again for Init, and clients count the events.
            self._run.on_finished[:] = [self._push_finished]
            self._run.on_error[:] = [self._push_error]

    def run(self) -> Run:
        """The run behind this device; raises NotAvailableError for a device that a killed server left behind."""
        if self._run is None:
            raise NotAvailableError("this device's run is gone: the server was restarted since; acquire again")
        return self._run

    def dev_state(self) -> tango.DevState:
        if self._run is None or self._run.last_error is not None:
            return tango.DevState.FAULT
        return tango.DevState.ON if self._run.finished.is_set() else tango.DevState.RUNNING

    def dev_status(self) -> str:
        if self._run is None:
            return "The run of this device is gone: the server was restarted since."
        if self._run.last_error is not None:
            return as_tango_text(f"Processing failed: {self._run.last_error}")
        return "Finished." if self._run.finished.is_set() else "Processing frames, or waiting for them."

    def newest(self) -> int:
        return newest_number(self.run())

    def make_look(self, limit: int) -> Look:
        return look_at(self.run(), limit)

    def is_newest(self, look: Look) -> bool:
        return look.number == self.newest()

    def regions(self) -> Regions:
        return regions_of([self.run().pipeline.recent(STATISTICS)])

    @attribute(
        label="Last image (DATA_ARRAY)",
        dtype="DevEncoded",
        doc="The frame of last_image with the type of its pixels, encoded as getFrame does.",
    )
    def last_image_data(self) -> tuple[str, bytearray]:
        with as_dev_failed("last_image_data"):
            look = self.look()
            return encoded.image(look.image[np.newaxis], look.number)

    @attribute(
        label="Newest region rows",
        dtype="DevEncoded",
        doc="Rows of the newest frames as popRoiStatistics gives them, 256 KiB at most; they stay for who pops.",
    )
    def roi_rows(self) -> tuple[str, bytearray]:
        with as_dev_failed("roi_rows"):
            return encoded.rows(self.run().pipeline.recent(STATISTICS))

    @attribute(label="Progress (JSON)", dtype=str)
    def progress_counters(self) -> str:
        """Frames so far, JSON {name: count}; counts never decrease."""
        with as_dev_failed("progress_counters"):
            return json.dumps(self.run().pipeline.counters.read())

    @attribute(label="Newest frames (JSON)", dtype=str)
    def last_frames(self) -> str:
        """Global number of the newest frame of each stream on this receiver, JSON; -1 before the first."""
        with as_dev_failed("last_frames"):
            return json.dumps(self.run().pipeline.last_frames())

    @attribute(label="Finished", dtype=bool)
    def is_finished(self) -> bool:
        """True when all counts are final; a DATA_READY event says so once."""
        return self._run is not None and self._run.finished.is_set()

    @attribute(label="Last error", dtype=str)
    def last_error(self) -> str:
        """What stopped the processing: No error, or JSON with what and errinfo; a DATA_READY event says so."""
        return text_of(self._run.last_error if self._run else None)

    @attribute(label="Blocks queued", dtype="DevULong64", unit="block")
    def blocks_queued(self) -> int:
        """Blocks of frames between the camera and their file or last reader; a full queue holds the camera back."""
        return self._pressure("blocks_queued").blocks_queued

    @attribute(label="Most blocks queued", dtype="DevULong64", unit="block")
    def most_blocks_queued(self) -> int:
        """The most blocks that were queued at once in this run."""
        return self._pressure("most_blocks_queued").most_blocks_queued

    @attribute(label="Waits of the camera", dtype="DevULong64", max_warning="1", unit="wait")
    def queue_waits(self) -> int:
        """How often the camera had to wait for room in the queue."""
        return self._pressure("queue_waits").queue_waits

    @attribute(label="Bytes saved", dtype="DevULong64", unit="byte")
    def bytes_saved(self) -> int:
        """Bytes of images handed to the file system, as compressed."""
        return self._pressure("bytes_saved").bytes_saved

    @attribute(label="Saving rate", dtype=float, unit="byte/s", format="%.4g")
    def saving_rate(self) -> float:
        """Bytes handed to the file system in the last second."""
        return self._pressure("saving_rate").saving_rate

    @command(dtype_out="DevEncoded", doc_out="rows of recv_idx and frame_idx, in order of arrival")
    def popFrameIdx(self) -> tuple[str, bytearray]:
        """Global numbers of the frames that arrived since the last call, where frame_idx_enabled asks for them."""
        with as_dev_failed("popFrameIdx"):
            return encoded.rows(self.run().pipeline.pop("popFrameIdx"))

    def _pressure(self, reader: str) -> Pressure:
        with as_dev_failed(reader):
            return self.run().pipeline.pressure()

    def _push_finished(self) -> None:
        self._push("is_finished")

    def _push_error(self) -> None:
        self._push("last_error")

    def _push(self, name: str) -> None:
        with suppress(tango.DevFailed):  # erased while its run ended: nobody listens any more
            self.push_data_ready_event(name, 1)


def frame_command(name: str, label: str) -> Any:
    """Getter of the frames of one stream."""

    def get(device: ProcessingDevice, index: int) -> tuple[str, bytearray]:
        with as_dev_failed(name), device.run().pipeline.history(label).frame(index) as (number, pixels):
            return encoded.image(pixels, number)

    return _command(
        name, get, f"Frame of the {label} stream by its global number; -1 is the newest on this receiver.", dtype_in=int
    )


def vector_command(name: str, label: str, channel: int) -> Any:
    """Getter of the vectors of one stream."""

    def get(device: ProcessingDevice, index: int) -> tuple[str, bytearray]:
        with as_dev_failed(name), device.run().pipeline.history(label).frame(index) as (number, made):
            if channel >= len(made):
                raise NotAvailableError(f"this run makes none: {name} needs an error model other than no_var")
            return encoded.vector(made[channel, 0], number)

    return _command(
        name,
        get,
        f"Vector of the {label} stream by the global number of its frame; -1 is the newest on this receiver.",
        dtype_in=int,
    )


def sparse_command(name: str, label: str) -> Any:
    """Getter of the sparse frames of one stream."""

    def get(device: ProcessingDevice, index: int) -> tuple[str, bytearray]:
        with as_dev_failed(name), device.run().pipeline.history(label).frame(index) as (number, packed):
            return encoded.sparse(packed, number)

    return _command(
        name,
        get,
        "Pixels that stand out of a frame and its background, by the frame's global number; -1 is the newest on this "
        "receiver.",
        dtype_in=int,
    )


def row_command(name: str) -> Any:
    """Pops the rows of one reduced stream."""

    def pop(device: ProcessingDevice) -> tuple[str, bytearray]:
        with as_dev_failed(name):
            return encoded.rows(device.run().pipeline.pop(name))

    return _command(name, pop, "Rows since the last call, whole frames in order of arrival; empty when none are new.")


def info_attribute(name: str) -> Any:
    """Shape and pixel type of one stream, of frames or of vectors."""

    def read(device: ProcessingDevice) -> str:
        with as_dev_failed(name):
            return json.dumps(device.run().pipeline.infos[name].info())

    read.__name__, read.__doc__ = (
        name,
        "Length and type of the vectors, JSON: length, pixel_type."
        if name == "vector_info"
        else "Shape and pixel type of the frames, JSON: nb_channels, dimensions [pixel], pixel_type.",
    )
    return attribute(label=f"{label_of(name)} (JSON)", dtype=str)(read)


def _command(name: str, body: Callable[..., Any], doc: str, **kinds: Any) -> Any:
    body.__name__, body.__doc__ = name, doc
    return command(dtype_out="DevEncoded", **kinds)(body)
