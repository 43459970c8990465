"""A receiver is killed while a client waits for its run: the client hears which, and its data files can be used."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401  (the filter that the files are compressed with)
import pytest
from supervised import LIMA2, UP_S, Supervised, kept_up, write_config
from watching import wait_for

from lima2_tango.client import RunFailedError, UnreachableError, connect

ROWS = 10
LONG = {"nb_frames": 100_000, "expo_time": 0.005}


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supervised]:
    home = tmp_path_factory.mktemp("killed")
    restart = {"at_most": 1000, "within": 1.0}
    with kept_up(home / "home", write_config(home / "killed.yaml", name="killed", restart=restart)) as running:
        yield running


def kill_when_saved(system: Supervised, folder: Path) -> int:
    """Kill receiver 1 when each receiver has closed a file; its process."""
    wait_for(lambda: all(list(folder.glob(f"lima2_{rank}_*.h5")) for rank in range(2)), UP_S, "files are closed")
    pid = system.pid("simulator_rcv2")
    system.kill("simulator_rcv2")
    return pid


def test_lima2_run_names_the_receiver_that_died(system: Supervised, tmp_path: Path) -> None:
    before = system.state.restarts
    command = [LIMA2, "run", "killed", "--frames", "100000", "--time", "0.005", "--save", tmp_path]
    files = ["--set", f"saving.nb_frames_per_file={ROWS}"]
    process = subprocess.Popen(
        [*command, *files], env={**os.environ, "LIMA2_HOME": str(system.home)}, stderr=subprocess.PIPE, text=True
    )
    try:
        pid = kill_when_saved(system, tmp_path)
        told = process.communicate(timeout=UP_S)[1]
    finally:
        process.kill()
    assert process.returncode == 1
    assert f"simulator_rcv2 (process {pid}) died" in told
    system.wait_up(before + 1)


def test_a_client_is_told_where_to_look_and_the_data_files_show_their_frames(
    system: Supervised, tmp_path: Path
) -> None:
    before = system.state.restarts
    with connect(system.state.control, system.state.tango_host) as client:
        run = client.acquire(**LONG, saving=tmp_path, changes={"saving.nb_frames_per_file": ROWS})
        kill_when_saved(system, tmp_path)
        # Unreachable, or already started again, and then it knows nothing of the run.
        with pytest.raises((UnreachableError, RunFailedError), match="or the launcher names it in its log; data files"):
            run.wait(UP_S)
    system.wait_up(before + 1)
    assert not list(tmp_path.glob("*_master.h5"))
    for rank in range(2):
        paths = sorted(tmp_path.glob(f"lima2_{rank}_*.h5"))
        found = [index for path in paths for index in indices(path)]
        assert found == list(range(rank, rank + 2 * len(found), 2))
        assert len(found) >= ROWS


def indices(path: Path) -> range:
    """Global numbers of the frames in a data file, as the page on saving data finds them."""
    with h5py.File(path) as file:
        detector = file["entry_0000/instrument/detector"]
        first = int(detector["receiver/first_frame"][()])
        return range(first, first + 2 * len(detector["data"]), 2)
