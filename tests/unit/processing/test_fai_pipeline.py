"""The Fai pipeline, from parameters and blocks to files, frames, vectors, rows and counts."""

import re
from pathlib import Path

import numpy as np
import pytest

from lima2_tango.core.acquisition import AcquisitionParams
from lima2_tango.core.errors import NotAvailableError, ParamError, ProcessingError, SavingError
from lima2_tango.core.frame import Block, FrameSpec, Lease
from lima2_tango.core.roi import Direction
from lima2_tango.processing.pipelines.fai import PLUGIN, FaiParams
from lima2_tango.processing.rows import FRAME_IDX, ROI
from lima2_tango.testing.matrices import ring_matrix, write_matrix
from lima2_tango.testing.pipelines import Rig, image

SPEC = FrameSpec(1, 24, 20, np.dtype("u2"))
SHAPE = (SPEC.height, SPEC.width)
BINS = 6
MATRIX = ring_matrix(SHAPE, BINS)
WHOLE = {"topleft": {"x": 0, "y": 0}, "dimensions": {"x": 20, "y": 24}}


@pytest.fixture
def rig():
    with Rig(SPEC) as rig:
        yield rig
        assert rig.pool.lent == 0
        assert all(sink.outstanding == 0 for sink in rig.sinks)


@pytest.fixture
def csr(tmp_path: Path) -> str:
    return write_matrix(tmp_path / "csr.h5", MATRIX)


def build(rig, csr, fai=None, **blocks):
    return PLUGIN.build(FaiParams.model_validate({"fai": {"csr_path": csr, **(fai or {})}, **blocks}), rig.setup)


def refused(rig, csr, fai=None, **blocks):
    with pytest.raises(ParamError) as caught:
        build(rig, csr, fai, **blocks)
    return f"{caught.value.path} {caught.value.reason}"


def saved(folder, name, values):
    path = folder / f"{name}.npy"
    np.save(path, values)
    return str(path)


def average(frame, weight=None, dark=0.0):
    """[bin]"""
    weight = np.ones(SHAPE) if weight is None else weight
    signal = np.where(weight > 0, frame - dark, 0.0)
    return MATRIX.dot(signal.reshape(-1)) / MATRIX.dot(weight.reshape(-1))


def vectors_of(pipeline, indices):
    """[frame, channel, bin]"""
    found = []
    for index in indices:
        with pipeline.history("integrated").frame(index) as (number, made):
            assert number == index
            found.append(made[:, 0].copy())
    return np.array(found)


def test_a_run_saves_and_keeps_frames_and_their_vectors(rig, csr):
    pipeline = build(rig, csr, frame_idx_enabled=True)
    indices = range(1, 23, 2)
    rig.run(pipeline, indices, receivers=2)
    frames = [image(SPEC, i) for i in indices]
    dense, vectors = rig.sinks
    assert rig.paths == ["$.saving_dense", "$.saving_fai"]
    assert dense.index == vectors.index == list(indices)
    assert np.array_equal(dense.frames, frames)
    expected = [average(frame[0]) for frame in frames]
    assert np.allclose(np.array(vectors.frames)[:, 0, 0], expected)
    assert np.allclose(vectors_of(pipeline, indices)[:, 0], expected)
    assert pipeline.counters.read() == {
        "nb_frames_source": 11,
        "nb_frames_integrated": 11,
        "nb_frames_saved": 11,
        "nb_frames_over_limit": 0,
    }
    assert pipeline.last_frames() == {"source_idx": 21, "integrated_idx": 21}
    assert np.frombuffer(pipeline.pop("popFrameIdx"), FRAME_IDX)["frame_idx"].tolist() == list(indices)
    assert pipeline.infos["vector_info"].info() == {"length": BINS, "pixel_type": "gray32f"}
    pipeline.erase()


def test_without_an_error_model_a_vector_has_no_errors(rig, csr):
    pipeline = build(rig, csr, {"error_model": "no_var"}, saving_dense={"enabled": False})
    rig.run(pipeline, range(3))
    assert rig.sink.spec.shape == (1, 1, BINS)
    assert vectors_of(pipeline, range(3)).shape == (3, 1, BINS)
    pipeline.erase()


