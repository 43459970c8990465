import pytest

from lima2_tango.core.errors import WireError
from lima2_tango.transport import messages


@pytest.mark.parametrize(
    "message",
    [
        messages.Hello("", control=True, receiver=False, receiver_rank=-1, host="h"),
        messages.RollCall("u"),
        messages.Go("u", 2, 99),
        messages.Held("u", 1, 30),
        messages.Done("u", 0, 10, "receiver 0: gone"),
        messages.Abort("u", 'quote " and é'),
    ],
)
def test_what_is_encoded_decodes_to_the_same(message):
    assert messages.decode(message.encode()) == message


HOSTILE = {
    "empty": b"",
    "not json": b"\xff\x00",
    "not a pair": b"[1]",
    "unknown kind": b'["Bomb", {}]',
    "missing field": b'["Go", {"run": "u"}]',
    "field too many": b'["RollCall", {"run": "u", "more": 1}]',
    "a number": b"7",
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_bytes_that_are_no_message_are_named(data):
    with pytest.raises(WireError, match="not understood"):
        messages.decode(data)
