"""What a computer that receives frames should have, and what this one has. Nothing here changes anything.

The limits are those that high-rate receivers publish (sockets of tens of MB, jumbo frames, a clock that is kept), and
what was measured of our own parts (one core moves, compresses and writes about 1 GB/s of raw frames).
"""

import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import psutil

from lima2_tango.core.units import bytes_text

BUFFER = 32 << 20
"""A socket should be allowed to hold so much: some frames of 16 million pixels, compressed [byte]."""
SETTINGS = {"net.core.rmem_max": BUFFER, "net.ipv4.tcp_rmem": BUFFER, "net.core.netdev_max_backlog": 10_000}
"""Of the kernel, each at least so much; of several values the last is the limit."""
JUMBO = 9000
"""MTU of a network that a detector is on alone [byte]."""
SLOW_LINK = 2500
"""A link below is none for a detector: its MTU does not matter [Mbit/s]."""
DISK = 500e6
"""Slower disks than this do not keep up with one fast detector [byte/s]."""
TRIAL = 64 << 20
"""Bytes written to try a disk."""
CHUNK = 4 << 20
MEMORY_PER_RECEIVER = 4 << 30
"""[byte]"""
CORES_PER_RECEIVER = 2
"""One that receives and one that compresses."""
TIMEOUT = 3.0
"""A detector or a program that does not answer within this does not [s]."""


class Verdict(StrEnum):
    GOOD = "good"
    CHANGE = "change"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    what: str
    found: str
    verdict: Verdict
    advice: str = ""
    """What to do, as a sentence; nothing where it is good."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the computer is for."""

    folder: Path = Path()
    receivers: int = 1
    interface: str = ""
    """Of the network; all that are up where it is empty."""
    detector: str = ""
    """HOST or HOST:PORT, or none."""


def look(asked: Asked) -> list[Finding]:
    """All checks; each says for itself where it could not look."""
    checks: tuple[Callable[[Asked], Iterator[Finding]], ...] = (
        _cores,
        _memory,
        _sockets,
        _networks,
        _clock,
        _disk,
        _detector,
    )
    return [finding for check in checks for finding in check(asked)]


def _cores(asked: Asked) -> Iterator[Finding]:
    cores = len(os.sched_getaffinity(0))
    needed = CORES_PER_RECEIVER * asked.receivers
    found = f"{cores} for {asked.receivers} receiver{'s' * (asked.receivers > 1)}"
    advice = f"Give each receiver {CORES_PER_RECEIVER} cores ({needed} in all), or run fewer receivers here."
    yield _judged("cores", found, cores >= needed, advice)
    load = os.getloadavg()[0]
    yield _judged("load", f"{load:.1f}", load < cores, "Others use the cores: end what is not needed here.")


