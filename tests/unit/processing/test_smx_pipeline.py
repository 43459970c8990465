"""The Smx pipeline, from parameters and blocks to files, frames, sparse frames, sums, rows and counts."""

import re
from pathlib import Path

import numpy as np
import pytest

from lima2_tango.core.errors import NotAvailableError, ParamError, SavingError
from lima2_tango.core.frame import Block, FrameSpec, Lease
from lima2_tango.core.sparse import SparseSpec, unpacked
from lima2_tango.processing.nodes.sparse import PEAKS
from lima2_tango.processing.pipelines.smx import PLUGIN, SmxParams
from lima2_tango.processing.rows import FRAME_IDX, ROI
from lima2_tango.testing.matrices import ring_radii, write_rings
from lima2_tango.testing.pipelines import Rig, image

SPEC = FrameSpec(1, 24, 20, np.dtype("u2"))
SHAPE = (SPEC.height, SPEC.width)
BINS = 6
WHOLE = {"topleft": {"x": 0, "y": 0}, "dimensions": {"x": 20, "y": 24}}
STREAMS = ("saving_dense", "saving_sparse", "saving_accumulation_corrected", "saving_accumulation_peak")
SUMS = ("acc_corrected", "acc_peaks")
CAPACITY = SparseSpec(*SHAPE, np.ones(BINS, "f4"), np.ones(SHAPE, "f4")).capacity
PICK_ALL = {"cutoff_pick": 0.0, "noise": 0.0, "cutoff_clip": 1e6}


@pytest.fixture
def rig():
    with Rig(SPEC) as rig:
        yield rig
        assert rig.pool.lent == 0
        assert all(sink.outstanding == 0 for sink in rig.sinks)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    return write_rings(tmp_path, SHAPE, BINS)


def build(rig, files, fai=None, **blocks):
    return PLUGIN.build(SmxParams.model_validate({"fai": {**files, **(fai or {})}, **blocks}), rig.setup)


def refused(rig, files, fai=None, **blocks):
    with pytest.raises(ParamError) as caught:
        build(rig, files, fai, **blocks)
    assert rig.pool.lent == 0
    return f"{caught.value.path} {caught.value.reason}"


def saved(folder, name, values):
    path = folder / f"{name}.npy"
    np.save(path, values)
    return str(path)


def sparse_of(pipeline, index):
    with pipeline.history("sparse").frame(index) as (number, packed):
        assert index in {-1, number}
        found = unpacked(packed.copy())
    return found


def sum_of(pipeline, label, index):
    with pipeline.history(label).frame(index) as (number, data):
        return number, data[0].copy()


def only(*names):
    return {name: {"enabled": name in names} for name in STREAMS}


def test_a_run_saves_and_keeps_frames_and_their_sparse_frames(rig, files):
    pipeline = build(rig, files, PICK_ALL, frame_idx_enabled=True)
    indices = range(1, 23, 2)
    rig.run(pipeline, indices, receivers=2)
    frames = [image(SPEC, i) for i in indices]
    assert rig.paths == [f"$.{name}" for name in STREAMS]
    dense, sparse, corrected, peaks = rig.sinks
    assert dense.index == sparse.index == list(indices)
    assert np.array_equal(dense.frames, frames)
    assert corrected.index == peaks.index == [19, 21]
    rows = np.frombuffer(pipeline.pop("popPeakCounters"), PEAKS)
    assert rows["frame_idx"].tolist() == list(indices)
    for frame, packed, row in zip(frames, sparse.frames, rows, strict=True):
        found = unpacked(packed)
        assert found.shape == SHAPE
        assert len(found.average) == BINS
        assert np.array_equal(found.intensity, frame.reshape(-1)[found.pixels])
        assert len(found.pixels) == min(CAPACITY, row["nb_peaks"])
    assert pipeline.counters.read() == {
        "nb_frames_source": 11,
        "nb_frames_input": 11,
        "nb_frames_sparse": 11,
        "nb_frames_saved": 11,
        "nb_frames_cut": 11,
        "nb_frames_acc_corrected": 2,
        "nb_frames_acc_peaks": 2,
    }
    assert pipeline.last_frames() == {"input_idx": 21, "sparse_idx": 21, "acc_corrected_idx": 21, "acc_peaks_idx": 21}
    assert np.frombuffer(pipeline.pop("popFrameIdx"), FRAME_IDX)["frame_idx"].tolist() == list(indices)
    assert pipeline.infos["processed_frame_info"].info()["pixel_type"] == "gray16"
    pipeline.erase()


