"""Browsers that look on: `python -m lima2_tango.cli.bench.onlookers URL SECONDS CLIENTS`

Each asks as the page does: for the next picture when the last one is there. Prints how many pictures each got, as JSON.
"""

import asyncio
import json
import sys
import time

from websockets.asyncio.client import connect

GRACE = 10.0
"""For a connection, and for the first picture [s]."""


async def look_on(url: str, seconds: float) -> int:
    """Pictures that came within so many seconds after the first; 0 where none came."""
    pictures, end = 0, time.monotonic() + GRACE
    async with connect(f"{url.replace('http', 'ws', 1)}live", open_timeout=GRACE, max_size=None) as socket:
        await socket.send(json.dumps({"view": {"columns": 1024, "rows": 1024}}))
        while (left := end - time.monotonic()) > 0:
            try:
                message = await asyncio.wait_for(socket.recv(), left)
            except TimeoutError:
                break
            if isinstance(message, bytes):
                end = end if pictures else time.monotonic() + seconds
                pictures += 1
                await socket.send(json.dumps({"drawn": True}))
    return pictures


async def all_of_them(url: str, seconds: float, clients: int) -> list[int]:
    return await asyncio.gather(*(look_on(url, seconds) for _ in range(clients)))


def main() -> None:
    _, url, seconds, clients = sys.argv
    json.dump(asyncio.run(all_of_them(url, float(seconds), int(clients))), sys.stdout)


if __name__ == "__main__":
    main()
