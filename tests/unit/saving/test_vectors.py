"""Vectors and their errors in files, as the clients read them."""

import h5py
import hdf5plugin  # noqa: F401  (the filter)
import numpy as np
import pytest

from lima2_tango.core.frame import Block, FrameSpec, Lease
from lima2_tango.core.storage import Compression, NbDimensions, SavingParams
from lima2_tango.saving.writer import opener
from lima2_tango.testing.sinks import METADATA

LENGTH = 37
DETECTOR = "entry_0000/instrument/detector"


def vectors(channels, local, count):
    data = np.random.default_rng(local).normal(size=(count, channels, 1, LENGTH)).astype(np.float32)
    index = np.arange(local, local + count)
    return Block(data, index, local, index * 1e-3, Lease())


def written(folder, channels, blocks, **params):
    sink = opener(0, METADATA, None)(
        SavingParams(base_path=str(folder), nb_frames_per_file=5, **params),
        FrameSpec(channels, 1, LENGTH, np.dtype("f4")),
        "$.saving_fai",
        vectors=True,
    )
    for block in blocks:
        sink.append(sink.encode(block))
    sink.close()
    return sorted(folder.glob("*.h5"))


@pytest.mark.parametrize("compression", Compression)
@pytest.mark.parametrize("dimensions", NbDimensions)
def test_a_vector_and_its_errors_are_rows_of_two_datasets(tmp_path, compression, dimensions):
    blocks = [vectors(2, local, 3) for local in (0, 3, 6)]
    paths = written(tmp_path, 2, blocks, compression=compression, nb_dimensions=dimensions)
    made = np.concatenate([block.data for block in blocks])[:, :, 0]
    found = {name: [] for name in ("data", "data_errors")}
    for path in paths:
        with h5py.File(path) as file:
            for name, rows in found.items():
                dataset = file[DETECTOR][name]
                assert dataset.chunks == (1, LENGTH)
                assert dataset.attrs["interpretation"] == "spectrum"
                assert np.array_equal(file["entry_0000/plot"][name][:], dataset[:])
                rows.append(dataset[:])
    assert [len(rows) for rows in found["data"]] == [5, 4]
    assert np.array_equal(np.concatenate(found["data"]), made[:, 0])
    assert np.array_equal(np.concatenate(found["data_errors"]), made[:, 1])


def test_vectors_without_errors_have_one_dataset(tmp_path):
    (path,) = written(tmp_path, 1, [vectors(1, 0, 4)])
    with h5py.File(path) as file:
        assert file["entry_0000/measurement/data"].shape == (4, LENGTH)
        assert "data_errors" not in file[DETECTOR]
        assert file[DETECTOR]["layout"][()] == b"linear"


def test_a_file_grows_in_all_its_datasets(tmp_path):
    blocks = [vectors(2, local, 500) for local in range(0, 3000, 500)]
    sink = opener(0, METADATA, None)(
        SavingParams(base_path=str(tmp_path), nb_frames_per_file=5000),
        FrameSpec(2, 1, LENGTH, np.dtype("f4")),
        "$.saving_fai",
        vectors=True,
    )
    for block in blocks:
        sink.append(sink.encode(block))
    sink.close()
    (path,) = tmp_path.glob("*.h5")
    with h5py.File(path) as file:
        assert file[DETECTOR]["data"].shape == file[DETECTOR]["data_errors"].shape == (3000, LENGTH)
        assert np.array_equal(file[DETECTOR]["data_errors"][2500:], blocks[-1].data[:, 1, 0])
