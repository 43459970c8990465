"""A running system as a client drives it: with plain PyTango in the place of the conductor, or through it."""

import copy
import json
import uuid
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import jsonschema_default
import numpy as np
import pytest
import tango
from watching import EventLog, wait_for

from lima2_tango.cli.config import ConductorConfig, DatabaseConfig, DatabaseKind, Topology, load_config
from lima2_tango.cli.system import System
from lima2_tango.control.parameters import pipelines
from lima2_tango.core.state import State

Json = dict[str, Any]

CONFIG = Path(__file__).parents[2] / "config"
LEGACY = "LimaProcessingLegacy"
FAILING = "LimaProcessingFailing"
CLASSES = sorted(pipelines())
"""Tango classes of the pipelines that the server has."""
FAST = {"acq.expo_time": 100, "acq.latency_time": 0}
SMALL = {"img.roi": {"topleft": {"x": 992, "y": 960}, "dimensions": {"x": 64, "y": 96}}}
"""A region around the simulator's default peak: columns differ from rows, frames take no time to write."""

STATISTICS = [("min", "<f4"), ("max", "<f4"), ("avg", "<f4"), ("std", "<f4"), ("sum", "<f8")]
ROW = np.dtype([("frame_idx", "<i4"), ("recv_idx", "<i4"), *STATISTICS])
INDEX_ROW = np.dtype([("recv_idx", "<i4"), ("frame_idx", "<i4")])


@contextmanager
def launched(
    folder: Path, name: str, kind: DatabaseKind = DatabaseKind.BUILTIN, conductor: bool = False, launcher: str = ""
) -> Generator[System, None, None]:
    """The system of `config/<name>.yaml` on a database of its own, answering."""
    config = load_config(CONFIG / f"{name}.yaml")
    changes = {
        "database": DatabaseConfig(kind=kind),
        "launcher": launcher,
        "conductor": config.conductor.model_copy(update={"enabled": conductor}),
    }
    with System(config.model_copy(update=changes), folder) as system:
        system.wait_ready()
        yield system


def conduct(system: System, topology: Topology, receivers: Sequence[str]) -> None:
    """Give the running devices a new conductor, which uses only some of the receivers."""
    system.stop_conductor()
    conductor = ConductorConfig(topology=topology)
    system.config = system.config.model_copy(update={"conductor": conductor})
    system.receivers = list(receivers)
    system.start_conductor()
    system.wait_ready()


def put(params: Json, changes: Json) -> Json:
    """A copy of `params` with each `a.b.c` of `changes` set."""
    result = copy.deepcopy(params)
    for path, value in changes.items():
        *steps, last = path.split(".")
        node = result
        for step in steps:
            node = node.setdefault(step, {})
        node[last] = copy.deepcopy(value)
    return result


def lima_error(error: tango.DevFailed) -> str:
    """The sentence of a Tango error; fails unless clients can take it apart (contract section 5.1)."""
    assert len(error.args) == 2, [entry.reason for entry in error.args]
    assert error.args[0].reason == "LIMA_Exception"
    return payload_sentence(error.args[0].desc)


def payload_sentence(text: str) -> str:
    payload = json.loads(text)
    assert isinstance(payload["errinfo"], dict)
    assert payload["what"]
    return str(payload["what"])


def refused(call: Any, *arguments: Any) -> str:
    """The sentence with which a call is refused; fails where it is not refused."""
    with pytest.raises(tango.DevFailed) as caught:
        call(*arguments)
    return lima_error(caught.value)


def explained(call: Any, *arguments: Any) -> str:
    """Like `refused`, for a refusal from inside a command: PyTango adds an entry after ours (contract section 5.2)."""
    with pytest.raises(tango.DevFailed) as caught:
        call(*arguments)
    assert caught.value.args[0].reason == "LIMA_Exception"
    return payload_sentence(caught.value.args[0].desc)


