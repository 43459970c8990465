"""A receiver that cannot be given its frames fails alone: the others get theirs, each once and where it belongs."""

import numpy as np
import pytest
from test_topologies_assembly import Rig, assembled, in_turn, layout_of, part_block

from lima2_tango.core.acquisition import Acq
from lima2_tango.core.errors import AgreementError
from lima2_tango.core.frame import Block, Lease
from lima2_tango.core.series import Series
from lima2_tango.transport import scatter
from lima2_tango.transport.topology import RoundRobin

STUCK = 1


class Jammed:
    """The way to a receiver, which can be stuck or broken for a while."""

    def __init__(self, outlet):
        self.outlet, self.stuck, self.breaks = outlet, False, None
        self.load, self.ended = 0, None

    def put(self, batch, which):
        if self.breaks:
            raise self.breaks
        return 0 if self.stuck else self.outlet.put(batch, which)

    def end(self, error=""):
        self.ended = error
        self.outlet.end(error)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(scatter, "ROOM_LIMIT", 0.05)


@pytest.fixture
def rig():
    """Two receivers, two sources; the way from source 0 to receiver 1 can be jammed."""
    made = Rig(2, layout_of(2), 2)
    jam = Jammed(made.dealers[0]._outlets[STUCK])
    made.dealers[0]._outlets[STUCK] = jam
    made.jam = jam
    yield made
    made.close()


FAILURES = {
    "no room": (lambda jam: setattr(jam, "stuck", True), "receiver 1 took no frame"),
    "silent": (lambda jam: setattr(jam, "breaks", AgreementError("no sign of life from consumers [2]")), "no sign of"),
    "broken": (lambda jam: setattr(jam, "breaks", OSError("Bus error")), "receiver 1 cannot be given frames.*Bus"),
}


@pytest.fixture(params=FAILURES.values(), ids=FAILURES)
def failing(request):
    return request.param


def hand_over(rig, source, first, count=4):
    rig.dealers[source].hand_over(part_block(rig.layout, source, range(first, first + count)))


def fail(rig, failing, first):
    """A block that receiver 1 fails in."""
    jam, text = failing
    jam(rig.jam)
    with pytest.raises(AgreementError, match=text):
        hand_over(rig, 0, first)


def taken(rig, rank):
    """Indices and pixels of the frames that a receiver gets, and the error that it ends with."""
    found, error = [], ""
    try:
        for item in rig.blocks(rank):
            if isinstance(item, Block):
                found += list(zip(item.index.tolist(), item.data.copy(), strict=True))
                item.lease.release()
    except AgreementError as raised:
        error = raised.what
    return found, error


def test_a_block_that_one_receiver_fails_in_is_whole_at_the_others_and_counted(rig, failing):
    fail(rig, failing, 0)
    assert rig.dealers[0].frames == 4
    hand_over(rig, 1, 0)
    for dealer in rig.dealers:
        dealer.end()
    found, error = taken(rig, 0)
    assert ([index for index, _ in found], error) == ([0, 2], "")


def test_parts_of_all_sources_stay_in_step_after_a_receiver_has_failed(rig, failing):
    hand_over(rig, 1, 0, 16)
    hand_over(rig, 0, 0)
    fail(rig, failing, 4)
    for first in (8, 12):
        hand_over(rig, 0, first)
    for dealer in rig.dealers:
        dealer.end()
    found, error = taken(rig, 0)
    assert ([index for index, _ in found], error) == (list(range(0, 16, 2)), "")
    assert all(np.array_equal(frame, assembled(rig.layout, index)) for index, frame in found)


def test_nothing_more_goes_to_a_receiver_that_failed_and_it_ends_with_the_reason(rig, failing):
    hand_over(rig, 0, 0)
    hand_over(rig, 1, 0, 16)
    fail(rig, failing, 4)
    rig.jam.stuck, rig.jam.breaks = False, None  # it moves again: too late
    for first in (8, 12):
        hand_over(rig, 0, first)
    for dealer in rig.dealers:
        dealer.end()
    found, error = taken(rig, STUCK)
    assert [index for index, _ in found] == [1, 3]
    assert error == rig.jam.ended != ""


def test_a_lost_receiver_that_comes_back_gets_no_frames_after_a_hole(rig):
    series = Series(Acq(nb_frames=0), RoundRobin(1), 0)
    rig.dealers[0]._series = series
    hand_over(rig, 1, 0, 12)
    hand_over(rig, 0, 0)
    series.lose(STUCK, "receiver 1 has given no sign of life")
    rig.jam.stuck = True
    hand_over(rig, 0, 4)
    rig.jam.stuck = False
    hand_over(rig, 0, 8)
    for dealer in rig.dealers:
        dealer.end()
    found, error = taken(rig, STUCK)
    assert [index for index, _ in found] == [1, 3]
    assert error == "receiver 1 has given no sign of life"
    assert [index for index, _ in taken(rig, 0)[0]] == list(range(0, 12, 2))


def test_a_failure_before_the_first_frame_counts_nothing_and_names_nobody(rig):
    block = part_block(rig.layout, 0, range(4))
    block.data = block.data[:, :, :, :0].reshape(0, 0)
    with pytest.raises(ValueError, match="unpack"):
        rig.dealers[0].hand_over(block)
    assert rig.dealers[0].frames == 0
    hand_over(rig, 0, 0)
    assert rig.dealers[0].frames == 4


def test_each_writer_has_a_reason_of_its_own(rig):
    for source, error in enumerate(("", "camera 1 has failed")):
        hand_over(rig, source, 0)
        rig.dealers[source].end(error)
    found, error = taken(rig, 0)
    assert ([index for index, _ in found], error) == ([0, 2], "camera 1 has failed")


def test_a_longer_reason_of_an_older_run_is_not_read(rig):
    rig.dealers[0].end("a very long reason why there is nothing at all")
    rig.open(in_turn(2))
    rig.dealers[0].end("short")
    assert taken(rig, 0) == ([], "short")


def test_a_window_in_which_a_writer_is_frozen_is_used_no_more():
    rig = Rig(1, layout_of(1), 1)
    intake, outlet = rig.intakes[0], rig.dealers[0]._outlets[0]
    with outlet._inside() as wanted:
        assert wanted
        assert intake.retire()
    assert not intake.retire()
    with outlet._inside() as wanted:
        assert not wanted
    rig.close()


def test_a_writer_of_an_older_run_writes_nothing(rig):
    old = rig.dealers
    hand_over(rig, 0, 0)
    rig.open(in_turn(2))
    old[0].hand_over(part_block(rig.layout, 0, range(4)))
    old[0].end("too late")
    memory = rig.intakes[0].memory
    assert memory.written[:2].tolist() == [0, 0]
    assert memory.total[0] == -1
    assert not memory.reason[0, 0]


def test_a_lease_is_given_back_also_where_a_receiver_fails(rig):
    given = []
    block = part_block(rig.layout, 0, range(4))
    block.lease = Lease(lambda: given.append(True))
    rig.jam.stuck = True
    with pytest.raises(AgreementError):
        rig.dealers[0].hand_over(block)
    assert given == [True]
