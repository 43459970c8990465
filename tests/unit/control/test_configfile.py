"""Parameters in a file: written whole, taken whole, and only where they may be."""

import json
import os

import pytest
import yaml

from lima2_tango.control.configfile import LARGEST, load_config, save_config
from lima2_tango.control.parameters import Parameterised
from lima2_tango.control.settings import Settings
from lima2_tango.core.errors import ParamError, SavingError
from lima2_tango.core.plugins import load

SUFFIXES = ["a.yaml", "a.yml", "a.json", "Maß 日.yaml"]


def control(camera="simulator", **settings):
    return Parameterised(load("cameras", camera), Settings(**settings))


def with_changes():
    source = control()
    source.set_acq_params('{"acq": {"nb_frames": 7, "trigger_mode": "gate"}, "det": {"width": 64}}')
    source.set_proc_params('{"class_name": "LimaProcessingLegacy", "saving": {"filename_prefix": "日本"}}')
    return source


@pytest.mark.parametrize("name", SUFFIXES)
def test_what_is_saved_is_loaded(tmp_path, name):
    source, other = with_changes(), control()
    save_config(source, str(tmp_path / name))
    load_config(other, str(tmp_path / name))
    assert (other.acq_params, other.choice.params) == (source.acq_params, source.choice.params)
    assert os.listdir(tmp_path) == [name]


def test_a_control_without_a_choice_saves_its_default(tmp_path):
    save_config(control(), str(tmp_path / "a.json"))
    assert json.loads((tmp_path / "a.json").read_text())["proc_params"]["class_name"] == "LimaProcessingLegacy"


def test_a_person_may_leave_out_what_is_the_default(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text(
        "camera: Simulator\nacq_params: {acq: {nb_frames: 9}}\nproc_params: {class_name: LimaProcessingLegacy}\n"
    )
    source = with_changes()
    load_config(source, str(file))
    assert source.acq_params == source.plugin.params.parse('{"acq": {"nb_frames": 9}}')


def test_an_older_file_of_parameters_is_replaced(tmp_path):
    file = tmp_path / "a.yaml"
    save_config(control(), str(file))
    save_config(with_changes(), str(file))
    assert yaml.safe_load(file.read_text())["acq_params"]["acq"]["nb_frames"] == 7


@pytest.mark.parametrize("text", ["precious: 1\n", "", "just text", "camera: Simulator\n"])
def test_any_other_file_is_left_alone(tmp_path, text):
    file = tmp_path / "a.yaml"
    file.write_text(text)
    with pytest.raises(ParamError, match="another file is there"):
        save_config(control(), str(file))
    assert file.read_text() == text


def contents(**changes):
    return {"camera": "Simulator", "acq_params": {}, "proc_params": {"class_name": "LimaProcessingLegacy"}} | changes


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: [*b,*b,*b,*b,*b,*b,*b,*b]\n"
HOSTILE = {
    "empty": ("", "no file of parameters"),
    "no yaml": ("a: b: c", "no YAML file"),
    "references": (BOMB, "references"),
    "python": ("!!python/object/apply:os.system [true]", "no YAML file"),
    "nested": ("[" * 5000, "no YAML file"),
    "too large": ("#" * (LARGEST + 1), "larger than 1024 KiB"),
    "binary": (b"\0\1\2\xff", "no YAML file"),
    "a date": ("camera: 2001-01-01", "no file of parameters"),
    "other camera": (contents(camera="Reader"), "parameters of a Reader, this is a Simulator"),
    "more": (contents(more=1), r"\$\.more"),
    "no processing": ({"camera": "Simulator", "acq_params": {}}, r"\$\.proc_params"),
    "bad acquisition": (contents(acq_params={"acq": {"nb_frames": -1}}), r"\$\.acq\.nb_frames = -1"),
    "bad processing": (contents(proc_params={"class_name": "Magic"}), "choose one of"),
    "not a set": (contents(acq_params=[]), r"\$\.acq_params"),
}


@pytest.mark.parametrize(("content", "sentence"), HOSTILE.values(), ids=HOSTILE)
def test_a_file_that_is_wrong_is_refused_and_changes_nothing(tmp_path, content, sentence):
    file = tmp_path / "a.yaml"
    raw = yaml.safe_dump(content) if isinstance(content, dict) else content
    file.write_bytes(raw if isinstance(raw, bytes) else raw.encode())
    source = with_changes()
    before = source.acq_params, source.choice
    with pytest.raises(ParamError, match=sentence) as refused:
        load_config(source, str(file))
    assert "\n" not in refused.value.what
    assert (source.acq_params, source.choice) == before


@pytest.mark.parametrize("path", ["", "a.yaml", "../a.yaml", "/tmp/a.h5", "/tmp/a", "/tmp/", "/tmp/a.yaml\0"])
@pytest.mark.parametrize("use", [save_config, load_config])
def test_a_path_that_is_none_is_refused(use, path):
    with pytest.raises(ParamError, match=r"give an absolute path that ends with \.yaml|NUL"):
        use(control(), path)


@pytest.mark.parametrize("use", [save_config, load_config])
def test_paths_stay_below_the_data_roots(tmp_path, use):
    inside, outside = tmp_path / "data", tmp_path / "other"
    inside.mkdir()
    outside.mkdir()
    (inside / "link").symlink_to(outside)
    for path in (outside / "a.yaml", inside / ".." / "other" / "a.yaml", inside / "link" / "a.yaml"):
        with pytest.raises(ParamError, match="data_roots"):
            use(control(data_roots=(str(inside),)), str(path))
    assert not list(outside.iterdir())


def test_a_pipe_is_no_file_and_nobody_waits_for_it(tmp_path):
    os.mkfifo(tmp_path / "a.yaml")
    with pytest.raises(ParamError, match="it is no file"):
        load_config(control(), str(tmp_path / "a.yaml"))


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(SavingError, match="cannot write .*missing/a.yaml: No such file"):
        save_config(control(), str(tmp_path / "missing" / "a.yaml"))


def test_a_file_that_cannot_be_written_leaves_nothing_behind(tmp_path):
    (tmp_path / "a.yaml").mkdir()
    with pytest.raises((SavingError, ParamError)):
        save_config(control(), str(tmp_path / "a.yaml"))
    assert os.listdir(tmp_path) == ["a.yaml"]
