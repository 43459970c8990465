"""Detectors that others simulate, each in a throw-away environment of its own, made once in a run of the tests.

Which peer proves what: `tickit-devices` has REST 1.8.0, stream 2 with an image that a real EIGER2 16M sent, and the
legacy stream with another; `eiger-simulator` has REST 1.6.0 and the legacy stream, bslz4 without its 12-byte header,
and bare LZ4.
"""

import atexit
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from threading import Event, Thread

import h5py
import numpy as np
import pytest

from lima2_tango.cameras.dectris._simplon import Simplon
from lima2_tango.cli.process import Child, environment, free_port
from lima2_tango.core.errors import DetectorError

INSTALL = 300.0
"""A package index that takes longer is not to be had [s]."""
START = 30.0
LOCAL = "127.0.0.1"
# tickit-devices 0.4.1 changes what cbor2 decoded, which cbor2 6 does not allow.
TICKIT = ("tickit-devices==0.4.1", "cbor2<6")
# tickit's PUSH socket also connects to its own address, and loses the messages that it sends to itself: bound alone.
TICKIT_MAIN = """
import runpy
import aiozmq

create = aiozmq.create_zmq_stream
aiozmq.create_zmq_stream = lambda kind, connect, bind: create(kind, bind=bind)
runpy.run_module("tickit", run_name="__main__", alter_sys=True)
"""
EIGER_SIMULATOR = ("eiger-simulator==0.5.1",)


@dataclass(frozen=True, slots=True)
class Peer:
    """A simulator that runs."""

    address: str
    """HOST:PORT of its REST interface."""
    stream2: str
    """ZMQ address, or empty."""
    legacy: str
    python: Path
    """Of its environment."""


@cache
def python_with(requirements: Sequence[str]) -> Path:
    """An interpreter that has these packages from the index and nothing of ours; skips the test where it cannot be."""
    home = Path(tempfile.mkdtemp(prefix="lima2_peer_"))
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    python = home / "bin" / "python"
    commands = ([sys.executable, "-m", "venv", str(home)], [str(python), "-m", "pip", "install", "-q", *requirements])
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL, check=False)
        if done.returncode:
            pytest.skip(f"{', '.join(requirements)} cannot be installed here: {done.stderr[-300:]}")
    return python


@contextmanager
def tickit(folder: Path) -> Generator[Peer]:
    """The Eiger of `tickit-devices`."""
    rest, legacy, modern = (free_port(LOCAL) for _ in range(3))
    (folder / "tickit.yaml").write_text(
        f"- type: tickit_devices.eiger.Eiger\n  name: eiger\n  inputs: {{}}\n  host: {LOCAL}\n  port: {rest}\n"
        f"  stream_host: {LOCAL}\n  stream_legacy_port: {legacy}\n  stream_cbor_port: {modern}\n",
        encoding="utf-8",
    )
    python = python_with(TICKIT)
    command = [str(python), "-c", TICKIT_MAIN, "--log-level", "INFO", "all", str(folder / "tickit.yaml")]
    addresses = (f"tcp://{LOCAL}:{modern}", f"tcp://{LOCAL}:{legacy}")
    with _running(command, folder / "tickit.log", Peer(f"{LOCAL}:{rest}", *addresses, python)) as peer:
        ended = Event()
        nudging = Thread(target=_nudge, args=(peer.address, ended))
        nudging.start()
        try:
            yield peer
        finally:
            ended.set()
            nudging.join()


def _nudge(address: str, ended: Event) -> None:
    """tickit's scheduler forgets a wake-up that comes just as it wakes, and then exposes nothing: wake it again.

    Its detector ignores a trigger while it acquires, but wakes.
    """
    seconds = 0
    while not ended.wait(1.0):
        simplon = Simplon(address)
        with suppress(DetectorError), closing(simplon):
            seconds = seconds + 1 if simplon.state == "acquire" else 0
            if seconds >= 3:
                simplon.command("trigger", limit=1.0)


@contextmanager
def eiger_simulator(folder: Path, images: np.ndarray, compression: str) -> Generator[Peer]:
    """ALBA's simulator of 3110 columns and 3269 rows, which shows `images` [image, row, column] of uint16."""
    data = folder / "images"
    data.mkdir()
    with h5py.File(data / "master.h5", "w") as file:
        file["entry/data/data_000001"] = images
    rest, legacy = free_port(LOCAL), free_port(LOCAL)
    python = python_with(EIGER_SIMULATOR)
    command = [str(python), "-m", "eigersim.server", "--host", LOCAL, "--port", str(rest)]
    command += ["--zmq", f"tcp://{LOCAL}:{legacy}", "--dataset", str(data / "master.h5")]
    command += ["--default-compression", compression]
    peer = Peer(f"{LOCAL}:{rest}", "", f"tcp://{LOCAL}:{legacy}", python)
    with _running(command, folder / "eiger.log", peer) as found:
        yield found


@contextmanager
def _running(command: Sequence[str], log: Path, peer: Peer) -> Generator[Peer]:
    child = Child(log.stem, command, environment(), log)
    try:
        _wait(child, peer)
        yield peer
    finally:
        child.stop()


def _wait(child: Child, peer: Peer) -> None:
    """Until it answers; fails with its log."""
    deadline = time.monotonic() + START
    while time.monotonic() < deadline:
        child.check()
        simplon = Simplon(peer.address)
        try:
            assert simplon.state
            return
        except DetectorError:
            time.sleep(0.1)
        finally:
            simplon.close()
    pytest.fail(f"{child.name} did not answer within {START:g} s: {child.log.read_text()[-2000:]}")
