"""A job of one process whose receivers the control drives: as by Tango, but by plain calls."""

import json
from contextlib import contextmanager
from functools import partial
from threading import Event as Flag

from lima2_tango.control.acquirer import Acquirer
from lima2_tango.control.controller import Controller
from lima2_tango.control.drive import Drive
from lima2_tango.control.ranks import Acquiring, Processing
from lima2_tango.control.receiver import Receiver
from lima2_tango.control.settings import Settings
from lima2_tango.core.encoded import image
from lima2_tango.core.errors import AgreementError
from lima2_tango.core.frame import FrameSpec, VectorSpec
from lima2_tango.core.plugins import load
from lima2_tango.testing.worlds import memory_job
from lima2_tango.transport.agreement import Coordinator
from lima2_tango.transport.participant import Participant
from lima2_tango.transport.roster import Roster

BOUND = 20.0
"""What should happen happens within this [s]."""


class LocalRank:
    """A receiver of this process as the drive sees it; `breaks` says which calls fail, and with what."""

    def __init__(self, number, receiver):
        self.device = f"lab/receiver/{number}"
        self.receiver = receiver
        self.breaks = {}
        self.gates = {}
        """By call: it waits for this flag."""
        self.busy = Flag()
        """Set while a call waits for its gate."""
        self.unfinished = False
        """Keeps its processing from being over."""

    def _begin(self, call):
        if call in self.gates:
            self.busy.set()
            assert self.gates[call].wait(BOUND)
        if call in self.breaks:
            raise self.breaks[call]

    def go_silent(self):
        self.breaks |= dict.fromkeys(("acquiring", "processing"), AgreementError("no answer within 3 s"))

    def prepare(self, uuid, acq_params, proc_params):
        self._begin("prepare")
        self.receiver.set_acq_params(acq_params)
        self.receiver.set_proc_params(proc_params)
        self.receiver.build()
        self.receiver.prepared(self.receiver.prepare(uuid))

    def start(self):
        self._begin("start")
        self.receiver.start()

    def stop(self):
        self._begin("stop")
        self.receiver.stop()

    def reset(self):
        self._begin("reset")
        self.receiver.reset()

    def erase(self, uuid):
        self.receiver.erase(uuid)

    def acquiring(self):
        self._begin("acquiring")
        receiver = self.receiver
        state, error = receiver.machine.state, "" if receiver.error is None else str(receiver.error)
        return Acquiring(state, receiver.nb_frames_xferred, error, tuple(receiver.runs))

    def processing(self, uuid):
        self._begin("processing")
        run = self.receiver.runs[uuid]
        finished = run.finished.is_set() and not self.unfinished
        error = "" if run.last_error is None else str(run.last_error)
        return Processing(finished, run.pipeline.counters.read(), run.pipeline.last_frames(), error)

    def spec(self, uuid, info):
        found = self.receiver.runs[uuid].pipeline.infos[info]
        return FrameSpec(1, 1, found.length, found.dtype) if isinstance(found, VectorSpec) else found

    def frame(self, uuid, command, index):
        run = self.receiver.runs[uuid]
        with run.pipeline.history(run.plugin.frame_commands[command]).frame(index) as (number, pixels):
            return image(pixels, number)

    def rows(self, uuid, command):
        self._begin("rows")
        return self.receiver.runs[uuid].pipeline.pop(command)


class DrivenJob:
    """A control that drives its receivers, each on a rank of its own."""

    def __init__(self, receivers):
        settings = Settings(memory_budget=64 << 20, workers=1)
        self.channels = memory_job(receivers + 1)
        rosters = [Roster(channel) for channel in self.channels]
        pairs = list(zip(self.channels, rosters, strict=True))
        coordinators = [Coordinator(*pair) for pair in pairs]
        plugin = load("cameras", "simulator")
        acquirer = Acquirer(plugin, settings, rosters[0], Participant(*pairs[0], coordinators[0], acquirer=True))
        self.control = Controller(plugin, settings, coordinators[0], acquirer)
        self.ranks = [
            LocalRank(number, self._receiver(plugin, settings, channel, roster, coordinator))
            for number, ((channel, roster), coordinator) in enumerate(zip(pairs[1:], coordinators[1:], strict=True))
        ]
        self.drive = Drive(self.control, lambda: self.ranks)
        for number, (channel, roster) in enumerate(pairs):
            channel.open()
            roster.announce(control=number == 0, receiver=number > 0)
        for roster in rosters:
            roster.wait(5)

    @staticmethod
    def _receiver(plugin, settings, channel, roster, coordinator):
        acquirer = Acquirer(plugin, settings, roster, Participant(channel, roster, coordinator, acquirer=True))
        return Receiver(plugin, settings, roster, Participant(channel, roster, coordinator), acquirer)

    @property
    def receivers(self):
        return [rank.receiver for rank in self.ranks]

    @property
    def run(self):
        return self.drive.run

    def write(self, folder, proc=None, det=None, **acq):
        """Parameters on the control; saved to `folder`, where one is given."""
        detector = {"width": 32, "height": 24, "nb_prefetch_frames": 4, "generator": {"gauss": {"grow_factor": 0.5}}}
        saving = {"enabled": False} if folder is None else {"base_path": str(folder), "nb_frames_per_file": 4}
        self.control.set_acq_params(
            json.dumps({
                "acq": {"nb_frames": 10, "expo_time": 500, "latency_time": 0, **acq},
                "det": detector | (det or {}),
            })
        )
        self.control.set_proc_params(
            json.dumps(proc if proc and "class_name" in proc else self.legacy(saving, proc or {}))
        )

    @staticmethod
    def legacy(saving, changes):
        return {"class_name": "LimaProcessingLegacy", "saving": saving, **changes}

    def prepare(self):
        self.drive.build()
        return self.drive.prepare()

    def acquire(self):
        self.drive.build()
        return self.drive.acquire()

    def start(self):
        self.drive.check_start()
        self.drive.start()

    def complete(self):
        """A whole run; its record."""
        identity = self.acquire()
        assert self.run.ended.wait(BOUND)
        return self.drive.record(identity)

    def close(self):
        self.drive.shut_down()
        for receiver in self.receivers:
            receiver.close(BOUND)
        self.control.shut_down()
        for channel in self.channels:
            assert channel.close()


@contextmanager
def driven(receivers=2):
    made = DrivenJob(receivers)
    try:
        yield made
    finally:
        made.close()


def until(condition, what="the condition"):
    """Wait until it holds."""
    pause = Flag()
    for _ in range(int(BOUND / 0.01)):
        if condition():
            return
        pause.wait(0.01)
    raise AssertionError(f"{what}: not within {BOUND:g} s")


def in_thread(call, *arguments):
    """Call in a thread; returns it and the list that gets its error, or None."""
    from threading import Thread

    outcome = []

    def work():
        try:
            outcome.append(call(*arguments))
        except Exception as error:  # noqa: BLE001 - the test looks at it
            outcome.append(error)

    thread = Thread(target=partial(work))
    thread.start()
    return thread, outcome
