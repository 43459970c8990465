"""Frames in memory through a pipeline, one result for each; no files, no Tango."""

from itertools import islice

import numpy as np
import pytest

from lima2_tango.core.errors import ParamError, ProcessingError
from lima2_tango.processing import Array, find_pipeline, process
from lima2_tango.processing.pipelines.legacy import LegacyParams
from lima2_tango.testing.matrices import ring_matrix, write_matrix

SHAPE = (24, 32)
FRAMES = np.random.default_rng(0).integers(0, 100, (30, *SHAPE)).astype(np.uint16)
REGION = {"topleft": {"x": 3, "y": 2}, "dimensions": {"x": 20, "y": 9}}


@pytest.mark.parametrize("workers", [1, 3])
def test_one_result_for_each_frame_in_order_with_its_rows(workers):
    rois = {"statistics": {"rect_rois": [REGION, {}]}, "profiles": {"rois": [REGION], "directions": ["horizontal"]}}
    results = list(process(FRAMES, "Legacy", rois, workers=workers))
    assert [result.index for result in results] == list(range(30))
    assert np.array_equal([result.frame for result in results], FRAMES)
    for result in results:
        part = FRAMES[result.index, 2:11, 3:23]
        assert result.rows["roi_statistics"]["sum"].tolist() == [part.sum(), FRAMES[result.index, 0, 0]]
        assert result.rows["roi_profiles"]["sum"].tolist() == part.sum(0).tolist()


def test_results_come_while_the_frames_do():
    big = np.zeros((50, 1200, 1000), np.uint16)  # several blocks
    first = next(process(big))
    assert first.index == 0
    assert first.frame.shape == (1200, 1000)


def test_who_stops_early_leaves_nothing_running():
    results = process(np.zeros((50, 1200, 1000), np.uint16))
    assert len(list(islice(results, 3))) == 3
    results.close()


def test_a_result_stays_what_it_was():
    big = np.arange(12, dtype=np.uint16)[:, None, None] * np.ones((1, 1200, 1000), np.uint16)
    results = list(process(big, workers=2))
    assert [result.frame[7, 7] for result in results] == list(range(12))


def test_sums_are_results_of_their_own():
    results = list(process(FRAMES, "Legacy", {"accumulation": {"enabled": True, "nb_frames": 7}}))
    assert [result.index for result in results] == [0, 1, 2, 3]
    assert np.array_equal(results[1].frame, FRAMES[7:14].sum(0))


def test_vectors_and_their_errors(tmp_path):
    matrix = ring_matrix(SHAPE, 6)
    results = list(process(FRAMES, "fai", {"fai": {"csr_path": write_matrix(tmp_path / "csr.h5", matrix)}}))
    weight = matrix.dot(np.ones(SHAPE).reshape(-1))
    for frame, result in zip(FRAMES, results, strict=True):
        assert np.allclose(result.data["fai_averint"], matrix.dot(frame.reshape(-1)) / weight)
        counts = np.maximum(frame, 1).reshape(-1)
        assert np.allclose(result.data["fai_errors"], np.sqrt(matrix.dot(counts, 2)) / weight)
        assert np.array_equal(result.frame, frame)


def test_image_operations_and_several_channels():
    frames = np.ones((3, 2, *SHAPE), np.uint8)
    (*_, last) = process(frames, "Legacy", acquisition={"img": {"binning": {"x": 2, "y": 1}}})
    assert last.frame.shape == (2, 24, 16)
    assert (last.frame == 2).all()


def test_one_channel_of_several_is_integrated(tmp_path):
    frames, matrix = np.stack([FRAMES, FRAMES[::-1]], axis=1), ring_matrix(SHAPE, 6)
    csr = write_matrix(tmp_path / "csr.h5", matrix)
    several = process(frames, "fai", {"fai": {"csr_path": csr, "channel": 1}})
    for made, alone in zip(several, process(FRAMES[::-1], "fai", {"fai": {"csr_path": csr}}), strict=True):
        assert made.data["fai_averint"].tobytes() == alone.data["fai_averint"].tobytes()
        assert np.array_equal(made.frame, frames[made.index])


def test_one_image_and_nested_lists():
    (result,) = process(FRAMES[0])
    assert np.array_equal(result.frame, FRAMES[0])
    (result,) = process(np.asfortranarray(FRAMES[0].astype(">i4")))
    assert np.array_equal(result.frame, FRAMES[0])


def test_results_before_a_failure_come_first(tmp_path):
    limit = {"max_countrate_protection": {"enabled": True, "max_countrate": 100}}
    frames = np.zeros((50, 1200, 1000), np.uint16)
    frames[40] = 1000
    seen = []
    with pytest.raises(ProcessingError, match="frame 40"):
        _note(process(frames, "Legacy", limit), seen)
    assert seen[:30] == list(range(30))


def _note(results, seen):
    for result in results:
        seen.append(result.index)


@pytest.mark.parametrize(
    ("frames", "pipeline", "params", "path"),
    [
        (FRAMES.astype("u8"), "Legacy", {}, "frames"),
        (FRAMES[:, 0, 0], "Legacy", {}, "frames"),
        (FRAMES[:0], "Legacy", {}, "frames"),
        (FRAMES, "Nothing", {}, "pipeline"),
        (FRAMES, "Legacy", {"mask": {"enabled": True}}, "$.mask.path"),
        (
            FRAMES,
            "Legacy",
            {"statistics": {"rect_rois": [{"topleft": {"x": -1}}]}},
            "$.statistics.rect_rois[0].topleft.x",
        ),
        (FRAMES, "Fai", {"fai": {"csr_path": "gone.h5"}}, "$.fai.csr_path"),
        (FRAMES, "Fai", {"class_name": "LimaProcessingLegacy"}, "$.class_name"),
    ],
)
def test_what_cannot_work_is_refused_by_the_call(frames, pipeline, params, path):
    with pytest.raises(ParamError) as refused:
        process(frames, pipeline, params)
    assert refused.value.path == path


def test_nothing_is_saved(tmp_path):
    params = LegacyParams.model_validate({"saving": {"base_path": str(tmp_path), "enabled": True}})
    assert len(list(process(FRAMES, "Legacy", params))) == 30
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["LimaProcessingFai", "limaprocessingfai", "Fai", "fai"])
def test_pipelines_by_any_of_their_names(name):
    assert find_pipeline(name).class_name == "LimaProcessingFai"


def test_an_array_is_a_source():
    source = Array(FRAMES)
    out = np.empty((2, 1, *SHAPE), np.uint16)
    source.read(5, out)
    assert np.array_equal(out[:, 0], FRAMES[5:7])
    assert (source.spec.channels, source.spec.height, source.spec.width) == (1, *SHAPE)
