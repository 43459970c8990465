"""`lima2 view`: what it tells of files of runs, and of what is none."""

import json
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from lima2_tango.cli.main import app
from lima2_tango.core.frame import FrameSpec
from lima2_tango.core.storage import SavingParams
from lima2_tango.saving.master import write_master
from lima2_tango.saving.positioners import Monitor, Positioner, write_positioners
from lima2_tango.saving.writer import SeriesWriter
from lima2_tango.testing.sinks import METADATA, make_block, pixels

SPEC = FrameSpec(1, 24, 36, np.dtype("u2"))
FRAMES = 7
Lima2 = Callable[..., Result]


@pytest.fixture
def lima2() -> Lima2:
    return lambda *arguments: CliRunner().invoke(app, ["view", *map(str, arguments)])


@pytest.fixture
def master(tmp_path: Path) -> Path:
    """Of two receivers; frame 3 was lost."""
    params = SavingParams(base_path=str(tmp_path), nb_frames_per_file=5)
    dealt = [np.arange(rank, FRAMES, 2) for rank in range(2)]
    for rank, numbers in enumerate(dealt):
        mine = params.model_copy(update={"filename_rank": rank})
        writer = SeriesWriter(mine, SPEC, "$.saving", rank, METADATA, None, False)
        block = make_block(SPEC, 0, len(numbers), 2, rank)
        block.valid = block.index != 3
        writer.append(writer.encode(block))
        writer.close()
    path = tmp_path / "lima2_master.h5"
    write_master(path, params, "dense", SPEC, dealt, METADATA)
    return path


def expected_sums(x: int, y: int, width: int, height: int) -> list[float | None]:
    sums = [float(pixels(SPEC, index)[0, y : y + height, x : x + width].sum()) for index in range(FRAMES)]
    return [*sums[:3], None, *sums[4:]]


def test_a_master_file_is_summed_up_for_people(lima2: Lima2, master: Path) -> None:
    result = lima2(master)
    assert result.exit_code == 0, result.output
    told = " ".join(result.output.split())
    assert "lima2_master.h5 (master file)" in told
    assert "7 frames, 0 to 6; 24 x 36 uint16" in told
    assert "lost 1, the first is 3" in told
    assert "in 2 files" in told


def test_the_same_for_programs(lima2: Lima2, master: Path) -> None:
    told = json.loads(lima2(master, "--json", "--frame", 5).output)
    frame = pixels(SPEC, 5)
    assert (told["kind"], told["frames"], told["shape"], told["lost"]) == ("master", 7, [24, 36], [3])
    assert told["shown"]["index"] == 5
    assert told["shown"]["sum"] == frame.sum(dtype=np.float64)
    assert told["shown"]["max"] == frame.max()
    assert told["raw"] == FRAMES * frame.nbytes
    assert told["stored"] == sum(file.stat().st_size for file in master.parent.glob("lima2_[01]_*.h5"))


def test_a_data_file_holds_the_frames_of_its_receiver(lima2: Lima2, master: Path) -> None:
    (file, *_) = sorted(master.parent.glob("lima2_1_*.h5"))
    told = json.loads(lima2(file, "--json").output)
    assert (told["kind"], told["frames"], told["first"], told["last"]) == ("data", 3, 1, 5)


def test_a_region_is_summed_over_all_frames_but_lost_ones(lima2: Lima2, master: Path) -> None:
    told = json.loads(lima2(master, "--json", "--roi", "2,3,10,5", "--roi", "0,0,36,24").output)
    assert [curve["roi"] for curve in told["rois"]] == [[2, 3, 10, 5], [0, 0, 36, 24]]
    for curve in told["rois"]:
        assert curve["sum"] == expected_sums(*curve["roi"])


def test_positions_and_monitors_are_told(lima2: Lima2, master: Path) -> None:
    x = np.linspace(-1, 2, FRAMES)
    write_positioners(master, {"phi": Positioner(x, "deg"), "i0": Monitor(np.arange(FRAMES))})
    told = json.loads(lima2(master, "--json").output)
    assert [(column["name"], column["unit"]) for column in told["columns"]] == [("phi", "deg"), ("i0", "")]
    assert told["columns"][0]["values"] == x.tolist()
    assert "-1 to 2 deg" in lima2(master).output


def png_size(path: Path) -> tuple[int, int]:
    """Columns and rows of a PNG whose parts are all sound."""
    content = path.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    place = 8
    while place < len(content):
        (length,) = struct.unpack(">I", content[place : place + 4])
        body = content[place + 4 : place + 8 + length]
        assert zlib.crc32(body) == struct.unpack(">I", content[place + 8 + length : place + 12 + length])[0]
        place += 12 + length
    width, height = struct.unpack(">II", content[16:24])
    return int(width), int(height)


def test_a_picture_is_drawn_with_the_curves_of_regions(lima2: Lima2, master: Path, tmp_path: Path) -> None:
    plain, curves = tmp_path / "plain.png", tmp_path / "curves.png"
    assert lima2(master, "-o", plain, "--log").exit_code == 0
    assert str(curves) in lima2(master, "-o", curves, "--roi", "2,3,10,5").output
    assert png_size(curves)[1] > png_size(plain)[1] > 300