def test_spots_are_picked_and_the_rest_is_background(rig, files):
    pipeline = build(rig, files, {"cutoff_pick": 8.0}, **only())
    rig.run(pipeline, range(4))
    assert len(sparse_of(pipeline, 2).pixels) == 0
    assert rig.sinks == []
    assert pipeline.counters.read()["nb_frames_cut"] == 0
    pipeline.erase()


def test_corrections_come_from_their_files(rig, files, tmp_path):
    rng = np.random.default_rng(0)
    flat, dark = rng.uniform(0.8, 1.2, SHAPE), np.full(SHAPE, 3.0)
    masked = rng.random(SHAPE) < 0.2
    fai = {
        "flat_path": saved(tmp_path, "flat", flat),
        "dark_path": saved(tmp_path, "dark", dark),
        "mask_path": saved(tmp_path, "mask", masked.astype("u1")),
        "acc_nb_frames_xfer": 4,
    }
    pipeline = build(rig, files, fai | PICK_ALL)
    rig.run(pipeline, range(4))
    assert np.array_equal(rig.sinks[0].frames[3], image(SPEC, 3)), "the frames themselves are as they came"
    found = sparse_of(pipeline, 3)
    assert not masked.reshape(-1)[found.pixels].any()
    assert np.allclose(found.intensity, image(SPEC, 3).reshape(-1)[found.pixels] - 3.0)
    expected = sum(np.where(masked, 0, (image(SPEC, i)[0] - 3.0) / flat) for i in range(4))
    assert np.allclose(sum_of(pipeline, "acc_corrected", -1)[1], expected, rtol=1e-5)
    pipeline.erase()


def test_sums_go_on_from_transfer_to_transfer_and_begin_anew_at_a_reset(rig, files):
    fai = {"acc_nb_frames_xfer": 4, "acc_nb_frames_reset": 10}
    pipeline = build(rig, files, fai, **only("saving_accumulation_corrected"))
    rig.run(pipeline, range(23), per_block=3)
    assert rig.sink.index == [3, 7, 9, 13, 17, 19, 22]
    for first, last in ((0, 3), (0, 7), (0, 9), (10, 13), (10, 17), (10, 19), (20, 22)):
        expected = sum(image(SPEC, i)[0].astype(float) for i in range(first, last + 1))
        for asked in (last, last - 1):
            assert sum_of(pipeline, "acc_corrected", asked)[0] == last
        assert np.allclose(sum_of(pipeline, "acc_corrected", last)[1], expected, rtol=1e-6)
    assert sum_of(pipeline, "acc_corrected", -1)[0] == 22
    with pytest.raises(NotAvailableError, match="no acc_corrected sum has frame 23 yet"):
        sum_of(pipeline, "acc_corrected", 23)
    pipeline.erase()


def test_peaks_are_summed_where_they_were_picked(rig, files):
    pipeline = build(rig, files, PICK_ALL | {"acc_nb_frames_xfer": 3}, **only())
    rig.run(pipeline, range(3))
    expected = np.zeros(SHAPE[0] * SHAPE[1])
    for index in range(3):
        found = sparse_of(pipeline, index)
        expected[found.pixels] += found.intensity
    assert np.array_equal(sum_of(pipeline, "acc_peaks", 0)[1].reshape(-1), expected)
    pipeline.erase()


def test_no_sums_are_made_where_none_are_asked_for(rig, files):
    pipeline = build(rig, files, {"acc_nb_frames_xfer": 0})
    rig.run(pipeline, range(12))
    assert rig.paths == ["$.saving_dense", "$.saving_sparse"]
    with pytest.raises(NotAvailableError, match="keeps no acc_peaks frames"):
        pipeline.history("acc_peaks")
    pipeline.erase()


def test_lost_frames_are_zeros_in_every_stream(rig, files):
    pipeline = build(rig, files, PICK_ALL | {"acc_nb_frames_xfer": 8})
    rig.run(pipeline, range(8), lost=[3])
    lost = sparse_of(pipeline, 3)
    assert len(lost.pixels) == 0
    assert not lost.average.any()
    assert not rig.sinks[0].frames[3].any()
    assert np.frombuffer(pipeline.pop("popPeakCounters"), PEAKS)["nb_peaks"][3] == 0
    expected = sum(image(SPEC, i)[0].astype(float) for i in range(8) if i != 3)
    assert np.allclose(sum_of(pipeline, "acc_corrected", 7)[1], expected, rtol=1e-6)
    pipeline.erase()


