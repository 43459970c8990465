"""A simulated beamline beside a running system: the worked examples, and what a mistake is answered with."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import tango
from support import CONFIG, explained, refused
from watching import wait_for

from lima2_tango.cli.config import load_config
from lima2_tango.cli.process import environment, program
from lima2_tango.cli.system import System
from lima2_tango.client import RunState, connect
from lima2_tango.client.files import open_run

EXAMPLES = Path(__file__).parents[2] / "docs/examples/beamline"
TUTORIAL = Path(__file__).parents[2] / "docs/tutorials/scan.md"
TIMEOUT = 60
Device = Callable[[str], tango.DeviceProxy]


def free_udp_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def simulated(log: Path, *arguments: str) -> Generator[subprocess.Popen[bytes]]:
    """`lima2 simulate beamline`, answering; ended as Ctrl-C ends it."""
    with log.open("wb") as output:
        command = [program("lima2"), "simulate", "beamline", *arguments]
        process = subprocess.Popen(command, env=environment(), stdout=output, stderr=subprocess.STDOUT)
    try:
        wait_for(lambda: "wire" in log.read_text() or process.poll() is not None, 20, "the beamline")
        assert process.poll() is None, log.read_text()
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0, log.read_text()


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """That of config/beamline.yaml, but for the port of its trigger input, and the beamline beside it."""
    config = load_config(CONFIG / "beamline.yaml")
    port = free_udp_port()
    config.acq_params["det"]["trigger_port"] = port
    folder = tmp_path_factory.mktemp("beamline")
    with System(config, folder) as running:
        running.wait_ready()
        place = ["--tango-host", running.tango_host, "--control", running.control, "--wire-port", str(port)]
        with simulated(folder / "beamline.log", *place, "--seed", "1"):
            with connect(running.control, running.tango_host) as lima:
                lima.replace(acq=config.acq_params)  # as lima2 up does
            yield running


@pytest.fixture
def device(system: System) -> Device:
    return lambda name: tango.DeviceProxy(f"tango://{system.tango_host}/id00/beamline/{name}")


@pytest.fixture
def example(system: System, tmp_path: Path) -> Callable[[str], str]:
    """Runs an example as a user does; returns what it prints."""

    def run(name: str) -> str:
        command = [sys.executable, str(EXAMPLES / name), system.control, str(tmp_path)]
        there = {**os.environ, "TANGO_HOST": system.tango_host}
        done = subprocess.run(command, env=there, capture_output=True, text=True, timeout=TIMEOUT, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def test_a_step_scan_has_one_frame_a_point_and_its_position_in_the_file(
    example: Callable[[str], str], system: System, tmp_path: Path
) -> None:
    printed = example("step_scan.py")
    assert printed in TUTORIAL.read_text()
    with open_run(tmp_path / "step_scan_master.h5") as run:
        assert run.index.tolist() == list(range(9))
        assert run.positions()["motor"] == pytest.approx(np.linspace(-2, 2, 9))
        means = run.array().mean(axis=(1, 2))
    assert (np.diff(means) > 0).all(), "each frame is another one"
    with connect(system.control, system.tango_host) as lima:
        assert (lima.runs()[0].state, lima.runs()[0].nb_frames) == (RunState.DONE, 9)


def test_a_fly_scan_has_one_frame_a_trigger_and_its_position_in_the_file(
    example: Callable[[str], str], device: Device, tmp_path: Path
) -> None:
    assert "21 frames from -2.0 to 2.0 mm" in example("fly_scan.py")
    due = -2 + 0.2 * np.arange(21)
    with open_run(tmp_path / "fly_scan_master.h5") as run:
        assert run.index.tolist() == list(range(21))
        places = run.positions()["motor"]
    assert (places >= due - 1e-9).all(), "no pulse comes before its place"
    assert (np.diff(places) > 0).all()
    counts = device("trigger").counts
    peak = int(np.argmax(counts))
    assert abs(places[peak]) < 0.5, "the beam is brightest at 0"
    assert counts[0] < counts[peak] / 2


def test_the_shutter_follows_hand_frames_and_runs(example: Callable[[str], str]) -> None:
    assert example("shutter.py") == (
        "manual: open, and the monitor sees the beam: True\n"
        "auto_frame: opened 3 times for 3 frames; open now: False\n"
        "auto_sequence: opened 1 time for 10 frames; open now: False\n"
    )


def test_what_cannot_be_is_refused_with_a_sentence(device: Device) -> None:
    motor, shutter, trigger, monitor = map(device, ("motor", "shutter", "trigger", "monitor"))
    assert "the limits are -100 and 100" in refused(motor.write_attribute, "position", 101.0)
    assert "more than 0" in refused(motor.write_attribute, "velocity", 0.0)
    assert "the lowest and the highest" in refused(motor.write_attribute, "limits", [1.0])
    assert "choose manual, auto_frame, auto_sequence" in refused(shutter.write_attribute, "mode", "bulb")
    shutter.mode = "auto_frame"
    assert "set mode manual" in explained(shutter.command_inout, "Open")
    shutter.mode = "manual"
    trigger.count = 0
    assert "give 1 to" in explained(trigger.command_inout, "Arm")
    assert "1 to 65535" in refused(trigger.write_attribute, "wire_port", 70_000)
    assert "more than 0" in refused(monitor.write_attribute, "integration_time", 0.0)


def test_a_motor_is_stopped_on_its_way(device: Device) -> None:
    motor = device("motor")
    motor.velocity = 1
    motor.position = 100
    assert motor.state() == tango.DevState.MOVING
    assert "wait until it is there" in refused(motor.write_attribute, "position", 0.0)
    motor.Stop()
    assert motor.state() == tango.DevState.ON
    assert motor.position == motor.target < 100


def test_a_trigger_source_is_disarmed(device: Device) -> None:
    trigger = device("trigger")
    trigger.start, trigger.step, trigger.count = 0.0, 1.0, 5
    trigger.Arm()
    assert trigger.state() == tango.DevState.MOVING
    assert "0 of 5 pulses" in explained(trigger.command_inout, "Arm")
    trigger.Disarm()
    assert (trigger.state(), trigger.nb_pulses) == (tango.DevState.ON, 0)


def test_units_are_told_to_generic_clients(device: Device) -> None:
    assert device("motor").get_attribute_config("position").unit == "mm"
    assert device("monitor").get_attribute_config("rate").unit == "1/s"


def test_a_second_beamline_of_these_names_is_refused(system: System) -> None:
    command = [program("lima2"), "simulate", "beamline", "--tango-host", system.tango_host]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert done.returncode == 1
    assert "runs already" in done.stderr
    assert "Traceback" not in done.stderr
