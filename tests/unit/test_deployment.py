"""What starts a system without us: containers, launchers, service files. They name things that exist."""

import configparser
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from lima2_tango.cli.config import SystemConfig, load_config

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker/compose.yaml"
SCRIPTS = [
    path
    for path in sorted((ROOT / "servers").rglob("*"))
    if path.is_file() and path.read_bytes().startswith(b"#!/usr/bin/env bash")
]
SHOW = "printf %s\\n"
"""In the place of mpiexec: prints its arguments, one a line."""


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def launch(script: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a launcher whose mpiexec only prints what it is told."""
    return subprocess.run(
        ["bash", str(script), *arguments],
        env={"PATH": os.environ["PATH"], "MPIEXEC": SHOW, "TANGO_HOST": "localhost:10000", **environment},
        capture_output=True,
        text=True,
        timeout=10,
        check=False,
    )


def ranks(script: Path, *arguments: str, **environment: str) -> list[list[str]]:
    """Arguments of each rank that a launcher asks for."""
    result = launch(script, *arguments, **environment)
    assert result.returncode == 0, result.stderr
    found: list[list[str]] = [[]]
    for word in result.stdout.split("\n")[:-1]:
        if word == ":":
            found.append([])
        else:
            found[-1].append(word)
    return found


@pytest.fixture(scope="module")
def simulator() -> SystemConfig:
    return load_config(ROOT / "config/simulator.yaml")


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))
    return dict(content["services"])


@pytest.mark.parametrize("script", SCRIPTS, ids=relative)
class TestEveryLauncher:
    def test_is_valid_bash_and_can_be_executed(self, script: Path) -> None:
        subprocess.run(["bash", "-n", str(script)], check=True, timeout=10)
        assert os.access(script, os.X_OK)

    def test_stops_at_its_first_error(self, script: Path) -> None:
        assert "\nset -euo pipefail\n" in script.read_text(encoding="utf-8")


def test_the_launchers_are_found() -> None:
    assert {path.name for path in SCRIPTS} >= {"lima2-job", "lima2-simulator", "lima2-simulator.sbatch", "lima2_tango"}


@pytest.mark.parametrize("name", ["lima2-simulator", "starter/lima2_tango"])
def test_a_launcher_runs_a_rank_for_each_instance_of_its_configuration(name: str, simulator: SystemConfig) -> None:
    arguments = ["simulator_ctl"] if name.startswith("starter") else []
    found = ranks(ROOT / "servers" / name, *arguments)
    assert [rank[:4] for rank in found] == [["-n", "1", "lima2_tango", name] for name in simulator.instances]


def test_the_environment_decides_about_logs_and_address() -> None:
    environment = {"LIMA2_LOG_LEVEL": "debug", "LIMA2_LOG_DIR": "/var/log/lima2", "LIMA2_LISTEN": "10.0.0.1"}
    for rank in ranks(ROOT / "servers/lima2-job", "one", "two", **environment):
        name = rank[3]
        logs = ["--log-level", "debug", "--log-file-path", "/var/log/lima2", "--log-file-filename", f"{name}_%N.log"]
        assert rank[4:] == [*logs, "-ORBendPoint", "giop:tcp:10.0.0.1:"]


@pytest.mark.parametrize(
    ("script", "arguments", "environment", "reason"),
    [
        ("lima2-job", [], {}, "lima2-job simulator_ctl simulator_rcv1"),
        ("lima2-job", ["--help"], {}, "TANGO_HOST"),
        ("lima2-job", ["one"], {"TANGO_HOST": ""}, "say where the Tango database is"),
        ("starter/lima2_tango", ["simulator_rcv1"], {}, "only a control instance"),
        ("starter/lima2_tango", ["unknown_ctl"], {}, "lima2-unknown"),
    ],
)
def test_a_launcher_that_cannot_start_says_why(
    script: str, arguments: list[str], environment: dict[str, str], reason: str
) -> None:
    result = launch(ROOT / "servers" / script, *arguments, **environment)
    assert result.returncode != 0
    assert reason in result.stderr
    assert not result.stdout


@pytest.mark.parametrize("unit", sorted((ROOT / "servers").glob("*.service")), ids=relative)
def test_a_service_file_keeps_up_a_system_of_the_examples(unit: Path) -> None:
    content = configparser.ConfigParser(strict=False, interpolation=None)
    content.optionxform = str  # type: ignore[assignment,method-assign]  # systemd's keys have capitals
    content.read(unit)
    program, command, config, *_ = content["Service"]["ExecStart"].split()
    assert (Path(program).name, command) == ("lima2", "up")
    assert (ROOT / "config" / Path(config.replace("%i", "simulator")).name).is_file()
    assert content["Install"]["WantedBy"]


def test_the_sbatch_file_starts_a_launcher_on_as_many_hosts_as_it_has_ranks(simulator: SystemConfig) -> None:
    text = (ROOT / "servers/lima2-simulator.sbatch").read_text(encoding="utf-8")
    assert f"#SBATCH --nodes={len(simulator.instances)}\n" in text
    (launcher,) = re.findall(r"\$SLURM_SUBMIT_DIR/(\S+)\"", text)
    assert (ROOT / launcher).is_file()


def test_docker_compose_accepts_the_file() -> None:
    program = shutil.which("docker-compose")
    if program is None:
        pytest.skip("docker-compose is not installed (apt-get install docker-compose)")
    result = subprocess.run(
        [program, "-f", str(COMPOSE), "config", "--quiet"], capture_output=True, text=True, timeout=30, check=False
    )
    assert result.returncode == 0, result.stderr


def test_only_this_computer_reaches_the_published_ports(services: dict[str, Any]) -> None:
    published = [port for service in services.values() for port in service.get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_every_container_that_stays_tells_its_health(services: dict[str, Any]) -> None:
    assert [name for name, service in services.items() if "healthcheck" not in service] == ["register"]


def test_the_containers_know_the_devices_of_the_configuration(
    services: dict[str, Any], simulator: SystemConfig
) -> None:
    assert services["conductor"]["command"][-4:] == [str(simulator.conductor.topology), *simulator.devices]
    assert services["devices"]["healthcheck"]["test"][-3:] == simulator.devices
    assert services["register"]["command"][-1] == "/opt/lima2/config/simulator.yaml"


def test_the_image_is_made_of_files_that_exist_and_are_sent() -> None:
    dockerfile = (ROOT / "docker/Dockerfile").read_text(encoding="utf-8")
    sent = set(re.findall(r"^!(.*)$", (ROOT / "docker/Dockerfile.dockerignore").read_text(encoding="utf-8"), re.M))
    copied = [
        name for line in re.findall(r"^COPY (?!--from)(.*)$", dockerfile, re.MULTILINE) for name in line.split()[:-1]
    ]
    assert copied
    assert {name for name in copied if not (ROOT / name).exists()} == set()
    assert set(copied) == sent


def test_the_image_has_the_programs_that_the_containers_run(services: dict[str, Any]) -> None:
    ours = [service["command"] for service in services.values() if service.get("image") == "lima2_tango"]
    scripts = [word for command in ours for word in command if word.startswith("/opt/lima2/")]
    assert all((ROOT / script.removeprefix("/opt/lima2/")).is_file() for script in scripts)
    assert {command[0] for command in ours} == {"python", "lima2-simulator", "lima2-conductor"}
