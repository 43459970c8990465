"""A simulated Dectris detector that can be switched off and broken, a system for it, and what a client asks."""

import json
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from conducting import Conducted
from support import CONFIG, LEGACY, Json, conduct, put
from test_smx import SHAPE

from lima2_tango.cli.config import DatabaseConfig, DatabaseKind, Member, SystemConfig, Topology, load_config
from lima2_tango.cli.system import System
from lima2_tango.simulators.dectris.faults import Faults
from lima2_tango.simulators.dectris.frames import Powder
from lima2_tango.simulators.dectris.models import find_model
from lima2_tango.simulators.dectris.options import Options
from lima2_tango.simulators.dectris.server import SimulatedDetector

HERE = Path(__file__).parent
FRAMES = 12
FAI, SMX = "LimaProcessingFai", "LimaProcessingSmx"
STREAMS = {
    LEGACY: ["saving"],
    FAI: ["saving_dense", "saving_fai"],
    SMX: ["saving_dense", "saving_sparse", "saving_accumulation_corrected", "saving_accumulation_peak"],
}
SETS: dict[str, dict[str, Json]] = {
    path.stem.partition("__")[2]: json.loads(path.read_text()) for path in sorted((HERE / "bliss").glob("*.json"))
}
"""By pipeline, what BLISS sends for a detector with two thresholds (contract section 6)."""


class Detectors:
    """A detector that can be switched off, and on again at the same addresses."""

    def __init__(self) -> None:
        self._ports = (0, 0, 0)
        self.on()

    def on(self) -> None:
        port, *streams = self._ports
        options = Options(distinct=4, rate=200)
        self.now = SimulatedDetector(
            find_model("eiger2-500k"), options, port=port, stream_ports=streams, source=Powder(shape=SHAPE)
        )
        self.now.__enter__()
        self._ports = (self.now.port, *self.now.stream_ports)

    def off(self) -> None:
        self.now.__exit__()

    @contextmanager
    def faulty(self, **faults: Any) -> Generator[None]:
        self.now.set_faults(Faults(**faults))
        try:
            yield
        finally:
            self.now.set_faults(Faults())


def config(detector: SimulatedDetector) -> SystemConfig:
    """The example, with this detector and a third receiver."""
    example = load_config(CONFIG / "dectris.yaml")
    at: dict[str, Any] = {"properties": {"detector": [f"127.0.0.1:{detector.port}"]}}
    third = Member(device="id00/limareceiver/eiger3", instance="eiger_rcv3")
    changes = {
        "database": DatabaseConfig(kind=DatabaseKind.BUILTIN),
        "control": example.control.model_copy(update=at),
        "receivers": tuple(member.model_copy(update=at) for member in (*example.receivers, third)),
        "conductor": example.conductor.model_copy(update={"enabled": False}),
    }
    return example.model_copy(update=changes)


@dataclass
class Case:
    """A conductor in front of some of the receivers."""

    client: Conducted
    detectors: Detectors
    folder: Path
    runs: int = field(default=0)

    @property
    def detector(self) -> SimulatedDetector:
        return self.detectors.now

    def acq(self, **changes: Any) -> Json:
        """Of a short run of one threshold; names with `__` for dots."""
        asked = {
            "acq.nb_frames": FRAMES,
            "acq.expo_time": 1000,
            "acq.latency_time": 100,
            "det.thresholds": [{"energy": 6000.0, "enabled": True}],
            "det.stream_port": self.detector.stream_ports[0],
            "det.silence_limit": 1.0,
        }
        given = {name.replace("__", "."): value for name, value in changes.items()}
        return put(self.client.services.acquisition.default_params()[1], asked | given)

    def proc(self, name: str = LEGACY, changes: Json | None = None) -> Json:
        """Defaults; the files are in a folder of their own each time."""
        return put(self.saved_apart(self.client.services.pipeline.default_params(name), name), changes or {})

    def saved_apart(self, params: Json, name: str) -> Json:
        """Parameters of a pipeline, with a folder of their own each time."""
        self.runs += 1
        self.saved = self.folder / f"run{self.runs}"
        self.saved.mkdir()
        saving = {f"{stream}.base_path": str(self.saved) for stream in STREAMS.get(name, [])}
        saving |= {f"{stream}.filename_prefix": stream for stream in STREAMS.get(name, [])}
        return put(params, saving)

    def check(self, source: str = "frame", count: int = FRAMES, channels: int = 1) -> None:
        """The master file has each frame, exactly."""
        shown, ring = self.client.master(source), self.detector.detector.series.ring
        pixels = [[ring.pixels(index, channel) for channel in range(channels)] for index in range(count)]
        assert np.array_equal(shown, np.array(pixels)[:, 0] if channels == 1 else pixels)

    def run_again(self) -> None:
        """Whatever has happened, the next run is whole."""
        self.client.recover()
        self.client.run(self.acq(), self.proc())
        self.check()


def at(system: System, detectors: Detectors, receivers: int, folder: Path) -> Iterator[Case]:
    topology = Topology.SINGLE if receivers == 1 else Topology.DYNAMIC
    conduct(system, topology, system.config.devices[1 : 1 + receivers])
    case = Case(Conducted.of(system), detectors, folder)
    yield case
    case.client.recover()


def bliss(case: Case, name: str, changes: Json | None = None) -> tuple[Json, Json]:
    """What BLISS sends for a pipeline (acquisition, processing), with what a scan and a beamline set in it."""
    sent = SETS[name]
    processing = case.saved_apart(sent["processing"], sent["processing"]["class_name"])
    scan = {"acq.nb_frames": FRAMES, "acq.expo_time": 10_000, "det.stream_port": case.detector.stream_ports[0]}
    scan |= {"saving.enabled": True, "saving.base_path": str(case.saved), "saving.filename_prefix": "raw"}
    return put(sent["receiver"], scan), put(processing, changes or {})
