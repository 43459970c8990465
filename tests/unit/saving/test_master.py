"""Master files over real data files: every frame in its place, whatever order the receivers got them in."""

import json
import os

import h5py
import hdf5plugin  # noqa: F401
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lima2_tango.core.errors import ParamError, SavingError
from lima2_tango.core.frame import Block, FrameSpec
from lima2_tango.core.storage import Compression, FileExistsPolicy, NbDimensions, SavingParams
from lima2_tango.saving import mappings
from lima2_tango.saving.master import check_master, master_path, write_master
from lima2_tango.saving.writer import SeriesWriter
from lima2_tango.testing.sinks import METADATA, SPEC, CountedLease, pixels

ONE = FrameSpec(1, 6, 9, np.dtype("u2"))
DETECTOR = "entry_0000/instrument/detector"
OVERWRITE = FileExistsPolicy.OVERWRITE


def params_in(folder, **changes):
    return SavingParams(**{"base_path": str(folder), "nb_frames_per_file": 5} | changes)


def round_robin(nb_frames, receivers):
    return [np.arange(rank, nb_frames, receivers) for rank in range(receivers)]


def dealt(owners, receivers):
    """Frames by receiver; `owners[i]` is who has frame i, -1 for a frame that is lost."""
    return [np.flatnonzero(np.asarray(owners, np.int64) == rank) for rank in range(receivers)]


def save(saving, spec, frames, lost=()):
    """The data files of receivers with these frames; those in `lost` are placeholders."""
    for rank, index in enumerate(frames):
        own = saving.model_copy(update={"filename_rank": rank})
        writer = SeriesWriter(own, spec, "$.saving", rank, METADATA, None)
        for local in range(0, len(index), 7):
            part = index[local : local + 7]
            valid = ~np.isin(part, lost)
            data = np.stack([
                pixels(spec, int(i)) * np.array(ok, spec.dtype) for i, ok in zip(part, valid, strict=True)
            ])
            block = Block(data, part, local, 1.7e9 + part * 1e-3, CountedLease(), valid)
            writer.append(writer.encode(block))
        writer.close()


def write(saving, frames, spec=SPEC, kind="dense"):
    write_master(master_path(saving), saving, kind, spec, frames, METADATA)
    return master_path(saving)


def expected(spec, nb_frames, missing=()):
    images = np.zeros((nb_frames, *spec.shape), spec.dtype)
    for index in set(range(nb_frames)).difference(missing):
        images[index] = pixels(spec, index)
    return images


