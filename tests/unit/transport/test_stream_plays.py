"""Streams between ranks of one process: everything but MPI itself."""

import threading
from contextlib import suppress
from dataclasses import replace
from itertools import count

import numpy as np
import pytest

from lima2_tango.core.errors import AgreementError, MemoryBudgetError
from lima2_tango.core.frame import Block, Lease
from lima2_tango.testing.streams import Play, random_play, run
from lima2_tango.transport import consumer as consumer_module
from lima2_tango.transport import message_link
from lima2_tango.transport.fabric import LocalFabric, LocalJob
from lima2_tango.transport.stream import Consumer, Producer, SendMode, StreamSpec

BOUND = 60


def job(size, shared=True):
    made = LocalJob(size)
    return [LocalFabric(rank, made, shared) for rank in range(size)]


def played(fabrics, play):
    """Every rank in a thread of its own; the first error of any."""
    errors = []

    def work(fabric):
        try:
            run(fabric, play)
        except Exception as error:  # noqa: BLE001  (raised again below, in the thread of the test)
            errors.append(error)

    threads = [threading.Thread(target=work, args=[fabric]) for fabric in fabrics]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(BOUND)
    if errors:
        raise errors[0]


def spec(**changed):
    base = StreamSpec("test", (0,), (1,), element_bytes=100_000, max_frames=16, credits=4, silence=20)
    return replace(base, **changed)


def block(number, size=10, lease=None):
    data = np.full((1, 1, 1, size), number % 256, np.uint8)
    return Block(data, np.array([number]), number, np.array([0.5]), lease or Lease())


ARRANGEMENTS = {
    "one to one": ((0,), (1,)),
    "one to many": ((0,), (1, 2)),
    "many to one": ((0, 1), (2,)),
    "many to many": ((0, 1, 2), (0, 1, 2)),
}


@pytest.mark.parametrize(("mode", "shared"), [(SendMode.STANDARD, True), *((mode, False) for mode in SendMode)])
@pytest.mark.parametrize("ends", ARRANGEMENTS.values(), ids=ARRANGEMENTS)
@pytest.mark.parametrize("own_memory", [False, True], ids=["in place", "own memory"])
def test_every_element_comes_once_in_order_and_whole(mode, shared, ends, own_memory):
    producers, consumers = ends
    made = spec(producers=producers, consumers=consumers, mode=mode, element_bytes=400_000)
    played(job(3, shared), Play(made, 1, elements=20, held=1, own_memory=own_memory))


@pytest.mark.parametrize("shared", [True, False], ids=["shared", "messages"])
@pytest.mark.parametrize("what", ["stop_after", "abort_after", "fail_after"])
def test_a_stream_ends_in_the_middle(shared, what):
    made = spec(producers=(0, 1), consumers=(1, 2))
    played(job(3, shared), Play(made, 2, elements=40, **{what: 13}))


@pytest.mark.parametrize("seed", range(40))
def test_plays_drawn_at_random(seed):
    play = random_play(seed, 3)
    played(job(3, seed % 2 == 0), play)


@pytest.mark.parametrize("shared", [True, False], ids=["shared", "messages"])
class TestOnePair:
    @pytest.fixture
    def ends(self, shared, monkeypatch):
        monkeypatch.setattr(message_link, "BEAT", 0.05)  # several in the silence that follows
        fabrics = job(2, shared)
        made = spec(silence=0.3)
        producer, consumer = Producer(fabrics[0], made), Consumer(fabrics[1], made)
        consumer.take(timeout=0)
        yield producer, consumer
        consumer.abort("over")
        threading.Thread(target=producer.close).start()
        consumer.close()

    def test_elements_in_flight_are_bounded_until_leases_return(self, ends):
        producer, consumer = ends
        sent = [producer.try_send(block(number)) for number in range(6)]
        assert sent == [True] * 4 + [False] * 2
        assert producer.room() == 0
        first, second = consumer.take(), consumer.take()
        assert not producer.try_send(block(4))
        first.lease.release()
        consumer.take(timeout=0)
        assert producer.try_send(block(4))
        assert not producer.try_send(block(5))
        second.lease.release()
        assert producer.statistics.most_in_flight == 4

    def test_a_silent_consumer_is_named(self, ends):
        producer, _ = ends
        for number in range(4):
            producer.send(block(number))
        with pytest.raises(AgreementError, match=r"consumers \[1\] for 0.3 s, after \[4\] elements"):
            producer.send(block(4))

    def test_a_silent_producer_is_named(self, ends):
        _, consumer = ends
        with pytest.raises(AgreementError, match=r"producers \[0\] for 0.3 s, after \[0\] elements"):
            consumer.take()

    def test_a_producer_that_only_lives_is_waited_for(self, ends):
        producer, consumer = ends
        over = threading.Event()

        def live():
            while not over.wait(0.05):
                producer.beat()

        thread = threading.Thread(target=live)
        thread.start()
        assert consumer.take(timeout=0.8) is None
        over.set()
        thread.join()

    def test_an_element_larger_than_announced_is_refused(self, ends):
        producer, _ = ends
        with pytest.raises(MemoryBudgetError, match="100 kB and 16 frames were announced"):
            producer.send(block(0, 100_001))

    def test_what_is_no_element_is_refused(self, ends):
        producer, _ = ends
        with pytest.raises(ValueError, match="neither frames"):
            producer.send_array(np.zeros((2, 3), np.complex128), np.arange(2))
        with pytest.raises(ValueError, match="neither frames"):
            producer.send_array(np.zeros((2, 3, 4), np.uint8), np.arange(3))
        with pytest.raises(ValueError, match=r"has consumers \[1\], not 7"):
            producer.send(block(0), to=7)

    def test_records_travel_as_they_are(self, shared):
        kind = np.dtype([("spot", "<u4"), ("x", "<f4")])
        fabrics, made = job(2, shared), spec(records=kind)
        producer, consumer = Producer(fabrics[0], made), Consumer(fabrics[1], made)
        records = np.array([(1, 0.5), (2, 1.5)], kind)
        consumer.take(timeout=0)
        producer.send_array(records, np.array([77]))
        producer.send_array(records[:0])
        producer.close()
        first, second = consumer
        assert (first.data == records).all()
        assert first.index.tolist() == [77]
        assert len(second.data) == 0
        consumer.close()


