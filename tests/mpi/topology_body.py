"""Runs on every rank of a job: a control on rank 0, a receiver on each other (on the same where there is one rank).

topology_body.py RUNS SEED near|far: so many runs drawn at random, from a seed that all ranks share: topologies, sizes,
modules and who gets them, delays, ranks that are slow, and stops by anybody. Each receiver compares every frame with
what it must be. far: as if no two ranks had memory in common. Rank 0 prints a line of JSON.
"""

import json
import random
import sys
import time
import traceback
from dataclasses import dataclass

import numpy as np
from mpi4py import MPI

from lima2_tango.cameras._images import Generator, fill
from lima2_tango.control import run as control_run
from lima2_tango.control.acquirer import Acquirer
from lima2_tango.control.controller import Controller
from lima2_tango.control.receiver import Receiver
from lima2_tango.control.settings import Settings
from lima2_tango.core.plugins import load
from lima2_tango.core.state import State
from lima2_tango.transport import reach
from lima2_tango.transport.agreement import Coordinator
from lima2_tango.transport.channel import Channel
from lima2_tango.transport.mpi import MpiWorld
from lima2_tango.transport.participant import Participant
from lima2_tango.transport.roster import Roster

SHAPE, IMAGES, BOUND = (24, 32), 4, 40.0
GENERATOR = {"gauss": {"peaks": [{"x0": 16.0, "y0": 12.0, "fwhm": 19.0, "max": 1000.0}], "grow_factor": 0.5}}
BOXES = [(0, 0, 10, 15), (1, 18, 10, 14), (12, 1, 12, 14), (12, 17, 11, 13)]
TURNS = [0, 180, 90, 270]


@dataclass
class Drawn:
    """What a run is."""

    params: dict
    stopped_by: int | None
    """A receiver, -1 for the control; None: nobody stops it."""
    stopped_after: float
    """[s]"""
    pauses: list[float]
    """Of each receiver, for every block that it takes [s]."""


def modules(draw, scale, receivers):
    """Four with gaps between them, some of which are missing now and then, or late; a receiver may have none."""
    return [
        {
            "x": left * scale,
            "y": top * scale,
            "width": (height if turn % 180 else width) * scale,
            "height": (width if turn % 180 else height) * scale,
            "rotation": turn,
            "receiver": draw.randrange(-1, receivers),
            "missing_every": draw.choice([0, 0, 3, 7]),
            "delay": draw.choice([0, 0, 5000]),
        }
        for (top, left, height, width), turn in zip(BOXES, TURNS, strict=True)
    ]


def drawn(draw, receivers):
    """One run."""
    scale = draw.choice([1, 1, 3, 8])
    scattered = {"topology": "distributed_processing", "acquisition_rank": draw.randrange(-1, receivers)}
    det = draw.choice([
        {"dispatch_mode": draw.choice(["round_robin", "predictive_random", "full_random"])},
        {**scattered, "dispatch_mode": draw.choice(["round_robin", "least_loaded", "full_random"])},
        {"topology": "partial_frames", "modules": modules(draw, scale, receivers)},
        {"topology": "partial_frames"},
    ])
    stopped = draw.random() < 0.5
    acq = {"nb_frames": 0 if stopped else draw.randrange(1, 200), "expo_time": draw.choice([10, 300, 2000])}
    size = {"width": SHAPE[1] * scale, "height": SHAPE[0] * scale}
    det = {**size, "nb_prefetch_frames": IMAGES, "generator": GENERATOR, **det}
    return Drawn(
        params={"acq": {"latency_time": 0, **acq}, "det": det},
        stopped_by=draw.randrange(-1, receivers) if stopped else None,
        stopped_after=draw.random() * 0.1,
        pauses=[draw.choice([0.0, 0.0, 0.0, 1e-3, 5e-3]) for _ in range(receivers)],
    )


class Expected:
    """What frames must be."""

    def __init__(self, det):
        self._modules = det.get("modules", ())
        self._scale = det["height"] // SHAPE[0]
        self._images = np.empty((IMAGES, 1, det["height"], det["width"]), np.uint16)
        fill(Generator.parse(json.dumps(GENERATOR)), np.arange(IMAGES), self._images)

    def frame(self, index):
        image = self._images[index % IMAGES, 0]
        if not self._modules:
            return image
        frame = np.zeros_like(image)
        for module, box in zip(self._modules, BOXES, strict=True):
            top, left, height, width = (side * self._scale for side in box)
            if not module["missing_every"] or (index + 1) % module["missing_every"]:
                frame[top : top + height, left : left + width] = image[top : top + height, left : left + width]
        return frame


