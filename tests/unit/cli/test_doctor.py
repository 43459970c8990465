"""What `lima2 doctor` finds, on a computer as it is and on one that is not ready."""

import json
import os
import socket
from collections import namedtuple
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from lima2_tango.cli import hostchecks
from lima2_tango.cli.hostchecks import Asked, Verdict, look
from lima2_tango.cli.main import app

GIB = 1 << 30
Stats = namedtuple("Stats", "isup speed mtu flags")
GOOD_NETWORK = {"eth0": Stats(True, 25_000, 9000, "up,running")}


@pytest.fixture
def host(monkeypatch):
    """A computer that is ready; tests spoil parts of it."""

    def spoil(cores=8, load=0.1, free=64 * GIB, networks=GOOD_NETWORK, rate=2e9, clock="yes"):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(cores))
        monkeypatch.setattr(os, "getloadavg", lambda: (load, 0, 0))
        monkeypatch.setattr(hostchecks.psutil, "virtual_memory", lambda: SimpleNamespace(available=free))
        monkeypatch.setattr(hostchecks.psutil, "disk_usage", lambda _: SimpleNamespace(free=free))
        monkeypatch.setattr(hostchecks.psutil, "swap_memory", lambda: SimpleNamespace(total=GIB, used=0))
        monkeypatch.setattr(hostchecks.psutil, "net_if_stats", lambda: networks)
        monkeypatch.setattr(hostchecks, "_written", lambda _: rate)
        answer = SimpleNamespace(stdout=f"{clock}\n")
        monkeypatch.setattr(hostchecks.subprocess, "run", lambda *_, **__: answer)

    spoil()
    return spoil


def found(asked=None):
    return {finding.what.split(" ")[0]: finding for finding in look(asked or Asked()) if "net." not in finding.what}


def test_a_computer_that_is_ready_needs_nothing(host):
    assert {finding.verdict for finding in found().values()} == {Verdict.GOOD}
    assert not any(finding.advice for finding in found().values())


@pytest.mark.parametrize(
    ("spoilt", "what", "advice"),
    [
        ({"cores": 1}, "cores", "2 cores"),
        ({"load": 20.0}, "load", "Others use the cores"),
        ({"free": GIB}, "free", "memory_budget"),
        ({"rate": 1e8}, "disk", "500 MB/s"),
        ({"clock": "no"}, "clock", "NTP or PTP"),
        ({"networks": {"eth0": Stats(True, 10_000, 1500, "up")}}, "network", "mtu 9000"),
    ],
)
def test_what_is_not_ready_is_said_with_its_remedy(host, spoilt, what, advice):
    host(**spoilt)
    finding = found()[what]
    assert finding.verdict is Verdict.CHANGE
    assert advice in finding.advice
    assert finding.advice.endswith(".") or finding.advice.endswith(").")


def test_each_receiver_counts(host):
    assert found(Asked(receivers=4))["cores"].verdict is Verdict.GOOD
    assert found(Asked(receivers=5))["cores"].verdict is Verdict.CHANGE


@pytest.mark.parametrize(
    ("interface", "advice"),
    [("eth0", "jumbo"), ("eth1", "up"), ("eth2", "10 Gbit/s"), ("eth9", "no such interface; have: eth0, eth1, eth2")],
)
def test_the_detector_s_network_is_looked_at_more_closely(host, interface, advice):
    networks = {
        "eth0": Stats(True, 0, 1500, "up"),
        "eth1": Stats(False, 0, 9000, ""),
        "eth2": Stats(True, 1000, 9000, ""),
    }
    host(networks=networks)
    findings = [finding for finding in look(Asked(interface=interface)) if interface in finding.what]
    assert any(advice in finding.advice for finding in findings)


def test_a_clock_that_nobody_asks_about_is_unknown(host):
    host(clock="")
    assert found()["clock"].verdict is Verdict.UNKNOWN


def test_settings_of_the_kernel_are_read_or_not_to_be_read(monkeypatch):
    monkeypatch.setattr(hostchecks, "SETTINGS", {"kernel.pid_max": 1, "kernel.threads-max": 1 << 62, "net.none": 1})
    verdicts = {finding.what: finding.verdict for finding in look(Asked())}
    assert verdicts["kernel.pid_max"] is Verdict.GOOD
    assert verdicts["kernel.threads-max"] is Verdict.CHANGE
    assert verdicts["net.none"] is Verdict.UNKNOWN


def test_a_detector_answers_or_not(host):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert found(Asked(detector=f"127.0.0.1:{port}"))["detector"].verdict is Verdict.GOOD
    finding = found(Asked(detector=f"127.0.0.1:{port}"))["detector"]
    assert finding.verdict is Verdict.CHANGE
    assert "does not answer" in finding.advice
    assert found(Asked(detector="127.0.0.1:nonsense"))["detector"].verdict is Verdict.CHANGE


def test_the_disk_is_tried_and_left_as_it_was(tmp_path):
    (finding,) = [finding for finding in look(Asked(folder=tmp_path)) if finding.what.startswith("disk")]
    assert "B/s" in finding.found
    assert list(tmp_path.iterdir()) == []
    (finding,) = [finding for finding in look(Asked(folder=tmp_path / "none")) if finding.what.startswith("disk")]
    assert finding.verdict is Verdict.CHANGE
    assert "--folder" in finding.advice


@pytest.mark.parametrize(("rate", "code"), [(2e9, 0), (1e6, 1)])
def test_the_command_prints_sentences_or_json(host, rate, code, monkeypatch):
    host(rate=rate)
    monkeypatch.setattr(hostchecks, "SETTINGS", {})
    told = CliRunner().invoke(app, ["doctor"])
    assert told.exit_code == code
    assert "cores" in told.stdout
    assert ("Save to a disk" in told.stdout) is bool(code)
    told = CliRunner().invoke(app, ["doctor", "--json"])
    assert told.exit_code == code
    findings = json.loads(told.stdout)
    assert {"what", "found", "verdict", "advice"} == set(findings[0])
