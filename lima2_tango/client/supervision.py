"""A running system as who keeps it running must see it: who answers, what a death has left, how a run is ended."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Lock, Thread
from typing import TypeVar

import psutil
import tango

from lima2_tango.control.runlog import RunState
from lima2_tango.core.state import State

from .database import database_at
from .device import write_attribute
from .errors import TIMED_OUT, from_dev_failed, sentence
from .proxies import bounded

PROXY_TIMEOUT = 1000
"""Longest wait for one answer of a device [ms]."""
POLL = 0.05
"""Between two questions [s]."""
COUNTERS = ("nb_frames_acquired", "nb_frames_xferred")
"""Of a control, of a receiver."""
_CONNECTING = Lock()
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Reading:
    """What a device says of itself."""

    device: str
    answers: bool = False
    state: str = ""
    """acq_state"""
    frames: int | None = None
    """Acquired by all (control) or received (receiver) in the current or last run."""
    error: str = ""
    """Its last error, or why it does not answer; empty without one."""


def read_devices(tango_host: str, names: Sequence[str], timeout_s: float) -> list[Reading]:
    """All devices at the same time; who has not answered after `timeout_s` does not answer."""
    answers = at_once([partial(_read, tango_host, name) for name in names], timeout_s)
    silent = f"no answer within {timeout_s:g} s"
    return [answer or Reading(name, error=silent) for name, answer in zip(names, answers, strict=True)]


def database_answers(tango_host: str, timeout_s: float) -> bool:
    """A Tango database is there; what else listens on that port may keep Tango waiting for long, but not us."""

    def ask() -> bool:
        try:
            database_at(tango_host).get_info()
        except tango.DevFailed:
            return False
        return True

    return at_once([ask], timeout_s) == [True]


def at_once(calls: Sequence[Callable[[], Answer]], timeout_s: float) -> list[Answer | None]:
    """What each call returns, None for one that has not after `timeout_s`."""
    found: dict[int, Answer] = {}

    def ask(number: int, call: Callable[[], Answer]) -> None:
        found[number] = call()

    # Daemons: a thread that hangs in a call must not keep the program.
    threads = [Thread(target=ask, args=entry, daemon=True) for entry in enumerate(calls)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + timeout_s
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return [found.get(number) for number in range(len(calls))]


def running_instances(tango_host: str, servers: Sequence[str], timeout_s: float) -> dict[str, str]:
    """Those of `program/instance` that run already, as the database and their own answer say: where each runs."""
    found = _running(tango_host, [f"dserver/{server}" for server in servers], timeout_s)
    return {server: f"process {info.pid}" for server, info in zip(servers, found, strict=True) if info}


def served_elsewhere(
    tango_host: str, devices: Sequence[str], servers: Sequence[str], timeout_s: float
) -> dict[str, str]:
    """Devices that run, but in other servers than these `program/instance`: by which server, in which process."""
    ours = {server.lower() for server in servers}
    found = _running(tango_host, devices, timeout_s)
    return {
        name: f"{info.ds_full_name} (process {info.pid})"
        for name, info in zip(devices, found, strict=True)
        if info and info.ds_full_name.lower() not in ours
    }


def _running(tango_host: str, names: Sequence[str], timeout_s: float) -> "list[tango.DbDevFullInfo | None]":
    """What the database knows of each device whose server runs; None where none does.

    One that is frozen runs: it takes the question and keeps it, or it is a process of this computer.
    """
    (known,) = at_once([lambda: [_exported(tango_host, name) for name in names]], timeout_s)
    infos = known or [None] * len(names)
    asked = [partial(_takes_ping, tango_host, info.name) if info else lambda: False for info in infos]
    answers = at_once(asked, timeout_s)
    return [
        info if info and (answer or (answer is None and _is_here(info))) else None
        for info, answer in zip(infos, answers, strict=True)
    ]


def _exported(tango_host: str, name: str) -> tango.DbDevFullInfo | None:
    try:
        info = database_at(tango_host).get_device_info(name)
    except tango.DevFailed:  # not defined
        return None
    return info if info.exported else None


def _takes_ping(tango_host: str, name: str) -> bool:
    """Without the lock of `_proxy`, which one that is frozen would hold; the database was asked before."""
    try:
        tango.DeviceProxy(f"tango://{tango_host}/{name}").ping()
    except tango.DevFailed as error:
        return any(entry.reason == TIMED_OUT for entry in error.args)
    return True


def _is_here(info: tango.DbDevFullInfo) -> bool:
    """The process is one of this computer, and the server that the database knows."""
    try:
        words = psutil.Process(info.pid).cmdline()
    except psutil.Error:
        return False
    program, _, instance = info.ds_full_name.partition("/")
    return instance in words and any(Path(word).name == program for word in words)


def unexport(tango_host: str, servers: Sequence[str]) -> None:
    """Clients are told that the devices of dead servers do not run, and need not find out."""
    try:
        database = database_at(tango_host)
        for server in servers:
            database.unexport_server(server)
    except tango.DevFailed:  # it is down too: the next start exports anew
        return


def write_parameters(tango_host: str, control: str, acq: str, proc: str) -> str:
    """Write JSON parameters to the control, those that are not empty; returns the refusal, or an empty text."""
    try:
        proxy = _proxy(tango_host, control)
        for attribute, text in (("acq_params", acq), ("proc_params", proc)):
            if text:
                write_attribute(proxy, attribute, text)
    except tango.DevFailed as error:
        return str(from_dev_failed(error, control, "write parameters"))
    return ""


def stop_run(tango_host: str, control: str, servers: Sequence[str], timeout_s: float) -> str:
    """End the run that is on, and wait until the data of the last one are complete; what happened, or an empty text.

    `servers` are those of the system, as `program/instance`: what other systems process is theirs.
    """
    try:
        proxy = _proxy(tango_host, control)
        state = State(int(proxy.read_attribute("acq_state").value))
        if state is State.RUNNING:
            proxy.command_inout("Stop")
        elif state is State.PREPARED or _is_over(tango_host, proxy, servers):
            return ""
    except tango.DevFailed as error:
        return f"the run could not be stopped: {from_dev_failed(error, control, 'stop the run')}"
    what = "stopped the run" if state is State.RUNNING else "waited for the last run"
    if _until(lambda: _is_over(tango_host, proxy, servers), timeout_s):
        return f"{what}, its data are complete"
    return f"{what}, whose data were not complete within {timeout_s:g} s"


def _is_over(tango_host: str, control: tango.DeviceProxy, servers: Sequence[str]) -> bool:
    """Nothing is acquired, processed or written any more."""
    if State(int(control.read_attribute("acq_state").value)) is State.RUNNING or _follows(control):
        return False
    return all(_finished(tango_host, name) for name in processing_devices(tango_host, servers))


def processing_devices(tango_host: str, servers: Sequence[str]) -> list[str]:
    """Processing devices that these servers export."""
    database = database_at(tango_host)
    ours = {server.lower() for server in servers}
    return [
        name
        for name in database.get_device_exported("*/limaprocessing/*")
        if _server_of(database, name).lower() in ours
    ]


def _server_of(database: tango.Database, name: str) -> str:
    """`program/instance` of a device; empty for one that was erased meanwhile."""
    try:
        return str(database.get_device_info(name).ds_full_name)
    except tango.DevFailed:
        return ""


def _follows(control: tango.DeviceProxy) -> bool:
    """The control drives, and has still to write the master file of a run."""
    (runs,) = control.read_attributes(["runs"])
    return not runs.has_failed and any(_is_busy(RunState(json.loads(run)["state"])) for run in runs.value or ())


def _is_busy(state: RunState) -> bool:
    """Files of such a run are not complete."""
    return not state.over and state is not RunState.PREPARED


def _finished(tango_host: str, name: str) -> bool:
    try:
        return bool(_proxy(tango_host, name).read_attribute("is_finished").value)
    except tango.DevFailed:  # erased meanwhile, or left by a killed server
        return True


def _until(condition: Callable[[], bool], timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            if condition():
                return True
        except tango.DevFailed:
            return False
        time.sleep(POLL)
    return False


def _read(tango_host: str, name: str) -> Reading:
    try:
        proxy = _proxy(tango_host, name)
        state = State(int(proxy.read_attribute("acq_state").value))
        values = {found.name: found for found in proxy.read_attributes([*COUNTERS, "last_error"])}
    except tango.DevFailed as error:
        return Reading(name, error=str(from_dev_failed(error, name, "read acq_state")))
    frames = next((int(values[key].value) for key in COUNTERS if not values[key].has_failed), None)
    last = values["last_error"]
    return Reading(name, True, state.label, frames, "" if last.has_failed else sentence(str(last.value)))


def _proxy(tango_host: str, name: str) -> tango.DeviceProxy:
    """A new one each time, as one that failed refuses to try again for a second."""
    # Two threads that are the first to connect to a database: Tango refuses one of them.
    with _CONNECTING:
        proxy = tango.DeviceProxy(f"tango://{tango_host}/{name}")
    return bounded(proxy, PROXY_TIMEOUT)
