"""How a system is started: which programs, where they listen, what they are told."""

import sys
from pathlib import Path

import pytest

from lima2_tango.cli.config import ConductorConfig, Member, SystemConfig, Topology
from lima2_tango.cli.process import LaunchError, program, tail
from lima2_tango.cli.system import System

TWO = (
    Member(device="id00/limareceiver/simulator1", instance="simulator_rcv1"),
    Member(device="id00/limareceiver/simulator2", instance="simulator_rcv2"),
)


def system(tmp_path, **changes):
    values = {"receivers": TWO, "conductor": ConductorConfig(topology=Topology.ROUND_ROBIN), **changes}
    return System(SystemConfig(**values), tmp_path)


def test_one_rank_for_each_instance_the_control_first(tmp_path):
    command = system(tmp_path)._job_command()
    ranks = " ".join(command[1:]).split(" : ")
    assert [rank.split()[:2] for rank in ranks] == [["-n", "1"]] * 3
    assert [rank.split()[3] for rank in ranks] == ["simulator_ctl", "simulator_rcv1", "simulator_rcv2"]


def test_one_instance_needs_no_launcher(tmp_path):
    alone = (Member(device="id00/limareceiver/simulator1", instance="simulator_ctl"),)
    command = system(tmp_path, receivers=alone, conductor=ConductorConfig())._job_command()
    assert Path(command[0]).name == "lima2_tango"
    assert command[1] == "simulator_ctl"


@pytest.mark.parametrize("listen", ["127.0.0.1", "127.0.0.2", "localhost", "0.0.0.0"])
def test_mpi_itself_opens_no_port_to_the_network(tmp_path, listen):
    made = system(tmp_path, listen=listen)
    assert Path(made._launcher()).name == "mpiexec.gforker"
    assert "tcp" not in made._environment()["UCX_TLS"]
    assert f"giop:tcp:{listen}:" in made._job_command()


@pytest.mark.parametrize("listen", ["203.0.113.7", "no-such-host.invalid"])
def test_an_address_of_another_machine_is_refused_with_the_remedy(tmp_path, listen):
    with pytest.raises(LaunchError, match="address of this machine"):
        system(tmp_path, listen=listen)


def test_a_launcher_can_be_named(tmp_path):
    assert Path(system(tmp_path, launcher="mpiexec")._launcher()).name == "mpiexec"


def test_every_rank_logs_to_a_file_of_its_own(tmp_path):
    text = " ".join(system(tmp_path)._job_command())
    for instance in ("simulator_ctl", "simulator_rcv1", "simulator_rcv2"):
        assert f"--log-file-filename {instance}_%N.log" in text


def test_the_ranks_know_the_database(tmp_path):
    made = system(tmp_path)
    assert made._environment()["TANGO_HOST"] == made.tango_host


def test_devices_are_named_before_anything_is_started(tmp_path):
    made = system(tmp_path)
    assert made.control == "id00/limacontrol/simulator"
    assert made.receivers == [member.device for member in TWO]
    assert made.conductor_url == f"http://127.0.0.1:{made.conductor_port}"


def test_stopping_what_was_never_started_is_safe(tmp_path):
    made = system(tmp_path)
    made.stop()
    made.stop()


def test_waiting_for_what_was_never_started_says_so(tmp_path):
    with pytest.raises(LaunchError, match=r"call start\(\) first"):
        system(tmp_path).wait_ready(0.1)


def test_a_program_that_is_not_installed_is_named():
    with pytest.raises(LaunchError, match="no-such-launcher"):
        program("no-such-launcher")


def test_programs_come_from_this_environment():
    assert program("lima2_tango").startswith(sys.prefix)


@pytest.mark.parametrize(("lines", "shown"), [(3, ["0", "1", "2"]), (40, [str(n) for n in range(25, 40)])])
def test_an_error_shows_the_end_of_the_log(tmp_path, lines, shown):
    log = tmp_path / "job.log"
    log.write_text("\n".join(str(n) for n in range(lines)))
    assert tail(log).splitlines()[1:] == shown
    assert str(log) in tail(log)