def test_regions_are_those_of_the_frame(rig, files):
    pipeline = build(rig, files, statistics={"enabled": True, "rect_rois": [WHOLE]})
    rig.run(pipeline, range(5))
    rows = np.frombuffer(pipeline.pop("popRoiStatistics"), ROI)
    assert rows["avg"][2] == np.float32(image(SPEC, 2).mean())
    pipeline.erase()


def test_a_full_disk_stops_the_run_at_what_is_written(files):
    with Rig(SPEC, fail_saving_at=6) as rig:
        pipeline = build(rig, files)
        with pytest.raises(SavingError, match="no space left"):
            rig.run(pipeline, range(20), per_block=4)
        counts = pipeline.counters.read()
        assert (counts["nb_frames_sparse"], counts["nb_frames_source"]) == (6, 4)
        assert all(sink.closed for sink in rig.sinks)
        pipeline.erase()
        assert rig.pool.lent == 0
        assert {sink.outstanding for sink in rig.sinks} == {0}


def test_frames_of_reals_may_lack_values(files):
    with Rig(FrameSpec(1, *SHAPE, np.dtype("f4"))) as rig:
        pipeline = build(rig, files, {"do_dummy": True, "dummy": 7.0})
        rig.run(pipeline, range(6))
        assert not np.any(sparse_of(pipeline, 5).intensity == 7)
        pipeline.erase()


def other_radius(folder):
    return saved(folder, "other", ring_radii(SHAPE, BINS)[1] * 1000)


def bad_calibrations(folder):
    """Parameters that cannot work, and the beginning of what is said of them."""
    return {
        "no model": ({"error_model": "no_var"}, r"\$.fai.error_model pixels are clipped by their deviation"),
        "no radius1d": ({"radius1d_path": ""}, r"\$.fai.radius1d_path a file with the centres of the bins is needed"),
        "radius1d gone": ({"radius1d_path": "/nowhere"}, r"\$.fai.radius1d_path there is no such file"),
        "radius1d of 5": (
            {"radius1d_path": saved(folder, "five", np.arange(5.0))},
            r"\$.fai.radius1d_path it has 5 values, the matrix 6 bins",
        ),
        "radius1d falls": (
            {"radius1d_path": saved(folder, "falls", np.arange(6.0)[::-1])},
            r"\$.fai.radius1d_path its values are the centres of the bins: they must be finite and rise",
        ),
        "radius1d rises in doubles alone": (
            {"radius1d_path": saved(folder, "near", 1 + np.arange(6.0) * 1e-12)},
            r"\$\.fai.radius1d_path its values are the centres of the bins: they must be finite and rise",
        ),
        "radius1d beyond single precision": (
            {"radius1d_path": saved(folder, "far", np.arange(6.0) * 1e300)},
            r"\$\.fai.radius1d_path its values are the centres of the bins: they must be finite and rise",
        ),
        "radius2d without an end": (
            {"radius2d_path": saved(folder, "endless", np.full(SHAPE, np.inf))},
            r"\$\.fai.radius2d_path no pixel that the matrix uses has a radius",
        ),
        "radius1d is an image": (
            {"radius1d_path": saved(folder, "image", np.ones((3, 4)))},
            r"\$.fai.radius1d_path this file cannot be read as radii \(its shape is \(3, 4\)\)",
        ),
        "radius2d of another shape": (
            {"radius2d_path": saved(folder, "shape", np.ones((24, 21)))},
            r"\$.fai.radius2d_path its shape is \(24, 21\), the frames are \(1, 24, 20\)",
        ),
        "radius2d in another unit": (
            {"radius2d_path": other_radius(folder)},
            r"\$.fai.radius2d_path only \d+% of the pixels are near the centre of their bin",
        ),
        "radius2d without a value": (
            {"radius2d_path": saved(folder, "nan", np.full(SHAPE, np.nan))},
            r"\$.fai.radius2d_path no pixel that the matrix uses has a radius",
        ),
        "all masked": (
            {"mask_path": saved(folder, "all", np.ones(SHAPE))},
            r"\$.fai.mask_path no pixel that the matrix uses is left",
        ),
        "NaN in the flat field": (
            {"flat_path": saved(folder, "flat", np.full(SHAPE, np.nan))},
            r"\$.fai.flat_path 480 pixels are not finite",
        ),
        "reset without sums": (
            {"acc_nb_frames_xfer": 0, "acc_nb_frames_reset": 5},
            r"\$.fai.acc_nb_frames_reset there are no sums to begin anew",
        ),
    }