def test_corrections_come_from_their_files(rig, csr, tmp_path):
    rng = np.random.default_rng(0)
    flat, solid, dark = rng.uniform(0.8, 1.2, SHAPE), rng.uniform(0.9, 1, SHAPE), rng.uniform(0, 3, SHAPE)
    masked = rng.random(SHAPE) < 0.2
    fai = {
        "flat_path": saved(tmp_path, "flat", flat),
        "solid_angle_path": saved(tmp_path, "solid", solid),
        "dark_path": saved(tmp_path, "dark", dark),
        "mask_path": saved(tmp_path, "mask", masked.astype("u1")),
        "normalization_factor": 2.5,
    }
    pipeline = build(rig, csr, fai)
    rig.run(pipeline, range(4))
    weight = np.where(masked, 0, 2.5 * flat * solid)
    expected = [average(image(SPEC, i)[0], weight, dark) for i in range(4)]
    assert np.allclose(vectors_of(pipeline, range(4))[:, 0], expected, rtol=1e-6)
    assert np.array_equal(rig.sinks[0].frames[3], image(SPEC, 3)), "the frames themselves are as they came"
    pipeline.erase()


def test_the_mask_makes_zeros_and_leaves_its_pixels_out_of_everything(rig, csr, tmp_path):
    valid = np.random.default_rng(1).random(SHAPE) < 0.7
    mask = {"enabled": True, "path": saved(tmp_path, "valid", valid.astype("u1"))}
    statistics = {"enabled": True, "rect_rois": [WHOLE]}
    pipeline = build(rig, csr, mask=mask, statistics=statistics)
    rig.run(pipeline, range(5))
    raw = image(SPEC, 2)[0]
    assert np.array_equal(rig.sinks[0].frames[2][0], raw * valid)
    assert np.allclose(vectors_of(pipeline, [2])[0, 0], average(raw, valid * 1.0))
    rows = np.frombuffer(pipeline.pop("popRoiStatistics"), ROI)
    assert rows["frame_idx"].tolist() == list(range(5))
    assert rows["avg"][2] == np.float32(raw[valid].mean())
    pipeline.erase()


def test_image_operations_come_first(csr, tmp_path):
    acquisition = AcquisitionParams.model_validate({"img": {"binning": {"x": 2, "y": 2}}})
    small = write_matrix(tmp_path / "small.h5", ring_matrix((12, 10), 4))
    with Rig(SPEC, acquisition) as rig:
        assert "it is for images of" in refused(rig, csr)
        pipeline = build(rig, small)
        rig.run(pipeline, range(3))
        assert pipeline.infos["processed_frame_info"].shape == (1, 12, 10)
        assert rig.sinks[0].spec.shape == (1, 12, 10)
        assert np.all(vectors_of(pipeline, [1])[0, 0] > 0)
        pipeline.erase()


def test_lost_frames_are_zeros_in_every_stream(rig, csr):
    pipeline = build(rig, csr)
    rig.run(pipeline, range(8), lost=[3])
    assert not rig.sinks[0].frames[3].any()
    assert not rig.sinks[1].frames[3].any()
    assert np.allclose(vectors_of(pipeline, [4])[0, 0], average(image(SPEC, 4)[0]))
    pipeline.erase()


def test_nothing_is_saved_where_nothing_is_asked_for(rig, csr):
    pipeline = build(rig, csr, saving_dense={"enabled": False}, saving_fai={"enabled": False})
    rig.run(pipeline, range(3))
    assert rig.sinks == []
    assert (pipeline.counters.read()["nb_frames_integrated"], pipeline.counters.read()["nb_frames_saved"]) == (3, 0)
    pipeline.erase()


def test_a_full_disk_stops_the_run_at_what_is_written(csr):
    with Rig(SPEC, fail_saving_at=6) as rig:
        pipeline = build(rig, csr)
        with pytest.raises(SavingError, match="no space left"):
            rig.run(pipeline, range(20), per_block=4)
        counts = pipeline.counters.read()
        assert (counts["nb_frames_integrated"], counts["nb_frames_source"]) == (6, 4)
        assert [sink.closed > 0 for sink in rig.sinks] == [True, True]
        pipeline.erase()
        assert rig.pool.lent == 0
        assert [sink.outstanding for sink in rig.sinks] == [0, 0]


