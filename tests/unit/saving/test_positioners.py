"""Positions of motors beside the frames of a run, in files that were complete without them."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from lima2_tango.client.files import open_run
from lima2_tango.client.positions import write_positions
from lima2_tango.client.records import RunRecord
from lima2_tango.core.errors import Lima2Error, NotAvailableError, ParamError, SavingError
from lima2_tango.core.frame import FrameSpec
from lima2_tango.core.storage import SavingParams
from lima2_tango.saving.master import write_master
from lima2_tango.saving.positioners import Monitor, Positioner, write_positioners
from lima2_tango.saving.writer import SeriesWriter
from lima2_tango.testing.sinks import METADATA, make_block

SPEC = FrameSpec(1, 6, 9, np.dtype("u2"))
FRAMES = 7
X = np.linspace(-1.5, 1.5, FRAMES)


@pytest.fixture
def master(tmp_path: Path) -> Path:
    """A master file over the files of two receivers."""
    params = SavingParams(base_path=str(tmp_path), nb_frames_per_file=5)
    dealt = [np.arange(rank, FRAMES, 2) for rank in range(2)]
    for rank, numbers in enumerate(dealt):
        writer = SeriesWriter(
            params.model_copy(update={"filename_rank": rank}), SPEC, "$.saving", rank, METADATA, None, False
        )
        writer.append(writer.encode(make_block(SPEC, 0, len(numbers), 2, rank)))
        writer.close()
    write_master(tmp_path / "lima2_master.h5", params, "dense", SPEC, dealt, METADATA)
    return tmp_path / "lima2_master.h5"


def test_each_frame_has_its_position_and_the_frames_are_as_before(master: Path) -> None:
    with open_run(master) as run:
        before = run.array()
        assert run.positions() == {}
    assert write_positions(master, {"x": Positioner(X, "mm"), "i0": Monitor(np.arange(FRAMES))}) == [master]
    with open_run(master) as run:
        assert np.array_equal(run.positions()["x"], X)
        assert np.array_equal(run.array(), before)


def test_the_file_is_nexus_as_a_viewer_reads_it(master: Path) -> None:
    write_positioners(master, {"x": Positioner(X, "mm"), "i0": Monitor(np.arange(FRAMES))})
    with h5py.File(master) as file:
        entry = file[file.attrs["default"]]
        plot = entry[entry.attrs["default"]]
        assert list(plot.attrs["axes"]) == ["x", ".", "."]
        assert plot.attrs["x_indices"] == 0
        assert np.array_equal(plot["x"], X)
        detector = plot.parent
        assert detector.parent["x"].attrs["NX_class"] == "NXpositioner"
        assert detector.parent["x/value"].attrs["units"] == "mm"
        assert entry["i0"].attrs["NX_class"] == "NXmonitor"
        assert np.array_equal(entry["measurement/i0"], np.arange(FRAMES))
        assert "units" not in entry["i0/data"].attrs


def test_sparse_frames_have_positions_too(tmp_path: Path) -> None:
    """In a master file of sparse frames, which has no plot."""
    path = tmp_path / "sparse_master.h5"
    with h5py.File(path, "w") as file:
        file.attrs["default"] = "entry"
        entry = file.create_group("entry")
        entry.attrs["NX_class"] = "NXentry"
        entry["instrument/detector/data/frame_ptr"] = np.zeros(FRAMES + 1, int)
        entry["measurement/data"] = h5py.SoftLink("/entry/instrument/detector/data")
    write_positioners(path, {"x": Positioner(X, "mm")})
    with h5py.File(path) as file:
        assert np.array_equal(file["entry/measurement/x"], X)
        assert file["entry/instrument/x"].attrs["NX_class"] == "NXpositioner"


def test_positions_can_be_written_again(master: Path) -> None:
    write_positioners(master, {"x": Positioner(X, "mm")})
    write_positioners(master, {"x": Positioner(2 * X, "um")})
    with open_run(master) as run:
        assert np.array_equal(run.positions()["x"], 2 * X)


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({"x": Positioner(X[1:])}, "the file has 7 frames"),
        ({"x y": Positioner(X)}, "NeXus takes letters"),
        ({"x": Positioner(X.reshape(1, -1))}, "one number for each frame"),
        ({"x": Positioner(np.array(["a"] * FRAMES))}, "one number for each frame"),
        ({SavingParams().nx_detector_name: Positioner(X)}, "something else of this name"),
        ({"data": Positioner(X)}, "something else of this name"),
    ],
    ids=["too few", "name", "table", "texts", "detector", "frames"],
)
def test_what_does_not_fit_is_refused_and_the_file_stays(
    master: Path, columns: dict[str, Positioner], sentence: str
) -> None:
    before = master.read_bytes()
    with pytest.raises(ParamError, match=sentence):
        write_positioners(master, columns)
    assert master.read_bytes() == before
    assert not list(master.parent.glob(".*"))


def test_a_reader_that_is_at_it_reads_on(master: Path) -> None:
    with open_run(master) as run:
        write_positioners(master, {"x": Positioner(X)})
        assert len(run.array()) == FRAMES


@pytest.mark.parametrize("content", [None, b"", b"no HDF5"], ids=["absent", "empty", "text"])
def test_what_is_no_file_of_a_run_is_a_sentence(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "some_master.h5"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SavingError, match="some_master.h5"):
        write_positioners(file, {"x": Positioner(X)})
    assert [found.name for found in tmp_path.iterdir()] == ([] if content is None else [file.name])


def test_a_file_without_frames_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["a"] = 1
    with pytest.raises(Lima2Error, match="no file of a run"):
        write_positioners(tmp_path / "other.h5", {"x": Positioner(X)})


def test_a_run_without_a_master_file_has_no_place_for_them() -> None:
    told = {"uuid": "u", "state": "done", "begin": "2026-01-01T10:00:00+00:00", "end": "", "nb_frames": 7, "error": ""}
    counts = {f"nb_frames_{what}": 7 for what in ("acquired", "processed", "saved")}
    record = RunRecord.parse(json.dumps({**told, **counts, "files": [], "pipeline": "p"}))
    with pytest.raises(NotAvailableError, match="no master file"):
        write_positions(record, {"x": Positioner(X)})
