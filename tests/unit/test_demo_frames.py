"""The demo's frames and the proof that they all arrived."""

from concurrent.futures import ThreadPoolExecutor
from io import StringIO
from pathlib import Path

import h5py
import numpy as np
import pytest
from rich.console import Console

from lima2_tango.cli.demo.acquire import Taken
from lima2_tango.cli.demo.frames import MASKED, DemoFrames
from lima2_tango.cli.demo.inputs import SHAPE, InputFiles, real_frame
from lima2_tango.cli.demo.rois import ARCS, RECTANGLES, Region, regions
from lima2_tango.cli.demo.run import Report
from lima2_tango.cli.demo.verify import Verifier
from lima2_tango.core.errors import DataLossError
from lima2_tango.core.roi import Arc, PixelPosition, PixelSize, Position, Rectangle
from lima2_tango.core.storage import Compression
from lima2_tango.processing.rows import ROI
from lima2_tango.saving.compression import compressor

COUNT = 4
SMALL_REGIONS = [
    Region(Rectangle(topleft=PixelPosition(x=3, y=5), dimensions=PixelSize(x=20, y=10))),
    Region(Arc(center=Position(x=100.0, y=100.0), r1=20.0, r2=40.0, a1=10.0, a2=80.0)),
]


@pytest.fixture(scope="module")
def real():
    return real_frame()


@pytest.fixture(scope="module")
def crop(real):
    """Around a crossing of gaps, with a width that is no multiple of four."""
    return np.ascontiguousarray(real[400:700, 900:1201])


@pytest.fixture(scope="module")
def frames(crop):
    return DemoFrames(crop)


def test_the_real_frame_is_an_eiger_16m_with_its_gaps(real):
    assert real.shape == SHAPE
    assert np.all(real[512:550] == MASKED)
    assert np.all(real[:, 1028:1040] == MASKED)
    assert np.count_nonzero(real == MASKED) > 1_200_000


def test_gaps_and_bad_pixels_are_kept_and_nothing_else_looks_masked(frames, crop):
    for index in range(COUNT):
        np.testing.assert_array_equal(frames.frame(index) == MASKED, crop == MASKED)
    np.testing.assert_array_equal(frames.mask, crop == MASKED)


def test_the_real_counts_are_below_the_background():
    real = np.zeros((8, 8), np.uint16)
    real[2, 3] = 6416
    without, counts = DemoFrames(np.zeros_like(real)).frame(5), DemoFrames(real).frame(5)
    assert counts[2, 3] - without[2, 3] == 6416


def test_every_frame_differs(frames):
    made = [frames.frame(index) for index in range(20)]
    valid = ~frames.mask
    for index, image in enumerate(made):
        for other in made[:index]:
            assert np.mean(image[valid] != other[valid]) > 0.5


@pytest.mark.parametrize("index", [0, 1, 7, 2**31])
def test_a_frame_can_be_made_again_from_its_index(crop, frames, index):
    out = np.full(frames.shape, 1, np.uint16)
    assert frames.frame(index, out) is out
    np.testing.assert_array_equal(out, DemoFrames(crop).frame(index))


def test_threads_make_the_same_frames(frames):
    with ThreadPoolExecutor(2) as pool:
        made = list(pool.map(frames.frame, range(COUNT)))
    for index, image in enumerate(made):
        np.testing.assert_array_equal(image, frames.frame(index))


def test_the_background_is_poisson_and_spots_stand_out(frames):
    valid = ~frames.mask
    counts = np.stack([frames.frame(index)[valid] for index in range(40)]).astype(float)
    assert np.median(counts.var(axis=0, ddof=1) / counts.mean(axis=0)) == pytest.approx(1, abs=0.1)
    assert counts.max() > 200


def test_frames_compress_like_data(frames):
    image = frames.frame(0)
    bitshuffle = compressor(Compression.BSHUF_LZ4)
    out = np.empty(bitshuffle.bound(image.nbytes, image.itemsize), np.uint8)
    assert 2 < image.nbytes / len(bitshuffle.compress(image, out)) < 6


def test_no_region_of_the_demo_holds_a_masked_pixel(real):
    for region in regions():
        pixels = region.pixels(real)
        assert pixels.size > 10_000
        assert not np.any(pixels == MASKED)