def test_a_lease_is_held_until_the_pixels_have_left():
    fabrics, made = job(2, shared=False), spec()
    producer, consumer = Producer(fabrics[0], made), Consumer(fabrics[1], made)
    assert consumer.take(timeout=0) is None
    returned = []
    lease = Lease(lambda: returned.append(1))
    producer.send(block(1, 50_000, lease))
    lease.release()
    producer.room()
    assert not returned
    element = consumer.take()
    producer.room()
    assert returned
    element.lease.release()
    producer.close()
    assert consumer.take() is None
    consumer.close()


def test_elements_stay_readable_after_the_stream_is_closed():
    fabrics, made = job(2), spec()
    producer, consumer = Producer(fabrics[0], made), Consumer(fabrics[1], made)
    producer.send(block(9))
    producer.close()
    (element,) = consumer
    consumer.close()
    claimed = fabrics[0].own.claimed
    assert claimed
    assert (element.block().data == 9).all()
    element.lease.release()
    assert fabrics[0].own.claimed == 0


def test_where_memory_is_short_elements_wait_and_none_is_lost():
    fabrics, made = job(2), spec()
    leases = [Lease(buffer=np.zeros(100_000, np.uint8))]
    producer = Producer(fabrics[0], made)
    consumer = Consumer(fabrics[1], made, lambda size: leases.pop() if leases else None)
    producer.send(block(1))
    producer.send(block(2))
    producer.close()
    assert (consumer.take(timeout=0).data == 1).all()
    assert consumer.take(timeout=0) is None
    leases.append(Lease(buffer=np.zeros(100_000, np.uint8)))
    leases.append(Lease(buffer=np.zeros(100_000, np.uint8)))
    assert (consumer.take(timeout=0).data == 2).all()
    assert consumer.take() is None
    consumer.close()


def test_the_least_loaded_consumer_is_the_one_with_most_room():
    fabrics, made = job(3), spec(consumers=(1, 2))
    producer = Producer(fabrics[0], made)
    consumers = [Consumer(fabrics[rank], made) for rank in (1, 2)]
    order = []
    for number in range(4):
        order.append(producer.least_loaded())
        producer.send(block(number), order[-1])
    assert order == [1, 2, 1, 2]
    for element in (consumers[1].take(timeout=0), consumers[1].take(timeout=0)):
        element.lease.release()
    assert producer.least_loaded() == 2
    producer.close()
    for consumer in consumers:
        assert consumer.operate(lambda element: None) in {0, 2}
        consumer.close()


def test_an_error_in_a_context_is_told_to_the_other_end():
    fabrics, made = job(2), spec()

    def burn():
        with Producer(fabrics[0], made) as producer:
            producer.send(block(0))
            raise RuntimeError("the camera burns")

    with pytest.raises(RuntimeError, match="the camera burns"):
        burn()
    consumer = Consumer(fabrics[1], made)
    consumer.take().lease.release()
    with pytest.raises(AgreementError, match="failed after 1 elements: the camera burns"):
        consumer.take()
    assert consumer.take() is None
    consumer.close()


@pytest.mark.parametrize(
    "changed",
    [
        {"producers": ()},
        {"consumers": (1, 1)},
        {"credits": 0},
        {"element_bytes": -1},
        {"max_frames": 0},
        {"silence": 0},
    ],
)
def test_ends_that_cannot_be_are_refused(changed):
    with pytest.raises(ValueError, match="stream test"):
        spec(**changed)


def test_a_rank_without_part_is_refused():
    (fabric,) = job(1)
    with pytest.raises(ValueError, match="rank 0 is no producer"):
        Producer(fabric, spec(producers=(1,)))
    with pytest.raises(ValueError, match="rank 0 is no consumer"):
        Consumer(fabric, spec())


@pytest.mark.parametrize("shared", [True, False], ids=["shared", "messages"])
def test_a_consumer_that_closes_waits_for_no_producer_without_a_bound(shared, monkeypatch):
    monkeypatch.setattr(consumer_module, "DRAIN_LIMIT", 0.2)
    fabrics, made = job(2, shared), spec(silence=0.5)
    told = []

    def send_for_ever():
        try:
            for number in count():
                producer.send(block(number))
        except AgreementError as error:
            told.append(error.what)

    producer, consumer = Producer(fabrics[0], made), Consumer(fabrics[1], made)
    thread = threading.Thread(target=send_for_ever)
    thread.start()
    consumer.take().lease.release()
    consumer.close()
    thread.join(BOUND)
    assert [text for text in told if "takes no more: rank 1 closed its end 0.2 s ago" in text] == told != []
    with suppress(AgreementError):  # nobody listens any more
        producer.close()
