"""Our errors as Tango carries them, and text as clients send it."""

import json

import pytest
import tango

from lima2_tango.core.errors import Lima2Error, ParamError, StateError
from lima2_tango.devices.errors import REASON, as_dev_failed, as_utf8, text_of


def raised(error):
    with pytest.raises(tango.DevFailed) as failed, as_dev_failed("Prepare"):
        raise error
    return failed.value.args


@pytest.mark.parametrize(
    ("error", "what", "info"),
    [
        (ParamError("$.a", 1, "no"), "$.a = 1: no", {"path": "$.a"}),
        (StateError("not now", state="idle"), "not now", {"state": "idle"}),
        (ValueError("surprise"), "ValueError: surprise", {}),
        (KeyError("key"), "KeyError: 'key'", {}),
    ],
)
def test_any_error_becomes_one_entry_with_our_payload(error, what, info):
    (entry,) = raised(error)
    assert (entry.reason, entry.origin, entry.severity) == (REASON, "Prepare", tango.ErrSeverity.ERR)
    assert json.loads(entry.desc) == {"what": what, "errinfo": info}


def test_a_tango_error_passes_as_it_is():
    entry = tango.DevError()
    entry.reason = "API_Other"
    assert raised(tango.DevFailed(entry))[0].reason == "API_Other"


def test_what_goes_well_passes():
    with as_dev_failed("Prepare"):
        value = 1
    assert value == 1


def test_no_error_is_the_text_that_clients_skip():
    assert text_of(None) == "No error"


@pytest.mark.parametrize("error", [Lima2Error("a", frame_idx=3), RuntimeError("b"), Lima2Error('quote " é')])
def test_an_error_is_text_that_clients_parse(error):
    parsed = json.loads(text_of(error))
    assert set(parsed) == {"what", "errinfo"}
    assert str(error) in parsed["what"]


@pytest.mark.parametrize("text", ["plain", "Straße", "/data/日本/é", "", '{"a": "ü"}'])
def test_utf8_that_was_read_as_latin1_is_taken_back(text):
    assert as_utf8(text.encode().decode("latin-1")) == text


@pytest.mark.parametrize("text", ["café", "日本", "naïve"])
def test_text_that_came_right_stays(text):
    assert as_utf8(text) == text
