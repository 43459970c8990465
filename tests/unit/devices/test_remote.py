"""What a receiver says through Tango, in our words."""

import json

import pytest
import tango

from lima2_tango.core.errors import AgreementError, Lima2Error
from lima2_tango.devices.remote import _as_lima2, _problem


def failed(*entries):
    made = []
    for reason, description in entries:
        entry = tango.DevError()
        entry.reason, entry.desc, entry.origin = reason, description, "here"
        made.append(entry)
    return tango.DevFailed(*made)


def payload(what, **info):
    return json.dumps({"what": what, "errinfo": info})


REFUSAL = payload("$.mask.path = 1: no such file", path="$.mask.path")


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ([("LIMA_Exception", REFUSAL), ("API_CommandFailed", "Failed to execute")], "$.mask.path = 1: no such file"),
        (
            [("LIMA_Exception", REFUSAL), ("PyDs_UnexpectedFailure", "Cannot"), ("API_CommandFailed", "Failed")],
            "$.mask.path = 1: no such file",
        ),
        ([("API_CorbaException", "TIMEOUT"), ("API_DeviceTimedOut", "3000 mS exceeded")], "no answer within 3 s"),
        ([("API_CorbaException", "TRANSIENT CORBA: TRANSIENT_CallTimedout")], "no answer within 3 s"),
        (
            [("API_DeviceNotExported", "a/b/c is not\nexported")],
            "cannot be reached (API_DeviceNotExported: a/b/c is not",
        ),
    ],
)
def test_a_tango_error_becomes_one_sentence(entries, said):
    with pytest.raises(Lima2Error) as caught, _as_lima2(3.0):
        raise failed(*entries)
    assert said in caught.value.what
    assert "\n" not in caught.value.what


def test_the_facts_beside_a_refusal_are_kept():
    with pytest.raises(Lima2Error, match="mask") as caught, _as_lima2(3.0):
        raise failed(("LIMA_Exception", REFUSAL))
    assert caught.value.info == {"path": "$.mask.path"}
    assert not isinstance(caught.value, AgreementError)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("No error", ""),
        (payload("the disk is full"), "the disk is full"),
        (payload("the disk is full", frame_idx=7), "the disk is full (frame 7)"),
        (payload("frame 7 failed", frame_idx=7), "frame 7 failed"),
        ("plain words", "plain words"),
        ("42", "42"),
    ],
)
def test_a_last_error_becomes_one_sentence_that_names_the_frame(text, said):
    assert _problem(text) == said
