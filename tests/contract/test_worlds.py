"""Every world - in memory, of one, and MPI's own - carries bytes between ranks in order and never blocks."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lima2_tango.testing.worlds import memory_job

BOUND = 30
MPI_BODY = """
import json, sys
from pathlib import Path
from tests.contract.test_worlds import exchange
from lima2_tango.transport.mpi import MpiWorld, launched_by_mpi
assert launched_by_mpi()
world = MpiWorld()
result = exchange(world)
world.close()
Path(sys.argv[1], f"{world.rank}.json").write_text(json.dumps([world.rank, world.size, result]))
"""
ONE_TAKES_NOTHING = """
import sys, time
from pathlib import Path
from tests.contract.test_worlds import BOUND, UNTAKEN, next_message
from lima2_tango.transport.mpi import MpiWorld
world, heard = MpiWorld(), Path(sys.argv[1], "heard")
if world.rank == 0:
    for number in range(UNTAKEN):
        world.send(1, number.to_bytes(4, "big"))
    world.send(2, b"for you")
    while not heard.exists():
        assert world.poll() is None
    assert next_message(world) == (1, b"all")
elif world.rank == 1:  # frozen until the other has its message: no call of MPI
    end = time.monotonic() + BOUND
    while not heard.exists() and time.monotonic() < end:
        time.sleep(0.01)
    taken = [next_message(world) for _ in range(UNTAKEN)]
    assert taken == [(0, number.to_bytes(4, "big")) for number in range(UNTAKEN)]
    world.send(0, b"all")
else:
    assert next_message(world) == (0, b"for you")
    heard.touch()
world.close()
"""
MESSAGES = 20
UNTAKEN = 500
"""More than any MPI library holds for a rank."""


def exchange(world):
    """Send numbered messages of the size of ours (below 2 kB) to every other rank; what arrived, by sender."""
    others = [rank for rank in range(world.size) if rank != world.rank]
    for number in range(MESSAGES):
        for rank in others:
            world.send(rank, bytes([number]) * (1 + number * 97))
    arrived = {rank: [] for rank in others}
    deadline = time.monotonic() + BOUND
    while any(len(got) < MESSAGES for got in arrived.values()) and time.monotonic() < deadline:
        if (message := world.poll()) is not None:
            source, data = message
            arrived[source].append([data[0], len(data)])
    return arrived


def next_message(world):
    """The message that comes within `BOUND`; None where none does."""
    deadline = time.monotonic() + BOUND
    while (message := world.poll()) is None and time.monotonic() < deadline:
        pass
    return message


def expected(rank, size):
    whole = [[number, 1 + number * 97] for number in range(MESSAGES)]
    return {str(other): whole for other in range(size) if other != rank}


def run_job(size, body, folder):
    """The body on every rank of a job of MPI, which must end well."""
    launcher = Path(sys.prefix) / "bin" / "mpiexec"
    command = [str(launcher), "-n", str(size), sys.executable, "-c", body, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=2 * BOUND)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_mpi_carries_every_message_once_and_in_order(tmp_path, size):
    run_job(size, MPI_BODY, tmp_path)
    results = sorted(json.loads(file.read_text()) for file in tmp_path.glob("*.json"))
    assert [rank for rank, _, _ in results] == list(range(size))
    for rank, world_size, arrived in results:
        assert world_size == size
        assert arrived == expected(rank, size)


def test_a_rank_that_takes_no_messages_keeps_none_from_the_others_and_gets_all_later(tmp_path):
    run_job(3, ONE_TAKES_NOTHING, tmp_path)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_memory_carries_every_message_once_and_in_order(size):
    worlds = [channel.world for channel in memory_job(size)]
    for world in worlds:
        for number in range(MESSAGES):
            for other in worlds:
                if other is not world:
                    other_rank = other.rank
                    world.send(other_rank, bytes([number]) * (1 + number * 97))
    for world in worlds:
        arrived = {str(rank): [] for rank in range(size) if rank != world.rank}
        while (message := world.poll()) is not None:
            source, data = message
            arrived[str(source)].append([data[0], len(data)])
        assert arrived == expected(world.rank, size)


def test_a_poll_with_nothing_to_take_returns_at_once():
    (channel,) = memory_job(1)
    assert channel.world.poll() is None