def check_frames(path, images):
    """One by one, as blocks, and whole."""
    with h5py.File(path) as file:
        data = file[f"{DETECTOR}/data"]
        assert data.shape == images.shape
        assert data.dtype == images.dtype
        assert all((data[index] == images[index]).all() for index in range(len(images)))
        assert (data[len(images) // 3 : len(images) // 2] == images[len(images) // 3 : len(images) // 2]).all()
        assert (data[:] == images).all()


@pytest.fixture(params=[10, 2048], ids=["few mappings", "many mappings"])
def budget(request, monkeypatch):
    monkeypatch.setattr(mappings, "MAPPINGS", request.param)
    monkeypatch.setattr(mappings, "UNEVEN", 3)


@pytest.mark.usefixtures("budget")
class TestDense:
    @pytest.mark.parametrize("receivers", [1, 2, 3, 5])
    @pytest.mark.parametrize("nb_frames", [1, 10, 47, 90])
    def test_frames_dealt_in_turn(self, tmp_path, receivers, nb_frames):
        saving, frames = params_in(tmp_path), round_robin(nb_frames, receivers)
        save(saving, SPEC, frames)
        check_frames(write(saving, frames), expected(SPEC, nb_frames))

    @pytest.mark.parametrize("receivers", [2, 3])
    def test_frames_dealt_in_batches(self, tmp_path, receivers):
        saving = params_in(tmp_path, nb_frames_per_file=8)
        frames = dealt(np.arange(100) // 3 % receivers, receivers)
        save(saving, SPEC, frames)
        check_frames(write(saving, frames), expected(SPEC, 100))

    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        owners=st.lists(st.integers(-1, 2), max_size=60),
        per_file=st.integers(1, 20),
        compression=st.sampled_from(Compression),
        shuffled=st.none() | st.integers(0, 99),
    )
    def test_frames_dealt_at_random(self, tmp_path_factory, owners, per_file, compression, shuffled):
        saving = params_in(
            tmp_path_factory.mktemp("random"), nb_frames_per_file=per_file, compression=compression, start_number=2
        )
        frames = dealt(owners, 3)
        if shuffled is not None:
            frames = [np.random.default_rng(shuffled).permutation(index) for index in frames]
        save(saving, ONE, frames)
        path = write(saving, frames, ONE)
        nb_frames = max([index + 1 for index, owner in enumerate(owners) if owner >= 0], default=0)
        holes = [index for index in range(nb_frames) if owners[index] < 0]
        check_frames(path, expected(ONE, nb_frames, holes)[:, 0])
        with h5py.File(path) as file:
            assert ("valid" in file[DETECTOR]) == bool(holes)
            if holes:
                assert np.flatnonzero(file[f"{DETECTOR}/valid"][:] == 0).tolist() == holes

    def test_a_receiver_without_frames(self, tmp_path):
        saving, frames = params_in(tmp_path), [np.arange(12), np.arange(0), np.arange(12, 20)]
        save(saving, SPEC, frames)
        check_frames(write(saving, frames), expected(SPEC, 20))

    @pytest.mark.parametrize(
        ("spec", "dimensions", "shape"),
        [
            (ONE, NbDimensions.DIM_3D_OR_4D, (6, 9)),
            (ONE, NbDimensions.DIM_4D, (1, 6, 9)),
            (SPEC, NbDimensions.DIM_3D_OR_4D, (2, 5, 7)),
        ],
    )
    @pytest.mark.parametrize("dtype", ["u1", "i4", "f4"])
    def test_shape_and_type_are_those_of_the_data_files(self, tmp_path, spec, dimensions, shape, dtype):
        spec = FrameSpec(spec.channels, spec.height, spec.width, np.dtype(dtype))
        saving, frames = params_in(tmp_path, nb_dimensions=dimensions), round_robin(23, 2)
        save(saving, spec, frames)
        check_frames(write(saving, frames, spec), expected(spec, 23).reshape(23, *shape))


@pytest.mark.parametrize("receivers", [0, 1, 3])
@pytest.mark.parametrize("kind", ["dense", "vector", "sparse"])
def test_a_run_without_frames(tmp_path, kind, receivers):
    saving = params_in(tmp_path)
    with h5py.File(write(saving, round_robin(0, receivers), ONE, kind)) as file:
        data = file[f"{DETECTOR}/data"]
        if kind == "sparse":
            assert (len(data["index"]), len(data["intensity"]), data["frame_ptr"][:].tolist()) == (0, 0, [0])
        else:
            assert data.shape == {"dense": (0, 6, 9), "vector": (0, 9)}[kind]


def test_placeholders_of_lost_frames_are_not_valid(tmp_path):
    saving, frames = params_in(tmp_path), round_robin(31, 2)
    save(saving, SPEC, frames, lost=[4, 30])
    path = write(saving, frames)
    check_frames(path, expected(SPEC, 31, [4, 30]))
    with h5py.File(path) as file:
        assert np.flatnonzero(file[f"{DETECTOR}/valid"][:] == 0).tolist() == [4, 30]


def test_frames_of_a_file_that_is_missing_are_not_valid(tmp_path):
    saving, frames = params_in(tmp_path), round_robin(40, 2)
    save(saving, SPEC, frames)
    (tmp_path / "lima2_1_00002.h5").unlink()
    lost = frames[1][10:15].tolist()
    path = write(saving, frames)
    check_frames(path, expected(SPEC, 40, lost))
    with h5py.File(path) as file:
        assert np.flatnonzero(file[f"{DETECTOR}/valid"][:] == 0).tolist() == lost


def test_rows_that_a_file_lacks_are_not_valid(tmp_path):
    saving, frames = params_in(tmp_path), round_robin(16, 2)
    save(saving, SPEC, [frames[0], frames[1][:6]])
    path = write(saving, frames)
    check_frames(path, expected(SPEC, 16, [13, 15]))
    with h5py.File(path) as file:
        assert np.flatnonzero(file[f"{DETECTOR}/valid"][:] == 0).tolist() == [13, 15]


def test_the_number_of_each_frame_is_there_when_asked_for(tmp_path):
    saving, frames = params_in(tmp_path, include_frame_idx=True), round_robin(12, 2)
    save(saving, SPEC, frames)
    with h5py.File(write(saving, frames)) as file:
        assert file[f"{DETECTOR}/frame_idx"][:].tolist() == list(range(12))


def test_the_folder_can_be_moved(tmp_path):
    saving, frames = params_in(tmp_path / "here"), round_robin(30, 3)
    save(saving, SPEC, frames)
    write(saving, frames)
    os.rename(tmp_path / "here", tmp_path / "there")
    check_frames(tmp_path / "there/lima2_master.h5", expected(SPEC, 30))


@pytest.mark.parametrize("prefix", ["50%_b", "%b", "%%", "run é"])
def test_names_with_signs_that_mean_something_to_hdf5(tmp_path, prefix):
    saving, frames = params_in(tmp_path, filename_prefix=prefix, nx_detector_name="det%b"), round_robin(12, 2)
    save(saving, SPEC, frames)
    with h5py.File(write(saving, frames)) as file:
        assert (file["entry_0000/instrument/det%b/data"][:] == expected(SPEC, 12)).all()


class TestFrames:
    """Frames shown row by row: vectors and sparse ones, written as the contract has them."""

    SPEC = FrameSpec(1, 1, 11, np.dtype("f4"))
    PIXELS = FrameSpec(1, 20, 30, np.dtype("u2"))

    @staticmethod
    def files(saving, frames):
        """Each data file, open for writing, and the frames that belong there."""
        length = saving.nb_frames_per_file
        for rank, index in enumerate(frames):
            for number, first in enumerate(range(0, len(index), length)):
                with h5py.File(f"{saving.base_path}/lima2_{rank}_{number:05d}.h5", "w") as file:
                    yield file.create_group(DETECTOR), index[first : first + length]

    @staticmethod
    def sparse(index):
        """Flat pixel indices and intensities of a frame; every fourth frame has none."""
        rng = np.random.default_rng(index)
        where = np.sort(rng.choice(600, 0 if index % 4 == 0 else rng.integers(1, 40), replace=False))
        return where.astype("i4"), rng.integers(1, 1000, len(where)).astype("u2")

    def save_sparse(self, saving, frames):
        for detector, index in self.files(saving, frames):
            each = [self.sparse(int(i)) for i in index]
            data = detector.create_group("data")
            data["index"] = np.concatenate([where for where, _ in each])
            data["intensity"] = np.concatenate([values for _, values in each])
            data["frame_ptr"] = np.cumsum([0, *(len(where) for where, _ in each)]).astype("u4")

    def check_sparse(self, path, nb_frames, missing=()):
        with h5py.File(path) as file:
            data = file[f"{DETECTOR}/data"]
            assert (data["index"].dtype, data["intensity"].dtype, data["frame_ptr"].dtype) == ("u4", "u2", "u8")
            pointer = data["frame_ptr"][:]
            assert (len(pointer), pointer[0], pointer[-1]) == (nb_frames + 1, 0, len(data["index"]))
            for index in range(nb_frames):
                part = slice(int(pointer[index]), int(pointer[index + 1]))
                where, values = self.sparse(0 if index in missing else index)
                assert data["index"][part].tolist() == where.tolist()
                assert data["intensity"][part].tolist() == values.tolist()

    @pytest.mark.parametrize("receivers", [1, 2, 3])
    def test_vectors(self, tmp_path, receivers):
        saving, frames = params_in(tmp_path), round_robin(33, receivers)
        for detector, index in self.files(saving, frames):
            detector["data"] = np.stack([pixels(self.SPEC, int(i))[0, 0] for i in index])
        path = write(saving, frames, self.SPEC, "vector")
        check_frames(path, expected(self.SPEC, 33)[:, 0, 0])
        with h5py.File(path) as file:
            assert file[f"{DETECTOR}/data"].attrs["interpretation"] == "spectrum"

    @pytest.mark.parametrize("batch", [1, 50, 1 << 20])
    @pytest.mark.parametrize("receivers", [1, 2, 3, 5])
    @pytest.mark.parametrize("compression", [Compression.NONE, Compression.BSHUF_LZ4])
    def test_sparse_frames(self, tmp_path, receivers, compression, batch, monkeypatch):
        monkeypatch.setattr("lima2_tango.saving.gather.BATCH", batch)
        saving, frames = params_in(tmp_path, compression=compression), round_robin(47, receivers)
        self.save_sparse(saving, frames)
        path = write(saving, frames, self.PIXELS, "sparse")
        self.check_sparse(path, 47)
        with h5py.File(path) as file:
            assert file["entry_0000/measurement/data"] == file[f"{DETECTOR}/data"]
            assert file[f"{DETECTOR}/data"].attrs["NX_class"] == "NXdata"

    @settings(max_examples=25, deadline=None)
    @given(owners=st.lists(st.integers(-1, 2), max_size=60), per_file=st.integers(1, 20), batch=st.integers(1, 200))
    def test_sparse_frames_dealt_at_random(self, tmp_path_factory, owners, per_file, batch):
        saving = params_in(tmp_path_factory.mktemp("sparse"), nb_frames_per_file=per_file)
        frames = dealt(owners, 3)
        self.save_sparse(saving, frames)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("lima2_tango.saving.gather.BATCH", batch)
            path = write(saving, frames, self.PIXELS, "sparse")
        nb_frames = max([index + 1 for index, owner in enumerate(owners) if owner >= 0], default=0)
        self.check_sparse(path, nb_frames, [index for index in range(nb_frames) if owners[index] < 0])


class TestTree:
    """What else is in the file: the places of a conductor's master file."""

    @pytest.fixture
    def file(self, tmp_path):
        saving, frames = params_in(tmp_path), round_robin(12, 2)
        save(saving, SPEC, frames)
        with h5py.File(write(saving, frames)) as file:
            yield file

    def test_classes(self, file):
        found = {"/": file.attrs["NX_class"]}
        file.visititems(lambda name, node: found.update({name: node.attrs.get("NX_class", "")}))
        assert {name: group for name, group in found.items() if group and "params/" not in name} == {
            "/": "NXroot",
            "entry_0000": "NXentry",
            "entry_0000/instrument": "NXinstrument",
            DETECTOR: "NXdetector",
            f"{DETECTOR}/plot": "NXdata",
            f"{DETECTOR}/params": "NXcollection",
            f"{DETECTOR}/fabrication": "NXfabrication",
            f"{DETECTOR}/detector_information": "NXcollection",
            f"{DETECTOR}/detector_information/pixel_size": "NXcollection",
            "entry_0000/measurement": "NXcollection",
        }

    def test_a_viewer_finds_the_frames(self, file):
        node = file[file.attrs["default"]]
        node = node[node.attrs["default"]]
        assert node[node.attrs["signal"]] == file["entry_0000/measurement/data"] == file[f"{DETECTOR}/data"]
        assert file[f"{DETECTOR}/data"].attrs["interpretation"] == "image"

    def test_who_wrote_it(self, file):
        assert file.attrs["creator"] == "lima2_tango"
        assert file.attrs["file_name"] == "lima2_master.h5"
        assert file["entry_0000/program_name"].asstr()[()] == "lima2_tango"
        assert file["entry_0000/program_name"].attrs["version"] == METADATA.version

    def test_parameters_and_detector(self, file):
        detector = file[DETECTOR]
        assert detector["params/acquisition/acq/nb_frames"][()] == 7
        assert detector["params/processing/class_name"].asstr()[()] == "LimaProcessingLegacy"
        assert json.loads(detector["params/acquisition_json"][()]) == json.loads(METADATA.acquisition_json)
        assert detector["detector_information/sn"].asstr()[()] == "SN-7"
        assert detector["detector_information/pixel_size/y"][()] == 80e-6
        assert detector["count_time"][()] == pytest.approx(1.5e-3)

    def test_few_mappings_are_made_for_many_frames(self, tmp_path, monkeypatch):
        monkeypatch.setattr(mappings, "MAPPINGS", 20)
        saving, frames = params_in(tmp_path, filename_prefix="long", nb_frames_per_file=100), round_robin(1000, 2)
        save(saving, ONE, frames)
        with h5py.File(write(saving, frames, ONE)) as file:
            assert len(file[f"{DETECTOR}/data"].virtual_sources()) == 20

    def test_values_that_hdf5_does_not_have(self, tmp_path):
        text = '{"a/b": 1, ".": [true, null, {"": -1.5}], "big": 100000000000000000000, "none": null, "empty": []}'
        saving = params_in(tmp_path)
        metadata = METADATA.__class__(
            **{name: getattr(METADATA, name) for name in METADATA.__slots__} | {"processing_json": text}
        )
        write_master(master_path(saving), saving, "dense", SPEC, [], metadata)
        with h5py.File(master_path(saving)) as file:
            group = file[f"{DETECTOR}/params/processing"]
            assert sorted(group) == ["_", "a_b", "big", "empty"]
            assert group["_/0"][()]
            assert group["_/2/_"][()] == -1.5


class TestExistingFiles:
    """Policies `abort` and `overwrite`, and what is left when it goes wrong."""

    @pytest.fixture
    def saving(self, tmp_path):
        return params_in(tmp_path)

    def test_abort_refuses_at_prepare(self, saving):
        check_master(saving)
        master_path(saving).write_text("precious")
        with pytest.raises(ParamError) as refusal:
            check_master(saving, "$.saving_raw")
        assert refusal.value.path == "$.saving_raw.file_exists_policy"
        assert str(master_path(saving)) in str(refusal.value)
        assert "or saving_raw.file_exists_policy=overwrite" in str(refusal.value)

    def test_abort_never_replaces_a_file_that_appeared(self, saving, tmp_path):
        save(saving, SPEC, round_robin(4, 1))
        master_path(saving).write_text("precious")
        with pytest.raises(SavingError, match="appeared during the run"):
            write(saving, round_robin(4, 1))
        assert master_path(saving).read_text() == "precious"
        assert sorted(os.listdir(tmp_path)) == ["lima2_0_00000.h5", "lima2_master.h5"]

    def test_overwrite_replaces(self, tmp_path):
        saving = params_in(tmp_path, file_exists_policy=OVERWRITE)
        for nb_frames in (12, 7):
            save(saving, SPEC, round_robin(nb_frames, 2))
            check_master(saving)
            check_frames(write(saving, round_robin(nb_frames, 2)), expected(SPEC, nb_frames))

    @pytest.mark.parametrize("policy", FileExistsPolicy)
    def test_a_folder_of_that_name_is_refused(self, tmp_path, policy):
        saving = params_in(tmp_path, file_exists_policy=policy)
        master_path(saving).mkdir()
        with pytest.raises(ParamError, match="is a folder"):
            check_master(saving)

    def test_a_data_file_of_that_name_is_refused(self, tmp_path):
        saving = params_in(tmp_path, filename_format="{filename_prefix}_master.h5", nb_frames_per_file=100)
        with pytest.raises(ParamError, match="a data file would have the name") as refusal:
            check_master(saving)
        assert refusal.value.path == "$.saving.filename_format"

    def test_what_a_killed_process_left_is_removed(self, saving, tmp_path):
        (tmp_path / ".lima2_master.h5.01234567.part").write_text("half")
        (tmp_path / ".lima2_master.h5.01234567.reserve").write_text("")
        write(saving, [])
        assert os.listdir(tmp_path) == ["lima2_master.h5"]

    @pytest.mark.parametrize(
        ("frames", "sentence"),
        [
            ([[0, 1], [1, 2]], "frame 1 is in the data files twice"),
            ([[0, 1], [-1]], "a receiver has frame -1"),
            ([[1, 0]], "begins with frame 0, the run has frame 1 there"),
        ],
    )
    def test_frames_that_cannot_be_those_of_a_run_are_refused(self, saving, tmp_path, frames, sentence):
        save(saving, SPEC, round_robin(4, 2))
        with pytest.raises(SavingError, match=sentence):
            write(saving, [np.array(index) for index in frames])
        assert not master_path(saving).exists()

    def test_files_of_another_run_are_refused(self, saving):
        save(saving, SPEC, round_robin(4, 1))
        with pytest.raises(SavingError, match=r"lima2_0_00000.h5 has frames of \(2, 5, 7\)"):
            write(saving, round_robin(4, 1), ONE)

    def test_more_files_than_a_master_can_show_are_refused(self, saving, monkeypatch):
        monkeypatch.setattr("lima2_tango.saving.sources.FILES_MAX", 3)
        with pytest.raises(SavingError, match="the run has 4 data files.* raise nb_frames_per_file"):
            write(saving, round_robin(20, 2))

    def test_a_file_that_cannot_be_read_is_named(self, saving, tmp_path):
        (tmp_path / "lima2_0_00000.h5").write_text("no HDF5")
        with pytest.raises(SavingError, match="lima2_0_00000.h5: the master file needs it, but it cannot be read"):
            write(saving, round_robin(4, 1))
        assert os.listdir(tmp_path) == ["lima2_0_00000.h5"]

    @pytest.mark.parametrize("kib", [4, 40])
    def test_a_full_disk_leaves_nothing_behind(self, mount, kib):
        folder = mount("size=96k")
        saving = params_in(folder, include_frame_idx=True)
        (folder / "full").write_bytes(bytes((96 - kib) << 10))
        with pytest.raises(SavingError, match="lima2_master.h5: .*the disk is full"):
            write(saving, [np.arange(10_000)])
        assert os.listdir(folder) == ["full"]

    def test_a_folder_that_cannot_be_written_is_named(self, tmp_path, unprivileged):
        os.chmod(tmp_path, 0o555)
        with unprivileged(), pytest.raises(SavingError, match="may not write there"):
            write(params_in(tmp_path), [])
