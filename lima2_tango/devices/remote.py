"""The receivers of the job and their processing devices, called through Tango by a control that drives."""

import json
from collections.abc import Generator
from contextlib import contextmanager
from threading import Lock
from typing import Any

import tango

from lima2_tango.control.ranks import Acquiring, Processing, Rank
from lima2_tango.core.encoded import HEADER, frame_of
from lima2_tango.core.errors import AgreementError, Lima2Error
from lima2_tango.core.frame import FrameSpec, PixelType
from lima2_tango.core.live import Look
from lima2_tango.core.state import State
from lima2_tango.transport.roster import Roster

from .database import processing_name
from .errors import REASON, as_utf8

PREPARE_TIMEOUT = 90.0
"""A Prepare waits for another one, for the camera and for compiled kernels, each with a bound of its own [s]."""
TIMEOUT = 3.0
"""Everything else is answered at once by a receiver that is well [s]."""
NO_ERROR = "No error"

RECEIVER = ("acq_state", "nb_frames_xferred", "last_error", "pipelines")
"""Read in this order: what follows a final state is final."""
PROCESSING = ("is_finished", "progress_counters", "last_frames", "last_error", "blocks_queued", "saving_rate")


class RemoteReceiver:
    """One receiver; each call has a bound, and raises what went wrong as a sentence of ours."""

    def __init__(self, device: str, rank: int) -> None:
        self._device, self._rank = device, rank
        self._lock = Lock()
        self._proxies: dict[tuple[str, float], tango.DeviceProxy] = {}

    @property
    def device(self) -> str:
        return self._device

    def prepare(self, uuid: str, acq_params: str, proc_params: str) -> None:
        with _as_lima2(TIMEOUT):
            receiver = self._proxy(self._device)
            receiver.ping()  # PyTango's first write to a silent device ends in a TypeError
            receiver.write_attribute("acq_params", acq_params)
            receiver.write_attribute("proc_params", proc_params)
        with _as_lima2(PREPARE_TIMEOUT):
            self._proxy(self._device, PREPARE_TIMEOUT).command_inout("Prepare", uuid)

    def start(self) -> None:
        self._command("Start")

    def stop(self) -> None:
        self._command("Stop")

    def reset(self) -> None:
        self._command("Reset")

    def erase(self, uuid: str) -> None:
        self._command("erasePipeline", uuid)
        name = processing_name(self._device, uuid, self._rank)
        with self._lock:
            self._proxies.pop((name, TIMEOUT), None)

    def acquiring(self) -> Acquiring:
        state, frames, error, pipelines = self._read(self._device, RECEIVER)
        return Acquiring(State(int(state)), int(frames), _problem(error), tuple(pipelines or ()))

    def processing(self, uuid: str) -> Processing:
        finished, counters, last, error, queued, rate = self._read(self._processing(uuid), PROCESSING)
        return Processing(
            bool(finished), json.loads(counters), json.loads(last), _problem(error), int(queued), float(rate)
        )

    def spec(self, uuid: str, info: str) -> FrameSpec:
        (text,) = self._read(self._processing(uuid), (info,))
        said = json.loads(text)
        dtype = PixelType(said["pixel_type"]).dtype
        if "length" in said:  # a vector
            return FrameSpec(1, 1, said["length"], dtype)
        return FrameSpec(said["nb_channels"], said["dimensions"]["y"], said["dimensions"]["x"], dtype)

    def frame(self, uuid: str, command: str, index: int) -> tuple[str, bytes]:
        with _as_lima2(TIMEOUT):
            form, payload = self._proxy(self._processing(uuid)).command_inout(command, index)
            return form, payload

    def rows(self, uuid: str, command: str) -> bytes:
        with _as_lima2(TIMEOUT):
            _, payload = self._proxy(self._processing(uuid)).command_inout(command)
            return bytes(payload[HEADER.size :])

    def newest(self, uuid: str) -> int:
        (number,) = self._read(self._processing(uuid), ("last_image_frame",))
        return int(number)

    def look(self, uuid: str) -> Look:
        data, factor = self._read(self._processing(uuid), ("last_image_data", "last_image_factor"))
        number, pixels = frame_of(data)
        return Look(uuid, number, pixels[0], int(factor))

    def recent_rows(self, uuid: str) -> bytes:
        ((_, payload),) = self._read(self._processing(uuid), ("roi_rows",))
        return bytes(payload[HEADER.size :])

    def _processing(self, uuid: str) -> str:
        return processing_name(self._device, uuid, self._rank)

    def _command(self, name: str, *arguments: str) -> None:
        with _as_lima2(TIMEOUT):
            self._proxy(self._device).command_inout(name, *arguments)

    def _read(self, device: str, names: tuple[str, ...]) -> list[Any]:
        """Values of some attributes, read in one call and in this order."""
        with _as_lima2(TIMEOUT):
            read = self._proxy(device).read_attributes(list(names))
            for each in read:
                if each.has_failed:
                    raise tango.DevFailed(*each.get_err_stack())
            return [each.value for each in read]

    def _proxy(self, device: str, timeout: float = TIMEOUT) -> tango.DeviceProxy:
        with self._lock:
            key = (device, timeout)
            if key not in self._proxies:
                proxy = tango.DeviceProxy(device)
                proxy.ping()  # with one that is not connected the next line would keep Python's lock, for 3 s
                proxy.set_timeout_millis(int(timeout * 1000))
                self._proxies[key] = proxy
            return self._proxies[key]


class Remotes:
    """The receivers of this process's job, in order of rank."""

    def __init__(self, roster: Roster) -> None:
        self._roster = roster
        self._known: list[RemoteReceiver] = []

    def connect(self) -> list[Rank]:
        """Raises AgreementError naming the ranks of the job that have not reported."""
        names = self._roster.receiver_devices()
        if [known.device for known in self._known] != names:
            self._known = [RemoteReceiver(name, rank) for rank, name in enumerate(names)]
        return list(self._known)


@contextmanager
def _as_lima2(timeout: float) -> Generator[None]:
    """Turn a Tango error into one of ours, with the sentence that it carries."""
    try:
        yield
    except tango.DevFailed as error:
        raise _translated(error, timeout) from error
    except TypeError as error:  # PyTango's first write to a device that does not answer
        raise AgreementError(f"it does not answer ({error}): look at its log, restart the job") from error


def _translated(error: tango.DevFailed, timeout: float) -> Lima2Error:
    for entry in error.args:
        if entry.reason == REASON:
            said = json.loads(entry.desc)
            return Lima2Error(said["what"], **said["errinfo"])
        if entry.reason == "API_DeviceTimedOut" or "CallTimedout" in entry.desc:
            return AgreementError(f"no answer within {timeout:.0f} s: look at its log, restart the job")
    first = error.args[0]
    return AgreementError(f"it cannot be reached ({first.reason}: {' '.join(first.desc.split())}): look at its log")


def _problem(text: str) -> str:
    """Sentence of a `last_error`, with the number of the frame; empty where there is none."""
    if text == NO_ERROR:
        return ""
    try:
        said = json.loads(text)
        what, info = str(said["what"]), said["errinfo"]
    except (ValueError, KeyError, TypeError):
        return as_utf8(text)
    frame = info.get("frame_idx")
    return what if frame is None or str(frame) in what else f"{what} (frame {frame})"
