"""One running system per module; each test leaves it stopped, reset and without pipelines."""

from collections.abc import Iterator

import pytest
from support import Rig, launched

from lima2_tango.cli.system import System


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """One control, two receivers, one MPI job; no conductor."""
    with launched(tmp_path_factory.mktemp("system"), "simulator") as running:
        yield running


@pytest.fixture(scope="module")
def shared_rig(system: System) -> Rig:
    return Rig(system.tango_host, system.control, system.receivers)


@pytest.fixture
def rig(shared_rig: Rig) -> Iterator[Rig]:
    yield shared_rig
    shared_rig.recover()
