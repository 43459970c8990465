"""What Tango says, as a sentence of ours."""

import time

import pytest
import tango

from lima2_tango.client import RefusedError, UnreachableError, connect
from lima2_tango.client.device import COMMAND_TIMEOUT
from lima2_tango.client.errors import from_dev_failed, sentence
from lima2_tango.core.errors import ParamError, StateError
from lima2_tango.devices.errors import as_dev_failed, as_tango_text
from lima2_tango.devices.remote import PREPARE_TIMEOUT

NAME = "id00/limacontrol/simulator"


def failed(*entries: tuple[str, str]) -> tango.DevFailed:
    errors = []
    for reason, text in entries:
        error = tango.DevError()
        error.reason, error.desc = reason, text
        errors.append(error)
    return tango.DevFailed(*errors)


def raised(error: Exception) -> tango.DevFailed:
    """As a device of ours raises it."""
    with pytest.raises(tango.DevFailed) as caught, as_dev_failed("Prepare"):
        raise error
    return caught.value


@pytest.mark.parametrize("error", [StateError("cannot do it", state="idle"), ParamError("$.a.b", 3, "no")])
def test_the_sentence_of_the_device_comes_through_with_its_facts(error: Exception) -> None:
    found = from_dev_failed(raised(error), NAME, "Prepare")
    assert isinstance(found, RefusedError)
    assert str(found) == str(error)
    assert found.info == error.info


def test_text_of_any_language_comes_through() -> None:
    text = "\u6e2c\u5b9a \u00b5m"
    entry = ("LIMA_Exception", as_tango_text(f'{{"what": "{text}", "errinfo": {{}}}}'))
    assert str(from_dev_failed(failed(entry), NAME, "Prepare")) == text


def test_our_sentence_is_found_below_tangos_own_entries() -> None:
    errors = failed(("PyDs_PythonError", "Traceback"), ("LIMA_Exception", '{"what": "why", "errinfo": {}}'))
    assert str(from_dev_failed(errors, NAME, "Prepare")) == "why"


@pytest.mark.parametrize("text", ["plain", '{"what": 3}', "[]", '{"errinfo": {}}', '{"what": "x", "errinfo": 5}'])
def test_a_payload_that_cannot_be_taken_apart_is_shown_as_it_is(text: str) -> None:
    assert str(from_dev_failed(failed(("LIMA_Exception", text)), NAME, "Prepare")) == text


@pytest.mark.parametrize(
    ("reasons", "why"),
    [
        (["API_DeviceNotExported"], "its server does not run"),
        (["DB_DeviceNotDefined"], "is not defined"),
        (["API_CorbaException", "API_DeviceTimedOut"], "in time"),
        (["API_CorbaException", "API_CantConnectToDevice"], "its server has ended"),
        (["API_CorbaException", "API_CantConnectToDatabase"], "database does not answer"),
        (["API_TangoHostNotSet"], "TANGO_HOST"),
    ],
)
def test_whoever_does_not_answer_is_named_with_what_to_do(reasons: list[str], why: str) -> None:
    found = from_dev_failed(failed(*((reason, "text") for reason in reasons)), NAME, "read acq_state")
    assert isinstance(found, UnreachableError)
    assert str(found).startswith(NAME)
    assert why in str(found)
    assert "read acq_state" in str(found)


def test_who_was_waited_for_in_vain_is_told_with_the_time() -> None:
    found = from_dev_failed(failed(("API_DeviceTimedOut", "text")), NAME, "Prepare", 100.0)
    assert str(found).endswith("(asked for: Prepare, within 100 s)")


def test_a_client_waits_longer_for_prepare_than_the_control_does() -> None:
    assert COMMAND_TIMEOUT / 1000 > PREPARE_TIMEOUT + 5


def test_any_other_error_is_told_with_its_text() -> None:
    found = from_dev_failed(failed(("API_AttrNotFound", "acq_state\n is not there")), NAME, "read acq_state")
    assert isinstance(found, RefusedError)
    assert str(found) == f"{NAME}: read acq_state failed: acq_state is not there"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", ""),
        ("No error", ""),
        ('{"what": "why", "errinfo": {}}', "why"),
        ("plain", "plain"),
        (as_tango_text("\u6e2c\u5b9a \u00b5m"), "\u6e2c\u5b9a \u00b5m"),
        (as_tango_text('{"what": "\u6e2c\u5b9a", "errinfo": {}}'), "\u6e2c\u5b9a"),
        ("[1]", "[1]"),
        ("3", "3"),
    ],
)
def test_a_last_error_is_its_sentence(text: str, said: str) -> None:
    assert sentence(text) == said


@pytest.mark.parametrize(
    ("device", "host", "why"),
    [
        (NAME, "localhost:1", "no Tango database answers at localhost:1"),
        (NAME, "localhost:1,localhost:2", "no Tango database answers at localhost:1,localhost:2"),
        (NAME, "localhost", "give HOST:PORT"),
        (NAME, "localhost:99999", "no Tango database answers"),
        (NAME, "no.such.host.invalid:10000", "no Tango database answers"),
        (f"tango://localhost:1/{NAME}", None, "database does not answer"),
        ("nonsense://a/b/c", None, "nonsense"),
    ],
)
def test_nobody_there_is_a_sentence_within_seconds(device: str, host: str | None, why: str) -> None:
    begin = time.monotonic()
    with pytest.raises((UnreachableError, RefusedError), match=why):
        connect(device, host)
    assert time.monotonic() - begin < 30


def test_no_database_at_all_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TANGO_HOST", raising=False)
    with pytest.raises(UnreachableError, match="set TANGO_HOST"):
        connect(NAME)
