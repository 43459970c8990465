"""Parts of frames from several writers become whole frames, in place, whatever their order and pace."""

from threading import Thread

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lima2_tango.core.acquisition import Acq
from lima2_tango.core.errors import AgreementError, DataLossError, MemoryBudgetError
from lima2_tango.core.frame import Block, EndOfSeries, FrameSpec, Lease
from lima2_tango.core.modules import Layout, Module
from lima2_tango.core.pool import Pool
from lima2_tango.core.series import Series
from lima2_tango.transport import assembly, scatter
from lima2_tango.transport.assembly import Intake
from lima2_tango.transport.outlet import SharedOutlet
from lima2_tango.transport.scatter import Dealer
from lima2_tango.transport.topology import RoundRobin
from lima2_tango.transport.window import Address, attach

ROWS, COLUMNS = 24, 32
SPEC = FrameSpec(2, ROWS, COLUMNS, np.dtype("u2"))
SMALL_BUDGET = 1 << 20


def layout_of(receivers, rotation=0):
    """Four modules with gaps between them, turned, dealt to the receivers in turn."""
    height, width = (14, 10) if rotation % 180 else (10, 14)
    corners = [(y, x) for y in (0, 13) for x in (1, 17)]
    modules = [Module(y, x, height, width, rotation, n % receivers, f"[{n}]") for n, (y, x) in enumerate(corners)]
    layout = Layout(ROWS, COLUMNS, tuple(modules))
    layout.check(receivers)
    return layout


def image(index):
    rng = np.random.default_rng(index)
    return rng.integers(1, 60_000, SPEC.shape, dtype=np.uint16)


def as_read_out(layout, receiver, frame):
    """The modules of a receiver, cut from a frame [channel, row, column] and turned back: [channel, pixel]."""
    parts = [np.empty((SPEC.channels, 0), np.uint16)]
    for number in layout.numbers(receiver):
        place, turns = layout.modules[number].place, layout.modules[number].rotation // 90
        cut = frame[:, place.top : place.top + place.height, place.left : place.left + place.width]
        parts.append(np.rot90(cut, -turns, axes=(1, 2)).reshape(SPEC.channels, -1))
    return np.concatenate(parts, axis=1)


def assembled(layout, index, missing=0):
    """The frame as it must be: gaps and missing modules are zero."""
    expected = np.zeros(SPEC.shape, np.uint16)
    for number, module in enumerate(layout.modules):
        p = module.place
        area = (slice(None), slice(p.top, p.top + p.height), slice(p.left, p.left + p.width))
        if not missing >> number & 1:
            expected[area] = image(index)[area]
    return expected


def part_block(layout, receiver, indices, missing=None):
    data = np.array([as_read_out(layout, receiver, image(i)) for i in indices])
    data = data.reshape(len(indices), SPEC.channels, 1, -1)
    times = np.asarray(indices, np.float64)
    return Block(data, np.asarray(indices, np.int64), 0, times, Lease(), missing=missing)


def in_turn(receivers):
    return lambda index, loads: index % receivers


class Rig:
    """Receivers with their windows, and the dealer of every source."""

    def __init__(self, receivers, layout, sources, budget=64 << 20, deal=None):
        self.layout, self.sources = layout, sources
        self.pools = [Pool(budget) for _ in range(receivers)]
        self.intakes = [Intake(SPEC, pool) for pool in self.pools]
        self.open(deal or in_turn(receivers))

    def open(self, deal):
        for intake in self.intakes:
            intake.open()
        self.dealers = [
            Dealer([SharedOutlet(i.memory, s, self.layout.places(s)) for i in self.intakes], deal, self.layout, s)
            for s in range(self.sources)
        ]

    def blocks(self, rank, series=None):
        series = series or Series(Acq(nb_frames=0), RoundRobin(1), 0)
        everything = sum(self.layout.bits(s) for s in range(self.sources))
        return self.intakes[rank].blocks(self.sources, lambda s: f"source {s}", everything, series)

    def take_all(self):
        """Frames and missing modules by index, of each receiver; blocks are checked, copied and given back."""
        taken = [{} for _ in self.intakes]
        for rank in range(len(self.intakes)):
            local = 0
            for item in self.blocks(rank):
                if isinstance(item, EndOfSeries):
                    assert item.nb_frames == local
                    continue
                assert item.local == local
                assert list(item.time) == list(item.index)
                local += len(item)
                bits = np.zeros(len(item), np.uint64) if item.missing is None else item.missing
                for i, frame, lack in zip(item.index, item.data, bits, strict=True):
                    taken[rank][int(i)] = (frame.copy(), int(lack))
                item.lease.release()
        return taken

    def close(self):
        for intake in self.intakes:
            intake.close()


