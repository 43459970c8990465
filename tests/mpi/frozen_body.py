"""In each topology a rank of the job is frozen in the middle of a run, and thawed when the others have ended theirs.

frozen_body.py near|far receiver|control: who is frozen; far: as if no two ranks had memory in common. Rank 0 is the
control's, the others have a receiver each. One that is not frozen prints a line of JSON for each topology: what
they said, the frames that each of them had, and those of the next run.
"""

import json
import os
import signal
import sys

from mpi4py import MPI
from topology_body import BOUND, GENERATOR, IMAGES, SHAPE, Drawn, Expected, Rank, checked, play

from lima2_tango.core.state import State
from lima2_tango.transport import far, pulse, reach
from lima2_tango.transport.mpi import MpiWorld

SILENCE, BEAT = 1.5, 0.2
ENOUGH = 12
"""Frames of each receiver before somebody is frozen."""
TOPOLOGIES = {
    "full frames": {},
    "scattered": {"topology": "distributed_processing"},
    "scattered by a receiver": {"topology": "distributed_processing", "acquisition_rank": 1},
    "assembled": {"topology": "partial_frames"},
}


def params_of(topology, nb_frames):
    det = {"width": SHAPE[1], "height": SHAPE[0], "nb_prefetch_frames": IMAGES, "generator": GENERATOR}
    acq = {"nb_frames": nb_frames, "expo_time": 1000, "latency_time": 0}
    return {"acq": acq, "det": {**det, **TOPOLOGIES[topology]}}


def begun(rank, comm, uuid, topology):
    """An endless run that has brought this rank some frames; the frames."""
    got = []
    params = params_of(topology, 0)
    run = rank.prepare(uuid, params)
    if run:
        checked(run, Expected(params["det"]), got)
    comm.barrier()
    rank.start()
    while run and len(got) < ENOUGH:
        assert not run.finished.wait(0.01), run.last_error or rank.receiver.error
    return run, got


def ended(rank, run):
    """Wait until the run is over on this rank; what its devices say of it."""
    said = []
    if run:
        assert run.acquired.wait(BOUND), "the receiver still waits"
        assert run.join(BOUND)
        said.append(str(rank.receiver.error or ""))
    if rank.control:
        assert rank.control.machine.wait(State.IDLE, State.FAULT, timeout=BOUND), "the control still waits"
        said.append(str(rank.control.error))
    return said


def frozen(rank, comm, topology, victim):
    """The run in which `victim` is frozen; what the others said of it, and the frames that each of them got."""
    run, got = begun(rank, comm, topology.replace(" ", "-"), topology)
    pids = comm.allgather(os.getpid())
    others = comm.Split(color=int(comm.rank == victim))
    said = frames = None
    others.Barrier()  # all have what they need of the victim for the two calls above
    if comm.rank != victim:
        if others.rank == 0:
            os.kill(pids[victim], signal.SIGSTOP)
        said = others.gather(ended(rank, run))
        frames = others.gather(got)
        if others.rank == 0:
            os.kill(pids[victim], signal.SIGCONT)
    comm.barrier()
    if comm.rank == victim and run:
        assert run.acquired.wait(BOUND), "the receiver that was thawed still waits"
        assert run.join(BOUND)
    others.Free()
    return said, frames


def recovered(rank, comm, topology):
    """All devices are reset; how many frames the next run had."""
    if rank.control:
        rank.control.reset()
    if rank.receiver:
        rank.receiver.reset()
    comm.barrier()
    every = play(
        rank, comm, f"after {topology}".replace(" ", "-"), Drawn(params_of(topology, 40), None, 0.0, [0.0] * comm.size)
    )
    return every and sorted(sum(every, []))


def main():
    distance, who = sys.argv[1], sys.argv[2]
    if distance == "far":
        reach.is_near = lambda fabric, other: other == fabric.rank
    pulse.SILENCE = far.SILENCE = SILENCE
    pulse.BEAT = far.BEAT = BEAT
    rank, comm = Rank(MpiWorld()), MPI.COMM_WORLD
    victim = 0 if who == "control" else 2
    teller = 1 if victim == 0 else 0
    for topology in TOPOLOGIES:
        said, frames = frozen(rank, comm, topology, victim)
        following = comm.bcast(recovered(rank, comm, topology))
        if comm.rank == teller:
            line = {"rank": comm.rank, "topology": topology, "said": sum(said, []), "frames": frames, "next": following}
            sys.stdout.write(json.dumps(line) + "\n")
            sys.stdout.flush()
    comm.barrier()
    rank.close()


if __name__ == "__main__":
    main()
