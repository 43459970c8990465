"""How many receivers and hosts a detector needs: a model of times that add up, fed with measured rates.

A worker spends on a frame: compressing it, handing the chunk to the operating system, and what is ours beside these.
Other threads copy it where it crosses ranks or leaves a detector's library. So R receivers of W workers on C cores take

    min(R W / worker, (C - R receiver - system) / (worker + others))

frames a second, where `worker` and `others` are seconds of one core for a frame, and `receiver` and `system` the cores
that polls and answers take whether frames come or not. Everything else (network, disk, memory) is a rate divided
by a rate. docs/explanations/scaling.md compares it with measurements.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

from lima2_tango.core.acquisition import Sharing

USABLE = 0.9
"""Part of a network's bit rate that carries pixels: the rest is headers and gaps between packets."""
BUDGET_SHARE = 0.5
"""Part of a host's memory that its receivers keep frames in, as `control.settings` has it."""
UNSAVED = 2e-6
"""What a frame that is not saved costs a worker beside its bytes [s]: a profile of 64 x 64 pixels with one region."""
MOST = 4096
"""More receivers than this are not looked for."""


@dataclass(frozen=True, slots=True)
class Rates:
    """What one machine was measured to do."""

    compress: float
    """Pixels into chunks, one core [byte/s]."""
    ratio: float
    """Bytes of a chunk for each byte of pixels."""
    write: float
    """Chunks into the operating system's memory for files, one core [byte/s]."""
    copy: float
    """From memory to memory, one core [byte/s]."""
    copy_all: float
    """The same by all cores at once [byte/s]."""
    together: float
    """Part of its rate that a core keeps while all others compress, too."""
    cores: int
    """On which `together` and `copy_all` were measured."""
    disk: float
    """To the disk, until it has it [byte/s]; 0 where it was not measured."""
    frame: float = 0.2e-3
    """What a worker spends on a frame beside its bytes [s]: a profile of small frames that are saved."""
    byte: float = 60e-12
    """And on a byte beside compressing and writing [s]: a profile of frames of 8.4 MB, 0.7 ms each with `frame`."""
    receiver: float = 0.09
    """Cores that a receiver takes beside its frames: a profile of P1."""
    system: float = 0.17
    """Cores that control, database, conductor and a client take: the same profile."""


@dataclass(frozen=True, slots=True)
class Detector:
    """What comes."""

    width: int
    height: int
    itemsize: int
    """Of a pixel [byte]."""
    rate: float
    """Frames [1/s]."""
    channels: int = 1
    sharing: Sharing = Sharing.FULL_FRAMES
    compressed: bool = True
    saved: bool = True
    copies: float = 1.0
    """How often a frame is copied before a worker has it: once out of the memory of a detector's library or socket."""
    buffer: float = 1.0
    """Frames of so long have to find room while disk or cores pause [s]."""

    @property
    def frame_bytes(self) -> int:
        return self.width * self.height * self.channels * self.itemsize

    @property
    def flow(self) -> float:
        """Pixels [byte/s]."""
        return self.frame_bytes * self.rate

    @property
    def crosses(self) -> bool:
        """Frames, or parts of them, go from rank to rank."""
        return self.sharing in {Sharing.PARTIAL_FRAMES, Sharing.DISTRIBUTED_PROCESSING}


