"""Sums of a run have files of their own, as many as they have transfers, and no master file."""

import numpy as np
import pytest
from test_plan import plan

from lima2_tango.control.products import check_masters, data_files, nb_files, write_masters
from lima2_tango.core.frame import FrameSpec
from lima2_tango.processing.pipelines.smx import SmxParams
from lima2_tango.testing.sinks import METADATA


def sums(folder, per_file=2, **fai):
    saving = {"base_path": str(folder), "nb_frames_per_file": per_file}
    streams = {"saving_dense": {"enabled": False}, "saving_sparse": {"enabled": False}}
    streams |= {"saving_accumulation_corrected": saving, "saving_accumulation_peak": {"enabled": False}}
    return plan(params=SmxParams.model_validate({"fai": fai, **streams}))


@pytest.mark.parametrize(
    ("fai", "saved", "files"),
    [
        ({"acc_nb_frames_xfer": 8}, (4, 4), [1, 1]),
        ({"acc_nb_frames_xfer": 8}, (12, 13), [2, 2]),
        ({"acc_nb_frames_xfer": 8}, (0, 17), [0, 3]),
        ({"acc_nb_frames_xfer": 8, "acc_nb_frames_reset": 12}, (12, 13), [2, 3]),
        ({"acc_nb_frames_xfer": 0}, (12, 13), [0, 0]),
    ],
)
def test_files_are_counted_by_transfers(tmp_path, fai, saved, files):
    made = sums(tmp_path, **fai)
    counts = nb_files(made, saved, (True, True))
    assert counts == [files]
    assert len(data_files(made, counts)) == sum(files)


def test_there_is_no_master_file(tmp_path):
    made = sums(tmp_path)
    (tmp_path / "lima2_acc_corrected_master.h5").touch()
    check_masters(made)
    spec = FrameSpec(1, 4, 4, np.dtype("f4"))
    assert write_masters(made, {"saving_accumulation_corrected": spec}, (4, 4), (True, True), METADATA) == []
