"""The detector that replays files: which frames it shows, and what it refuses."""

import gzip

import fabio
import h5py
import hdf5plugin
import numpy as np
import pytest

from lima2_tango.cameras import reader
from lima2_tango.cameras.reader import PLUGIN
from lima2_tango.core.errors import DetectorError, ParamError
from lima2_tango.testing.camera_rig import Rig

DATA = "/entry_0000/measurement/data"
NUMBERED = "{filename_prefix}_{file_number:05d}{filename_suffix}"


def frames(count, dtype="u2", shape=(6, 8)):
    return np.arange(count * np.prod(shape)).reshape(count, *shape).astype(dtype)


def write(path, data, name=DATA, **options):
    with h5py.File(path, "w") as file:
        file.create_dataset(name, data=data, **options)


@pytest.fixture
def bench(tmp_path):
    rigs = []

    def make(**det):
        rigs.append(Rig(PLUGIN, {"base_path": str(tmp_path), "filename_format": "one.h5", **det}))
        return rigs[-1]

    yield make
    for rig in rigs:
        rig.close()


def shown(deliveries):
    """All frames by global index, without a single channel."""
    found = {index: frame for one in deliveries for index, frame in one.frames().items()}
    return np.squeeze(np.array([found[index] for index in sorted(found)]), 1)


def refusal(rig, **acq):
    with pytest.raises(ParamError) as refused:
        rig.prepare(rig.params(**acq))
    return refused.value


@pytest.mark.parametrize("prefetch", [100, 1], ids=["from memory", "from files"])
@pytest.mark.parametrize("receivers", [1, 2, 3])
class TestFrames:
    def test_frame_i_is_frame_i_of_the_file(self, bench, tmp_path, receivers, prefetch):
        write(tmp_path / "one.h5", frames(7))
        deliveries = bench(nb_prefetch_frames=prefetch).run(receivers, nb_frames=7)
        assert np.array_equal(shown(deliveries), frames(7))

    def test_a_loop_begins_again(self, bench, tmp_path, receivers, prefetch):
        write(tmp_path / "one.h5", frames(5))
        deliveries = bench(nb_prefetch_frames=prefetch, loop=True).run(receivers, nb_frames=12)
        assert np.array_equal(shown(deliveries), frames(5)[np.arange(12) % 5])

    def test_files_of_any_length_follow_each_other(self, bench, tmp_path, receivers, prefetch):
        data = frames(9)
        for number, part in enumerate(np.split(data, [4, 5, 7]), start=3):
            write(tmp_path / f"lima2_{number:05d}.h5", part)
        rig = bench(nb_prefetch_frames=prefetch, filename_format=NUMBERED, start_number=3)
        assert np.array_equal(shown(rig.run(receivers, nb_frames=9)), data)

    def test_a_slice_selects(self, bench, tmp_path, receivers, prefetch):
        write(tmp_path / "one.h5", frames(20))
        rig = bench(nb_prefetch_frames=prefetch, frame_slice={"start": 2, "count": 5, "stride": 3}, loop=True)
        assert np.array_equal(shown(rig.run(receivers, nb_frames=7)), frames(20)[2:17:3][[0, 1, 2, 3, 4, 0, 1]])

    def test_more_receivers_than_frames_is_no_fault(self, bench, tmp_path, receivers, prefetch):
        write(tmp_path / "one.h5", frames(3))
        deliveries = bench(nb_prefetch_frames=prefetch).run(receivers, nb_frames=1)
        assert [len(one.indices) for one in deliveries] == [1, 0, 0][:receivers]


@pytest.mark.parametrize("dtype", ["i1", "u1", "<i2", ">u2", ">i4", "<u4", ">f4", "<f8"])
def test_pixels_keep_their_type_in_this_machines_byte_order(bench, tmp_path, dtype):
    write(tmp_path / "one.h5", frames(3, dtype))
    rig = bench()
    (spec,) = rig.prepare(rig.params(nb_frames=3))
    assert spec.dtype == np.dtype(dtype).newbyteorder("=")
    assert np.array_equal(shown(rig.run(nb_frames=3)), frames(3, dtype))