def test_protection_stops_the_run(rig, csr):
    limit = {"enabled": True, "max_countrate": 10}
    pipeline = build(rig, csr, max_countrate_protection=limit)
    with pytest.raises(ProcessingError, match="over the limit"):
        rig.run(pipeline, range(9))
    pipeline.erase()


def test_vectors_that_are_gone_are_refused(rig, csr):
    pipeline = build(rig, csr, buffers={"nb_frames_buffer": 2})
    rig.run(pipeline, range(12), per_block=2)
    with (
        pytest.raises(NotAvailableError, match="integrated frame 0 is not held"),
        pipeline.history("integrated").frame(0),
    ):
        pytest.fail("it is gone")
    pipeline.erase()


CONTRADICTIONS = {
    "no variance": ({"error_model": "variance"}, r"\$.fai.variance_path error_model variance needs"),
    "variance unused": ({"variance_path": "v.npy"}, r"\$.fai.variance_path error_model poisson has no use"),
    "dark variance alone": ({"dark_variance_path": "v.npy"}, r"\$.fai.dark_variance_path give dark_path too"),
    "dark variance unused": (
        {"error_model": "azimuthal", "dark_path": "d.npy", "dark_variance_path": "v.npy"},
        r"\$.fai.dark_variance_path error_model azimuthal has no use",
    ),
}


