"""The offline twin: what a run saved comes out of its raw frames again, bit for bit."""

import json

import fabio
import h5py
import hdf5plugin  # noqa: F401 - the filters of our files
import numpy as np
import pytest
from driving import driven

from lima2_tango.control.offline import Order, process_files
from lima2_tango.control.parameters import choose
from lima2_tango.control.settings import Settings
from lima2_tango.core.errors import Lima2Error, ParamError
from lima2_tango.processing.rows import ROI
from lima2_tango.testing.matrices import ring_matrix, write_matrix

SHAPE = (24, 32)
FRAMES = 22
REGION = {"topleft": {"x": 3, "y": 2}, "dimensions": {"x": 20, "y": 9}}
ROWS = {
    "statistics": {"enabled": True, "rect_rois": [REGION, {}], "arc_rois": [{"r1": 2, "r2": 9}]},
    "profiles": {"enabled": True, "rois": [REGION], "directions": ["vertical"]},
}
SPOTS = [{"x0": 16.3, "y0": 11.8, "fwhm": 9, "max": 500}, {"x0": 5, "y0": 20, "fwhm": 2, "max": 900}]
DET = {"generator": {"gauss": {"peaks": SPOTS, "grow_factor": 0.3}}}
POPS = {"roi_statistics": "popRoiStatistics", "roi_profiles": "popRoiProfiles"}
DATA = "entry_0000/instrument/detector"


def saved(folder, prefix, **more):
    return {"base_path": str(folder), "filename_prefix": prefix, "nb_frames_per_file": 4, **more}


def acquire(job, params):
    """The rows that the run made, by name and receiver."""
    job.write(None, params, det=DET, nb_frames=FRAMES)
    record = job.complete()
    assert (record.state, record.error) == ("done", "")
    return {name: [rank.rows(job.run.uuid, pop) for rank in job.ranks] for name, pop in POPS.items()}


def order(files, params, output, **more):
    return Order(files, choose(json.dumps(params), Settings()), output, workers=2, **more)


def process(*args, stopping=lambda: False, **more):
    told = []
    outcome = process_files(order(*args, **more), lambda done, total: told.append((done, total)), stopping)
    assert told[-1] == (outcome.nb_frames_done, outcome.nb_frames)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    return outcome


def images(path, name="data"):
    with h5py.File(path) as file:
        return file[f"{DATA}/{name}"][...]


def result(path, name):
    with h5py.File(path) as file:
        return file[f"entry_0000/{name}"][...]


def no_rank(rows):
    return rows[[name for name in rows.dtype.names if name != "recv_idx"]]


def in_order(packed):
    """Rows of all receivers as one receiver would have made them."""
    rows = np.concatenate([np.frombuffer(one, ROI) for one in packed])
    return rows[np.argsort(rows["frame_idx"], kind="stable")]


def raw(folder, frames, name="raw.h5"):
    with h5py.File(folder / name, "w") as file:
        file["images"] = frames
    return folder / name


@pytest.fixture
def legacy(tmp_path):
    rng = np.random.default_rng(1)
    np.save(tmp_path / "flat.npy", rng.normal(1, 0.1, SHAPE))
    np.save(tmp_path / "dark.npy", rng.integers(0, 3, SHAPE))
    np.save(tmp_path / "valid.npy", rng.random(SHAPE) > 0.1)
    files = {"flatfield": "flat", "background": "dark", "mask": "valid"}
    blocks = {name: {"enabled": True, "path": f"{tmp_path}/{file}.npy"} for name, file in files.items()}
    return {"class_name": "LimaProcessingLegacy", **blocks, **ROWS}


@pytest.fixture
def fai(tmp_path):
    csr = write_matrix(tmp_path / "csr.h5", ring_matrix(SHAPE, 8, split=True))
    return {"class_name": "LimaProcessingFai", "fai": {"csr_path": csr}, **ROWS}


