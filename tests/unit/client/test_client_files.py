"""Files of a run, read back as one series in order."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from lima2_tango.client import Frame
from lima2_tango.client.files import SPARE_FILES, SavedRun, open_run, saved_run
from lima2_tango.client.records import RunRecord
from lima2_tango.core.errors import DataLossError, Lima2Error, NotAvailableError, ParamError
from lima2_tango.core.frame import FrameSpec
from lima2_tango.core.storage import NbDimensions, SavingParams
from lima2_tango.saving.master import write_master
from lima2_tango.saving.writer import SeriesWriter
from lima2_tango.testing.sinks import METADATA, make_block, pixels

SPEC = FrameSpec(1, 6, 9, np.dtype("u2"))
Save = Callable[..., list[Path]]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Save frames dealt to receivers in turn, five to a file; returns the data files."""

    def one(
        count: int, receivers: int = 2, spec: FrameSpec = SPEC, master: bool = False, **changes: object
    ) -> list[Path]:
        params = SavingParams(base_path=str(tmp_path), nb_frames_per_file=5, **changes)
        dealt = [np.arange(rank, count, receivers) for rank in range(receivers)]
        for rank, numbers in enumerate(dealt):
            mine = params.model_copy(update={"filename_rank": rank})
            writer = SeriesWriter(mine, spec, "$.saving", rank, METADATA, None, False)
            if len(numbers):
                writer.append(writer.encode(make_block(spec, 0, len(numbers), receivers, rank)))
            writer.close()
        files = sorted(tmp_path.glob("lima2_[0-9]_*.h5"))
        if master:
            write_master(tmp_path / "lima2_master.h5", params, "dense", spec, dealt, METADATA)
        return files

    return one


