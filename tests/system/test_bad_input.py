"""What cannot work is refused at Prepare with one sentence, the same through Tango and through the conductor."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from conducting import Conducted, error_of
from lima2.common.exceptions import Lima2BackendError, Lima2ParamError
from support import CONFIG, Json, Rig, refused

from lima2_tango.cli.config import ConductorConfig, load_config
from lima2_tango.cli.system import System

BUDGET_MIB = 128
"""Device property memory_budget of each receiver here."""


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Two receivers with little memory, and a conductor."""
    config = load_config(CONFIG / "simulator.yaml")
    small = {"memory_budget": [str(BUDGET_MIB)]}
    receivers = tuple(member.model_copy(update={"properties": small}) for member in config.receivers)
    changes = {"receivers": receivers, "conductor": ConductorConfig(topology=config.conductor.topology)}
    with System(config.model_copy(update=changes), tmp_path_factory.mktemp("bad")) as running:
        running.wait_ready()
        yield running


@pytest.fixture
def client(system: System, rig: Rig) -> Conducted:
    assert rig.states()
    return Conducted.of(system)


def rectangle(x: int, y: int, width: int, height: int) -> Json:
    return {"topleft": {"x": x, "y": y}, "dimensions": {"x": width, "y": height}}


def arc(**changes: float) -> Json:
    return {"center": {"x": 32.0, "y": 48.0}, "r1": 1.0, "r2": 9.0, "a1": 0.0, "a2": 90.0} | changes


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Paths with something wrong about them."""
    folder = tmp_path_factory.mktemp("places")
    np.save(folder / "other_shape.npy", np.zeros((10, 12), np.uint8))
    (folder / "text.edf").write_text("this is no image")
    (folder / "file").write_text("not a folder")
    return {
        "missing": folder / "nowhere.npy",
        "other shape": folder / "other_shape.npy",
        "no image": folder / "text.edf",
        "below a file": folder / "file" / "data",
        "non-ASCII": folder / "\u6e2c\u5b9a \u00b5m" / "mask.npy",
        "a folder": folder,
    }


ACQ: dict[str, tuple[Json, str, str]] = {
    "image region outside the frame": ({"img.roi": rectangle(2040, 0, 20, 4)}, "$.img.roi", "2048"),
    "frames too large for the memory": (
        {"det.generator.pixel_type": "gray64f", "det.generator.nb_channels": 4, "img.roi": rectangle(0, 0, 0, 0)},
        "",
        "memory_budget",
    ),
}
PROC: dict[str, tuple[Json, str, str]] = {
    "rectangle outside the frame": (
        {"statistics.rect_rois": [rectangle(0, 0, 4, 4), rectangle(60, 0, 20, 4)]},
        "$.statistics.rect_rois[1]",
        "64 x 96",
    ),
    "arc off the frame": (
        {"statistics.arc_rois": [arc() | {"center": {"x": 900.0, "y": 0.0}}]},
        "$.statistics.arc_rois[0]",
        "move",
    ),
    "arc inside out": ({"statistics.arc_rois": [arc(r1=9.0, r2=1.0)]}, "$.statistics.arc_rois[0]", "r2"),
    "profile outside the frame": (
        {"profiles.rois": [rectangle(0, 90, 4, 7)], "profiles.directions": ["vertical"]},
        "$.profiles.rois[0]",
        "64 x 96",
    ),
    "profile without a direction": (
        {"profiles.rois": [rectangle(0, 0, 4, 7)]},
        "$.profiles.directions",
        "one direction",
    ),
    "mask without a file": ({"mask.enabled": True}, "$.mask.path", "file"),
    "relative folder": ({"saving.enabled": True, "saving.base_path": "data"}, "$.saving.base_path", "absolute"),
}
FILES = {
    "missing": "no such file",
    "other shape": "(10, 12)",
    "no image": "cannot be read",
    "a folder": "this is a folder",
    "non-ASCII": "no such file",
}


def check_both_ways(rig: Rig, client: Conducted, acq: Json, proc: Json) -> list[str]:
    """Refused through Tango and through the conductor, nothing is left behind; returns both sentences."""
    through_tango = refused(rig.prepare, client.acq(acq), client.proc(changes=proc))
    error = error_of(client.prepare, client.acq(acq), client.proc(changes=proc))
    assert isinstance(error, Lima2BackendError)
    client.run(client.acq({"acq.nb_frames": 4}), client.proc())
    return [through_tango, str(error)]


@pytest.mark.parametrize("case", ACQ)
def test_impossible_acquisition_parameters_are_refused_at_prepare(rig: Rig, client: Conducted, case: str) -> None:
    changes, path, remedy = ACQ[case]
    for sentence in check_both_ways(rig, client, changes, {}):
        assert path in sentence
        assert remedy in sentence
        assert "\n  File " not in sentence, "a stack trace is no sentence"


@pytest.mark.parametrize("case", PROC)
def test_impossible_processing_parameters_are_refused_at_prepare(rig: Rig, client: Conducted, case: str) -> None:
    changes, path, remedy = PROC[case]
    for sentence in check_both_ways(rig, client, {}, changes):
        assert path in sentence
        assert remedy in sentence


@pytest.mark.parametrize("correction", ["mask", "flatfield", "background"])
@pytest.mark.parametrize("place", FILES)
def test_an_unusable_calibration_file_is_refused_at_prepare(
    rig: Rig, client: Conducted, places: dict[str, Path], correction: str, place: str
) -> None:
    changes = {f"{correction}.enabled": True, f"{correction}.path": str(places[place])}
    for sentence in check_both_ways(rig, client, {}, changes):
        assert f"$.{correction}.path" in sentence
        assert str(places[place]) in sentence
        assert FILES[place] in sentence


def test_a_folder_below_a_file_is_refused_at_prepare(rig: Rig, client: Conducted, places: dict[str, Path]) -> None:
    changes = {"saving.enabled": True, "saving.base_path": str(places["below a file"])}
    for sentence in check_both_ways(rig, client, {}, changes):
        assert "$.saving.base_path" in sentence
        assert str(places["below a file"]) in sentence
        assert "not a folder" in sentence


def test_an_existing_file_is_refused_at_prepare_and_kept(rig: Rig, client: Conducted, tmp_path: Path) -> None:
    precious = tmp_path / "lima2_1_00000.h5"
    precious.write_bytes(b"precious")
    changes = {"saving.enabled": True, "saving.base_path": str(tmp_path)}
    for sentence in check_both_ways(rig, client, {}, changes):
        assert "$.saving" in sentence
        assert str(precious) in sentence
        assert "overwrite" in sentence
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [(precious.name, b"precious")]


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 MiB of its own."""
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "none", str(tmp_path)], capture_output=True)
    if done.returncode:
        pytest.skip(f"mounting needs more rights than we have: {done.stderr.decode().strip()}")
    yield tmp_path
    subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)