@pytest.mark.parametrize("receivers", [1, 2])
@pytest.mark.parametrize("behind", ["master", "data files"])
def test_legacy_reproduces_a_run(tmp_path, legacy, receivers, behind):
    plain = {"class_name": "LimaProcessingLegacy", "saving": saved(tmp_path, "raw")}
    with driven(receivers) as job:
        acquire(job, plain)
        rows = acquire(job, {**legacy, "saving": saved(tmp_path, "corrected")})
    files = [tmp_path / "raw_master.h5"] if behind == "master" else sorted(tmp_path.glob("raw_[0-9]_*.h5"))
    outcome = process(files, {**legacy, "saving": saved("/nowhere", "x")}, tmp_path / "out.h5")
    assert (outcome.error, outcome.nb_frames_done, outcome.interrupted) == (None, FRAMES, False)
    assert outcome.files == [tmp_path / "out.h5", tmp_path / "out_frames.h5"]
    online = images(tmp_path / "corrected_master.h5")
    assert len({frame.tobytes() for frame in images(tmp_path / "raw_master.h5")}) > 2
    assert images(tmp_path / "out_frames.h5").tobytes() == online.tobytes()
    assert result(tmp_path / "out.h5", "frames/data").dtype == online.dtype
    assert not np.array_equal(online, images(tmp_path / "raw_master.h5"))
    for name, packed in rows.items():
        assert np.array_equal(no_rank(result(tmp_path / "out.h5", name)), no_rank(in_order(packed))), name


def test_the_chunks_on_the_disk_are_the_same_and_so_are_their_times(tmp_path, legacy):
    with driven(1) as job:
        acquire(job, {"class_name": "LimaProcessingLegacy", "saving": saved(tmp_path, "raw")})
        acquire(job, {**legacy, "saving": saved(tmp_path, "corrected")})
    process([tmp_path / "raw_master.h5"], legacy, tmp_path / "out.h5")
    times = np.concatenate([images(path, "start_time") for path in sorted(tmp_path.glob("raw_0_*.h5"))])
    assert np.array_equal(images(tmp_path / "out_frames.h5", "start_time"), times)
    with h5py.File(tmp_path / "out_frames.h5") as made, h5py.File(tmp_path / "corrected_0_00001.h5") as online:
        chunks = [file[f"{DATA}/data"].id.read_direct_chunk((at, 0, 0))[1] for file, at in ((made, 5), (online, 1))]
        assert chunks[0] == chunks[1]
        assert made[f"{DATA}/x_pixel_size"][()] == online[f"{DATA}/x_pixel_size"][()]
        assert made[f"{DATA}/fabrication/model"][()] == online[f"{DATA}/fabrication/model"][()]


@pytest.mark.parametrize("receivers", [1, 2])
def test_fai_reproduces_a_run(tmp_path, fai, receivers):
    saving = {"saving_dense": saved(tmp_path, "raw"), "saving_fai": saved(tmp_path, "fai")}
    with driven(receivers) as job:
        rows = acquire(job, {**fai, **saving})
    outcome = process([tmp_path / "raw_master.h5"], fai, tmp_path / "out.h5")
    assert outcome.error is None
    assert [file.name for file in outcome.files] == ["out.h5", "out_dense.h5", "out_fai.h5"]
    assert images(tmp_path / "out_dense.h5").tobytes() == images(tmp_path / "raw_master.h5").tobytes()
    assert images(tmp_path / "out_fai.h5").tobytes() == images(tmp_path / "fai_master.h5").tobytes()
    errors = np.empty_like(images(tmp_path / "out_fai.h5"))
    for rank in range(receivers):
        parts = sorted(tmp_path.glob(f"fai_{rank}_*.h5"))
        errors[rank::receivers] = np.concatenate([images(path, "data_errors") for path in parts])
    assert result(tmp_path / "out.h5", "fai/data_errors").tobytes() == errors.tobytes()
    for name, packed in rows.items():
        assert np.array_equal(no_rank(result(tmp_path / "out.h5", name)), no_rank(in_order(packed))), name