@pytest.mark.parametrize(("fai", "reason"), CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_parameters_that_contradict_each_other_are_refused(rig, csr, fai, reason):
    assert re.match(reason, refused(rig, csr, fai))


IMAGES = ("flat_path", "solid_angle_path", "polarization_path", "absorption_path", "dark_path", "mask_path")


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_of_another_shape_is_refused(rig, csr, tmp_path, name):
    path = saved(tmp_path, "image", np.ones((24, 21)))
    assert refused(rig, csr, {name: path}).startswith(f"$.fai.{name} its shape is (24, 21), the frames are (1, 24, 20)")


def test_an_image_that_is_not_finite_is_refused(rig, csr, tmp_path):
    flat = np.ones(SHAPE)
    flat[3, 4] = np.nan
    said = refused(rig, csr, {"flat_path": saved(tmp_path, "flat", flat)})
    assert said.startswith("$.fai.flat_path 1 pixels are not finite, the first at (3, 4)")


def test_weights_that_would_make_infinities_count_as_none(rig, csr, tmp_path):
    said = refused(rig, csr, {"flat_path": saved(tmp_path, "tiny", np.full(SHAPE, 1e-320))})
    assert said.startswith("$.fai.csr_path no pixel that the matrix uses is valid")
    said = refused(rig, csr, {"normalization_factor": 1e-300})
    assert said.startswith("$.fai.csr_path no pixel that the matrix uses is valid")


def test_a_dummy_that_no_vector_can_hold_is_refused(rig, csr):
    said = refused(rig, csr, {"do_dummy": True, "dummy": -1e300})
    assert said.startswith("$.fai.dummy empty bins get it, in single precision")


def test_a_negative_variance_is_refused(rig, csr, tmp_path):
    fai = {"error_model": "variance", "variance_path": saved(tmp_path, "v", np.full(SHAPE, -1.0))}
    assert refused(rig, csr, fai).startswith("$.fai.variance_path 480 pixels have a negative variance")


def test_a_mask_that_leaves_nothing_is_refused(rig, csr, tmp_path):
    path = saved(tmp_path, "mask", np.ones(SHAPE))
    assert "is this mask the other way round?" in refused(rig, csr, {"mask_path": path})
    none = saved(tmp_path, "none", np.zeros(SHAPE))
    assert refused(rig, csr, mask={"enabled": True, "path": none}).startswith("$.fai.csr_path no pixel")
    assert refused(rig, csr, {"flat_path": none}).startswith("$.fai.csr_path no pixel")


def test_streams_with_the_same_files_are_refused(rig, csr):
    same = {"filename_prefix": "scan"}
    said = refused(rig, csr, saving_dense=same, saving_fai=same)
    assert said.startswith("$.saving_fai.filename_prefix the frames ($.saving_dense) have files of the same names")
    build(rig, csr, saving_dense=same, saving_fai=same | {"enabled": False}).erase()


@pytest.fixture
def two():
    """Surroundings of a detector with two thresholds."""
    with Rig(FrameSpec(2, *SHAPE, np.dtype("u2"))) as rig:
        yield rig
        assert rig.pool.lent == 0
        assert all(sink.outstanding == 0 for sink in rig.sinks)


def test_of_several_channels_all_are_saved_and_the_first_is_integrated(two, csr):
    pipeline = build(two, csr)
    two.run(pipeline, range(7), per_block=3)
    frames = [image(two.spec, i) for i in range(7)]
    assert np.array_equal(two.sinks[0].frames, frames)
    assert two.sinks[0].spec.shape == (2, *SHAPE)
    assert np.allclose(vectors_of(pipeline, range(7))[:, 0], [average(frame[0]) for frame in frames])
    assert pipeline.infos["processed_frame_info"].info()["nb_channels"] == 2
    assert pipeline.infos["vector_info"].info() == {"length": BINS, "pixel_type": "gray32f"}
    pipeline.erase()


@pytest.mark.parametrize("model", ["no_var", "poisson", "azimuthal", "hybrid"])
@pytest.mark.parametrize("do_dummy", [False, True])
def test_a_channel_is_integrated_as_it_would_be_alone(two, rig, csr, model, do_dummy):
    fai = {"error_model": model, "do_dummy": do_dummy, "dummy": 3.0}
    made = []
    for each, channel in ((two, 1), (rig, 0)):
        pipeline = build(each, csr, fai | {"channel": channel})
        alone = [Block(image(two.spec, i)[np.newaxis], np.array([i]), i, np.zeros(1), Lease()) for i in range(5)]
        for block in alone:
            block.data = block.data if each is two else block.data[:, 1:]
            pipeline.put(block)
        pipeline.finish()
        made.append(vectors_of(pipeline, range(5)))
        pipeline.erase()
    assert made[0].tobytes() == made[1].tobytes()


def test_images_of_each_channel_are_taken_for_the_one_that_is_integrated(two, csr, tmp_path):
    rng = np.random.default_rng(3)
    flat, valid = rng.uniform(0.8, 1.2, (2, *SHAPE)), rng.random((2, *SHAPE)) < 0.7
    dark = rng.uniform(0, 3, SHAPE)
    mask = {"enabled": True, "path": saved(tmp_path, "valid", valid.astype("u1"))}
    paths = {"flat_path": saved(tmp_path, "flat", flat), "dark_path": saved(tmp_path, "dark", dark)}
    pipeline = build(two, csr, {"channel": 1, **paths}, mask=mask)
    two.run(pipeline, range(4))
    frames = [image(two.spec, i) * valid for i in range(4)]
    assert np.array_equal(two.sinks[0].frames, frames)
    expected = [average(frame[1], flat[1] * valid[1], dark) for frame in frames]
    assert np.allclose(vectors_of(pipeline, range(4))[:, 0], expected, rtol=1e-6)
    pipeline.erase()


@pytest.mark.parametrize("block", ["statistics", "profiles"])
def test_regions_are_of_all_channels_together_or_of_one(two, csr, block):
    frame, found = image(two.spec, 0), []
    asked = {"enabled": True, **({"rect_rois": [WHOLE]} if block == "statistics" else {"rois": [WHOLE]})}
    asked |= {} if block == "statistics" else {"directions": [Direction.VERTICAL]}
    for channel in (-1, 0, 1):
        pipeline = build(two, csr, **{block: asked | {"channel": channel}})
        two.run(pipeline, range(1))
        found.append(np.frombuffer(pipeline.pop(f"popRoi{block.capitalize()}"), ROI)["sum"].sum())
        pipeline.erase()
    assert found == [frame.sum(), frame[0].sum(), frame[1].sum()]


def test_a_channel_that_frames_do_not_have_is_refused(rig, two, csr):
    said = "there is no such channel, the frames have"
    assert refused(two, csr, {"channel": 2}) == f"$.fai.channel {said} 2: give 0 to 1"
    assert refused(rig, csr, {"channel": 1}) == f"$.fai.channel {said} one channel: give 0"
    for name, regions in {"statistics": {"rect_rois": [WHOLE]}, "profiles": {"rois": [WHOLE]}}.items():
        regions |= {"enabled": True, "channel": 2} | (
            {"directions": [Direction.VERTICAL]} if name == "profiles" else {}
        )
        assert refused(two, csr, **{name: regions}) == f"$.{name}.channel {said} 2: give 0 to 1"
