"""`lima2 process`: options, exit codes and what is told; what it computes is in `test_offline_files`."""

import json

import h5py
import hdf5plugin  # noqa: F401 - the filters of our files
import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from lima2_tango.cli.main import app

SHAPE = (24, 32)
FRAMES = np.random.default_rng(0).integers(0, 100, (12, *SHAPE)).astype(np.uint16)
REGION = {"topleft": {"x": 3, "y": 2}, "dimensions": {"x": 20, "y": 9}}
STATISTICS = {"statistics": {"rect_rois": [REGION]}}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with h5py.File("raw.h5", "w") as file:
        file["images"], file["other/images"] = FRAMES, FRAMES + 1
        file.attrs["default"] = "view"
        file["view/data"] = FRAMES
        file["view"].attrs["signal"] = "data"
    return tmp_path


def process(*options):
    return CliRunner().invoke(app, ["process", *map(str, options)])


def params(content, name="p.json", dump=json.dumps):
    with open(name, "w", encoding="utf-8") as file:
        file.write(dump(content))
    return name


def frames(path):
    with h5py.File(path) as file:
        return file["entry_0000/frames/data"][...]


def test_files_go_to_stdout_and_what_was_done_to_stderr(folder):
    done = process("raw.h5", "--pipeline", "legacy", "-o", "out.h5")
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines() == [str(folder / "out.h5"), str(folder / "out_frames.h5")]
    assert "12 of 12 frames processed" in done.stderr
    assert np.array_equal(frames("out.h5"), FRAMES)


def test_json_for_programs(folder):
    done = process("raw.h5", "--pipeline", "Legacy", "--params", params(STATISTICS), "-o", "out.h5", "--json")
    told = json.loads(done.stdout)
    assert told["nb_frames"] == told["nb_frames_done"] == told["counters"]["nb_frames_saved"] == 12
    assert told["files"] == [str(folder / "out.h5"), str(folder / "out_frames.h5")]
    assert (told["interrupted"], told["error"]) == (False, "")
    with h5py.File("out.h5") as file:
        sums = file["entry_0000/roi_statistics"]["sum"]
    assert np.array_equal(sums, FRAMES[:, 2:11, 3:23].sum((1, 2)))


@pytest.mark.parametrize(
    "content",
    [
        {"class_name": "LimaProcessingLegacy", **STATISTICS},
        {"control": {}, "receiver": {}, "processing": {"class_name": "LimaProcessingLegacy", **STATISTICS}},
        {"camera": "Simulator", "acq_params": {}, "proc_params": {"class_name": "LimaProcessingLegacy", **STATISTICS}},
    ],
    ids=["processing", "prepare", "SaveConfig"],
)
@pytest.mark.parametrize("dump", [json.dumps, yaml.safe_dump], ids=["json", "yaml"])
def test_parameters_as_other_commands_write_them(content, dump):
    done = process("raw.h5", "--params", params(content, dump=dump), "-o", "out.h5")
    assert done.exit_code == 0, done.output
    with h5py.File("out.h5") as file:
        assert len(file["entry_0000/roi_statistics"]) == 12


def test_numbers_with_an_exponent_are_numbers_in_json(folder):
    (folder / "p.json").write_text('{"max_countrate_protection": {"max_countrate": 1e5}}')
    assert process("raw.h5", "--pipeline", "Legacy", "--params", "p.json", "-o", "out.h5").exit_code == 0


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "give an object"),
        ("3", "give an object"),
        ("{", "it cannot be read"),
        ("[" * 100_000, "it cannot be read"),
        ("\x00", "it cannot be read"),
        ('{"processing": 5}', "$.processing"),
        ('{"control": [1], "processing": {}}', "$.control"),
        ('{"class_name": ["Legacy"]}', "$.class_name"),
        ('{"fifo": {"nb_fifo_frames": NaN}}', "$.fifo.nb_fifo_frames"),
        ("fifo: &a {x: *a}", "Circular reference"),
        ("1: 2", "$.1"),
        ("when: 2020-01-01", "$.when"),
        ("a: !!python/object:os.system x", "it cannot be read"),
    ],
)
def test_odd_files_of_parameters_are_refused(folder, text, says):
    (folder / "p.json").write_text(text)
    refused = process("raw.h5", "--pipeline", "Legacy", "--params", "p.json", "-o", "out.h5")
    assert (refused.exit_code, refused.exception.__class__) == (2, SystemExit), refused.exception
    assert says in refused.stderr


def test_some_frames_of_another_dataset():
    done = process("raw.h5", "--pipeline", "Legacy", "-o", "out.h5", "--frames", "3:7", "--dataset", "/other/images")
    assert done.exit_code == 0, done.output
    assert np.array_equal(frames("out.h5"), FRAMES[3:7] + 1)


def test_nothing_saved_but_the_rows():
    nothing = {"saving": {"enabled": False}, **STATISTICS}
    done = process("raw.h5", "--pipeline", "Legacy", "--params", params(nothing), "-o", "out.h5")
    assert done.stdout.splitlines()[1:] == []
    with h5py.File("out.h5") as file:
        assert set(file["entry_0000"]) == {"process", "program_name", "roi_statistics"}


@pytest.mark.parametrize(
    ("options", "content", "says"),
    [
        ([], {}, "--pipeline"),
        (["--pipeline", "Nothing"], {}, "no such pipeline; have:"),
        (["--pipeline", "Fai"], {"class_name": "LimaProcessingLegacy"}, "$.class_name"),
        (["--pipeline", "Legacy"], {"saving": {"compression": "best"}}, "$.saving.compression"),
        (["--pipeline", "Legacy"], {"unknown": 1}, "$.unknown"),
        (["--pipeline", "Legacy"], [], "--params"),
        (["--pipeline", "Fai"], {"fai": {"csr_path": "gone.h5"}}, "$.fai.csr_path"),
        (["--pipeline", "Legacy", "--frames", "7:3"], {}, "--frames"),
        (["--pipeline", "Legacy", "--frames", "7"], {}, "--frames"),
        (["--pipeline", "Legacy", "--frames", "70:"], {}, "hold 12 frames"),
        (["--pipeline", "Legacy", "--dataset", "/gone"], {}, "$.files"),
    ],
)
def test_what_is_refused_leaves_nothing_behind(folder, options, content, says):
    refused = process("raw.h5", "--params", params(content), "-o", "out.h5", *options)
    assert refused.exit_code == 2
    assert says in refused.stderr
    assert sorted(path.name for path in folder.iterdir()) == ["p.json", "raw.h5"]


def test_an_output_that_exists_or_has_no_folder():
    assert process("raw.h5", "--pipeline", "Legacy", "-o", "out.h5").exit_code == 0
    again = process("raw.h5", "--pipeline", "Legacy", "-o", "out.h5")
    assert again.exit_code == 2
    assert "--overwrite" in again.stderr
    assert process("raw.h5", "--pipeline", "Legacy", "-o", "out.h5", "--overwrite").exit_code == 0
    missing = process("raw.h5", "--pipeline", "Legacy", "-o", "gone/out.h5")
    assert missing.exit_code == 2
    assert "no such folder" in missing.stderr


def test_a_failure_keeps_what_came_before(folder):
    failing = params({"class_name": "LimaProcessingFailing", "failed_frame_idx": 5})
    done = process("raw.h5", "--params", failing, "-o", "out.h5", "--json")
    assert done.exit_code == 1
    told = json.loads(done.stdout)
    assert told["nb_frames_done"] == 5
    assert "frame 5" in told["error"]
    assert "frame 5" in done.stderr
    assert (folder / "out.h5").exists()
