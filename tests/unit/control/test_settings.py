"""What a site decides: memory, threads, and where files may lie."""

import os

import psutil
import pytest

from lima2_tango.control.settings import Settings
from lima2_tango.core.errors import ParamError
from lima2_tango.core.params import Params
from lima2_tango.core.storage import SavingParams


class FileOf(Params):
    path: str = ""


class Tree(Params):
    mask: FileOf = FileOf()
    base_path: str = ""
    dataset_path: str = "/entry/data"
    csr_path: str = ""
    name: str = "/etc/passwd is only a name here"


@pytest.fixture
def roots(tmp_path):
    for name in ("data", "more", "secret"):
        (tmp_path / name).mkdir()
    return tmp_path


def settings(roots, *names):
    return Settings(data_roots=tuple(str(roots / name) for name in names))


@pytest.mark.parametrize("path", ["data", "data/deep/er/file.h5", "more/x", "data/../more/x"])
def test_paths_below_a_root_are_taken(roots, path):
    settings(roots, "data", "more").confine(Tree(base_path=str(roots / path)))


@pytest.mark.parametrize("path", ["secret/x", "data/../secret/x", "", "database/x"], ids=repr)
def test_paths_that_leave_the_roots_are_refused_with_the_roots(roots, path):
    with pytest.raises(ParamError) as refused:
        settings(roots, "data").confine(Tree(base_path=str(roots / path) + "/"))
    assert refused.value.path == "$.base_path"
    assert str(roots / "data") in str(refused.value)


def test_a_link_does_not_lead_out_of_a_root(roots):
    (roots / "data" / "link").symlink_to(roots / "secret")
    with pytest.raises(ParamError, match=r"\$\.mask\.path"):
        settings(roots, "data").confine(Tree(mask=FileOf(path=str(roots / "data" / "link" / "mask.edf"))))


@pytest.mark.parametrize("field", ["base_path", "csr_path"])
def test_every_file_path_is_confined(roots, field):
    with pytest.raises(ParamError, match=rf"\$\.{field}"):
        settings(roots, "data").confine(Tree(**{field: "/etc/passwd"}))


def test_what_is_no_file_path_is_left_alone(roots):
    settings(roots, "data").confine(Tree(dataset_path="/entry_0000/measurement/data"))


def test_only_the_file_counts_where_a_path_goes_on_inside_it(roots):
    settings(roots, "data").confine(Tree(base_path=f"{roots}/data/csr.h5::/entry/csr"))
    with pytest.raises(ParamError):
        settings(roots, "data").confine(Tree(base_path=f"{roots}/secret/csr.h5::/../../data/csr"))


def test_an_unused_path_is_left_alone(roots):
    settings(roots, "data").confine(Tree(base_path=""))


def test_without_roots_any_path_is_taken():
    Settings().confine(Tree(base_path="/anywhere/at/all"))


def test_a_path_with_a_nul_is_refused_even_without_roots():
    with pytest.raises(ParamError, match="NUL"):
        Settings().confine(Tree(base_path="/data\0/x"))


def test_a_relative_path_is_resolved_before_it_is_judged(roots, monkeypatch):
    monkeypatch.chdir(roots / "data")
    settings(roots, "data").confine(Tree(base_path="here"))
    with pytest.raises(ParamError):
        settings(roots, "data").confine(Tree(base_path="../secret"))


def test_the_address_begins_where_the_caller_says(roots):
    with pytest.raises(ParamError) as refused:
        settings(roots, "data").confine(SavingParams(base_path="/elsewhere"), "$.saving")
    assert refused.value.path == "$.saving.base_path"


def test_a_given_budget_is_taken_as_it_is():
    assert Settings(memory_budget=123 << 20).budget(receivers_on_host=4) == 123 << 20


@pytest.mark.parametrize("receivers", [1, 2, 8])
def test_receivers_of_a_host_share_half_of_its_free_memory(receivers):
    shared = Settings().budget(receivers) * receivers
    assert 0.3 * psutil.virtual_memory().available < shared < 0.7 * psutil.virtual_memory().available


@pytest.mark.parametrize("receivers", [1, 2, 1000])
def test_receivers_of_a_host_share_its_cores_and_have_one_at_least(receivers):
    assert Settings().worker_count(receivers) == max(1, len(os.sched_getaffinity(0)) // receivers)


def test_a_given_number_of_workers_is_taken_as_it_is():
    assert Settings(workers=7).worker_count(receivers_on_host=3) == 7
