"""Runs on every rank of a job: streams of all modes and arrangements, then streams drawn at random.

stream_body.py RANDOM SEED: so many random ones, from a seed that all ranks share.
Each rank prints one line of JSON.
"""

import json
import sys
import time
from itertools import product

from lima2_tango.testing.streams import Play, random_play, run
from lima2_tango.transport.mpi import MpiWorld
from lima2_tango.transport.stream import SendMode, StreamSpec

BOUND = 20


def arrangements(size):
    everyone = tuple(range(size))
    half = max(1, size // 2)
    return {
        "one to one": ((0,), (size - 1,)),
        "one to many": ((0,), everyone),
        "many to one": (everyone, (size - 1,)),
        "many to many": (everyone, everyone),
        "halves": (everyone[:half], everyone[half:] or (0,)),
    }


def systematic(size):
    ways = [(SendMode.STANDARD, True), *((mode, False) for mode in SendMode)]
    for number, ((mode, shared), (name, (producers, consumers))) in enumerate(
        product(ways, arrangements(size).items())
    ):
        spec = StreamSpec(f"{mode} {shared} {name}", producers, consumers, 400_000, 16, 4, mode, shared)
        yield Play(spec, number, elements=12, held=number % 3)
        yield Play(spec_named(spec, "place"), number, elements=12, in_place=True, own_memory=True)
        for what in ("stop_after", "abort_after", "fail_after"):
            yield Play(spec_named(spec, what), number, elements=12, **{what: number % 12})


def spec_named(spec, more):
    return StreamSpec(
        f"{spec.name} {more}", spec.producers, spec.consumers, spec.element_bytes, 16, 4, spec.mode, spec.shared
    )


def settled(arena):
    """Bytes still lent when all others have had time to finish."""
    deadline = time.monotonic() + BOUND
    while arena is not None and arena.claimed and time.monotonic() < deadline:
        time.sleep(1e-3)
    return 0 if arena is None else arena.claimed


def main():
    count, seed = int(sys.argv[1]), int(sys.argv[2])
    world = MpiWorld()
    plays = [*systematic(world.size), *(random_play(seed + number, world.size) for number in range(count))]
    for play in plays:
        run(world.fabric, play)
    taken = sum(world.rank in (*play.spec.producers, *play.spec.consumers) for play in plays)
    claimed = settled(world.fabric.own)
    said = {"rank": world.rank, "plays": len(plays), "taken part": taken, "claimed": claimed}
    sys.stdout.write(json.dumps(said) + "\n")
    sys.stdout.flush()
    world.close()


if __name__ == "__main__":
    main()