@dataclass(frozen=True, slots=True)
class Host:
    """One of the computers, all alike."""

    cores: int
    memory: int
    """[byte]"""
    network: float
    """Into it, and as much out of it [byte/s]; 0 where it is not known."""
    disk: float
    """[byte/s]; 0 where it is not known."""
    receivers: int = 1
    """That run on it."""
    workers: int = 0
    """Threads of each; 0 is its share of the cores."""

    @property
    def threads(self) -> int:
        """Workers of one receiver."""
        return self.workers or max(1, self.cores // self.receivers)


@dataclass(frozen=True, slots=True)
class Need:
    """One resource."""

    resource: str
    unit: str
    need: float
    """Of the whole detector."""
    gives: float | None
    """One receiver; None where it is not known."""
    receivers: int | None
    """That have enough of it; None where it is not known, or no number is enough."""

    @property
    def load(self) -> float:
        """Receivers that would be enough, were they divisible."""
        if self.gives is None:
            return 0.0
        return self.need / self.gives if self.gives else float("inf")

    @property
    def impossible(self) -> bool:
        """No number of receivers is enough."""
        return self.receivers is None and self.gives is not None


@dataclass(frozen=True, slots=True)
class Answer:
    """What it takes."""

    needs: tuple[Need, ...]
    receivers: int | None
    """None where no number is enough."""
    hosts: int | None
    bottleneck: str
    """The resource that takes most receivers."""


def worker_time(detector: Detector, rates: Rates) -> float:
    """Seconds of one core that a worker spends on a frame while the other cores rest."""
    size = detector.frame_bytes
    if not detector.saved:  # it is looked at once, for a region or a reader
        return size / rates.copy + UNSAVED
    compressing = size / rates.compress if detector.compressed else 0.0
    return compressing + _stored(detector, rates) * size / rates.write + rates.frame + size * rates.byte


def other_time(detector: Detector, rates: Rates) -> float:
    """Seconds of one core that other threads of the receivers spend on a frame."""
    return (detector.copies + detector.crosses) * detector.frame_bytes / rates.copy


def host_rate(detector: Detector, host: Host, rates: Rates, *, alone: bool) -> float:
    """Frames a second that the receivers of one host take; `alone` where control and client run on it too."""
    worker, others = worker_time(detector, rates), other_time(detector, rates)
    free = max(0.0, host.cores - host.receivers * rates.receiver - alone * rates.system)
    threads = host.receivers * host.threads
    rate = min(threads / worker, free / (worker + others))
    if detector.saved:  # what is ours of a frame is Python, which runs in one thread of a receiver at a time
        rate = min(rate, host.receivers / rates.frame)
    return rate * _kept(min(rate * (worker + others), host.cores), host, rates)


def answer(detector: Detector, host: Host, rates: Rates) -> Answer:
    """Receivers and hosts that the detector needs.

    Where frames cross hosts, the network carries more the more hosts there are: so the number is looked for.
    """
    for count in range(1, MOST + 1):
        needs = tuple(_needs(detector, host, rates, count))
        if any(need.impossible for need in needs):
            break
        if all((need.receivers or 1) <= count for need in needs):
            return _answered(needs, count, host)
    return _answered(needs, None, host)


def _answered(needs: tuple[Need, ...], count: int | None, host: Host) -> Answer:
    worst = max(needs, key=lambda need: (need.impossible, need.load))
    return Answer(needs, count, None if count is None else ceil(count / host.receivers), worst.resource)


def _needs(detector: Detector, host: Host, rates: Rates, count: int) -> Iterator[Need]:
    """Of each resource, with so many receivers."""
    hosts = ceil(count / host.receivers)
    flow, stored = detector.flow, _stored(detector, rates) * detector.flow
    share = 1 / host.receivers
    keeps = _kept(min(host.cores, host.receivers * host.threads), host, rates)
    alone = hosts == 1
    yield _need("cores", "frames/s", detector.rate, share * host_rate(detector, host, rates, alone=alone))
    if detector.compressed and detector.saved:
        threads = min(host.threads, host.cores * share)
        yield _need("compression", "byte/s", flow, threads * keeps * rates.compress)
    # each pixel is written by the network or a library, read by a worker, and what is stored is written again
    moved = (1 + detector.copies + detector.crosses) * flow + stored
    yield _need("memory traffic", "byte/s", moved, share * rates.copy_all / rates.cores * host.cores)
    yield _need("memory", "byte", flow * detector.buffer, share * host.memory * BUDGET_SHARE)
    away = flow * (hosts - 1) / hosts if detector.crosses else 0.0
    if detector.sharing is Sharing.DISTRIBUTED_PROCESSING:
        # all of it through one host, which sends on what others process
        yield _need("network of the acquiring host", "byte/s", flow, _known(USABLE * host.network), only=1)
        yield _need("network", "byte/s", away, _known(share * USABLE * host.network))
    else:
        yield _need("network", "byte/s", flow + away, _known(share * USABLE * host.network))
    if detector.saved:
        yield _need("disk", "byte/s", stored, _known(share * host.disk))


def _known(rate: float) -> float | None:
    return rate or None


def _need(resource: str, unit: str, need: float, gives: float | None, only: int = MOST) -> Need:
    """At most `only` so many can share it."""
    if not gives:
        return Need(resource, unit, need, gives, None)
    wanted = max(1, ceil(need / gives - 1e-6))  # what is met to a part in a million is met
    return Need(resource, unit, need, gives, None if wanted > only else wanted)


def _stored(detector: Detector, rates: Rates) -> float:
    """Bytes that are saved for each byte of pixels."""
    return (rates.ratio if detector.compressed else 1.0) if detector.saved else 0.0


def _kept(busy: float, host: Host, rates: Rates) -> float:
    """Part of its rate that each of so many busy cores keeps: all alone, `together` when none rests."""
    if host.cores <= 1:
        return 1.0
    return 1 - (1 - rates.together) * min(1.0, max(0.0, busy - 1) / (host.cores - 1))