def feed(rig, source, nb_frames, cut):
    """All parts of one source, in blocks of the lengths that `cut` gives in turn."""
    start, turn = 0, 0
    while start < nb_frames:
        length = cut[turn % len(cut)]
        rig.dealers[source].hand_over(part_block(rig.layout, source, range(start, min(nb_frames, start + length))))
        start, turn = start + length, turn + 1
    rig.dealers[source].end()


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("receivers", [1, 2, 3])
def test_every_receiver_gets_its_frames_whole_exact_and_in_order(receivers, rotation):
    layout = layout_of(receivers, rotation)
    rig = Rig(receivers, layout, receivers)
    for source in range(receivers):
        feed(rig, source, 20, [3 + source, 1])
    for rank, frames in enumerate(rig.take_all()):
        assert list(frames) == list(range(rank, 20, receivers))
        assert all(np.array_equal(frame, assembled(layout, i)) for i, (frame, _) in frames.items())
    rig.close()


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_sources_and_receivers_of_any_pace_never_lose_or_block_each_other(data):
    receivers = data.draw(st.integers(1, 4))
    nb_frames = data.draw(st.integers(0, 70))
    cuts = [data.draw(st.lists(st.integers(1, 40), min_size=1, max_size=3)) for _ in range(receivers)]
    layout = layout_of(receivers)
    rig = Rig(receivers, layout, receivers, budget=SMALL_BUDGET)  # windows of a few frames
    threads = [Thread(target=feed, args=(rig, s, nb_frames, cuts[s])) for s in range(receivers)]
    results = [None] * receivers

    def take(rank):
        results[rank] = [
            (int(i), frame.copy())
            for item in rig.blocks(rank)
            if isinstance(item, Block)
            for i, frame in _released(item)
        ]

    threads += [Thread(target=take, args=(rank,)) for rank in range(receivers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    for rank, frames in enumerate(results):
        assert [i for i, _ in frames] == list(range(rank, nb_frames, receivers))
        assert all(np.array_equal(frame, assembled(layout, i)) for i, frame in frames)
    rig.close()


def _released(block):
    pairs = list(zip(block.index.tolist(), block.data.copy(), strict=True))
    block.lease.release()
    return pairs


def test_a_missing_module_is_zero_and_named_in_the_mask_also_where_the_slot_was_used_before():
    layout = layout_of(2)
    rig = Rig(2, layout, 2, budget=SMALL_BUDGET)
    slots = rig.intakes[0].memory.frames.shape[0]
    for turn in range(2):
        rig.open(in_turn(1))  # all frames to receiver 0
        for start in range(0, slots // 4 * 4, 4):
            indices = range(start, start + 4)
            lost = np.full(4, 1 << 2, np.uint64) if turn else None
            for source in range(2):
                rig.dealers[source].hand_over(part_block(layout, source, indices, lost))
        for dealer in rig.dealers:
            dealer.end()
        frames, _ = rig.take_all()
        missing = 1 << 2 if turn else 0
        assert len(frames) == slots // 4 * 4
        assert all(lack == missing for _, lack in frames.values())
        assert all(np.array_equal(frame, assembled(layout, i, missing)) for i, (frame, _) in frames.items())
    rig.close()


def test_a_frame_of_which_nothing_came_is_a_placeholder():
    layout = layout_of(1)
    rig = Rig(1, layout, 1)
    block = part_block(layout, 0, range(3))
    block.valid = np.array([True, False, True])
    rig.dealers[0].hand_over(block)
    rig.dealers[0].end()
    (item, end) = list(rig.blocks(0))
    assert item.valid.tolist() == [True, False, True]
    assert item.missing.tolist() == [0, 0b1111, 0]
    assert not item.data[1].any()
    assert end == EndOfSeries(3)
    rig.close()


def test_blocks_are_views_of_the_window_and_slots_come_free_in_order():
    layout = layout_of(1)
    rig = Rig(1, layout, 1)
    memory = rig.intakes[0].memory
    for start in (0, 4):
        rig.dealers[0].hand_over(part_block(layout, 0, range(start, start + 4)))
    items = rig.blocks(0)
    first = next(items)
    assert len(first) == 8
    assert np.shares_memory(first.data, memory.frames)
    rig.dealers[0].hand_over(part_block(layout, 0, range(8, 10)))
    second = next(items)
    second.lease.release()
    assert memory.free[0] == 0
    first.lease.release()
    assert memory.free[0] == 10
    items.close()
    rig.close()


def test_frames_kept_for_readers_are_given_up_when_no_slot_is_left():
    layout = layout_of(1)
    rig = Rig(1, layout, 1, budget=SMALL_BUDGET)
    kept = []
    rig.pools[0].add_evictor(lambda: bool(kept) and (kept.pop(0).lease.release() or True))
    thread = Thread(target=feed, args=(rig, 0, 400, [16]))
    thread.start()
    count = 0
    for item in rig.blocks(0):
        if isinstance(item, Block):
            count += len(item)
            kept.append(item)
    thread.join(30)
    assert count == 400
    rig.close()


def test_a_receiver_that_gave_up_does_not_hold_the_sources_back():
    layout = layout_of(2)
    rig = Rig(2, layout, 2, budget=SMALL_BUDGET)
    rig.blocks(1).close()  # never begun: closes nothing
    gone = rig.blocks(1)
    thread = Thread(target=lambda: [feed(rig, s, 300, [8]) for s in range(1)])
    other = Thread(target=lambda: feed(rig, 1, 300, [8]))
    thread.start()
    other.start()
    next(gone).lease.release()
    gone.close()
    frames = {int(i) for item in rig.blocks(0) if isinstance(item, Block) for i, _ in _released(item)}
    for each in (thread, other):
        each.join(30)
    assert frames == set(range(0, 300, 2))
    rig.close()


def test_a_source_that_stays_behind_is_named(monkeypatch):
    monkeypatch.setattr(assembly, "PART_LIMIT", 0.05)
    layout = layout_of(2)
    rig = Rig(2, layout, 2)
    rig.dealers[0].hand_over(part_block(layout, 0, range(4)))
    with pytest.raises(AgreementError, match="source 1 delivered nothing"):
        list(rig.blocks(0))
    rig.close()


def test_once_the_end_is_known_every_source_has_to_come_to_it(monkeypatch):
    monkeypatch.setattr(assembly, "PART_LIMIT", 0.05)
    rig = Rig(1, layout_of(1), 1)
    series = Series(Acq(nb_frames=0), RoundRobin(1), 0)
    series.cut(5)
    with pytest.raises(AgreementError, match="source 0 delivered nothing"):
        list(rig.blocks(0, series))
    rig.close()


def test_a_process_that_goes_down_waits_for_nobody():
    layout = layout_of(2)
    rig = Rig(2, layout, 2)
    feed(rig, 0, 4, [4])
    series = Series(Acq(nb_frames=0), RoundRobin(1), 0)
    series.leave()
    assert list(rig.blocks(0, series)) == []
    rig.close()


def test_a_receiver_without_room_is_named(monkeypatch):
    monkeypatch.setattr(scatter, "ROOM_LIMIT", 0.05)
    layout = layout_of(1)
    rig = Rig(1, layout, 1, budget=SMALL_BUDGET)
    with pytest.raises(AgreementError, match="receiver 0 took no frame"):
        feed(rig, 0, 1000, [8])
    rig.close()


def test_sources_that_count_differently_are_a_loss():
    layout = layout_of(2)
    rig = Rig(2, layout, 2)
    feed(rig, 0, 4, [4])
    feed(rig, 1, 6, [6])
    with pytest.raises(DataLossError, match="source 0 2, source 1 3"):
        list(rig.blocks(0))
    rig.close()


def test_another_rank_maps_the_window_by_its_address():
    rig = Rig(1, layout_of(1), 1)
    address = Address.parse(rig.intakes[0].address)
    rig.intakes[0].memory.frames[3, 1, 2, 5] = 4711
    assert attach(address, SPEC).frames[3, 1, 2, 5] == 4711
    with pytest.raises(AgreementError, match="same acq_params"):
        attach(address, FrameSpec(1, ROWS, COLUMNS, np.dtype("u2")))
    rig.close()


def test_a_window_that_follows_another_is_not_taken_for_it():
    first = Rig(1, layout_of(1), 1)
    address = first.intakes[0].address
    first.close()
    second = Rig(1, layout_of(1), 1)
    assert Address.parse(address).descriptor == Address.parse(second.intakes[0].address).descriptor
    assert address != second.intakes[0].address
    second.close()


def test_a_window_that_does_not_fit_the_budget_is_refused():
    with pytest.raises(MemoryBudgetError, match="frames that are assembled"):
        Intake(FrameSpec(1, 4096, 4096, np.dtype("u2")), Pool(64 << 20))


def test_memory_is_given_back():
    rig = Rig(1, layout_of(1), 1)
    assert rig.pools[0].pinned > 0
    feed(rig, 0, 4, [4])
    kept = [item for item in rig.blocks(0) if isinstance(item, Block)]
    rig.close()
    assert rig.pools[0].pinned > 0
    assert np.array_equal(kept[0].data[0], assembled(layout_of(1), 0))
    for block in kept:
        block.lease.release()
    assert rig.pools[0].pinned == 0
