"""A running system as its users see it: the client's own functions over HTTP to the client's own conductor."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401  (the filter that the files are compressed with)
import numpy as np
import pytest
from lima2.client.services import AcquisitionFailure, AcquisitionSuccess, ConductorServices, init
from lima2.common.exceptions import Lima2LookupError
from support import LEGACY, SMALL, Json, put
from watching import wait_for

from lima2_tango.cli.config import Topology
from lima2_tango.cli.system import System

CHANGING = {"det.generator.gauss.grow_factor": 0.1, "det.nb_prefetch_frames": 8}
"""Eight images that all differ, dealt in turn: frame i is image i mod 8."""


@dataclass
class Conducted:
    """The client's services, and what a script around them would do."""

    services: ConductorServices
    topology: Topology

    @classmethod
    def of(cls, system: System) -> "Conducted":
        return cls(init("localhost", system.conductor_port), system.config.conductor.topology)

    @property
    def receivers(self) -> int:
        return 1 if self.topology is Topology.SINGLE else 2

    def acq(self, changes: Json | None = None) -> Json:
        """Receiver defaults for control and receiver alike, as BLISS and the shell send them; small quick frames."""
        quick = {"acq.expo_time": 500, "acq.latency_time": 0, "acq.nb_frames": 20}
        dynamic = {"det.dispatch_mode": "predictive_random"} if self.topology is Topology.DYNAMIC else {}
        return put(self.services.acquisition.default_params()[1], quick | SMALL | CHANGING | dynamic | (changes or {}))

    def proc(self, folder: Path | None = None, changes: Json | None = None) -> Json:
        """Parameters of the Legacy pipeline that save to `folder`; without one, nothing is saved."""
        saving: Json = {"saving.enabled": folder is not None, "saving.nb_frames_per_file": 7}
        if folder is not None:
            saving["saving.base_path"] = str(folder)
        return put(self.services.pipeline.default_params(LEGACY), saving | (changes or {}))

    def prepare(self, acq: Json, proc: Json) -> str:
        return str(self.services.acquisition.prepare(control=acq, receiver=acq, processing=proc))

    def start(self) -> None:
        self.services.acquisition.start()

    def stop(self) -> None:
        self.services.acquisition.stop()

    def reset(self) -> None:
        self.services.acquisition.reset()

    def busy(self) -> bool:
        """The conductor has not closed the run yet; `running()` says False earlier, as soon as a run has failed."""
        return str(self.services.system_state()["conductor"]) == "RUNNING"

    def wait_end(self, timeout: float = 20.0) -> None:
        wait_for(lambda: not self.busy(), timeout, "end of the acquisition")

    def run(self, acq: Json, proc: Json) -> str:
        """A whole acquisition, which must succeed without a warning."""
        identity = self.prepare(acq, proc)
        self.start()
        self.wait_end()
        self.check_success()
        return identity

    def check_success(self) -> None:
        result = self.services.acquisition.result()
        assert isinstance(result, AcquisitionSuccess), result
        assert result.warnings == []

    def check_failure(self) -> list[str]:
        """All messages of a failed run."""
        result = self.services.acquisition.result()
        assert isinstance(result, AcquisitionFailure), result
        return result.acquisition_errors + result.processing_errors

    def progress(self, channel: str | None = None) -> int:
        return self.services.pipeline.progress(channel)

    def wait_progress(self, count: int) -> None:
        wait_for(lambda: self.progress() >= count, 10, f"{count} frames processed")

    def located(self, index: int) -> bool:
        """The conductor's table knows the frame: it follows the counters by up to one poll."""
        try:
            self.services.session.get(f"/pipeline/current/lookup/frame/{index}")
        except Lima2LookupError:
            return False
        return True

    def master(self, source: str = "frame") -> np.ndarray:
        """The frames that the master file of the current run shows."""
        file, dataset = self.services.pipeline.master_files()[source]
        with h5py.File(file, "r") as h5:
            return np.asarray(h5[dataset][...])

    def rows(self, stream: str, number: int) -> np.ndarray:
        """All rows of a reduced-data stream; waits for its end."""
        return np.concatenate(list(self.services.pipeline.reduced_data(stream, number)))

    def recover(self) -> None:
        """Whatever the last test left: stopped, reset, all devices idle."""
        session = self.services
        if self.busy():
            self.stop()
            self.wait_end()
        wait_for(lambda: session.system_state()["state"] != "RUNNING", 5, "devices at rest")
        self.reset()
        assert session.system_state()["state"] == "IDLE"


def error_of(call: Any, *arguments: Any) -> Exception:
    """The exception of the client's own hierarchy with which a call is refused."""
    with pytest.raises(Exception) as caught:  # noqa: PT011  (its type is what the tests look at)
        call(*arguments)
    return caught.value
