"""Rules R13 and R14: a file is either unreadable or complete, and holds exactly its rows."""

from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401  (the filter that the files are compressed with)
import numpy as np
import pytest
from support import FAST, SMALL, Rig
from watching import EventLog, wait_for

DATASET = "entry_0000/instrument/detector/data"


def rows_in(file: Path) -> int:
    with h5py.File(file, "r") as h5:
        return int(h5[DATASET].shape[0])


def saved_rows(folder: Path, rank: int) -> list[int]:
    """Rows of each file of one receiver, in order."""
    return [rows_in(file) for file in sorted(folder.glob(f"lima2_{rank}_*.h5"))]


def expected_rows(count: int, per_file: int) -> list[int]:
    full, rest = divmod(count, per_file)
    return [per_file] * full + [rest] * (rest > 0)


def readable_rows(folder: Path) -> dict[str, int]:
    """Rows of each file that opens now."""
    found = {}
    for file in folder.glob("lima2_*.h5"):
        try:
            found[file.name] = rows_in(file)
        except OSError:
            continue
    return found


def test_a_file_is_unreadable_until_it_is_complete(rig: Rig, tmp_path: Path) -> None:
    """R13: clients read partial frames from what opens, and ask Tango where it does not."""
    acq = rig.acq({"acq.nb_frames": 40, "acq.expo_time": 50_000} | SMALL)
    rig.prepare(acq, rig.legacy(tmp_path, {"saving.nb_frames_per_file": 6}))
    seen: dict[str, set[int]] = {}
    with EventLog(rig.processing()) as events:
        rig.start()
        while not events.finished():
            for name, count in readable_rows(tmp_path).items():
                seen.setdefault(name, set()).add(count)
    complete = readable_rows(tmp_path)
    for name, counts in seen.items():
        assert counts == {complete[name]}, f"{name} opened with {counts} rows, it ends with {complete[name]}"
    assert len(seen) >= 4, "no file could be read before the end of the run"


@pytest.mark.parametrize(("nb_frames", "per_file"), [(20, 4), (21, 4), (7, 50), (1, 1), (2, 1)])
def test_each_file_holds_its_rows_and_no_file_is_empty(rig: Rig, tmp_path: Path, nb_frames: int, per_file: int) -> None:
    """R14: the conductor's virtual dataset maps exactly these."""
    acq = rig.acq(FAST | SMALL | {"acq.nb_frames": nb_frames})
    rig.run(acq, rig.legacy(tmp_path, {"saving.nb_frames_per_file": per_file}))
    for rank in range(2):
        count = (nb_frames - rank + 1) // 2
        assert saved_rows(tmp_path, rank) == expected_rows(count, per_file)


def test_a_stopped_run_leaves_trimmed_files_that_match_the_counters(rig: Rig, tmp_path: Path) -> None:
    """R14, contract section 11.2."""
    acq = rig.acq({"acq.nb_frames": 0, "acq.expo_time": 1_000} | SMALL)
    rig.prepare(acq, rig.legacy(tmp_path, {"saving.nb_frames_per_file": 16}))
    with EventLog(rig.processing()) as events:
        rig.start()
        rig.wait_counted("nb_frames_processed", 70)
        rig.stop()
        wait_for(events.finished, 5, "is_finished")
    for rank, counters in enumerate(rig.counters()):
        assert saved_rows(tmp_path, rank) == expected_rows(counters["nb_frames_processed"], 16)


def test_a_failed_run_keeps_every_frame_written_before(rig: Rig, tmp_path: Path) -> None:
    """R14: the files close and stay readable although the camera failed."""
    acq = rig.acq({"acq.nb_frames": 400, "acq.expo_time": 6_000, "det.failed_frame_idx": 100} | SMALL)
    rig.prepare(acq, rig.legacy(tmp_path, {"saving.nb_frames_per_file": 8}))
    with EventLog(rig.processing()) as events:
        rig.start()
        wait_for(lambda: any(state.name == "FAULT" for state in rig.states()), 5, "FAULT")
        rig.stop()
        wait_for(events.finished, 5, "is_finished")
    for rank, counters in enumerate(rig.counters()):
        assert sum(saved_rows(tmp_path, rank)) == counters["nb_frames_processed"] >= 40
    assert not [file for file in tmp_path.iterdir() if file.suffix != ".h5"], "temporary files are left"


@pytest.mark.parametrize("compression", ["none", "zip", "bshuf_lz4"])
def test_saved_frames_are_the_frames_that_the_getter_returns(rig: Rig, tmp_path: Path, compression: str) -> None:
    """Contract section 8: bit for bit, whatever the compression."""
    acq = rig.acq(FAST | SMALL | {"acq.nb_frames": 4, "det.generator.gauss.grow_factor": 0.1})
    rig.run(acq, rig.legacy(tmp_path, {"saving.compression": compression}))
    for rank, device in enumerate(rig.processing()):
        with h5py.File(tmp_path / f"lima2_{rank}_00000.h5", "r") as h5:
            saved = h5[DATASET][...]
        for local in range(2):
            kind, raw = device.command_inout("getFrame", 2 * local + rank)
            assert kind == "DATA_ARRAY"
            assert np.array_equal(np.frombuffer(raw[64:], saved.dtype).reshape(96, 64), saved[local])


@pytest.mark.parametrize(("dimensions", "shape"), [("dim_3d_or_4d", (2, 96, 64)), ("dim_4d", (2, 1, 96, 64))])
def test_saved_data_have_the_dimensions_asked_for(
    rig: Rig, tmp_path: Path, dimensions: str, shape: tuple[int, ...]
) -> None:
    """Contract section 8.2."""
    acq = rig.acq(FAST | SMALL | {"acq.nb_frames": 4})
    rig.run(acq, rig.legacy(tmp_path, {"saving.nb_dimensions": dimensions}))
    with h5py.File(tmp_path / "lima2_1_00000.h5", "r") as h5:
        assert h5[DATASET].shape == shape