@pytest.mark.parametrize(
    ("shape", "count", "expected"), [((6, 8), 1, (1, 6, 8)), ((3, 6, 8), 3, (1, 6, 8)), ((3, 2, 6, 8), 3, (2, 6, 8))]
)
def test_datasets_have_two_to_four_dimensions(bench, tmp_path, shape, count, expected):
    write(tmp_path / "one.h5", np.arange(np.prod(shape), dtype="u2").reshape(shape))
    rig = bench()
    (spec,) = rig.prepare(rig.params(nb_frames=count))
    assert spec.shape == expected
    data = np.concatenate([block.data for block in rig.run(nb_frames=count)[0].blocks])
    assert np.array_equal(data.ravel(), np.arange(np.prod(shape)))


def test_compressed_datasets_are_read(bench, tmp_path):
    write(tmp_path / "one.h5", frames(4), chunks=(1, 6, 8), **hdf5plugin.Bitshuffle())
    assert np.array_equal(shown(bench().run(nb_frames=4)), frames(4))


def virtual(folder):
    layout = h5py.VirtualLayout((4, 6, 8), "u2")
    layout[:] = h5py.VirtualSource("source.h5", DATA, (4, 6, 8))
    with h5py.File(folder / "one.h5", "w") as file:
        file.create_virtual_dataset(DATA, layout)


def test_virtual_datasets_are_read(bench, tmp_path):
    write(tmp_path / "source.h5", frames(4))
    virtual(tmp_path)
    assert np.array_equal(shown(bench().run(nb_frames=4)), frames(4))


def test_a_virtual_dataset_without_its_source_is_refused(bench, tmp_path):
    virtual(tmp_path)
    assert "source.h5, which does not exist" in str(refusal(bench()))


def test_the_group_around_the_dataset_will_do(bench, tmp_path):
    write(tmp_path / "one.h5", frames(2))
    assert np.array_equal(shown(bench(dataset_path="/entry_0000/measurement").run(nb_frames=2)), frames(2))