def test_regions_lie_on_the_image():
    for roi in RECTANGLES:
        assert roi.topleft.y + roi.dimensions.y <= SHAPE[0]
        assert roi.topleft.x + roi.dimensions.x <= SHAPE[1]
    assert all(arc.center.x + arc.r2 < SHAPE[1] and arc.center.y + arc.r2 < SHAPE[0] for arc in ARCS)


def test_an_arc_has_the_pixels_that_its_definition_says():
    ramp = np.arange(200 * 200, dtype=np.uint16).reshape(200, 200)
    y, x = np.mgrid[:200, :200] - 100.0
    radius, angle = np.hypot(x, y), np.degrees(np.arctan2(y, x))
    inside = (radius >= 20) & (radius < 40) & (angle >= 10) & (angle < 80)
    np.testing.assert_array_equal(SMALL_REGIONS[1].pixels(ramp), ramp[inside])


class TestVerifier:
    """Against a file as an acquisition would leave it, with one thing wrong at a time."""

    @pytest.fixture
    def taken(self, tmp_path, frames):
        rows = np.zeros((len(SMALL_REGIONS), COUNT), ROI)
        for number, region in enumerate(SMALL_REGIONS):
            for index in range(COUNT):
                found = region.statistics(frames.frame(index))
                rows[number, index] = (
                    index, 0, found.minimum, found.maximum, found.average, found.deviation, found.total,
                )  # fmt: skip
        master = tmp_path / "demo_master.h5"
        with h5py.File(master, "w") as file:
            file["data"] = np.stack([frames.frame(index) for index in range(COUNT)])
        return Taken(master, "data", list(rows), 1.0)

    def verify(self, frames, taken):
        seen = []
        Verifier(frames, COUNT, taken, SMALL_REGIONS).run(lambda: seen.append(1), 2)
        return len(seen)

    def test_all_frames_are_compared(self, frames, taken):
        assert self.verify(frames, taken) == COUNT

    @pytest.mark.parametrize(
        ("rows", "message"),
        [([1, 0, 2, 3], "place of frame 0 is frame 1"), ([0, 1, 1, 3], "place of frame 2 is frame 1")],
        ids=["swapped", "doubled"],
    )
    def test_a_frame_at_the_wrong_place_is_found(self, frames, taken, rows, message):
        with h5py.File(taken.master, "r+") as file:
            file["data"][...] = file["data"][()][rows]
        with pytest.raises(DataLossError, match=message):
            self.verify(frames, taken)

    def test_a_lost_frame_is_found(self, frames, taken):
        with h5py.File(taken.master, "r+") as file:
            kept = file["data"][: COUNT - 1]
            del file["data"]
            file["data"] = kept
        with pytest.raises(DataLossError, match="shape"):
            self.verify(frames, taken)

    def test_one_wrong_pixel_is_found(self, frames, taken):
        with h5py.File(taken.master, "r+") as file:
            file["data"][3, 10, 10] += 1
        with pytest.raises(DataLossError, match="frame 3 differs from its original in 1 pixels"):
            self.verify(frames, taken)

    @pytest.mark.parametrize("column", ["min", "max", "avg", "std", "sum"])
    def test_one_wrong_statistic_is_found(self, frames, taken, column):
        taken.statistics[1][2][column] += 1
        with pytest.raises(DataLossError, match="frame 2: region 1"):
            self.verify(frames, taken)


def test_input_files_hold_the_frames_in_order(tmp_path, frames):
    seen = []
    inputs = InputFiles(frames, COUNT, tmp_path)
    inputs.write(lambda: seen.append(1), 2)
    params = inputs.reader_params()
    assert len(seen) == COUNT
    with h5py.File(tmp_path / f"{params['filename_prefix']}_0_00000.h5") as file:
        saved = file[params["dataset_path"]][()]
    np.testing.assert_array_equal(saved, [frames.frame(index) for index in range(COUNT)])


def test_the_paths_are_told_whole_on_a_narrow_terminal():
    folder = Path("/data/visitor/ma1234 [test]/id00/20261123/RAW_DATA", "a" * 60, "lima2_demo")
    master, picture = folder / "data" / "demo_master.h5", folder / "frame_00100.png"
    said = StringIO()
    Report(200, 200 << 20, 50 << 20, 4, 3.0, master, picture, {"draw": 1.0}).tell(
        Console(file=said, width=80, force_terminal=True, color_system=None)
    )
    lines = said.getvalue().splitlines()
    assert lines[-2:] == [f"master file  {master}", f"picture      {picture}"]
    assert max(map(len, lines[:-2])) <= 80
