"""Names of files: what is refused, with which key, and which existing files a series would meet."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lima2_tango.core.errors import ParamError
from lima2_tango.core.storage import SavingParams
from lima2_tango.saving.names import FileNames


def names(rank=0, nb_files=None, **changes):
    return FileNames(SavingParams(filename_rank=rank).model_copy(update=changes), "$.saving", rank, nb_files)


def test_default_format_is_the_one_conductors_look_for():
    assert names(rank=3, filename_prefix="scan1").name(12) == "scan1_3_00012.h5"


@pytest.mark.parametrize(
    ("changes", "key", "words"),
    [
        ({"filename_format": "{prefix}_{file_number}"}, "filename_format", "{filename_prefix}, {filename_rank}"),
        ({"filename_format": "{filename_prefix"}, "filename_format", "not a format"),
        ({"filename_format": "{}_{file_number}"}, "filename_format", "there is no key"),
        ({"filename_format": "{filename_prefix.__class__}{file_number}"}, "filename_format", "there is no key"),
        ({"filename_format": "{file_number:05x}"}, "filename_format", "decimal"),
        ({"filename_format": "{filename_rank:s}_{file_number}"}, "filename_format", "cannot be filled in"),
        ({"filename_format": "{filename_prefix:99999999999}_{file_number}"}, "filename_format", "width"),
        ({"filename_format": "{filename_prefix:{file_number}}_{file_number}"}, "filename_format", "width"),
        ({"filename_format": "a/{file_number}"}, "filename_format", "'/'"),
        ({"filename_format": "a:{file_number}"}, "filename_format", "':'"),
        ({"filename_format": "{filename_prefix}.h5"}, "filename_format", "add {file_number}"),
        ({"filename_prefix": "a\0b"}, "filename_prefix", "leave it out"),
        ({"base_path": "/tmp/a:b"}, "base_path", "leave it out"),
        ({"base_path": "/tmp/\0"}, "base_path", "leave it out"),
        ({"filename_prefix": "x" * 250}, "filename_prefix", "bytes"),
        ({"filename_prefix": "é" * 120}, "filename_prefix", "bytes"),
        ({"nx_entry_name": ".."}, "nx_entry_name", "choose another"),
        ({"nx_instrument_name": "measurement"}, "nx_instrument_name", "choose another"),
        ({"nx_detector_name": "name"}, "nx_detector_name", "choose another"),
    ],
)
def test_refusal_names_the_key_and_the_remedy(changes, key, words):
    with pytest.raises(ParamError) as refusal:
        names(**changes)
    assert refusal.value.path == f"$.saving.{key}"
    assert words in str(refusal.value)


def test_rank_that_disagrees_is_refused():
    with pytest.raises(ParamError, match="this receiver has rank 1") as refusal:
        FileNames(SavingParams(filename_rank=0), "$.saving", 1, None)
    assert refusal.value.path == "$.saving.filename_rank"


def test_two_receivers_cannot_share_a_name():
    with pytest.raises(ParamError, match="several receivers"):
        names(rank=1, filename_format="{filename_prefix}_{file_number}.h5")


def test_one_file_needs_no_number():
    assert names(nb_files=1, filename_format="{filename_prefix}.h5").name(0) == "lima2.h5"


@given(st.integers(0, 10**7), st.sampled_from(["05d", "", "d", "3", "03"]), st.integers(0, 3))
def test_a_name_of_the_series_is_recognised(number, spec, rank):
    ours = names(rank, filename_format=f"{{filename_rank}}-{{file_number:{spec}}}.({{file_number}}){{filename_suffix}}")
    name = ours.name(number)
    assert ours.taken([name, "other", name + "x", "x" + name]) == [name]


def test_only_names_in_reach_count_lowest_first():
    listing = ["lima2_0_00012.h5", "lima2_0_00003.h5", "lima2_0_00004.h5", "lima2_0_4.h5", "lima2_1_00004.h5"]
    assert names(start_number=4).taken(listing) == ["lima2_0_00004.h5", "lima2_0_00012.h5"]
    assert names(start_number=4, nb_files=8).taken(listing) == ["lima2_0_00004.h5"]


def test_a_name_without_number_is_recognised():
    ours = names(nb_files=1, filename_format="one{filename_suffix}")
    assert ours.taken(["one.h5", "two.h5"]) == ["one.h5"]
    assert ours.taken(["two.h5"]) == []