@pytest.mark.parametrize("file_type", ["auto", None])
@pytest.mark.parametrize(
    ("name", "image"),
    [("edf", fabio.edfimage.EdfImage), ("cbf", fabio.cbfimage.CbfImage), ("tiff", fabio.tifimage.TifImage)],
)
def test_what_fabio_reads_is_read_compressed_or_not(bench, tmp_path, name, image, file_type):
    data = frames(3, "i4")
    for number, frame in enumerate(data):
        image(data=frame).write(str(tmp_path / f"lima2_{number:05d}.{name}"))
    rig = bench(file_type=file_type or name, filename_format=NUMBERED, filename_suffix=f".{name}")
    assert np.array_equal(shown(rig.run(nb_frames=3)), data)
    for path in tmp_path.glob(f"*.{name}"):
        (tmp_path / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    rig.det["filename_suffix"] += ".gz"
    assert np.array_equal(shown(rig.run(2, nb_frames=3)), data)


def test_a_file_of_several_images_gives_them_all(bench, tmp_path):
    image = fabio.edfimage.EdfImage(data=frames(3)[0])
    for frame in frames(3)[1:]:
        image.append_frame(data=frame)
    image.write(str(tmp_path / "one.edf"))
    rig = bench(file_type="edf", filename_format="one.edf")
    assert np.array_equal(shown(rig.run(2, nb_frames=3)), frames(3))


def test_the_control_half_knows_the_size_after_prepare(bench, tmp_path):
    write(tmp_path / "one.h5", frames(2))
    rig = bench()
    rig.control.prepare(rig.params())
    assert rig.control.info().dimensions == (8, 6)


def test_files_can_be_written_again_after_the_run(bench, tmp_path):
    write(tmp_path / "one.h5", frames(2))
    rig = bench(nb_prefetch_frames=1)
    rig.run(nb_frames=2)
    write(tmp_path / "one.h5", frames(4)[2:])
    assert np.array_equal(shown(rig.run(nb_frames=2)), frames(4)[2:])


def test_frames_in_memory_are_read_once_and_never_copied(bench, tmp_path, monkeypatch):
    write(tmp_path / "one.h5", frames(3))
    numbers = []
    read = reader.FrameFiles.read
    monkeypatch.setattr(
        reader.FrameFiles, "read", lambda self, which, out: (numbers.extend(which.tolist()), read(self, which, out))[1]
    )
    (delivery,) = bench(loop=True).run(nb_frames=50)
    assert numbers == [0, 1, 2]
    assert len({id(block.data.base) for block in delivery.blocks}) == 1


@pytest.mark.parametrize("nb_frames", [0, 5])
def test_a_series_longer_than_the_files_is_refused_with_both_numbers(bench, tmp_path, nb_frames):
    write(tmp_path / "one.h5", frames(4))
    error = refusal(bench(), nb_frames=nb_frames)
    assert error.path == "$.acq.nb_frames"
    assert "4 frames" in error.reason
    assert "$.det.loop" in error.reason


def test_a_file_that_vanishes_during_the_run_is_an_error_that_names_it(bench, tmp_path):
    write(tmp_path / "lima2_00000.h5", frames(1))
    write(tmp_path / "lima2_00001.h5", frames(1))
    rig = bench(nb_prefetch_frames=1, filename_format=NUMBERED)
    params = rig.params(nb_frames=2)
    rig.prepare(params)
    (tmp_path / "lima2_00001.h5").unlink()
    with pytest.raises((DetectorError, ParamError), match=r"lima2_00001\.h5"):
        rig.deliver(rig.series(params)[0])


REFUSED = {
    "no folder": ("base_path", {"base_path": "/no/such/folder"}, "there is no such folder"),
    "empty folder name": ("base_path", {"base_path": ""}, "give the folder"),
    "no file": ("filename_format", {"filename_format": "none.h5"}, "none.h5"),
    "no first file": ("start_number", {"filename_format": NUMBERED}, "lima2_00000.h5"),
    "no dataset": ("dataset_path", {"dataset_path": "/nowhere"}, DATA),
    "empty dataset name": ("dataset_path", {"dataset_path": ""}, DATA),
    "no hdf5": ("file_type", {"filename_format": "text.h5"}, "set $.det.file_type to auto"),
    "no image": ("file_type", {"filename_format": "text.h5", "file_type": "auto"}, "cannot be read"),
    "another format": ("file_type", {"filename_format": "one.edf", "file_type": "cbf"}, "EdfImage"),
    "unknown field": ("filename_format", {"filename_format": "{rank}.h5"}, "there is no field 'rank'"),
    "attribute of a field": ("filename_format", {"filename_format": "{filename_rank.real}"}, "there is no field"),
    "no format": ("filename_format", {"filename_format": "{"}, "no format"),
    "bad format of a number": ("filename_format", {"filename_format": "{file_number:q}"}, "no format"),
    "nested format": ("filename_format", {"filename_format": "{file_number:{x}}"}, "no format"),
    "other folder": ("filename_format", {"filename_format": "../one.h5"}, "base_path"),
    "start beyond": ("frame_slice.start", {"frame_slice": {"start": 4}}, "only 4 frames"),
    "64-bit pixels": ("dataset_path", {"filename_format": "u8.h5"}, "uint64"),
    "complex pixels": ("dataset_path", {"filename_format": "c8.h5"}, "complex64"),
    "boolean pixels": ("dataset_path", {"filename_format": "bool.h5"}, "bool"),
    "one dimension": ("dataset_path", {"filename_format": "line.h5"}, "shape (48,)"),
    "no frames": ("dataset_path", {"filename_format": "none_0.h5"}, "shape (0, 6, 8)"),
    "unequal frames": ("start_number", {"filename_format": "odd_{file_number}.h5", "loop": True}, "one kind"),
}


@pytest.mark.parametrize(("key", "det", "text"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_shown_is_refused_by_the_name_of_its_parameter(bench, tmp_path, key, det, text):
    write(tmp_path / "one.h5", frames(4))
    for name in ("u8", "c8", "bool"):
        write(tmp_path / f"{name}.h5", frames(2, name))
    write(tmp_path / "line.h5", frames(1).ravel())
    write(tmp_path / "none_0.h5", frames(0))
    write(tmp_path / "odd_0.h5", frames(1))
    write(tmp_path / "odd_1.h5", frames(1, shape=(6, 9)))
    (tmp_path / "text.h5").write_text("no frames here")
    fabio.edfimage.EdfImage(data=frames(1)[0]).write(str(tmp_path / "one.edf"))
    error = refusal(bench(**det))
    assert error.path == f"$.det.{key}"
    assert text in error.reason
