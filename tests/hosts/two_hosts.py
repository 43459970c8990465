"""Two hosts on one computer, as the kernel makes them: networks, host names and shared memory of their own, one cable.

This process is on the near host. The far one is a set of namespaces (network, host name, mounts) that a small process
holds: when that ends, killed or not, cable and addresses go with it. Needs root, and `ip` of iproute2.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from lima2_tango.cli.process import environment

FAR_NAME = "lima2-far"
"""What the far host calls itself."""
HOLD = """set -e
echo "$1" > /proc/sys/kernel/hostname
mount --bind "$2" /etc/hosts    # it knows its own name, or each look at it waits for a name server
mount -t sysfs sysfs /sys    # which shows the interfaces of the network that it was mounted in
mount -t tmpfs tmpfs /dev/shm    # memory in common ends at the host
ip link set lo up
echo held
exec cat"""
LAUNCHER = """#!/usr/bin/env bash
# What hydra takes for ssh: [-x] HOST COMMAND
while [[ $1 == -* ]]; do shift; done
host=$1
shift
[[ $host == {far} ]] || exec sh -c "$*"
exec nsenter --target {holder} --net --uts --mount sh -c "cd '$PWD'; $*"
"""


@dataclass(frozen=True)
class Hosts:
    """Both hosts, and the cable between them."""

    near: str
    """Address of this host on the cable."""
    far: str
    cable: str
    """This host's end, an interface."""
    holder: int
    """Process that the far host consists of."""
    launcher: Path
    """Program that hydra starts its proxies with."""

    def sent(self) -> int:
        """Bytes that went into the cable on the near side so far."""
        return self._counter("tx_bytes")

    def received(self) -> int:
        """Bytes that came out of the cable on the near side so far."""
        return self._counter("rx_bytes")

    def cut(self) -> None:
        """Nothing passes the cable, and nobody is told."""
        ip("link", "set", self.cable, "down")

    def heal(self) -> None:
        ip("link", "set", self.cable, "up")

    def mpiexec(self, *where: str) -> list[str]:
        """The launch line's beginning; `where` is hydra's own way to say which hosts."""
        hydra = [str(Path(sys.prefix) / "bin" / "mpiexec"), "-localhost", self.near]
        return [*hydra, "-launcher", "ssh", "-launcher-exec", str(self.launcher), *where]

    def list_of(self, near: int, far: int) -> str:
        """As hydra takes it: so many ranks on each host, the first ranks on the near one."""
        return f"{self.near}:{near},{self.far}:{far}"

    def environment(self, **more: str) -> dict[str, str]:
        """For the launch line: frames may only travel as they would between two computers."""
        return environment(UCX_TLS="tcp,self", **more)

    def _counter(self, name: str) -> int:
        return int(Path(f"/sys/class/net/{self.cable}/statistics/{name}").read_text())


def ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, timeout=10)
    assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"


@contextmanager
def two_hosts(folder: Path) -> Generator[Hosts]:
    """Skips the test where hosts cannot be made."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("two hosts on one computer need root and iproute2 (apt-get install iproute2)")
    names = folder / "hosts"
    names.touch()
    apart = ["unshare", "--net", "--uts", "--mount", "sh", "-c", HOLD, "hold", FAR_NAME, str(names)]
    made = subprocess.Popen(apart, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert made.stdin is not None
    assert made.stdout is not None
    try:
        assert made.stdout.readline() == b"held\n"
        yield _connected(made.pid, folder)
    finally:
        made.stdin.close()
        made.wait(10)
        made.stdout.close()


def _connected(holder: int, folder: Path) -> Hosts:
    """Plug the cable in: a pair of interfaces, on a net that no other test on this computer has."""
    net, cable = f"10.213.{holder % 250}", f"l2n{holder}"
    hosts = Hosts(f"{net}.1", f"{net}.2", cable, holder, folder / "launcher")
    inside = ["nsenter", "--target", str(holder), "--net"]
    ip("link", "add", cable, "type", "veth", "peer", "name", "cable", "netns", str(holder))
    ip("addr", "add", f"{hosts.near}/24", "dev", cable)
    ip("link", "set", cable, "up")
    for words in (
        ["addr", "add", f"{hosts.far}/24", "dev", "cable"],
        ["link", "set", "cable", "up"],
        # servers on the near host say that they are at this computer's other address
        ["route", "add", "default", "via", hosts.near],
    ):
        subprocess.run([*inside, "ip", *words], check=True, timeout=10)
    (folder / "hosts").write_text(f"127.0.0.1 localhost\n{hosts.near} {socket.gethostname()}\n{hosts.far} {FAR_NAME}\n")
    hosts.launcher.write_text(LAUNCHER.format(far=hosts.far, holder=holder))
    hosts.launcher.chmod(0o755)
    return hosts


def wait_for(condition: Callable[[], Any], timeout: float, what: str, story: Callable[[], str] = str) -> Any:
    """The first true value of `condition`; fails the test after `timeout` seconds, with what `story` tells."""
    deadline, pause = time.monotonic() + timeout, Event()
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what}: not within {timeout:g} s{story()}"
        pause.wait(0.05)
    return value