def test_a_read_only_folder_is_refused_at_prepare_even_for_root(rig: Rig, client: Conducted, mounted: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(mounted)], check=True)
    changes = {"saving.enabled": True, "saving.base_path": str(mounted)}
    for sentence in check_both_ways(rig, client, {}, changes):
        assert "$.saving.base_path" in sentence
        assert "read-only" in sentence


def test_a_full_disk_is_refused_at_prepare(rig: Rig, client: Conducted, mounted: Path) -> None:
    (mounted / "ballast").write_bytes(b"\0" * ((16 << 20) - 4096))
    changes = {"saving.enabled": True, "saving.base_path": str(mounted)}
    for sentence in check_both_ways(rig, client, {}, changes):
        assert "$.saving.base_path" in sentence
        assert "free" in sentence


def test_a_disk_that_fills_up_ends_the_run_and_keeps_what_was_written(
    rig: Rig, client: Conducted, mounted: Path
) -> None:
    """Frames of 1 MiB into 16 MiB: the run fails with the reason, the files before it are whole."""
    folder = mounted / "\u6e2c\u5b9a"
    frames = {"acq.nb_frames": 0, "acq.expo_time": 5_000, "img.roi": rectangle(0, 0, 1024, 1024)}
    frames["det.generator.pixel_type"] = "gray8"
    saving = {"saving.compression": "none", "saving.nb_frames_per_file": 2}
    client.prepare(client.acq(frames), client.proc(folder, saving))
    client.start()
    client.wait_end()
    (message, *_) = [text for text in client.check_failure() if "full" in text]
    assert str(folder) in message
    for name in rig.processing_names(str(client.services.pipeline.current_pipeline())):
        assert rig.device(name).Status(), "a message in any alphabet can be shown"
    client.reset()
    readable = sorted(folder.glob("lima2_[01]_*.h5"))
    assert len(readable) >= 4
    for file in readable:
        with h5py.File(file, "r") as h5:
            assert h5["entry_0000/instrument/detector/data"][...].any(axis=(1, 2)).all()
    client.run(client.acq({"acq.nb_frames": 4}), client.proc())