def test_a_frame_is_drawn_into_the_terminal(lima2: Lima2, master: Path) -> None:
    output = lima2(master, "--show", "--frame", 2).output
    assert output.count("\N{UPPER HALF BLOCK}") == SPEC.width * SPEC.height // 2


@pytest.mark.parametrize(("options", "end"), [((), " counts"), (("--log",), " counts, logarithmic")])
def test_below_a_frame_in_the_terminal_is_of_which_counts_its_colours_are(
    lima2: Lima2, master: Path, options: tuple[str, ...], end: str
) -> None:
    said = lima2(master, "--show", "--frame", 2, *options).output.splitlines()[-1]
    low, high = np.percentile(pixels(SPEC, 2), (1, 99.9))
    assert said.startswith(f"{low:.4g} ")
    assert said.endswith(f" {high:.4g}{end}")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--frame", "7"], "frame 7 was not saved: the files hold 7 frames from 0 to 6"),
        (["--roi", "0,0,37,1"], "leaves the frames of 36 x 24 pixels"),
        (["--roi", "0,0,0,1"], "leaves the frames"),
        (["--roi", "1,2,3"], "give x,y,width,height"),
        (["--show", "--json"], "choose one"),
        (["-o", "/proc/no folder/a.png"], "cannot be written"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_shown_is_one_sentence(lima2: Lima2, master: Path, arguments: list[str], sentence: str) -> None:
    result = lima2(master, *arguments)
    assert result.exit_code == 1
    assert sentence in result.stderr
    assert len(result.stderr.splitlines()) == 1


class TestWhatIsNoFileOfARun:
    @pytest.fixture
    def refusal(self, lima2: Lima2) -> Callable[[Path], str]:
        def refuse(path: Path) -> str:
            result = lima2(path)
            assert result.exit_code == 1
            assert len(result.stderr.splitlines()) == 1
            return result.stderr

        return refuse

    def test_absent(self, refusal: Callable[[Path], str], master: Path) -> None:
        assert "does not exist; there: lima2_master.h5" in refusal(master.parent / "other.h5")

    def test_a_folder(self, refusal: Callable[[Path], str], master: Path) -> None:
        assert "is a folder: name a file in it; there: lima2_master.h5" in refusal(master.parent)

    def test_empty(self, refusal: Callable[[Path], str], tmp_path: Path) -> None:
        (tmp_path / "a.h5").touch()
        assert "is empty" in refusal(tmp_path / "a.h5")

    def test_text(self, refusal: Callable[[Path], str], tmp_path: Path) -> None:
        (tmp_path / "a.h5").write_text("no frames here")
        assert "is no HDF5 file" in refusal(tmp_path / "a.h5")

    def test_hdf5_of_others(self, refusal: Callable[[Path], str], tmp_path: Path) -> None:
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file["value"] = 1
        assert "no file of a run" in refusal(tmp_path / "a.h5")

    def test_sparse(self, refusal: Callable[[Path], str], tmp_path: Path) -> None:
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file["entry/detector/data/frame_ptr"] = [0, 0, 3]
        assert "holds sparse frames, and here dense ones are shown: fabio.open" in refusal(tmp_path / "a.h5")

    @pytest.mark.parametrize("part", [0.02, 0.5, 0.99])
    def test_cut_off(self, refusal: Callable[[Path], str], master: Path, part: float) -> None:
        (file, *_) = sorted(master.parent.glob("lima2_1_*.h5"))
        os.truncate(file, int(file.stat().st_size * part))
        assert "is cut off: it has" in refusal(file)

    def test_damaged(self, refusal: Callable[[Path], str], master: Path) -> None:
        (file, *_) = sorted(master.parent.glob("lima2_1_*.h5"))
        content = bytearray(file.read_bytes())
        content[48:120] = b"\xff" * 72
        file.write_bytes(content)
        assert str(file) in refusal(file)

    def test_a_master_whose_data_files_are_gone(self, refusal: Callable[[Path], str], master: Path) -> None:
        next(master.parent.glob("lima2_1_*.h5")).unlink()
        assert "of which 1 are gone" in refusal(master)

    def test_still_being_written(self, refusal: Callable[[Path], str], tmp_path: Path) -> None:
        params = SavingParams(base_path=str(tmp_path))
        writer = SeriesWriter(params, SPEC, "$.saving", 0, METADATA, None, False)
        writer.append(writer.encode(make_block(SPEC, 0, 2)))
        (hidden,) = tmp_path.glob(".*.part")
        assert "it becomes lima2_0_00000.h5" in refusal(hidden)
        assert "is still being written: wait until its run is over" in refusal(tmp_path / "lima2_0_00000.h5")
        writer.close()

    def test_locked_by_another_program(self, refusal: Callable[[Path], str], tmp_path: Path) -> None:
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file["value"] = 1
            descriptor = os.open(tmp_path / "a.h5", os.O_RDONLY)
            os.close(descriptor)
        import fcntl

        with (tmp_path / "a.h5").open("r+b") as writing:
            fcntl.flock(writing, fcntl.LOCK_EX)
            assert "another program, which has locked it" in refusal(tmp_path / "a.h5")
