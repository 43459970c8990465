"""One server process: its rank in the job, the control or receiver in it, and the devices of its runs."""

import json
import os
import signal
import threading
from collections.abc import Mapping

import tango

from lima2_tango.control.acquirer import Acquirer
from lima2_tango.control.controller import Controller
from lima2_tango.control.drive import Drive
from lima2_tango.control.receiver import Receiver
from lima2_tango.control.run import Run
from lima2_tango.core.errors import StateError
from lima2_tango.transport.agreement import Coordinator
from lima2_tango.transport.channel import Channel
from lima2_tango.transport.messages import Farewell, Message
from lima2_tango.transport.participant import Participant
from lima2_tango.transport.roster import Roster

from .control import ControlDevice
from .database import processing_name
from .receiver import ReceiverDevice
from .remote import Remotes

CLOSE_TIMEOUT = 0.4
"""SIGTERM ends a process within a second, its files closed: this much is for the runs [s]."""


class Process:
    """Connects the devices of this process with the other ranks; outlives Tango's restarts of a device."""

    def __init__(self, channel: Channel, *, alone: bool, registered: bool) -> None:
        """`alone`: no `mpiexec` has started this process. `registered`: it has a Tango database."""
        self.channel = channel
        self.roster = Roster(channel)
        self._alone = alone
        self._registered = registered
        self._coordinator = Coordinator(channel, self.roster)
        self._controllers: dict[str, Controller] = {}
        self._drives: dict[str, Drive] = {}
        self._remotes = Remotes(self.roster)
        self._receivers: dict[str, Receiver] = {}
        self._devices: dict[str, tuple[str, str]] = {}
        """uuid -> class and name of the processing device"""
        self._rank_property = -1
        self._lock = threading.Lock()
        channel.subscribe(self._handle)

    def controller(self, device: ControlDevice) -> Controller:
        """The control behind a device, made at its first start."""
        name = device.get_name().lower()
        with self._lock:
            if name not in self._controllers:
                self._refuse_second(self._controllers, "control", name)
                self._controllers[name] = Controller(
                    device.plugin, device.settings(), self._coordinator, self._acquirer(device)
                )
            return self._controllers[name]

    def drive(self, device: ControlDevice) -> Drive:
        """The drive of all receivers behind a control device, made at its first start."""
        controller = self.controller(device)
        name = device.get_name().lower()
        with self._lock:
            if name not in self._drives:
                self._drives[name] = Drive(controller, self._remotes.connect)
            return self._drives[name]

    def receiver(self, device: ReceiverDevice) -> Receiver:
        """The receiver behind a device, made at its first start."""
        name = device.get_name().lower()
        with self._lock:
            if name not in self._receivers:
                self._refuse_second(self._receivers, "receiver", name)
                participant = Participant(self.channel, self.roster, self._coordinator)
                self._receivers[name] = Receiver(
                    device.plugin, device.settings(), self.roster, participant, self._acquirer(device)
                )
                self._rank_property = device.rank
            return self._receivers[name]

    def _acquirer(self, device: ControlDevice | ReceiverDevice) -> Acquirer:
        participant = Participant(self.channel, self.roster, self._coordinator, acquirer=True)
        return Acquirer(device.plugin, device.settings(), self.roster, participant)

    def announce(self) -> None:
        """All devices exist: tell the other ranks what this process is."""
        self.roster.announce(
            control=bool(self._controllers),
            receiver=bool(self._receivers),
            receiver_rank=self._rank_property,
            device=next(iter(self._receivers), ""),
        )

    def open_processing(self, receiver_name: str, run: Run) -> None:
        """Create and export the processing device of a run; raises StateError where there is no database for it."""
        if not self._registered:
            raise StateError("a run needs a processing device, and those need a Tango database: start without -nodb")
        receiver = self._receivers[receiver_name.lower()]
        name = processing_name(receiver_name, run.uuid, receiver.rank)
        tango.Util.instance().create_device(run.plugin.class_name, name)
        self._devices[run.uuid] = (run.plugin.class_name, name)
        if run.raw is not None:
            tango.Util.instance().get_database().put_device_property(name, {"frame_info": [json.dumps(run.raw.info())]})

    def close_processing(self, uuid: str) -> None:
        """Un-export the processing device of a run and delete it from the database."""
        with self._lock:
            found = self._devices.pop(uuid, None)
        if found is None:  # another client has just done it
            return
        try:
            tango.Util.instance().delete_device(*found)
        except tango.DevFailed:
            self._devices[uuid] = found
            raise

    def run_of(self, device_name: str) -> Run | None:
        """The run behind a processing device; None for a device that a killed server left in the database."""
        uuid = device_name.split("/")[-1].split("@")[0]
        for receiver in self._receivers.values():
            if uuid in receiver.runs:
                return receiver.runs[uuid]
        return None

    def description(self) -> str:
        """Where this process stands in its job, for Status."""
        world = self.channel.world
        if self._alone:
            return "Started without mpiexec: a world of one, which serves the topology single."
        return f"MPI rank {world.rank} of {world.size}."

    def close(self) -> None:
        """End the runs with their files closed, then leave the job, which cannot go on without this rank."""
        for drive in self._drives.values():
            drive.shut_down()
        for rank in range(self.channel.world.size):
            if rank != self.channel.rank:
                self.channel.send(rank, Farewell(""))
        for receiver in self._receivers.values():
            receiver.close(CLOSE_TIMEOUT)
        for controller in self._controllers.values():
            controller.shut_down()
        if self.channel.close():
            self.channel.world.close()

    @staticmethod
    def _handle(source: int, message: Message) -> None:
        if isinstance(message, Farewell):
            os.kill(os.getpid(), signal.SIGTERM)

    @staticmethod
    def _refuse_second(present: Mapping[str, object], role: str, name: str) -> None:
        if present:
            other = next(iter(present))
            raise StateError(
                f"{name} is a second {role} in one process beside {other}: one process is one rank; "
                "give each an instance of its own"
            )
