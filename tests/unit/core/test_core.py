"""Errors, frames, leases, plugins and units."""

import json
import sys
from threading import Thread

import numpy as np
import pytest

from lima2_tango.core import errors
from lima2_tango.core.frame import Block, FrameSpec, Lease, PixelType
from lima2_tango.core.plugins import available, load
from lima2_tango.core.units import bytes_text, microseconds_text

CLIENT_TYPES = {
    "gray8s": "int8",
    "gray8": "uint8",
    "gray16s": "int16",
    "gray16": "uint16",
    "gray32s": "int32",
    "gray32": "uint32",
    "gray32f": "float32",
    "gray64f": "float64",
}


def test_the_payload_is_what_the_clients_parse():
    error = errors.SavingError("the disk is full", file="/data/x.h5", frame_idx=7)
    assert json.loads(error.payload()) == {
        "what": "the disk is full",
        "errinfo": {"file": "/data/x.h5", "frame_idx": 7},
    }


def test_a_payload_holds_anything():
    assert json.loads(errors.Lima2Error("x", spec=np.dtype("u2")).payload())["errinfo"] == {"spec": "uint16"}


def test_a_long_value_is_shown_shortened():
    text = str(errors.ParamError("$.a", list(range(1000)), "too many"))
    assert len(text) < 200
    assert text.endswith("...: too many")


def test_the_tree_at_the_top_of_the_file_names_every_error():
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.Lima2Error)]
    assert len(kinds) > 10
    assert [kind.__name__ for kind in kinds if kind.__name__ not in errors.__doc__] == []


@pytest.mark.parametrize(("name", "dtype"), CLIENT_TYPES.items())
def test_pixel_types_are_those_of_the_clients(name, dtype):
    assert PixelType(name).dtype == np.dtype(dtype)
    assert PixelType.of(np.dtype(dtype)) == name


def test_byte_order_does_not_change_the_name():
    assert PixelType.of(np.dtype(">u2")) is PixelType.GRAY16


def test_a_type_that_no_client_knows_has_no_name():
    with pytest.raises(KeyError):
        PixelType.of(np.dtype("u8"))


def test_a_spec_says_shape_size_and_info():
    spec = FrameSpec(2, 3, 4, np.dtype("u2"))
    assert (spec.shape, spec.nbytes) == ((2, 3, 4), 48)
    assert spec.info() == {"nb_channels": 2, "dimensions": {"x": 4, "y": 3}, "pixel_type": "gray16"}


def test_a_block_knows_its_length_and_spec():
    block = Block(np.zeros((5, 1, 3, 4), "u1"), np.arange(5), 0, np.zeros(5), Lease())
    assert len(block) == 5
    assert block.spec == FrameSpec(1, 3, 4, np.dtype("u1"))


class TestLease:
    @pytest.fixture
    def given_back(self):
        return []

    def test_memory_goes_back_once_with_the_last_holder(self, given_back):
        lease = Lease(lambda: given_back.append(1))
        lease.retain()
        lease.release()
        assert given_back == []
        lease.release()
        assert given_back == [1]

    @pytest.mark.parametrize("misuse", [Lease.retain, Lease.release])
    def test_use_after_the_last_release_is_an_error(self, misuse, given_back):
        lease = Lease(lambda: given_back.append(1))
        lease.release()
        with pytest.raises(RuntimeError):
            misuse(lease)
        assert given_back == [1]

    def test_holders_may_live_in_many_threads(self, given_back):
        lease = Lease(lambda: given_back.append(1))

        def hold():
            for _ in range(1000):
                lease.retain()
                lease.release()

        threads = [Thread(target=hold) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        lease.release()
        assert given_back == [1]


class TestPlugins:
    def test_cameras_and_pipelines_are_found_by_file_name(self):
        assert {"simulator", "reader"} <= set(available("cameras"))
        assert {"legacy", "failing"} <= set(available("processing.pipelines"))

    def test_what_begins_with_an_underscore_and_the_base_are_no_plugins(self):
        assert not [name for name in available("cameras") if name.startswith("_") or name == "base"]

    def test_an_unknown_plugin_is_refused_with_the_choice(self):
        with pytest.raises(errors.ParamError, match="reader, simulator"):
            load("cameras", "pinhole")

    def test_finding_does_not_import(self):
        for name in [name for name in sys.modules if name.startswith("lima2_tango.processing.pipelines.")]:
            assert name.rsplit(".", 1)[-1] in {*available("processing.pipelines")}
        assert load("cameras", "simulator").name == "Simulator"


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (36_186_752, "36.19 MB"), (2.5e9, "2.5 GB"), (7e15, "7000 TB")],
)
def test_bytes_are_counted_in_powers_of_ten(count, text):
    assert bytes_text(count) == text


@pytest.mark.parametrize(("count", "text"), [(5, "5 us"), (12_300, "12.3 ms"), (2_400_000, "2.4 s")])
def test_times_are_shown_in_the_unit_that_fits(count, text):
    assert microseconds_text(count) == text