def check(run: SavedRun, count: int, spec: FrameSpec = SPEC) -> None:
    """All frames, by each way there is to read them."""
    with run:
        assert len(run) == count
        assert run.index.tolist() == list(range(count))
        assert run.valid.all()
        assert run.dtype == spec.dtype
        expected = np.array([pixels(spec, index) for index in range(count)])
        assert np.array_equal(run.array().reshape(expected.shape), expected)
        for index, frame in enumerate(run):
            assert frame.index == index
            assert np.array_equal(frame.data, expected[index])
        assert np.array_equal(run.frame(count // 2).data, expected[count // 2])


@pytest.mark.parametrize("receivers", [1, 2, 3])
@pytest.mark.parametrize("count", [1, 5, 23])
def test_data_files_are_one_series(save: Save, receivers: int, count: int) -> None:
    check(open_run(*save(count, receivers)), count)


def test_data_files_are_one_series_in_any_order(save: Save) -> None:
    check(open_run(*reversed(save(23))), 23)


@pytest.mark.parametrize("receivers", [1, 2, 3])
def test_a_master_file_is_one_series(save: Save, receivers: int, tmp_path: Path) -> None:
    save(23, receivers, master=True)
    check(open_run(tmp_path / "lima2_master.h5"), 23)


@pytest.mark.parametrize("dimensions", list(NbDimensions))
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("include", [False, True], ids=["", "numbers in the file"])
def test_frames_have_their_channels_whatever_the_file_has(
    save: Save, dimensions: NbDimensions, channels: int, include: bool
) -> None:
    spec = FrameSpec(channels, 6, 9, np.dtype("f4"))
    check(open_run(*save(7, spec=spec, nb_dimensions=dimensions, include_frame_idx=include)), 7, spec)


def test_the_parameters_of_the_run_are_in_its_files(save: Save, tmp_path: Path) -> None:
    files = save(7, master=True)
    for path in (files[0], tmp_path / "lima2_master.h5"):
        with open_run(path) as run:
            assert set(run.parameters()) == {"acquisition", "processing"}


def record(state: str, files: list[Path], nb_files: int | None = None) -> RunRecord:
    counts = {f"nb_frames_{what}": 7 for what in ("acquired", "processed", "saved")}
    told = {"uuid": "u", "state": state, "begin": "2026-01-01T10:00:00+00:00", "end": "", "nb_frames": 7, "error": ""}
    named = {"files": [str(f) for f in files], "nb_files": len(files) if nb_files is None else nb_files}
    return RunRecord.parse(json.dumps({**told, **counts, **named, "pipeline": "p"}))


def test_a_run_is_read_by_its_master_file_or_without_one_by_its_data_files(save: Save, tmp_path: Path) -> None:
    files = save(7, master=True)
    master = tmp_path / "lima2_master.h5"
    with saved_run(record("done", [master, *files])) as run:
        assert run.paths == (master,)
    check(saved_run(record("failed", files)), 7)
    with pytest.raises(NotAvailableError, match="has no files"):
        saved_run(record("running", []))


def test_a_run_of_more_files_than_are_named_is_not_read_in_part(save: Save, tmp_path: Path) -> None:
    files = save(23, master=True)
    with pytest.raises(DataLossError, match=r"names 2 of its 6 data files: open all .*glob\('\*\.h5'\)"):
        saved_run(record("failed", files[:2], len(files)))
    master = tmp_path / "lima2_master.h5"
    check(saved_run(record("done", [master, *files[:2]], len(files) + 1)), 23)


def test_frames_of_a_run_without_an_end_are_those_that_are_there(save: Save) -> None:
    """A receiver died: its last file is missing."""
    files = save(23)
    with open_run(*files[:-1]) as run:
        assert len(run) == 23 - 1
        with pytest.raises(NotAvailableError, match="frame 21 was not saved: the files hold 22 frames from 0 to 22"):
            run.frame(21)
        for index in (-1, 23):
            with pytest.raises(NotAvailableError):
                run.frame(index)


def test_a_master_whose_files_are_gone_shows_no_zeros(save: Save, tmp_path: Path) -> None:
    save(23, master=True)[0].unlink()
    with pytest.raises(DataLossError, match=r"1 are gone, .*lima2_0_00000\.h5 first"):
        open_run(tmp_path / "lima2_master.h5")


def test_a_master_is_read_whatever_signs_the_names_of_its_files_have(save: Save, tmp_path: Path) -> None:
    save(7, master=True, filename_prefix="100% of 5%d")
    check(open_run(tmp_path / "lima2_master.h5"), 7)


def test_a_master_of_more_files_than_a_process_may_open_shows_no_zeros(
    save: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(23, master=True)
    monkeypatch.setattr("lima2_tango.client.files.getrlimit", lambda _: (SPARE_FILES + 5, 0))
    with pytest.raises(DataLossError, match=r"6 files, and this process may open 69: raise that limit"):
        open_run(tmp_path / "lima2_master.h5")


def test_files_of_two_runs_are_refused(save: Save, tmp_path: Path) -> None:
    one = save(7)
    with pytest.raises(DataLossError, match="frame 0 is there twice"):
        open_run(one[0], one[0])
    other = save(7, spec=FrameSpec(1, 3, 3, np.dtype("u1")), filename_prefix="other") or sorted(tmp_path.glob("other*"))
    with pytest.raises(DataLossError, match="differ in shape or type"):
        open_run(one[0], *sorted(tmp_path.glob("other_1*")))
    assert other


def no_hdf5(path: Path) -> None:
    path.write_text("text")


def empty(path: Path) -> None:
    h5py.File(path, "w").close()


def sparse(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["entry/plot/data/index"] = np.arange(3)
        file.attrs["default"], file["entry"].attrs["default"] = "entry", "plot"
        file["entry/plot"].attrs["signal"] = "data"


def half(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["data"] = np.zeros((3, 4, 5))
    os.truncate(path, 700)


@pytest.mark.parametrize("make", [no_hdf5, empty, sparse, half, lambda path: None])
def test_what_is_no_file_of_a_run_is_refused_by_name(tmp_path: Path, make: Callable[[Path], None]) -> None:
    path = tmp_path / "file.h5"
    make(path)
    with pytest.raises(NotAvailableError, match=r"file\.h5"):
        open_run(path)


def test_nothing_to_open_is_refused() -> None:
    with pytest.raises(ParamError, match="name a master file"):
        open_run()


def test_errors_are_ours() -> None:
    assert issubclass(NotAvailableError, Lima2Error)
    assert Frame(0, np.zeros((1, 2, 3))).image.shape == (2, 3)
    assert Frame(0, np.zeros((2, 2, 3))).image.shape == (2, 2, 3)
    assert Frame(0, np.zeros(1)).image.shape == (1,)
