"""Who is who in the job: which MPI rank holds the control, which holds receiver 0, 1, ..."""

import socket
from threading import Condition

from lima2_tango.core.errors import AgreementError, ParamError

from .channel import Channel
from .fabric import Fabric
from .messages import Hello, Message

HELLO_TIMEOUT = 10.0
"""A rank that has not said what it is this long after it was asked for is missing [s]."""


class Roster:
    """Every process says once what it is; from that all ranks draw the same conclusions."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._changed = Condition()
        self._hellos: dict[int, Hello] = {}
        channel.subscribe(self._handle)

    def announce(self, *, control: bool, receiver: bool, receiver_rank: int = -1, device: str = "") -> None:
        """Tell all ranks what this process is.

        `receiver_rank` is the device property `rank`, -1 where not given; `device` the name of the receiver's device.
        """
        hello = Hello("", control, receiver, receiver_rank, socket.gethostname(), device)
        for rank in range(self._channel.world.size):
            self._channel.send(rank, hello)

    def wait(self, timeout: float = HELLO_TIMEOUT) -> None:
        """Wait until every rank has said what it is; raises AgreementError naming those that have not."""
        size = self._channel.world.size
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._hellos) == size, timeout):
                missing = [rank for rank in range(size) if rank not in self._hellos]
                raise AgreementError(
                    f"MPI ranks {missing} of {size} have not reported within {timeout:.3g} s: look at their logs, "
                    "then restart the job",
                    missing=missing,
                )

    @property
    def fabric(self) -> Fabric:
        """What streams between the ranks are made on."""
        return self._channel.world.fabric

    @property
    def has_control(self) -> bool:
        return any(hello.control for hello in self._hellos.values())

    @property
    def coordinator(self) -> int:
        """MPI rank that brings the others to agreement: the control's; without one, the first receiver's."""
        ranks = sorted(self._hellos)
        return next((rank for rank in ranks if self._hellos[rank].control), self.receivers()[0] if ranks else 0)

    def receivers(self) -> list[int]:
        """MPI rank of receiver 0, 1, ...; raises ParamError where the `rank` properties contradict each other.

        And AgreementError where two ranks serve one device, of which clients reach only one.
        """
        holders = [rank for rank in sorted(self._hellos) if self._hellos[rank].receiver]
        self._check_devices(holders)
        order = [self._hellos[rank].receiver_rank for rank in holders]
        if any(number >= 0 for number in order):
            if sorted(order) != list(range(len(order))):
                raise ParamError(
                    "device property rank", order, f"the {len(order)} receivers of this job need 0 to {len(order) - 1}"
                )
            return [holders[order.index(number)] for number in range(len(order))]
        return holders

    def _check_devices(self, holders: list[int]) -> None:
        serving: dict[str, int] = {}
        for rank in holders:
            device = self._hellos[rank].device.lower()
            if device and serving.setdefault(device, rank) != rank:
                raise AgreementError(
                    f"MPI ranks {serving[device]} and {rank} both serve {device}: start the job with an instance of "
                    "its own for each rank",
                    ranks=[serving[device], rank],
                )

    def receiver_devices(self) -> list[str]:
        """Name of the device of receiver 0, 1, ...; raises as `wait` and `receivers` do."""
        self.wait()
        return [self._hellos[rank].device for rank in self.receivers()]

    def receiver_rank(self) -> int:
        """Which receiver this process is, from 0."""
        return self.receivers().index(self._channel.rank)

    def processes_on_this_host(self) -> int:
        """Receivers that share this host's cores and memory; at least 1."""
        host = socket.gethostname()
        return max(1, sum(hello.receiver and hello.host == host for hello in self._hellos.values()))

    def _handle(self, source: int, message: Message) -> None:
        if isinstance(message, Hello):
            with self._changed:
                self._hellos[source] = message
                self._changed.notify_all()
