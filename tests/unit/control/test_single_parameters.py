"""Single parameters by name, made from the declarations: which there are, what they take, what they show."""

from typing import Annotated, Literal, get_origin

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from lima2_tango.control.parameters import DEFAULT_PIPELINE, Parameterised, pipelines
from lima2_tango.control.scalars import Root, is_scalar, scalars
from lima2_tango.control.settings import Settings
from lima2_tango.core.acquisition import AcquisitionParams, TriggerMode
from lima2_tango.core.errors import ParamError
from lima2_tango.core.leaves import leaves
from lima2_tango.core.params import Params, json_path
from lima2_tango.core.plugins import available, load
from lima2_tango.core.storage import SavingParams
from lima2_tango.processing.plugin import PipelinePlugin

CAMERAS = available("cameras")
WELL_KNOWN = {
    "nb_frames",
    "expo_time",
    "latency_time",
    "trigger_mode",
    "nb_frames_per_trigger",
    "saving_enabled",
    "saving_directory",
    "saving_prefix",
    "saving_format",
    "saving_policy",
    "saving_compression",
    "saving_frames_per_file",
}
FILLED_IN = {"class_name", "filename_rank"}
"""The attribute pipeline says the first, the control itself the second of each saving block."""
PURE_NUMBERS = ("_number", "_rank", "_port", "_idx", "_channel", "_channels", "_factor", "_arms", "dummy")
"""How numbers without a unit end."""


def camera(name="simulator"):
    return load("cameras", name)


def made(name="simulator"):
    return scalars(camera(name).params, pipelines())


@pytest.fixture
def source():
    return Parameterised(camera(), Settings())


@pytest.mark.parametrize("name", CAMERAS)
def test_every_parameter_is_a_scalar_or_deliberately_left_to_the_json(name):
    models = [camera(name).params, *(plugin.params for plugin in pipelines().values())]
    every = {json_path(leaf.path): leaf for model in models for leaf in leaves(model)}
    reached = {scalar.address for scalar in made(name).values()}
    for address in set(every) - reached:
        leaf = every[address]
        several = get_origin(leaf.owner.model_fields[leaf.path[-1]].annotation) in {list, tuple, dict}
        assert several or leaf.fixed or leaf.path[-1] in FILLED_IN, address


@pytest.mark.parametrize("name", CAMERAS)
def test_everybodys_scalars_have_the_names_that_people_know_and_the_rest_is_for_experts(name):
    common = {scalar.name: scalar for scalar in made(name).values() if scalar.common}
    assert set(common) >= WELL_KNOWN
    assert all(issubclass(common[extra].leaf.owner, SavingParams) for extra in set(common) - WELL_KNOWN)


@pytest.mark.parametrize("name", CAMERAS)
def test_every_scalar_says_what_it_is_where_it_is_and_in_which_unit(name):
    for scalar in made(name).values():
        assert scalar.label
        assert scalar.address in scalar.text
        assert len(scalar.text) > len(scalar.address) + 20
        assert "[us]" not in scalar.text
        if scalar.kind in {int, float} and not scalar.name.endswith(PURE_NUMBERS):
            assert scalar.unit, scalar.name


@pytest.mark.parametrize("name", CAMERAS)
def test_every_scalar_takes_the_value_that_it_shows(name):
    source = Parameterised(camera(name), Settings())
    source.choice = source.chosen()
    before = source.acq_params, source.choice.params
    for scalar in made(name).values():
        value = scalar.read(source)
        if value is not None:
            assert isinstance(value, int if scalar.leaf.choices else scalar.kind)
            scalar.write(source, value)
    assert (source.acq_params, source.choice.params) == before


def test_a_write_changes_one_parameter_and_nothing_else(source):
    source.set_acq_params('{"acq": {"nb_frames": 5}, "det": {"width": 64}}')
    made()["det_height"].write(source, 32)
    assert source.acq_params == camera().params.parse('{"acq": {"nb_frames": 5}, "det": {"width": 64, "height": 32}}')


@pytest.mark.parametrize(
    ("seconds", "microseconds"), [(1e-6, 1), (1.4e-6, 1), (1.6e-6, 2), (0.1, 100_000), (9999.5, 9999500000)]
)
def test_times_are_seconds_rounded_to_whole_microseconds(source, seconds, microseconds):
    made()["expo_time"].write(source, seconds)
    assert source.acq_params.acq.expo_time == microseconds
    assert made()["expo_time"].read(source) == microseconds / 1e6


@given(st.integers(1, 10**10))
def test_a_time_that_was_read_is_written_back_unchanged(microseconds):
    source = Parameterised(camera(), Settings())
    source.change_acq(("acq", "expo_time"), microseconds)
    scalar = EXPO_TIME
    scalar.write(source, scalar.read(source))
    assert source.acq_params.acq.expo_time == microseconds


