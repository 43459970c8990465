"""The row of a detector's stream: it measures, it verifies, and it leaves nothing behind."""

import os

import h5py
import pytest

from lima2_tango.cli.bench import dectris, rig
from lima2_tango.cli.bench.rows import ROWS
from lima2_tango.cli.bench.simulated import LEGACY, MODERN, Detector, Load
from lima2_tango.core.errors import DataLossError, Lima2Error
from lima2_tango.core.storage import SavingParams
from lima2_tango.saving.layout import data_path
from lima2_tango.simulators.dectris.models import find_model

MODEL = find_model("eiger2-500k")
COUNT = 18


def test_both_streams_are_measured_against_a_bare_loop(tmp_path, monkeypatch):
    monkeypatch.setattr(rig, "memory_disk", lambda: str(tmp_path))
    monkeypatch.setattr(dectris.libertem, "install", lambda _: None)
    told = []
    rows = dectris.measure_model(MODEL, COUNT, 1, told.append)
    assert ROWS["P2"] is dectris.measure
    assert [row.what.split(",")[0] for row in rows] == ["stream 2", "legacy stream"]
    for row in rows:
        assert (row.id, row.lost, row.runs, row.goal) == ("P2", 0, 1, 0.7)
        assert row.ratio == pytest.approx(row.ours / row.reference)
    assert any("libertem" in text for text in told)
    assert os.listdir(tmp_path) == []


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    with Detector(MODEL, tmp_path_factory.mktemp("detector") / "log") as made:
        yield made


@pytest.mark.parametrize("form", [LEGACY, MODERN])
def test_files_hold_what_was_sent_and_nothing_else(detector, form, tmp_path):
    load = Load(MODEL, COUNT, form)
    ring = dectris.ring_of(load)
    detector.set_up(load)
    assert dectris.save(detector, tmp_path, load) > 0
    assert dectris.verify(tmp_path, load, ring) == 0
    assert dectris.verify(tmp_path, Load(MODEL, COUNT + 2, form), ring) == 2
    (path,) = tmp_path.glob("*.h5")
    with h5py.File(path, "r+") as file:
        file[data_path(SavingParams())].id.write_direct_chunk((3, 0, 0), b"something else")
    with pytest.raises(DataLossError, match="image 3"):
        dectris.verify(tmp_path, load, ring)


def test_receiving_alone_counts_what_is_missing(detector):
    load = Load(MODEL, COUNT, MODERN)
    detector.set_up(load)
    assert dectris.receive(detector, load).lost == 0


def test_the_detector_s_own_words_are_passed_on(detector):
    with pytest.raises(Lima2Error, match="nimages"):
        detector.put("detector/api/1.8.0/config/nimages", "many")