def test_frames_dealt_at_random_and_those_of_one_receiver_keep_their_numbers(tmp_path, legacy):
    plain = {"class_name": "LimaProcessingLegacy", "saving": saved(tmp_path, "raw")}
    with driven(2) as job:
        job.write(None, plain, det=DET | {"dispatch_mode": "full_random"}, nb_frames=FRAMES)
        assert job.complete().state == "done"
    everything = images(tmp_path / "raw_master.h5")
    one = process(sorted(tmp_path.glob("raw_0_*.h5")), legacy, tmp_path / "one.h5")
    assert 0 < one.nb_frames < FRAMES
    index = images(tmp_path / "one_frames.h5", "frame_idx")
    process([raw(tmp_path, everything[index])], legacy, tmp_path / "same.h5")
    assert np.array_equal(images(tmp_path / "one_frames.h5"), images(tmp_path / "same_frames.h5"))
    assert set(result(tmp_path / "one.h5", "roi_statistics")["frame_idx"]) == set(index)


def test_a_lost_frame_stays_one(tmp_path, legacy):
    frames = np.full((3, *SHAPE), 7, np.uint16)
    process([raw(tmp_path, frames)], {"class_name": "LimaProcessingLegacy"}, tmp_path / "first.h5")
    with h5py.File(tmp_path / "first_frames.h5", "r+") as file:
        file[f"{DATA}/valid"] = np.array([1, 0, 1], np.uint8)
    process([tmp_path / "first_frames.h5"], legacy, tmp_path / "out.h5")
    assert images(tmp_path / "out_frames.h5", "valid").tolist() == [1, 0, 1]
    assert not images(tmp_path / "out_frames.h5")[1].any()
    assert images(tmp_path / "out_frames.h5")[2].any()


@pytest.mark.parametrize("kind", ["cbf", "edf", "tif"])
def test_what_fabio_reads(tmp_path, kind):
    frames = np.random.default_rng(0).integers(0, 100, (5, *SHAPE)).astype(np.int32)
    for number, frame in enumerate(frames):
        fabio.factory(f"{kind}image").__class__(data=frame).write(str(tmp_path / f"image_{number}.{kind}"))
    files = sorted(tmp_path.glob(f"image_*.{kind}"))
    outcome = process(files, {"class_name": "LimaProcessingLegacy", **ROWS}, tmp_path / "out.h5", start=1, stop=4)
    assert outcome.nb_frames_done == 3
    assert np.array_equal(result(tmp_path / "out.h5", "frames/data"), frames[1:4])
    expected = [frame[2:11, 3:23].sum() for frame in frames[1:4]]
    assert result(tmp_path / "out.h5", "roi_statistics")["sum"][::3].tolist() == expected


def test_image_operations_are_done_once(tmp_path):
    binned = {"img": {"binning": {"x": 2, "y": 2}}, "acq": {"expo_time": 1234}}
    frames = np.ones((3, *SHAPE), np.uint16)
    plain = {"class_name": "LimaProcessingLegacy"}
    process([raw(tmp_path, frames)], plain, tmp_path / "once.h5", acquisition=binned)
    assert np.array_equal(images(tmp_path / "once_frames.h5"), np.full((3, 12, 16), 4))
    assert images(tmp_path / "once_frames.h5", "count_time") == pytest.approx(1234e-6)
    with pytest.raises(ParamError, match=r"\$\.img") as refused:
        process([tmp_path / "once_frames.h5"], plain, tmp_path / "twice.h5", acquisition=binned)
    assert "already" in refused.value.reason
    process([tmp_path / "once_frames.h5"], plain, tmp_path / "again.h5")
    assert images(tmp_path / "again_frames.h5").shape == (3, 12, 16)
    assert images(tmp_path / "again_frames.h5", "count_time") == pytest.approx(1234e-6)