def _memory(asked: Asked) -> Iterator[Finding]:
    memory, shared = psutil.virtual_memory(), Path("/dev/shm")
    needed = MEMORY_PER_RECEIVER * asked.receivers
    advice = f"Have {bytes_text(needed)} free, or set a smaller memory_budget and expect the detector to be held back."
    yield _judged("free memory", bytes_text(memory.available), memory.available >= needed, advice)
    if asked.receivers > 1 and shared.is_dir():
        free = psutil.disk_usage(str(shared)).free
        advice = "Frames cross between receivers in /dev/shm: mount it larger (mount -o remount,size=50% /dev/shm)."
        yield _judged("shared memory", bytes_text(free), free >= needed // 4, advice)
    if (swap := psutil.swap_memory()).total:
        advice = "Memory was swapped out, and frames wait for it: free memory, or switch swap off (swapoff -a)."
        yield _judged("swap in use", bytes_text(swap.used), swap.used < swap.total // 10, advice)


def _sockets(_: Asked) -> Iterator[Finding]:
    for key, size in SETTINGS.items():
        path = Path("/proc/sys", *key.split("."))
        try:
            last = int(path.read_text(encoding="ascii").split()[-1])
        except (OSError, ValueError, IndexError):
            yield Finding(
                key, "not to be read", Verdict.UNKNOWN, "Ask who runs the host: a container does not show it."
            )
            continue
        wanted = f"4096 131072 {size}" if key.endswith("tcp_rmem") else str(size)
        advice = f"Set it: sysctl -w {key}='{wanted}', and keep it in /etc/sysctl.d."
        yield _judged(key, str(last), last >= size, advice)


def _networks(asked: Asked) -> Iterator[Finding]:
    interfaces = psutil.net_if_stats()
    if asked.interface and asked.interface not in interfaces:
        names = ", ".join(sorted(interfaces))
        yield Finding(
            f"network {asked.interface}", "missing", Verdict.CHANGE, f"There is no such interface; have: {names}."
        )
    for name, stats in sorted(interfaces.items()):
        if name == asked.interface or (not asked.interface and stats.isup and "loopback" not in stats.flags):
            yield from _network(name, stats.isup, stats.mtu, stats.speed, bool(asked.interface))


def _network(name: str, is_up: bool, mtu: int, speed: int, is_of_detector: bool) -> Iterator[Finding]:
    link = f"{speed} Mbit/s" if speed else "unknown speed"
    found, what = f"MTU {mtu}, {link}", f"network {name}"
    if not is_up:
        yield Finding(what, "down", Verdict.CHANGE, f"Bring it up: ip link set {name} up.")
    elif mtu >= JUMBO or not (is_of_detector or speed > SLOW_LINK):
        yield Finding(what, found, Verdict.GOOD)
    else:
        advice = f"Use jumbo frames on the detector's network, switches included: ip link set {name} mtu {JUMBO}."
        yield Finding(what, found, Verdict.CHANGE, advice)
    if is_of_detector and 0 < speed <= SLOW_LINK:
        advice = "This link is slower than the detector: put it on one of 10 Gbit/s or more."
        yield Finding(f"link {name}", link, Verdict.CHANGE, advice)


def _clock(_: Asked) -> Iterator[Finding]:
    advice = "Keep the clock by NTP or PTP (chrony, systemd-timesyncd): times of frames are compared between computers."
    try:
        command = ["timedatectl", "show", "--property=NTPSynchronized", "--value"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
        answer = done.stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        answer = ""
    if answer not in {"yes", "no"}:
        yield Finding("clock", "not to be found out", Verdict.UNKNOWN, advice)
    else:
        yield _judged("clock", "kept" if answer == "yes" else "not kept", answer == "yes", advice)


def _disk(asked: Asked) -> Iterator[Finding]:
    what = f"disk of {asked.folder.absolute()}"
    try:
        rate, free = _written(asked.folder), psutil.disk_usage(str(asked.folder)).free
    except OSError as error:
        advice = f"Give a folder that can be written ({error.strerror}): --folder."
        yield Finding(what, "cannot be written", Verdict.CHANGE, advice)
        return
    found = f"{bytes_text(rate)}/s, {bytes_text(free)} free"
    advice = f"Save to a disk that takes {bytes_text(DISK)}/s, or have the pipeline reduce what is saved."
    yield _judged(what, found, rate >= DISK and free > 10 * DISK, advice)


def _written(folder: Path) -> float:
    """Bytes a second that the disk takes, file closed and synchronised; the file is gone afterwards."""
    chunk = os.urandom(CHUNK)
    with tempfile.TemporaryFile(dir=folder) as file:
        begin = time.perf_counter()
        for _ in range(TRIAL // CHUNK):
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
        return TRIAL / (time.perf_counter() - begin)


def _detector(asked: Asked) -> Iterator[Finding]:
    if not asked.detector:
        return
    host, _, port = asked.detector.partition(":")
    what, begin = f"detector {asked.detector}", time.perf_counter()
    try:
        socket.create_connection((host, int(port or 80)), TIMEOUT).close()
    except (OSError, ValueError) as error:
        advice = f"It does not answer ({error}): switch it on, and look at cable, address and port."
        yield Finding(what, "no answer", Verdict.CHANGE, advice)
        return
    milliseconds = (time.perf_counter() - begin) * 1000
    advice = "It is far away: connect this computer to the detector's network directly."
    yield _judged(what, f"answers within {milliseconds:.1f} ms", milliseconds < 50, advice)


def _judged(what: str, found: str, is_good: bool, advice: str) -> Finding:
    return Finding(what, found, Verdict.GOOD) if is_good else Finding(what, found, Verdict.CHANGE, advice)
