"""Plays for streams: who sends what to whom, drawn from a seed that all ranks share, and checked where it arrives."""

import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lima2_tango.core.errors import AgreementError
from lima2_tango.core.frame import Block, Lease
from lima2_tango.transport.fabric import Fabric
from lima2_tango.transport.stream import Consumer, Element, Producer, SendMode, StreamSpec

END = 60.0
"""A play that takes longer hangs [s]."""
_SIZES = (1, 7, 64, 1000, 16384 - 24, 16384 + 8, 100_000, 400_000)
"""Pixels of an element around the limits where its way changes [byte]."""


@dataclass(frozen=True, slots=True)
class Play:
    """One stream and all that happens on it."""

    spec: StreamSpec
    seed: int
    elements: int
    """From each producer, to all consumers together."""
    stop_after: int | None = None
    """Producers end after so many instead."""
    abort_after: int | None = None
    """The first consumer takes no more after so many, and each producer has to learn of it."""
    fail_after: int | None = None
    """The first producer fails after so many, and each consumer has to learn of it."""
    slow_producer: float = 0.0
    slow_consumer: float = 0.0
    """Mean pause after an element [s]."""
    held: int = 0
    """Elements that a consumer holds before it gives the oldest back."""
    own_memory: bool = False
    """Consumers want the pixels in memory of their own."""
    in_place: bool = False
    """Producers write into the stream's own memory."""