def test_a_stop_keeps_what_is_done(tmp_path, legacy):
    frames = np.random.default_rng(0).integers(0, 9, (40, 600, 400)).astype(np.uint16)  # several blocks
    plain = {"class_name": "LimaProcessingLegacy", "statistics": ROWS["statistics"]}
    seen = iter([False, False, True])
    outcome = process([raw(tmp_path, frames)], plain, tmp_path / "out.h5", stopping=lambda: next(seen))
    assert outcome.interrupted
    assert outcome.error is None
    assert 0 < outcome.nb_frames_done < 40
    assert np.array_equal(result(tmp_path / "out.h5", "frames/data"), frames[: outcome.nb_frames_done])
    assert len(result(tmp_path / "out.h5", "roi_statistics")) == 3 * outcome.nb_frames_done
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_damaged_frame_keeps_those_before_it(tmp_path):
    frames = np.random.default_rng(0).integers(0, 9, (40, 600, 400)).astype(np.uint16)
    plain = {"class_name": "LimaProcessingLegacy"}
    process([raw(tmp_path, frames)], plain, tmp_path / "first.h5")
    with h5py.File(tmp_path / "first_frames.h5", "r+") as file:
        file[f"{DATA}/data"].id.write_direct_chunk((30, 0, 0), b"\xff" * 40)
    outcome = process([tmp_path / "first_frames.h5"], plain, tmp_path / "out.h5")
    assert "frame 30" in outcome.error.what
    assert "--frames" in outcome.error.what
    done = outcome.nb_frames_done
    assert 0 < done <= 30
    assert np.array_equal(result(tmp_path / "out.h5", "frames/data"), frames[:done])


def test_a_file_that_is_cut_short_is_no_frame_with_zeros(tmp_path):
    series = fabio.edfimage.EdfImage(data=np.ones((300, 400), np.int32))
    for _ in range(39):
        series.append_frame(data=np.ones((300, 400), np.int32))
    series.write(str(tmp_path / "whole.edf"))
    (tmp_path / "cut.edf").write_bytes((tmp_path / "whole.edf").read_bytes()[:-1000])
    outcome = process([tmp_path / "cut.edf"], {"class_name": "LimaProcessingLegacy"}, tmp_path / "out.h5")
    assert "Data stream is incomplete" in outcome.error.what
    assert 0 < outcome.nb_frames_done < 40
    assert (result(tmp_path / "out.h5", "frames/data") == 1).all()
    fabio.cbfimage.CbfImage(data=np.arange(768, dtype=np.int32).reshape(SHAPE)).write(str(tmp_path / "whole.cbf"))
    bits = bytearray((tmp_path / "whole.cbf").read_bytes())
    bits[-400] ^= 1
    (tmp_path / "flipped.cbf").write_bytes(bits)
    with pytest.raises(ParamError, match="Checksum of binary data mismatch"):
        process([tmp_path / "flipped.cbf"], {"class_name": "LimaProcessingLegacy"}, tmp_path / "two.h5")


ODD = {
    "a default that is no text": ({}, {"default": 3}),
    "defaults in a list": ({}, {"default": np.arange(3)}),
    "a signal that is no text": ({}, {"signal": 3}),
    "links in a circle": ({"one": h5py.SoftLink("/two"), "two": h5py.SoftLink("/one")}, {"default": "one"}),
    "a link to nowhere": ({"one": h5py.ExternalLink("gone.h5", "/images")}, {"default": "one"}),
}


@pytest.mark.parametrize(("nodes", "attributes"), ODD.values(), ids=ODD)
def test_odd_files_of_others_are_refused(tmp_path, nodes, attributes):
    path = raw(tmp_path, np.ones((3, *SHAPE), np.uint16))
    with h5py.File(path, "a") as file:
        file.attrs.update(attributes)
        for name, node in nodes.items():
            file[name] = node
    with pytest.raises(ParamError, match=r"\$\.files.*no images can be read"):
        process([path], {"class_name": "LimaProcessingLegacy"}, tmp_path / "out.h5")