class Rank:
    """The devices of one rank, without Tango."""

    def __init__(self, world):
        self.world, self.channel = world, Channel(world)
        roster = Roster(self.channel)
        coordinator = Coordinator(self.channel, roster)
        plugin, settings = load("cameras", "simulator"), Settings(memory_budget=64 << 20, workers=1)

        def acquirer():
            return Acquirer(plugin, settings, roster, Participant(self.channel, roster, coordinator, acquirer=True))

        is_control, is_receiver = world.rank == 0, world.rank > 0 or world.size == 1
        self.control = Controller(plugin, settings, coordinator, acquirer()) if is_control else None
        participant = Participant(self.channel, roster, coordinator) if is_receiver else None
        self.receiver = Receiver(plugin, settings, roster, participant, acquirer()) if is_receiver else None
        self.number = world.rank - (world.size > 1)
        self.channel.open()
        roster.announce(control=is_control, receiver=is_receiver)
        roster.wait(BOUND)

    def prepare(self, uuid, params):
        text = json.dumps(params)
        if self.control:
            self.control.set_acq_params(text)
            self.control.build()
            self.control.prepare(uuid)
        if not self.receiver:
            return None
        self.receiver.set_acq_params(text)
        self.receiver.set_proc_params('{"class_name": "LimaProcessingLegacy", "saving": {"enabled": false}}')
        self.receiver.build()
        run = self.receiver.prepare(uuid)
        self.receiver.prepared(run)
        return run

    def start(self):
        for device in (self.receiver, self.control):
            if device:
                device.start()

    def stop(self, who):
        if who == -1 and self.control:
            self.control.stop()
        elif who == self.number and self.receiver:
            self.receiver.stop()

    def close(self):
        if self.receiver:
            self.receiver.close(1.0)
        if self.control:
            self.control.shut_down()
        self.channel.close()
        self.world.close()


def checked(run, expected, got, pause=0.0):
    """Every frame that enters the pipeline is compared; it takes blocks no faster than one each `pause` seconds."""
    put = run.pipeline.put

    def check(block):
        time.sleep(pause)
        for index, frame in zip(block.index.tolist(), block.data, strict=True):
            if not np.array_equal(frame[0], expected.frame(index)):
                raise AssertionError(f"frame {index} is wrong")
            got.append(index)
        put(block)

    run.pipeline.put = check


def play(rank, comm, uuid, what):
    """One run; the global indices of all frames that arrived, on rank 0."""
    got = []
    run = rank.prepare(uuid, what.params)
    if run:
        checked(run, Expected(what.params["det"]), got, what.pauses[rank.number])
    comm.barrier()
    rank.start()
    if what.stopped_by is not None:
        time.sleep(what.stopped_after)
        rank.stop(what.stopped_by)
    if run:
        assert run.finished.wait(BOUND), f"{uuid} has not finished: {what}"
        assert run.last_error is None, run.last_error
        assert rank.receiver.error is None, rank.receiver.error
        assert got == sorted(got)
        rank.receiver.erase(uuid)
    if rank.control:
        assert rank.control.machine.wait(State.IDLE, timeout=BOUND)
        assert rank.control.error is None, rank.control.error
    return comm.gather(got)


def main():
    runs, seed, distance = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    if distance == "far":
        reach.is_near = lambda fabric, other: other == fabric.rank
    control_run.LEAST_RUN = control_run.SETTLE = 0.01  # no client polls
    rank, comm = Rank(MpiWorld()), MPI.COMM_WORLD
    draw, frames = random.Random(seed), 0
    for number in range(runs):
        what = drawn(draw, max(1, comm.size - 1))
        every = play(rank, comm, f"u{number}", what)
        if comm.rank == 0:
            indices = sorted(sum(every, []))
            assert indices == list(range(len(indices))), f"run {number}: {indices} are no prefix: {what}"
            assert len(indices) == what.params["acq"]["nb_frames"] or what.stopped_by is not None
            frames += len(indices)
    if comm.rank == 0:
        sys.stdout.write(json.dumps({"rank": 0, "runs": runs, "frames": frames}) + "\n")
        sys.stdout.flush()
    comm.barrier()
    rank.close()


if __name__ == "__main__":
    try:
        main()
    except BaseException:  # noqa: BLE001 - boundary: whatever it is, the job has failed
        traceback.print_exc()
        MPI.COMM_WORLD.Abort(1)  # others wait for this rank, and its threads for them
