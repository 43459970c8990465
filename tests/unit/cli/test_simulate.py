"""`lima2 simulate dectris` as a user starts and ends it."""

import signal
import subprocess
import time

import httpx
import pytest
from typer.testing import CliRunner

from lima2_tango.cli.main import app
from lima2_tango.cli.process import environment, program

FREE = ["--port", "0", "--stream-port", "0", "--legacy-port", "0"]
BOUND = 30.0


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--model", "eiger3"], "--model"),
        (["--api-version", "2.0"], "choose one of 1.6.0"),
        (["--bit-depth", "12"], "8, 16 or 32"),
        (["--drop", "x"], "--drop"),
        (["--stall", "5"], "5:2.5"),
        (["--frames", "/nowhere.h5"], "cannot be read"),
    ],
)
def test_what_cannot_be_simulated_is_refused(options, why):
    told = CliRunner().invoke(app, ["simulate", "dectris", *FREE, *options])
    assert told.exit_code == 1
    assert why in told.output


def test_the_help_has_examples():
    told = CliRunner().invoke(app, ["simulate", "dectris", "--help"])
    assert "Example: lima2 simulate dectris" in told.output
    assert "dectris" in CliRunner().invoke(app, ["simulate", "--help"]).output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_answers_and_ends_at_once(number):
    command = [program("lima2"), "simulate", "dectris", "--model", "pilatus4-1m", *FREE]
    with subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as simulator:
        try:
            lines = [simulator.stdout.readline() for _ in range(4)]
            assert lines[0] == "Dectris PILATUS4 Si 1M, 1033 x 1080 pixels\n"
            url = lines[1].split()[-1]
            assert url.startswith("http://127.0.0.1:")
            assert httpx.get(f"{url}/detector/api/1.8.0/status/state", timeout=BOUND).json()["value"] == "na"
            begin = time.monotonic()
            simulator.send_signal(number)
            _, told = simulator.communicate(timeout=BOUND)
        finally:
            simulator.kill()
    assert simulator.returncode == 0
    assert told.endswith("ended\n")
    assert time.monotonic() - begin < BOUND