BESIDE = {
    "numbers that are none": {"frame_idx": np.array([b"a", b"b", b"c"])},
    "numbers that are real": {"frame_idx": np.array([0, np.nan, 1e300])},
    "numbers of another length": {"frame_idx": np.arange(2)},
    "a receiver of arrays": {"receiver/first_frame": np.arange(3), "receiver/last_frame": "x"},
    "a receiver that is no group": {"receiver": 3},
    "times that are none": {"start_time": np.array([np.nan, np.inf, 1e300])},
    "parameters of others": {"params/acquisition": '{"acq": [1], "img": 5}'},
}


@pytest.mark.parametrize("beside", BESIDE.values(), ids=BESIDE)
def test_what_is_beside_the_images_and_not_ours_is_passed_over(tmp_path, beside):
    frames = np.arange(3 * 24 * 32, dtype=np.uint16).reshape(3, *SHAPE)
    path = raw(tmp_path, frames)
    with h5py.File(path, "a") as file:
        for name, value in beside.items():
            file[name] = value
    outcome = process([path], {"class_name": "LimaProcessingLegacy"}, tmp_path / "out.h5")
    assert (outcome.error, outcome.nb_frames_done) == (None, 3)
    assert np.array_equal(images(tmp_path / "out_frames.h5"), frames)
    assert images(tmp_path / "out_frames.h5", "start_time").tolist() == [0, 0, 0]


def test_a_pipeline_that_fails_is_told(tmp_path):
    failing = {"class_name": "LimaProcessingFailing", "failed_frame_idx": 2}
    outcome = process([raw(tmp_path, np.ones((5, *SHAPE), np.uint8))], failing, tmp_path / "out.h5")
    assert "frame 2" in outcome.error.what
    assert outcome.nb_frames_done == 2


@pytest.mark.parametrize(
    ("files", "params", "more", "says"),
    [
        (["gone.h5"], {}, {}, r"\$\.files.*no such file"),
        (["text.h5"], {}, {}, r"\$\.files.*cannot be read"),
        (["empty.h5"], {}, {}, r"\$\.files.*these images: none"),
        (["raw.h5"], {}, {"dataset": "/other"}, r"\$\.files.*other"),
        (["raw.h5", "small.h5"], {}, {}, r"\$\.files.*small.*its frames are"),
        (["ours_frames.h5", "ours_frames.h5"], {}, {}, r"\$\.files.*frame 0 is in"),
        (["raw.h5"], {}, {"start": 9}, r"\$\.frames.*hold 3 frames"),
        (["raw.h5"], {"mask": {"enabled": True, "path": "/no.npy"}}, {}, r"\$\.mask\.path"),
        (["raw.h5"], {"statistics": {"rect_rois": [{"dimensions": {"x": 99, "y": 1}}]}}, {}, r"\$\.statistics"),
        (["raw.h5"], {}, {"acquisition": {"acq": {"expo_time": 0}}}, r"\$\.expo_time|\$\.acq\.expo_time"),
    ],
)
def test_refusals_come_before_anything_is_written(tmp_path, files, params, more, says):
    process(
        [raw(tmp_path, np.ones((3, *SHAPE), np.uint16))], {"class_name": "LimaProcessingLegacy"}, tmp_path / "ours.h5"
    )
    raw(tmp_path, np.ones((3, 4, 5), np.uint16), "small.h5")
    (tmp_path / "text.h5").write_text("not an image")
    h5py.File(tmp_path / "empty.h5", "w").close()
    before = sorted(tmp_path.iterdir())
    with pytest.raises(Lima2Error, match=says):
        process(
            [tmp_path / name for name in files],
            {"class_name": "LimaProcessingLegacy", **params},
            tmp_path / "x.h5",
            **more,
        )
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("name", ["out.h5", "out_frames.h5"])
def test_files_that_exist_are_left_alone(tmp_path, name):
    source, plain = raw(tmp_path, np.ones((3, *SHAPE), np.uint16)), {"class_name": "LimaProcessingLegacy"}
    (tmp_path / name).write_text("mine")
    with pytest.raises(ParamError, match="--overwrite"):
        process([source], plain, tmp_path / "out.h5")
    assert (tmp_path / name).read_text() == "mine"
    process([source], plain, tmp_path / "out.h5", overwrite=True)
    assert result(tmp_path / "out.h5", "frames/data").all()


