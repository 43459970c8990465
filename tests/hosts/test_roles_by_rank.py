"""One program with the same words on every rank: the rank says which instance it is, the database which role that has.

Together with a host file, and several receivers a host.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from spread import FRAME_BYTES, RUN_S, Spread, check_files_of, check_master, spread_system
from two_hosts import Hosts, two_hosts

from lima2_tango.cli.config import Member, SystemConfig, load_config
from lima2_tango.client.database import database_at
from lima2_tango.control.runlog import RunState

ROOT = Path(__file__).parents[2]
NEAR, FAR = 2, 2
"""Ranks: the control and receiver 0 here, receivers 1 and 2 there."""
RECEIVERS = 3


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    with two_hosts(tmp_path_factory.mktemp("hosts")) as made:
        yield made


@pytest.fixture(scope="module")
def config() -> SystemConfig:
    members = [Member(device=f"id00/limareceiver/many{n}", instance=f"many_rcv{n}") for n in range(RECEIVERS)]
    return load_config(ROOT / "config" / "simulator.yaml").model_copy(update={"receivers": tuple(members)})


@pytest.fixture(scope="module")
def spread(hosts: Hosts, config: SystemConfig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spread]:
    folder = tmp_path_factory.mktemp("many")
    host_file = folder / "hosts"
    host_file.write_text(hosts.list_of(near=NEAR, far=FAR).replace(",", "\n") + "\n")
    mpiexec = hosts.mpiexec("-f", str(host_file), "-n", str(NEAR + FAR))
    server = ["lima2_tango", *config.instances, "--log-file-path", str(folder), "--log-file-filename", "%I.log"]
    with spread_system(hosts, config, folder, [*mpiexec, *server]) as running:
        assert all((folder / f"{instance}.log").exists() for instance in config.instances)
        yield running


def test_the_last_receivers_are_on_the_far_host(spread: Spread, config: SystemConfig) -> None:
    database = database_at(spread.tango_host)
    pids = [database.get_device_info(name).pid for name in config.devices]
    assert [Path(f"/proc/{pid}/ns/net").readlink() for pid in pids] == [
        *[Path("/proc/self/ns/net").readlink()] * NEAR,
        *[Path(f"/proc/{spread.hosts.holder}/ns/net").readlink()] * FAR,
    ]


@pytest.mark.parametrize(("acquires", "crossing"), [(-1, 40), (2, 20)], ids=["the control", "the last receiver"])
def test_each_receiver_gets_its_frames_near_or_far(
    spread: Spread, tmp_path: Path, acquires: int, crossing: int
) -> None:
    """From the one that acquires, to receivers on its own host and on the other one."""
    det = {"det.topology": "distributed_processing", "det.acquisition_rank": acquires}
    carried = spread.hosts.sent if acquires < 0 else spread.hosts.received
    before = carried()
    record = spread.acquire(det, tmp_path, 60).wait(RUN_S)
    assert (record.state, record.nb_frames_saved) == (RunState.DONE, 60)
    assert check_master(tmp_path) == 60
    assert [check_files_of(receiver, RECEIVERS, tmp_path) for receiver in range(RECEIVERS)] == [20] * RECEIVERS
    assert crossing * FRAME_BYTES <= carried() - before < (crossing + 10) * FRAME_BYTES