CODE_70: dict[str, tuple[str, Json, str]] = {
    "unknown key": ("acq", {"acq.nb_framse": 3}, "$.acq"),
    "unknown processing key": ("proc", {"saving.compresion": "zip"}, "$.saving"),
    "text for a number": ("acq", {"acq.nb_frames": "ten"}, "$.acq.nb_frames"),
    "null": ("acq", {"acq.expo_time": None}, "$.acq.expo_time"),
    "fraction": ("acq", {"acq.nb_frames": 2.5}, "$.acq.nb_frames"),
    "out of range": ("acq", {"acq.expo_time": 0}, "$.acq.expo_time"),
    "unknown choice": ("acq", {"acq.trigger_mode": "sometimes"}, "$.acq.trigger_mode"),
    "number for a text": ("proc", {"saving.base_path": 3}, "$.saving.base_path"),
    "colon in a path": ("proc", {"saving.base_path": "/tmp/a:b"}, "$.saving.base_path"),
    "half a region": (
        "proc",
        {"statistics.rect_rois": [{"topleft": {"x": 1.5, "y": 0}}]},
        "$.statistics.rect_rois[0].topleft.x",
    ),
    "wrong direction": ("proc", {"profiles.directions": ["up"]}, "$.profiles.directions[0]"),
}


@pytest.mark.parametrize("case", CODE_70)
def test_the_conductor_refuses_by_the_schema_and_names_the_path(client: Conducted, case: str) -> None:
    kind, changes, path = CODE_70[case]
    acq, proc = (changes, {}) if kind == "acq" else ({}, changes)
    error = error_of(client.prepare, client.acq(acq), client.proc(changes=proc))
    assert isinstance(error, Lima2ParamError)
    assert error.path == path
    assert error.schema, "the part of the schema that holds the remedy"


@pytest.mark.parametrize("case", CODE_70)
def test_the_server_refuses_the_same_without_a_conductor(rig: Rig, client: Conducted, case: str) -> None:
    kind, changes, path = CODE_70[case]
    acq, proc = (changes, {}) if kind == "acq" else ({}, changes)
    sentence = refused(rig.prepare, client.acq(acq), client.proc(changes=proc))
    assert sentence.startswith(path)
    assert re.search(r" = .+: .+", sentence), "path = value: remedy"


def test_a_null_in_the_masters_parameters_cannot_arise(client: Conducted, tmp_path: Path) -> None:
    """R11: whatever defaults leave out, the master file is written without a warning."""
    client.run(client.acq({"acq.nb_frames": 2}), client.proc(tmp_path))
    assert (tmp_path / "lima2_master.h5").exists()