@pytest.mark.parametrize("name", ["a.h5", "a_frames.h5"])
def test_files_that_are_read_are_not_replaced(tmp_path, name):
    source, plain = raw(tmp_path, np.ones((3, *SHAPE), np.uint16)), {"class_name": "LimaProcessingLegacy"}
    process([source], plain, tmp_path / "a.h5")
    with pytest.raises(ParamError, match="while it is read"):
        process([tmp_path / name], plain, tmp_path / "a.h5", overwrite=True)
    assert result(tmp_path / "a.h5", "frames/data").all()


def test_a_result_is_read_like_any_file(tmp_path):
    source, plain = raw(tmp_path, np.full((3, *SHAPE), 5, np.uint16)), {"class_name": "LimaProcessingLegacy"}
    process([source], plain, tmp_path / "a.h5")
    process([tmp_path / "a.h5"], plain, tmp_path / "b.h5")
    assert np.array_equal(result(tmp_path / "b.h5", "frames/data"), np.full((3, *SHAPE), 5))
    with h5py.File(tmp_path / "b.h5") as file:
        assert file[f"{file.attrs['default']}/process/sources"].asstr()[()] == str(tmp_path / "a.h5")


SMX = {
    "dense": ("data",),
    "sparse": ("data/index", "data/intensity", "data/frame_ptr", "background_avg", "background_std"),
    "accumulation_corrected": ("data",),
    "accumulation_peak": ("data",),
}
"""Datasets by stream."""


def test_smx_reproduces_a_run(tmp_path):
    rows, columns = np.indices(SHAPE)
    radius = np.hypot(rows - 0.47 * SHAPE[0], columns - 0.52 * SHAPE[1])
    np.save(tmp_path / "centres.npy", (np.arange(8) + 0.5) * radius.max() / 8)
    np.save(tmp_path / "radius.npy", radius)
    files = {"csr_path": write_matrix(tmp_path / "csr.h5", ring_matrix(SHAPE, 8))}
    files |= {"radius1d_path": f"{tmp_path}/centres.npy", "radius2d_path": f"{tmp_path}/radius.npy"}
    picking = {"cutoff_pick": 0.5, "noise": 0.0, "acc_nb_frames_xfer": 5}
    smx = {"class_name": "LimaProcessingSmx", "fai": {**files, **picking}, **ROWS}
    saving = {f"saving_{name}": saved(tmp_path, name, nb_frames_per_file=FRAMES) for name in SMX}
    with driven(1) as job:
        online = acquire(job, {**smx, **saving})
        online["peak_counters"] = [job.ranks[0].rows(job.run.uuid, "popPeakCounters")]
    assert process([tmp_path / "dense_0_00000.h5"], smx, tmp_path / "out.h5").error is None
    for name, places in SMX.items():
        for place in places:
            made, before = (images(tmp_path / file, place) for file in (f"out_{name}.h5", f"{name}_0_00000.h5"))
            assert made.size
            assert made.tobytes() == before.tobytes(), (name, place)
    for name, packed in online.items():
        assert result(tmp_path / "out.h5", name).tobytes() == b"".join(packed), name


def smx_files(folder):
    rows, columns = np.indices(SHAPE)
    radius = np.hypot(rows - 0.47 * SHAPE[0], columns - 0.52 * SHAPE[1])
    np.save(folder / "centres.npy", (np.arange(8) + 0.5) * radius.max() / 8)
    np.save(folder / "radius.npy", radius)
    csr = write_matrix(folder / "csr.h5", ring_matrix(SHAPE, 8))
    return {"csr_path": csr, "radius1d_path": f"{folder}/centres.npy", "radius2d_path": f"{folder}/radius.npy"}


