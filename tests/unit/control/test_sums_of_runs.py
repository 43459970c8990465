"""Sums of a run have files of their own, as many as they have transfers, and no master file."""

from dataclasses import replace

import numpy as np
import pytest
from test_plan import plan

from lima2_tango.control.parameters import Choice
from lima2_tango.control.products import check_masters, data_files, nb_files, write_masters
from lima2_tango.core.frame import FrameSpec
from lima2_tango.processing.pipelines.smx import PLUGIN, SmxParams
from lima2_tango.testing.sinks import METADATA

CORRECTED = "saving_accumulation_corrected"


def run_of(folder, per_file=2):
    saving = {"base_path": str(folder), "nb_frames_per_file": per_file}
    streams = {"saving_dense": {"enabled": False}, "saving_sparse": {"enabled": False}}
    streams |= {CORRECTED: saving, "saving_accumulation_peak": {"enabled": False}}
    made = plan()
    return replace(made, choice=Choice(PLUGIN, SmxParams.model_validate(streams)))


def counted(*sums_saved):
    return [{"nb_frames_saved": 12, "nb_frames_acc_corrected": count} for count in sums_saved]


@pytest.mark.parametrize(
    ("saved", "closed", "files"),
    [
        ((1, 1), True, [1, 1]),
        ((3, 4), True, [2, 2]),
        ((3, 4), False, [1, 2]),
        ((0, 5), True, [0, 3]),
        ((0, 0), True, [0, 0]),
    ],
)
def test_files_are_counted_by_transfers(tmp_path, saved, closed, files):
    made = run_of(tmp_path)
    counts = nb_files(made, counted(*saved), (closed, closed))
    assert counts == [files]
    assert len(data_files(made, counts)) == sum(files)


def test_there_is_no_master_file(tmp_path):
    made = run_of(tmp_path)
    (tmp_path / "lima2_acc_corrected_master.h5").touch()
    check_masters(made)
    spec = FrameSpec(1, 4, 4, np.dtype("f4"))
    assert write_masters(made, {CORRECTED: spec}, counted(4, 4), (True, True), METADATA) == []
