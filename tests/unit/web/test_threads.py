"""Calls beside the event loop: none holds up another, nor the end."""

import asyncio
import subprocess
import sys
from threading import Event

import pytest

from lima2_tango.web.threads import Threads

HANGS = """
import asyncio, time
from lima2_tango.web.threads import Threads

async def begun():
    asked = asyncio.create_task(Threads(1)(time.sleep, 3600))
    await asyncio.sleep(0)
    asked.cancel()

asyncio.run(begun())
"""


def test_what_a_call_returns_or_raises_comes_back() -> None:
    async def asked() -> None:
        threads = Threads(1)
        assert await threads(divmod, 7, 2) == (3, 1)
        with pytest.raises(ZeroDivisionError):
            await threads(divmod, 7, 0)

    asyncio.run(asked())


def test_a_call_that_hangs_takes_its_own_place_only() -> None:
    thawed = Event()

    async def asked() -> None:
        threads = Threads(2)
        hanging = asyncio.create_task(threads(thawed.wait, 20))
        for _ in range(3):
            assert await asyncio.wait_for(threads(abs, -1), 20) == 1
        assert not hanging.done()
        thawed.set()
        assert await hanging

    asyncio.run(asked())


def test_more_calls_than_places_wait_for_their_turn() -> None:
    running, most = [0], [0]

    def call() -> None:
        running[0] += 1
        most[0] = max(most[0], running[0])
        running[0] -= 1

    async def asked() -> None:
        threads = Threads(1)
        await asyncio.gather(*(threads(call) for _ in range(50)))

    asyncio.run(asked())
    assert most == [1]


def test_a_call_that_hangs_does_not_keep_the_process() -> None:
    subprocess.run([sys.executable, "-c", HANGS], check=True, timeout=30)
