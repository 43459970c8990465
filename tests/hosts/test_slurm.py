"""A system as a batch job of Slurm: sbatch and mpiexec, on one node. Needs root and Debian's slurm-wlm."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from slurm_here import Slurm, slurm_here
from two_hosts import wait_for

from lima2_tango.cli.config import SystemConfig, load_config
from lima2_tango.cli.database import Builtin
from lima2_tango.client import connect
from lima2_tango.client.database import answers_ping, wait_for_devices
from lima2_tango.control.runlog import RunState

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "servers" / "lima2-simulator.sbatch"
ONE_NODE = ("--nodes=1", "--ntasks-per-node=3", "--cpus-per-task=1")
"""In place of the three hosts that the file asks for."""
UP_S = 60.0


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    with slurm_here(tmp_path_factory.mktemp("slurm")) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def config() -> SystemConfig:
    return load_config(ROOT / "config" / "simulator.yaml")


@pytest.fixture
def tango_host(config: SystemConfig, tmp_path: Path) -> Iterator[str]:
    database = Builtin(config.database, tmp_path, list(config.entries()))
    database.start()
    yield database.tango_host
    database.stop()


@pytest.fixture
def job(slurm: Slurm, config: SystemConfig, tango_host: str) -> Iterator[str]:
    """A job whose devices answer."""
    number = slurm.submit(SCRIPT, *ONE_NODE, tango_host=tango_host)

    def check() -> None:
        assert slurm.state(number), f"the job has ended{slurm.logs()}"

    wait_for_devices(tango_host, config.devices, UP_S, check)
    yield number
    slurm.said("scancel", number)
    wait_for(lambda: not slurm.state(number), UP_S, "the job has ended", slurm.logs)


def test_a_batch_job_acquires_and_saves(job: str, config: SystemConfig, tango_host: str, tmp_path: Path) -> None:
    changes = {"det.width": 256, "det.height": 128}
    with connect(config.control.device, tango_host) as lima:
        record = lima.acquire(nb_frames=40, expo_time=0.001, saving=tmp_path, changes=changes).wait(30)
        assert (record.state, record.nb_frames_saved) == (RunState.DONE, 40)
        with lima.run(record.uuid).read() as saved:
            assert len(saved) == 40


@pytest.mark.parametrize(
    "options", [("--batch", "--signal=TERM"), ()], ids=["as before the end of its time", "scancel"]
)
def test_a_job_that_is_ended_closes_its_files(
    slurm: Slurm, job: str, config: SystemConfig, tango_host: str, tmp_path: Path, options: tuple[str, ...]
) -> None:
    """The first as `#SBATCH --signal=B:TERM@60` does."""
    changes = {"det.width": 256, "det.height": 128}
    with connect(config.control.device, tango_host) as lima:
        run = lima.acquire(nb_frames=0, expo_time=0.01, saving=tmp_path / "data", changes=changes)
        wait_for(lambda: run.progress().nb_frames_saved >= 20, 30, "20 frames are saved")
    slurm.said("scancel", *options, job)
    wait_for(lambda: not slurm.state(job), UP_S, "the job has ended", slurm.logs)
    assert not any(answers_ping(tango_host, name) for name in config.devices)
    assert not list((tmp_path / "data").glob(".*")), "a file was not completed"
    assert {path.name[:7] for path in (tmp_path / "data").glob("lima2_*_*.h5")} == {"lima2_0", "lima2_1"}
