"""What the README says of the code is so."""

import re
import tomllib

import pytest
from pages import ROOT

from lima2_tango.cli.config import Topology, load_config

TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
FOLDERS = sorted(path.parent.name for path in (ROOT / "lima2_tango").glob("*/__init__.py"))


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_folder_of_the_package_is_on_the_map(folder: str) -> None:
    assert f"| `lima2_tango/{folder}/` |" in TEXT


def test_the_map_has_no_folder_that_does_not_exist() -> None:
    named = re.findall(r"^\| (`[^|]*/`) \|", TEXT, re.MULTILINE)
    folders = [folder for cell in named for folder in re.findall(r"`([^`]+)/`", cell)]
    assert [folder for folder in folders if not (ROOT / folder).is_dir()] == []


def test_the_two_commands_are_targets_of_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^\$ make (\w+)", TEXT, re.MULTILINE):
        assert f"\n{target}:" in makefile


def test_the_job_and_the_conductor_name_what_the_configuration_has() -> None:
    config = load_config(ROOT / "config/simulator.yaml")
    job = " : ".join(f"-n 1 lima2_tango {name}" for name in config.instances)
    assert f"$ mpiexec {job} &" in TEXT
    plain = " ".join(TEXT.replace("\\\n", " ").split())
    assert f"lima2-conductor start localhost:10000 round_robin {' '.join(config.devices)}" in plain


@pytest.mark.parametrize("topology", list(Topology))
def test_every_topology_of_the_conductor_is_explained(topology: Topology) -> None:
    assert f"| `{topology}` |" in TEXT


def test_the_client_is_the_one_that_is_installed() -> None:
    (pin,) = [pin for pin in PROJECT["optional-dependencies"]["conductor"] if pin.startswith("lima2-client")]
    assert f"`lima2-client` {pin.rsplit('==', maxsplit=1)[-1]}" in TEXT
    assert f"Python {PROJECT['requires-python'].removeprefix('>=')}" in TEXT
