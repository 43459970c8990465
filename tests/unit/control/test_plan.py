"""What each receiver is asked for, who has which frame, and what a run leaves behind."""

import json
from typing import Annotated

import numpy as np
import pytest
from pydantic import Field

from lima2_tango.cameras.simulator import SimulatorParams
from lima2_tango.control.parameters import Choice, choose
from lima2_tango.control.plan import Plan
from lima2_tango.control.products import data_files, nb_files
from lima2_tango.control.runlog import LENGTH, Record, RunLog, RunState
from lima2_tango.control.settings import Settings
from lima2_tango.core.errors import NotAvailableError, ParamError
from lima2_tango.core.params import Int, Params
from lima2_tango.core.storage import SavingParams


class Integration(Params):
    acc_nb_frames_reset: Annotated[Int, Field(ge=0)] = 0
    acc_nb_frames_xfer: Annotated[Int, Field(ge=0)] = 10


class TwoStreams(Params):
    fai: Integration = Integration()
    saving_dense: SavingParams = SavingParams(filename_prefix="dense")
    saving_sparse: SavingParams = SavingParams(filename_prefix="sparse", enabled=False)


def plan(receivers=2, dispatch="round_robin", proc=None, params=None):
    acq = SimulatorParams.parse(json.dumps({"det": {"dispatch_mode": dispatch}}))
    legacy = choose(json.dumps({"class_name": "LimaProcessingLegacy", **(proc or {})}), Settings())
    return Plan("a-run", acq, legacy if params is None else Choice(legacy.plugin, params), receivers)


def asked(made, rank):
    return json.loads(made.texts(rank)[1])


@pytest.mark.parametrize("rank", [0, 1])
def test_frame_numbers_are_told_only_where_they_cannot_be_counted(rank):
    in_turn, at_random = asked(plan(), rank), asked(plan(dispatch="full_random"), rank)
    for said, wanted in ((in_turn, False), (at_random, True)):
        assert said["saving"]["filename_rank"] == rank
        assert said["saving"]["include_frame_idx"] is wanted
        assert said["frame_idx_enabled"] is wanted
    assert asked(plan(1, "full_random"), 0)["frame_idx_enabled"] is False


def test_every_stream_and_every_shared_count_is_completed():
    made = plan(params=TwoStreams(fai=Integration(acc_nb_frames_reset=6)))
    said = asked(made, 1)
    assert (said["fai"]["acc_nb_frames_reset"], said["fai"]["acc_nb_frames_xfer"]) == (3, 5)
    assert said["saving_dense"]["filename_rank"] == said["saving_sparse"]["filename_rank"] == 1
    assert [name for name, _ in made.savings()] == ["saving_dense"]


def test_counts_that_cannot_be_shared_are_refused():
    with pytest.raises(ParamError, match=r"\$\.fai\.acc_nb_frames_xfer = 10: give a multiple of 3"):
        plan(3, params=TwoStreams()).check()


@pytest.mark.parametrize("dispatch", ["round_robin", "predictive_random", "full_random"])
@pytest.mark.parametrize("receivers", [1, 2, 5])
def test_rows_and_owners_agree(receivers, dispatch):
    made = plan(receivers, dispatch)
    for rank in range(receivers):
        rows = made.rows(rank, 20)
        assert all(made.holder(int(index), "processed") == rank for index in rows)
        assert np.all(np.diff(rows) > 0)


def test_sums_are_numbered_in_turn():
    made = plan(2, proc={"accumulation": {"enabled": True, "nb_frames": 3}})
    assert made.rows(1, 4).tolist() == [1, 3, 5, 7]
    assert [made.holder(index, "processed") for index in range(4)] == [0, 1, 0, 1]


@pytest.mark.parametrize(("closed", "counts"), [([True, True], [2, 3]), ([True, False], [2, 2])])
def test_files_are_named_once_they_are_complete(tmp_path, closed, counts):
    made = plan(proc={"saving": {"base_path": str(tmp_path), "nb_frames_per_file": 4, "start_number": 5}})
    found = nb_files(made, [{"nb_frames_processed": 8}, {"nb_frames_processed": 9}], closed)
    assert found == [counts]
    names = [f"lima2_{rank}_{number:05d}.h5" for rank in (0, 1) for number in range(5, 5 + counts[rank])]
    assert data_files(made, found) == [str(tmp_path / name) for name in names]


def test_the_log_keeps_the_newest_runs_and_replaces_what_it_knew():
    log = RunLog()
    for number in range(LENGTH + 5):
        log.put(record(str(number)))
    log.put(record("50", RunState.DONE))
    found = log.records()
    assert len(found) == LENGTH
    assert found[0].uuid == str(LENGTH + 4)
    assert log.record("50").state is RunState.DONE
    with pytest.raises(NotAvailableError, match="no run '1'"):
        log.record("1")


def record(uuid, state=RunState.RUNNING):
    return Record(uuid, state, "", "", 1, 0, 0, 0, "", 0, (), "LimaProcessingLegacy")
