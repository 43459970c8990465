"""Notes beside the elements, and how long somebody is silent."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lima2_tango.core.errors import WireError
from lima2_tango.transport import waiting
from lima2_tango.transport.fabric import LocalFabric, LocalJob
from lima2_tango.transport.links import MAX_TEXT, Kind, Note, Tag, read_note
from lima2_tango.transport.stream import Consumer, StreamSpec


@given(st.integers(0, 2**64 - 1), st.sampled_from(list(Kind)), st.integers(-(2**63), 2**63 - 1), st.text(max_size=200))
def test_a_note_is_read_as_it_was_written(identity, kind, value, text):
    note = Note(identity, kind, value, 7, text)
    assert read_note(note.encode(), "stream test") == note


def test_a_long_reason_is_cut():
    assert len(read_note(Note(1, Kind.ABORT, text="é" * MAX_TEXT).encode(), "").text) <= MAX_TEXT


@given(st.binary(max_size=80))
def test_what_is_no_note_is_refused(data):
    with suppress(WireError):
        read_note(data, "stream test")


@pytest.mark.parametrize(
    ("note", "says"),
    [
        (Note(0, Kind.RING, 0, 8192), "another stream"),
        (Note(1, Kind.CREDIT, 8), "another stream, or with CREDIT"),
        (Note(1, Kind.RING, -4096, 8192), "no ring of 8192 bytes at -4096"),
        (Note(1, Kind.RING, 0, 2**62), "no ring of"),
        (Note(1, Kind.RING, 2**40, 8192), "no ring of"),
        (Note(1, Kind.RING, 0, 8192), "its writer has left"),
    ],
)
def test_a_stream_that_begins_with_nonsense_is_refused(note, says):
    spec = StreamSpec("test", (0,), (1,), element_bytes=100)
    ends = [LocalFabric(rank, job) for job in [LocalJob(2)] for rank in range(2)]
    consumer = Consumer(ends[1], spec)
    identity = spec.identity if note.identity else 0
    route = spec.route(1, 0, producing=False)
    ends[0].tell(1, route.tag(Tag.DOWN), Note(identity, note.kind, note.first, note.second).encode())
    with pytest.raises(WireError, match=says):
        consumer.take(timeout=0)
    consumer.close()


def test_silence_counts_from_the_last_sign_of_life_while_somebody_listens(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(waiting.time, "monotonic", lambda: now[0])
    watch = waiting.Watch()
    assert watch.silent(1) == 0
    for _ in range(10):
        now[0] += 0.25
        silent = watch.silent(1)
    assert silent == pytest.approx(2.5)
    now[0] += 60  # nobody listened
    assert watch.silent(1) == pytest.approx(2.5)
    assert watch.silent(2) == 0