def test_the_sums_of_two_receivers_are_reproduced(tmp_path):
    sums = {"class_name": "LimaProcessingLegacy", "accumulation": {"enabled": True, "nb_frames": 3}, **ROWS}
    with driven(2) as job:
        acquire(job, {"class_name": "LimaProcessingLegacy", "saving": saved(tmp_path, "raw")})
        online = acquire(job, {**sums, "saving": saved(tmp_path, "sums")})
    outcome = process([tmp_path / "raw_master.h5"], sums, tmp_path / "out.h5", receivers=2)
    assert outcome.error is None
    assert outcome.counters["nb_frames_processed"] == 2 * (FRAMES // 2 // 3)
    assert [file.name for file in outcome.files] == [
        "out.h5", "out_frames_master.h5", "out_frames_0.h5", "out_frames_1.h5"
    ]  # fmt: skip
    made, before = result(tmp_path / "out.h5", "frames/data"), images(tmp_path / "sums_master.h5")
    assert made.dtype == before.dtype
    assert made.tobytes() == before.tobytes()
    for name, packed in online.items():
        assert np.array_equal(result(tmp_path / "out.h5", name), in_order(packed)), name


def test_smx_of_two_receivers_is_reproduced_with_the_sums_of_each(tmp_path):
    picking = {"cutoff_pick": 0.5, "noise": 0.0, "acc_nb_frames_xfer": 6, "acc_nb_frames_reset": 16}
    smx = {"class_name": "LimaProcessingSmx", "fai": {**smx_files(tmp_path), **picking}, **ROWS}
    saving = {f"saving_{name}": saved(tmp_path, name, nb_frames_per_file=FRAMES) for name in SMX}
    with driven(2) as job:
        acquire(job, {**smx, **saving})
    assert process([tmp_path / "dense_master.h5"], smx, tmp_path / "out.h5", receivers=2).error is None
    for name, places in SMX.items():
        for rank in range(2):
            for place in places:
                files = f"out_{name}_{rank}.h5", f"{name}_{rank}_00000.h5"
                made, before = (images(tmp_path / file, place) for file in files)
                assert made.size
                assert made.tobytes() == before.tobytes(), (name, rank, place)
    with h5py.File(tmp_path / "out.h5") as file:
        entry = file["entry_0000"]
        assert len(entry["sparse/frame_ptr"]) == FRAMES + 1
        assert len(entry["accumulation_corrected_0/data"]) == len(entry["accumulation_peak_1/data"]) == 4


def test_fai_of_two_receivers_is_reproduced(tmp_path, fai):
    saving = {"saving_dense": saved(tmp_path, "raw"), "saving_fai": saved(tmp_path, "fai")}
    with driven(2) as job:
        acquire(job, {**fai, **saving})
    process([tmp_path / "raw_master.h5"], fai, tmp_path / "out.h5", receivers=2)
    assert np.array_equal(result(tmp_path / "out.h5", "fai/data"), images(tmp_path / "fai_master.h5"))
    assert np.array_equal(result(tmp_path / "out.h5", "dense/data"), images(tmp_path / "raw_master.h5"))


def test_counts_that_two_receivers_cannot_share_are_refused(tmp_path):
    smx = {"class_name": "LimaProcessingSmx", "fai": {**smx_files(tmp_path), "acc_nb_frames_xfer": 5}}
    with pytest.raises(ParamError, match=r"\$\.fai\.acc_nb_frames_xfer = 5: give a multiple of 2"):
        process([raw(tmp_path, np.ones((4, *SHAPE), "u2"))], smx, tmp_path / "out.h5", receivers=2)
    assert not (tmp_path / "out.h5").exists()


def test_more_receivers_than_frames_do_nothing_more(tmp_path):
    legacy = {"class_name": "LimaProcessingLegacy"}
    frames = np.arange(2 * 24 * 32).reshape(2, *SHAPE).astype("u2")
    outcome = process([raw(tmp_path, frames)], legacy, tmp_path / "out.h5", receivers=3)
    assert (outcome.error, outcome.nb_frames_done) == (None, 2)
    assert np.array_equal(result(tmp_path / "out.h5", "frames/data"), frames)
