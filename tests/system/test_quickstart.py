"""The quick start of the client's README, word for word from the Tango database on."""

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
import requests
import yaml
from support import CONFIG
from watching import wait_for

from lima2_tango.cli.config import load_config
from lima2_tango.cli.process import Child

BINARIES = Path(sys.executable).parent
DATABASE_PORT, CONDUCTOR_PORT = 10000, 58712
DATABASE = "NosqlTangoDB --port 10000 --db_access yaml:tests/integration/tango_db/ 2"
DEVICES = """mpiexec -n 1 lima2_tango simulator_ctl : \
        -n 1 lima2_tango simulator_rcv1 : \
        -n 1 lima2_tango simulator_rcv2"""
CONDUCTOR = """lima2-conductor start \
                localhost:10000 \
                round_robin \
                id00/limacontrol/simulator \
                id00/limareceiver/simulator1 \
                id00/limareceiver/simulator2"""
START_TIMEOUT = 60  # s: four interpreters start at once, on two cores that may be busy
SESSION = """run_acquisition(nb_frames=120, expo_time=0.02)  # Should take 2.4 seconds
import time; begin = time.time()
while pipeline.running() and time.time() - begin < 10: pass

print("took", round(time.time() - begin, 1))
pipeline.progress()
"""


def taken(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free(port: int) -> bool:
    """Also of connections: the port is among those that clients are given, and one may still have it."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", port))
        except OSError:
            return False
    return True


def write_database(folder: Path) -> None:
    """One YAML file for each server instance, as NosqlTangoDB reads them."""
    config = load_config(CONFIG / "simulator.yaml")
    folder.mkdir(parents=True)
    for entry in config.entries():
        server, instance = entry.server.split("/")
        device = {"class": entry.device_class, "tango_name": entry.name}
        content = {"personal_name": instance, "server": server, "device": [device]}
        (folder / f"{instance}.yaml").write_text(yaml.safe_dump(content))


@pytest.fixture
def quickstart(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The README's three programs; the environment to run the shell in."""
    for port in (DATABASE_PORT, CONDUCTOR_PORT):
        if taken(port):
            pytest.skip(f"the README's port {port} is in use on this machine")
        wait_for(partial(free, port), START_TIMEOUT, f"the README's port {port} is free")
    write_database(tmp_path / "tests/integration/tango_db")
    environment = dict(
        os.environ,
        PATH=f"{BINARIES}:{os.environ['PATH']}",
        TANGO_HOST="localhost:10000",
        HOME=str(tmp_path),
        IPYTHONDIR=str(tmp_path / "ipython"),
        OMPI_ALLOW_RUN_AS_ROOT="1",
        OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1",
    )
    with ExitStack() as stack:
        for name, line in {"database": DATABASE, "devices": DEVICES, "conductor": CONDUCTOR}.items():
            command = ["bash", "-c", f"cd {tmp_path} && exec {' '.join(line.split())}"]
            child = Child(name, command, environment, tmp_path / f"{name}.log")
            stack.callback(child.stop)
            if name == "database":
                wait_for(lambda: taken(DATABASE_PORT), 10, "the database listens")
        try:
            wait_for(system_is_idle, START_TIMEOUT, "the system is idle")
        except AssertionError as late:
            late.add_note(logs_in(tmp_path))
            raise
        yield environment


def logs_in(folder: Path) -> str:
    """What the three programs printed, for the one who reads the failure."""
    return "\n".join(f"--- {log.name}\n{log.read_text(errors='replace')[-2000:]}" for log in folder.glob("*.log"))


def system_is_idle() -> bool:
    try:
        return bool(requests.get(f"http://localhost:{CONDUCTOR_PORT}/state", timeout=5).json()["state"] == "IDLE")
    except requests.ConnectionError:
        return False


def test_the_quick_start_of_the_client_works_word_for_word(quickstart: dict[str, str], tmp_path: Path) -> None:
    shell = shutil.which("lima2-shell", path=quickstart["PATH"])
    assert shell
    done = subprocess.run(
        [shell], input=SESSION, env=quickstart, cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert re.search(r"^Out\[\d+\]: 120$|: 120\s*$", done.stdout, re.MULTILINE), done.stdout + done.stderr
    (seconds,) = re.findall(r"took ([\d.]+)", done.stdout)
    assert 2.0 <= float(seconds) <= 3.6
    assert "Traceback" not in done.stdout
