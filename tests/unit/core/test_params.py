"""One declaration: validation with addresses, and a schema that the clients' libraries can use."""

import json
from typing import Annotated, Literal

import jsonschema_default
import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from lima2_tango.core.acquisition import AcquisitionParams
from lima2_tango.core.errors import ParamError
from lima2_tango.core.params import Params, json_path
from lima2_tango.core.roi import Arc, Rectangle
from lima2_tango.core.storage import Compression, SavingParams


class Inner(Params):
    """Two lines of text,

    the second after an empty one."""

    size: Annotated[int, Field(ge=1, le=9)] = 3
    """How large [pixel]."""
    factor: float = 1.0
    """By how much."""


class Outer(Params):
    inner: Inner = Inner()
    many: tuple[Inner, ...] = ()
    kind: Compression = Compression.NONE
    name: Annotated[str, Field(min_length=1)] = "x"
    fixed: Literal["only"] = "only"
    on: bool = True


def refused(text, cls=Outer):
    with pytest.raises(ParamError) as error:
        cls.parse(text)
    return error.value


FAULTS = {
    "unknown key": ('{"colour": 1}', "$.colour = 1: there is no such parameter"),
    "unknown key inside": ('{"inner": {"sise": 1}}', "$.inner.sise = 1: there is no such parameter"),
    "half a number": ('{"inner": {"size": 2.5}}', "$.inner.size = 2.5: give a whole number"),
    "text for a number": ('{"inner": {"size": "2"}}', '$.inner.size = "2": give a whole number'),
    "true for a number": ('{"inner": {"size": true}}', "$.inner.size = true: give a whole number"),
    "null": ('{"inner": {"size": null}}', "$.inner.size = null: give a whole number"),
    "null for an object": ('{"inner": null}', "$.inner = null: give an object"),
    "out of range": ('{"inner": {"size": 10}}', "$.inner.size = 10: should be less than or equal to 9"),
    "in a list": ('{"many": [{}, {"size": 0}]}', "$.many[1].size = 0: should be greater than or equal to 1"),
    "no list": ('{"many": {}}', "$.many = {}: give a list"),
    "not one of": ('{"kind": "rar"}', "$.kind = \"rar\": should be 'none', 'zip' or 'bshuf_lz4'"),
    "not the constant": ('{"fixed": "other"}', "$.fixed = \"other\": should be 'only'"),
    "number for a bool": ('{"on": 1}', "$.on = 1: give true or false"),
    "number for a text": ('{"name": 1}', "$.name = 1: give a text"),
    "empty text": ('{"name": ""}', '$.name = "": string should have at least 1 character'),
    "nan": ('{"inner": {"factor": NaN}}', "$.inner.factor = NaN"),
    "infinite": ('{"inner": {"factor": 1e999}}', "$.inner.factor = Infinity"),
    "no json": ("{", "this is not JSON"),
    "no object": ("[]", "$ = []: give an object"),
    "several": ('{"a": 1, "b": 2}', "(1 more fault)"),
}


@pytest.mark.parametrize(("text", "said"), FAULTS.values(), ids=FAULTS)
def test_a_fault_is_named_with_address_value_and_remedy(text, said):
    assert said in str(refused(text))


def test_the_address_is_there_for_programs_too():
    error = refused('{"many": [{}, {"size": 0}]}')
    assert error.path == "$.many[1].size"
    assert json.loads(error.payload())["errinfo"] == {"path": "$.many[1].size"}


@pytest.mark.parametrize(("text", "size"), [("3", 3), ("3.0", 3), ("9.00", 9)])
def test_whole_floats_are_whole_numbers(text, size):
    parsed = Outer.parse(f'{{"inner": {{"size": {text}}}}}')
    assert parsed.inner.size == size
    assert isinstance(parsed.inner.size, int)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_float_survives_as_it_is(value):
    assert Outer.parse(json.dumps({"inner": {"factor": value}})).inner.factor == value


def test_what_is_left_out_has_its_default():
    assert Outer.parse("{}") == Outer()


def test_parameters_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        Outer().on = False


def test_text_of_any_language_survives():
    assert Outer.parse(json.dumps({"name": "Straße/日本"})).name == "Straße/日本"


@pytest.mark.parametrize("cls", [Outer, AcquisitionParams, SavingParams, Rectangle, Arc])
class TestSchema:
    def test_the_clients_generator_makes_the_defaults_of_it(self, cls):
        text = cls.schema_text()
        defaults = jsonschema_default.create_from(json.loads(text))
        jsonschema_rs.validator_for(text).validate(defaults)
        assert cls.parse(json.dumps(defaults)) == cls()

    def test_it_has_no_references_and_no_alternatives(self, cls):
        text = cls.schema_text()
        assert not [word for word in ("$ref", "$defs", "allOf", "anyOf", "oneOf") if word in text]

    def test_it_survives_every_tango_database(self, cls):
        assert "\\" not in cls.schema_text()
        assert len(cls.schema_text()) < 60_000


@pytest.mark.parametrize(
    "text", [text for name, (text, _) in FAULTS.items() if name not in {"nan", "infinite", "no json"}]
)
def test_the_schema_refuses_what_we_refuse(text):
    validator = jsonschema_rs.validator_for(Outer.schema_text())
    assert not validator.is_valid(json.loads(text))


def test_the_schema_shows_bounds_units_and_choices():
    properties = json.loads(Outer.schema_text())["properties"]
    size = properties["inner"]["properties"]["size"]
    assert (size["minimum"], size["maximum"], size["default"]) == (1, 9, 3)
    assert size["description"] == "How large [pixel]."
    assert properties["inner"]["description"] == "Two lines of text, the second after an empty one."
    assert properties["kind"]["enum"] == ["none", "zip", "bshuf_lz4"]
    assert properties["many"]["items"]["properties"]["size"]["minimum"] == 1


@pytest.mark.parametrize(
    ("location", "address"), [((), "$"), (("a",), "$.a"), (("a", 0, "b"), "$.a[0].b"), ((1, 2), "$[1][2]")]
)
def test_an_address_is_a_json_path(location, address):
    assert json_path(location) == address