EXPO_TIME = made()["expo_time"]


@pytest.mark.parametrize("seconds", [0.0, 4e-7, -1.0, 10_001.0, 1e300, float("nan"), float("inf")])
def test_an_exposure_that_is_none_is_refused_with_the_limits_in_words(source, seconds):
    with pytest.raises(ParamError, match=r"expo_time = .*: give at least 1 us and at most 1e\+04 s, in seconds"):
        EXPO_TIME.write(source, seconds)
    assert source.acq_params.acq.expo_time == 100_000


def test_limits_are_those_declared_in_the_unit_shown():
    found = made()
    assert (EXPO_TIME.unit, EXPO_TIME.least, EXPO_TIME.most) == ("s", 1e-6, 10_000.0)
    assert (found["nb_frames"].unit, found["nb_frames"].least, found["nb_frames"].most) == ("frame", 0, 2**31 - 1)
    assert found["det_failed_frame_idx"].most is None


def test_a_choice_is_shown_and_taken_by_its_number(source):
    scalar = made()["trigger_mode"]
    assert scalar.leaf.choices == ("internal", "software", "external", "gate")
    scalar.write(source, 2)
    assert source.acq_params.acq.trigger_mode is TriggerMode.EXTERNAL
    assert scalar.read(source) == 2


def test_a_refusal_gives_the_path_in_the_json_and_changes_nothing(source):
    with pytest.raises(ParamError, match=r"\$\.saving\.filename_prefix = .a/b."):
        made()["saving_prefix"].write(source, "a/b")
    assert source.chosen().params.saving.filename_prefix == "lima2"


def test_what_the_chosen_pipeline_does_not_have_reads_as_nothing_and_is_refused_by_its_name(source):
    scalar = made()["failed_frame_idx"]
    assert scalar.read(source) is None
    with pytest.raises(ParamError, match="pipeline LimaProcessingLegacy has no such parameter: choose LimaProcessingF"):
        scalar.write(source, 3)
    source.choose_pipeline("LimaProcessingFailing")
    scalar.write(source, 3)
    assert scalar.read(source) == 3
    assert made()["saving_directory"].read(source) is None


class Raw(AcquisitionParams):
    saving: SavingParams = SavingParams()


def plugin(name, params):
    return PipelinePlugin(class_name=name, doc="", params=params, build=lambda params, setup: None)


class One(Params):
    class_name: Literal["One"] = "One"
    size: Annotated[int, Field(ge=1, le=5)] = 1
    """Size [pixel]."""
    width: float = 1.0
    """Width [m]."""
    dense: SavingParams = SavingParams()


class Two(Params):
    class_name: Literal["Two"] = "Two"
    size: Annotated[int, Field(ge=3, le=9)] = 3
    """Size [pixel]."""
    width: int = 1
    """Width [pixel]."""


def test_a_camera_that_saves_itself_has_its_own_names_beside_the_pipelines():
    found = scalars(Raw, pipelines())
    assert (found["saving_directory"].root, found["acq_saving_directory"].root) == (Root.PROC, Root.ACQ)
    assert "acq_saving_filename_rank" not in found


def test_a_name_that_is_taken_gets_the_name_of_its_set():
    found = scalars(AcquisitionParams, {}, taken=["nb_frames", "acq_nb_frames"])
    assert found["acq_acq_nb_frames"].address == "$.acq.nb_frames"


def test_pipelines_share_what_they_declare_alike_with_limits_that_hold_for_both():
    found = scalars(AcquisitionParams, {"One": plugin("One", One), "Two": plugin("Two", Two)})
    size = found["size"]
    assert (size.least, size.most, size.pipelines) == (1, 9, {"One", "Two"})
    assert "of One, Two" in size.text
    assert (found["width"].kind, found["width"].pipelines) == (float, {"One"})
    assert (found["proc_width"].kind, found["proc_width"].pipelines) == (int, {"Two"})


def test_every_saving_block_has_the_known_names_with_its_own_in_front():
    found = scalars(AcquisitionParams, {"One": plugin("One", One)})
    assert found["dense_directory"].address == "$.dense.base_path"
    assert found["dense_directory"].common
    assert "dense_filename_rank" not in found


class Odd(Params):
    either: int | str = 1
    mixed: Literal[1, 2] = 1
    many: tuple[int, ...] = ()
    none: int | None = None


def test_what_is_not_one_value_of_one_type_is_left_to_the_json():
    assert not [leaf.path for leaf in leaves(Odd) if is_scalar(leaf)]


def test_the_default_pipeline_is_one_that_is_there():
    assert DEFAULT_PIPELINE in pipelines()