CASES = (
    "no model",
    "no radius1d",
    "radius1d gone",
    "radius1d of 5",
    "radius1d falls",
    "radius1d rises in doubles alone",
    "radius1d beyond single precision",
    "radius2d without an end",
    "radius1d is an image",
    "radius2d of another shape",
    "radius2d in another unit",
    "radius2d without a value",
    "all masked",
    "NaN in the flat field",
    "reset without sums",
)


@pytest.mark.parametrize("case", CASES)
def test_what_cannot_work_is_refused_with_its_path(rig, files, tmp_path, case):
    fai, reason = bad_calibrations(tmp_path)[case]
    said = refused(rig, files, fai)
    assert re.match(reason, said), said


def test_a_matrix_of_another_detector_is_refused(rig, files, tmp_path):
    (tmp_path / "other").mkdir()
    other = write_rings(tmp_path / "other", (40, 20), BINS)
    assert refused(rig, {**files, "csr_path": other["csr_path"]}).startswith("$.fai.csr_path it is for images of")


@pytest.mark.parametrize("name", STREAMS[1:])
def test_streams_with_the_same_files_are_refused(rig, files, name):
    same = {"filename_prefix": "scan"}
    said = refused(rig, files, saving_dense=same, **{name: same})
    assert said.startswith(f"$.{name}.filename_prefix $.saving_dense has files of the same names in the same folder")


def test_a_folder_that_cannot_be_written_is_refused_and_leaves_nothing(rig, files):
    for name in STREAMS:
        assert refused(rig, files, **{name: {"base_path": "/refused"}}).startswith(f"$.{name}.base_path")


@pytest.fixture
def two():
    """Surroundings of a detector with two thresholds."""
    with Rig(FrameSpec(2, *SHAPE, np.dtype("u2"))) as rig:
        yield rig
        assert rig.pool.lent == 0
        assert all(sink.outstanding == 0 for sink in rig.sinks)


@pytest.mark.parametrize("channel", [0, 1])
@pytest.mark.parametrize("model", ["poisson", "azimuthal"])
def test_a_channel_is_treated_as_it_would_be_alone(two, rig, files, channel, model):
    """Peaks, background and sums, bit for bit; frames are saved with all their channels."""
    fai = {"error_model": model, "cutoff_pick": 1.5, "acc_nb_frames_xfer": 4}
    for each, wanted in ((two, channel), (rig, 0)):
        pipeline = build(each, files, fai | {"channel": wanted})
        for i in range(0, 10, 5):
            data = np.stack([image(two.spec, j) for j in range(i, i + 5)])
            frames = data if each is two else data[:, channel : channel + 1].copy()
            pipeline.put(Block(frames, np.arange(i, i + 5), i, np.zeros(5), Lease()))
        pipeline.finish()
        pipeline.erase()
    whole, *made = two.sinks
    assert np.array_equal(whole.frames, [image(two.spec, i) for i in range(10)])
    for several, alone in zip(made, rig.sinks[1:], strict=True):
        assert several.index == alone.index
        assert several.spec == alone.spec
        assert np.array(several.frames).tobytes() == np.array(alone.frames).tobytes()
    assert any(len(unpacked(packed).pixels) for packed in made[0].frames)
    assert made[1].frames[0].any()


def test_of_several_channels_the_first_is_searched(two, files):
    pipeline = build(two, files, PICK_ALL)
    two.run(pipeline, range(3))
    found = sparse_of(pipeline, 2)
    assert found.shape == SHAPE
    assert np.array_equal(found.intensity, image(two.spec, 2)[0].reshape(-1)[found.pixels])
    pipeline.erase()


def test_a_channel_that_frames_do_not_have_is_refused(two, files):
    assert refused(two, files, {"channel": 2}).startswith("$.fai.channel there is no such channel, the frames have 2")


def test_the_radius_of_a_pixel_is_that_of_all_channels(two, files, tmp_path):
    radius = np.broadcast_to(ring_radii(SHAPE, BINS)[1], (2, *SHAPE))
    said = refused(two, files, {"radius2d_path": saved(tmp_path, "radius", radius)})
    assert said.startswith("$.fai.radius2d_path its shape is (2, 24, 20), the frames are (1, 24, 20)")