class Rig:
    """The devices of one system, driven in the conductor's order of calls (contract section 11.1)."""

    def __init__(self, tango_host: str, control: str, receivers: Sequence[str]) -> None:
        self.tango_host = tango_host
        host, port = tango_host.split(":")
        self.db = tango.Database(host, int(port))
        self.control = self.device(control)
        self.receivers = [self.device(name) for name in receivers]
        self.uuid = ""

    def device(self, name: str) -> tango.DeviceProxy:
        """A proxy as patient as the conductor's: the first Prepare may wait for kernels to compile."""
        device = tango.DeviceProxy(f"tango://{self.tango_host}/{name}")
        device.set_timeout_millis(30_000)
        return device

    @property
    def devices(self) -> list[tango.DeviceProxy]:
        return [self.control, *self.receivers]

    def schema(self, name: str, attribute: str) -> str:
        """Text of the schema that the server wrote to the database for this class."""
        found = self.db.get_class_attribute_property(name, attribute)
        return str(found[attribute]["schema"][0])

    def acq(self, changes: Json | None = None) -> Json:
        name = self.db.get_device_info(self.receivers[0].dev_name()).class_name
        return put(jsonschema_default.create_from(self.schema(name, "acq_params")), changes or {})

    def proc(self, changes: Json | None = None, name: str = LEGACY) -> Json:
        return put(jsonschema_default.create_from(self.schema(name, "proc_params")), changes or {})

    def legacy(self, folder: Path | None = None, changes: Json | None = None) -> Json:
        """Parameters of the Legacy pipeline that save to `folder`; without one, nothing is saved."""
        saving: Json = {"saving.enabled": folder is not None}
        if folder is not None:
            saving["saving.base_path"] = str(folder)
        return self.proc(saving | (changes or {}))

    def prepare(self, acq: Json, proc: Json) -> str:
        """Parameters and Prepare on all devices at once; raises the first refusal, after all have answered."""
        self.uuid = str(uuid.uuid1())
        jobs = [partial(self._prepare_control, acq)]
        for rank, receiver in enumerate(self.receivers):
            jobs.append(partial(self._prepare_receiver, receiver, acq, ranked(proc, rank)))
        at_once(jobs)
        return self.uuid

    def _prepare_control(self, acq: Json) -> None:
        self.control.write_attribute("acq_params", as_bytes(acq))
        self.control.command_inout("Prepare", self.uuid)

    def _prepare_receiver(self, receiver: tango.DeviceProxy, acq: Json, proc: Json) -> None:
        receiver.ping()
        receiver.write_attribute("acq_params", as_bytes(acq))
        receiver.write_attribute("proc_params", as_bytes(proc))
        receiver.command_inout("Prepare", self.uuid)

    def on_all(self, command: str) -> None:
        at_once([partial(device.command_inout, command) for device in self.devices])

    def start(self) -> None:
        self.on_all("Start")

    def stop(self) -> None:
        self.on_all("Stop")

    def reset(self) -> None:
        self.on_all("Reset")

    def close(self) -> None:
        self.control.command_inout("Close")

    def trigger(self) -> None:
        self.control.command_inout("Trigger")

    def states(self) -> list[State]:
        return [State(int(device.read_attribute("acq_state").value)) for device in self.devices]

    def wait_receivers(self, state: State, timeout: float = 10.0) -> None:
        wait_for(lambda: set(self.states()[1:]) == {state}, timeout, f"receivers {state.label}")

    def processing_names(self, identity: str = "") -> list[str]:
        found = self.db.get_device_exported(f"*/limaprocessing/{identity or self.uuid}*")
        return sorted(found, key=lambda name: int(name.split("@")[1]))

    def processing(self, identity: str = "") -> list[tango.DeviceProxy]:
        return [self.device(name) for name in self.processing_names(identity)]

    def counters(self) -> list[Json]:
        return [json.loads(device.read_attribute("progress_counters").value) for device in self.processing()]

    def xferred(self) -> list[int]:
        return [int(receiver.read_attribute("nb_frames_xferred").value) for receiver in self.receivers]

    def wait_counted(self, counter: str, total: int, timeout: float = 10.0) -> None:
        """Wait until the sum of a counter over all receivers reaches `total`."""
        wait_for(lambda: sum(c[counter] for c in self.counters()) >= total, timeout, f"{counter} >= {total}")

    def run(self, acq: Json, proc: Json, timeout: float = 20.0) -> str:
        """A whole run, until the processing is done too; returns its uuid."""
        self.prepare(acq, proc)
        with EventLog(self.processing()) as events:
            self.start()
            self.wait_receivers(State.IDLE, timeout)
            wait_for(events.finished, timeout, "is_finished")
        self.close()
        return self.uuid

    def recover(self) -> None:
        """Whatever the last test left: stopped, reset and without pipelines."""
        self.stop()
        self.reset()
        for receiver in self.receivers:
            for identity in receiver.read_attribute("pipelines").value or ():
                receiver.command_inout("erasePipeline", identity)


def ranked(proc: Json, rank: int) -> Json:
    """One receiver's copy of the processing parameters (contract section 6.6)."""
    changes = {f"{name}.filename_rank": rank for name in proc if name.startswith("saving")}
    return put(proc, changes)


def as_bytes(params: Json) -> bytes:
    return json.dumps(params, ensure_ascii=False, separators=(",", ":")).encode()


def at_once(jobs: Sequence[Callable[[], Any]]) -> None:
    """Call all at the same time; raises the first one's error after all have ended."""
    with ThreadPoolExecutor(len(jobs)) as pool:
        futures = [pool.submit(job) for job in jobs]
    for future in futures:
        future.result()


def rows(answer: tuple[str, bytes], dtype: np.dtype) -> np.ndarray:
    """Rows of a `pop` answer (contract section 7.4)."""
    kind, raw = answer
    assert kind == "STRUCTURED_ARRAY"
    return np.frombuffer(raw[64:], dtype)