def element_of(play: Play, producer: int, number: int) -> tuple[int, NDArray[np.uint16], NDArray[np.int64], int]:
    """Consumer, pixels [frame, channel, row, column], indices and part of a producer's element `number`."""
    random = np.random.default_rng([play.seed, producer, number])
    size = int(min(random.choice(_SIZES), play.spec.element_bytes))
    frames = int(random.integers(1, min(play.spec.max_frames, max(1, size // 2)) + 1))
    width = max(1, size // 2 // frames)
    start = int(random.integers(0, 2**16))
    data = (np.arange(frames * width, dtype=np.uint16) + np.uint16(start)).reshape(frames, 1, 1, width)
    consumer = play.spec.consumers[int(random.integers(0, len(play.spec.consumers)))]
    return consumer, data, np.arange(frames) + number * 1000, int(random.integers(0, 5))


def expected(play: Play, producer: int, consumer: int) -> list[int]:
    """Which of a producer's elements a consumer gets when nobody fails."""
    count = play.elements if play.stop_after is None else play.stop_after
    return [number for number in range(count) if element_of(play, producer, number)[0] == consumer]


def run(fabric: Fabric, play: Play) -> None:
    """This rank's part of the play. Raises AssertionError where something else arrives than was sent."""
    roles: list[Callable[[], None]] = []
    if fabric.rank in play.spec.producers:
        roles.append(lambda: produce(fabric, play))
    if fabric.rank in play.spec.consumers:
        roles.append(lambda: consume(fabric, play))
    if len(roles) == 1:
        roles[0]()
    elif roles:
        _both(roles[0], roles[1])


def _both(first: Callable[[], None], second: Callable[[], None]) -> None:
    errors: list[BaseException] = []

    def work() -> None:
        try:
            first()
        except BaseException as error:  # noqa: BLE001  (raised again below, in the thread that is asked)
            errors.append(error)

    thread = threading.Thread(target=work, name="lima2-play")
    thread.start()
    try:
        second()
    finally:
        thread.join(END)
    if errors:
        raise errors[0]
    if thread.is_alive():
        raise AssertionError("the producer of a play hangs")


def produce(fabric: Fabric, play: Play) -> None:
    """Send what this rank has to send; where a consumer aborts, learn of it."""
    random = np.random.default_rng([play.seed, fabric.rank])
    count = play.elements if play.stop_after is None else play.stop_after
    fails = play.fail_after is not None and fabric.rank == play.spec.producers[0]
    producer = Producer(fabric, play.spec)
    try:
        for number in range(count):
            if fails and number == play.fail_after:
                producer.close(f"rank {fabric.rank} fails on purpose")
                return
            _send(producer, play, fabric.rank, number)
            _pause(random, play.slow_producer)
    except AgreementError as error:
        if play.abort_after is None or "on purpose" not in error.what:
            raise
    producer.close()


def _send(producer: Producer, play: Play, rank: int, number: int) -> None:
    consumer, data, index, part = element_of(play, rank, number)
    if play.in_place:
        if (room := producer.reserve(data.shape, data.dtype, consumer)) is not None:
            room[...] = data
            producer.commit(index, local=number, part=part)
            return
    valid = None if number % 3 else np.arange(len(index)) % 2 == 0
    block = Block(data, index, number, (index * 0.5).astype(np.float64), Lease(), valid)
    producer.send(block, consumer, part)
    block.lease.release()


@dataclass(slots=True)
class _Watcher:
    """What has come to a consumer so far."""

    fabric: Fabric
    play: Play
    came: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    kept: list[Element] = field(default_factory=list)

    def see(self, element: Element) -> None:
        number = element.local
        consumer, data, index, part = element_of(self.play, element.source, number)
        where = f"element {number} of rank {element.source} on rank {self.fabric.rank}"
        assert consumer == self.fabric.rank, f"{where} is not its own"
        assert element.sequence == len(self.came[element.source]), f"{where} out of order"
        assert element.part == part, f"{where}: part {element.part}"
        assert np.array_equal(element.index, index), f"{where}: indices differ"
        if not self.play.in_place:
            assert (element.valid is None) == bool(number % 3), f"{where}: validity"
            assert np.array_equal(element.time, index * 0.5), f"{where}: times differ"
        self.came[element.source].append(number)
        self.kept.append(element)
        while len(self.kept) > self.play.held:
            self.give_back(data)

    def give_back(self, _: object = None) -> None:
        """The oldest: what it holds must still be what was sent."""
        element = self.kept.pop(0)
        _, data, _, _ = element_of(self.play, element.source, element.local)
        assert np.array_equal(element.data, data), f"pixels of element {element.local} of rank {element.source} differ"
        element.lease.release()

    def compare(self, producers: list[int]) -> None:
        for producer in producers:
            due = expected(self.play, producer, self.fabric.rank)
            came = self.came[producer]
            assert came == due, f"rank {self.fabric.rank} got {came} of rank {producer}, not {due}"


def consume(fabric: Fabric, play: Play) -> None:
    """Take and check what arrives on this rank; the end, or the failure, must be the one of the play."""
    random = np.random.default_rng([play.seed, fabric.rank, 1])
    watcher = _Watcher(fabric, play)
    memory = _own_memory if play.own_memory else None
    aborts = play.abort_after is not None and fabric.rank == play.spec.consumers[0]
    consumer = Consumer(fabric, play.spec, memory)
    failed: list[int] = []
    count, deadline = 0, time.monotonic() + END
    while not consumer.ended:
        assert time.monotonic() < deadline, f"rank {fabric.rank} got {dict(watcher.came)} and no end within {END:g} s"
        if aborts and count == play.abort_after:
            consumer.abort(f"rank {fabric.rank} takes no more, on purpose")
            break
        try:
            element = consumer.take(timeout=1.0)
        except AgreementError as error:
            if play.fail_after is None or "on purpose" not in error.what:
                raise
            failed.append(play.spec.producers[0])
            continue
        if element is not None:
            count += 1
            watcher.see(element)
            _pause(random, play.slow_consumer)
    while watcher.kept:
        watcher.give_back()
    consumer.close()
    if play.abort_after is None:
        watcher.compare([rank for rank in play.spec.producers if rank not in failed])
        assert (play.fail_after is None) or failed == [play.spec.producers[0]], "a failure was not told"


def _own_memory(size: int) -> Lease:
    return Lease(buffer=np.full(size, 0xEE, np.uint8))


def _pause(random: np.random.Generator, mean: float) -> None:
    if mean:
        time.sleep(float(random.exponential(mean)))


def random_play(seed: int, size: int, *, shared: bool | None = None, silence: float = 20.0) -> Play:
    """A play for a job of `size` ranks; the same for each rank that asks with the same seed."""
    random = np.random.default_rng(seed)
    ranks = random.permutation(size).tolist()
    producers = tuple(sorted(ranks[: int(random.integers(1, size + 1))]))
    consumers = tuple(sorted(random.permutation(size).tolist()[: int(random.integers(1, size + 1))]))
    held, credits = int(random.integers(0, 3)), int(random.integers(3, 9))
    elements = int(random.integers(0, 30))
    spec = StreamSpec(
        name=f"play {seed}",
        producers=producers,
        consumers=consumers,
        element_bytes=int(random.choice([1000, 20_000, 400_000])),
        max_frames=int(random.choice([1, 5, 64])),
        credits=credits,
        mode=list(SendMode)[int(random.integers(0, len(SendMode)))],
        shared=bool(random.integers(0, 2)) if shared is None else shared,
        silence=silence,
    )
    what = int(random.integers(0, 6))
    cut = int(random.integers(0, elements + 1))
    return Play(
        spec,
        seed,
        elements,
        stop_after=cut if what == 1 else None,
        abort_after=cut if what == 2 else None,
        fail_after=cut if what == 3 and cut < elements else None,
        slow_producer=float(random.choice([0, 0, 0, 1e-3])),
        slow_consumer=float(random.choice([0, 0, 0, 1e-3])),
        held=min(held, credits - 1),
        own_memory=bool(random.integers(0, 2)),
        in_place=bool(random.integers(0, 2)),
    )
