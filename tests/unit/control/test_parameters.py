"""Parameters that clients change until the next Prepare: one by one, as a whole, several clients at once."""

from dataclasses import replace
from threading import Barrier, Thread
from typing import Literal

import pytest

from lima2_tango.control import parameters
from lima2_tango.control.parameters import DEFAULT_PIPELINE, Parameterised, by_default
from lima2_tango.control.settings import Settings
from lima2_tango.core.errors import ParamError
from lima2_tango.core.plugins import load
from lima2_tango.processing.params import Statistics
from lima2_tango.processing.pipelines.legacy import PLUGIN, LegacyParams

LEGACY, FAILING = "LimaProcessingLegacy", "LimaProcessingFailing"


@pytest.fixture
def source():
    return Parameterised(load("cameras", "simulator"), Settings())


def test_nothing_is_chosen_before_the_first_write_but_a_default_is_offered(source):
    assert source.choice is None
    assert source.chosen().plugin.class_name == DEFAULT_PIPELINE
    source.change_proc(("saving", "enabled"), False)
    assert source.choice.params.saving.enabled is False


def test_the_default_saves_below_the_data_roots(tmp_path):
    settings = Settings(data_roots=(str(tmp_path), "/elsewhere"))
    assert by_default(LEGACY, settings).params.saving.base_path == str(tmp_path)
    source = Parameterised(load("cameras", "simulator"), settings)
    source.change_proc(("saving", "filename_prefix"), "a")
    source.choose_pipeline(FAILING)
    source.choose_pipeline(LEGACY)
    assert source.choice.params.saving.base_path == str(tmp_path)


def test_another_pipeline_keeps_what_both_declare(source):
    source.set_proc_params('{"class_name": "LimaProcessingLegacy", "saving": {"filename_prefix": "a"}}')
    source.choose_pipeline(LEGACY)
    assert source.choice.params.saving.filename_prefix == "a"
    source.choose_pipeline(FAILING)
    assert source.choice.plugin.class_name == FAILING
    source.choose_pipeline(LEGACY)
    assert source.choice.params.saving.filename_prefix == "lima2"


def test_a_pipeline_keeps_its_own_defaults_of_what_nobody_changed(monkeypatch, source):
    class Quiet(LegacyParams):
        class_name: Literal["LimaProcessingQuiet"] = "LimaProcessingQuiet"
        statistics: Statistics = Statistics(enabled=False)

    quiet = replace(PLUGIN, class_name="LimaProcessingQuiet", params=Quiet)
    monkeypatch.setattr(parameters, "pipelines", lambda: {LEGACY: PLUGIN, "LimaProcessingQuiet": quiet})
    source.change_proc(("saving", "filename_prefix"), "a")
    source.choose_pipeline("LimaProcessingQuiet")
    assert source.choice.params.statistics.enabled is False
    assert source.choice.params.saving.filename_prefix == "a"


def test_an_unknown_pipeline_is_refused_with_those_that_there_are(source):
    with pytest.raises(ParamError, match=f"choose one of .*{FAILING}, {LEGACY}"):
        source.choose_pipeline("LimaProcessingMagic")


@pytest.mark.parametrize(
    ("acq", "proc"),
    [
        ('{"acq": {"nb_frames": -1}}', '{"class_name": "LimaProcessingLegacy"}'),
        ('{"acq": {"nb_frames": 5}}', '{"class_name": "LimaProcessingLegacy", "saving": {"base_path": ""}}'),
        ('{"acq": {"nb_frames": 5}}', "{}"),
    ],
)
def test_both_sets_are_taken_or_neither(source, acq, proc):
    source.set_acq_params('{"acq": {"nb_frames": 3}}')
    before = source.acq_params, source.choice
    with pytest.raises(ParamError):
        source.set_all(acq, proc)
    assert (source.acq_params, source.choice) == before


def test_clients_that_change_different_parameters_at_once_lose_nothing(source):
    changes = {
        ("acq", "nb_frames"): source.change_acq,
        ("acq", "expo_time"): source.change_acq,
        ("det", "width"): source.change_acq,
        ("saving", "nb_frames_per_file"): source.change_proc,
        ("accumulation", "nb_frames"): source.change_proc,
    }
    begin = Barrier(len(changes))

    def write(path, change):
        begin.wait(10)
        for value in range(1, 101):
            change(path, value)

    threads = [Thread(target=write, args=item) for item in changes.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert (source.acq_params.acq.nb_frames, source.acq_params.acq.expo_time, source.acq_params.det.width) == (100,) * 3
    assert source.choice.params.saving.nb_frames_per_file == source.choice.params.accumulation.nb_frames == 100
