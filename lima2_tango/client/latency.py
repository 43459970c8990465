"""How long devices take to answer: `python -m lima2_tango.client.latency HOST:PORT SECONDS CLIENTS DEVICE...`

A process of its own, as every client is: what it measures is not disturbed by the one that measures.
"""

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import tango

INTERVAL = 0.05
"""Clients poll this often [s]."""


def poll(tango_host: str, seconds: float, names: list[str], phase: float = 0.0) -> list[float]:
    """Times of reads of `acq_state` [s], of each device every 50 ms; raises DevFailed where one does not answer.

    `phase` is the part of a period to begin late: no two clients poll at one instant.
    """
    devices = [tango.DeviceProxy(f"tango://{tango_host}/{name}") for name in names]
    time.sleep(phase * INTERVAL)
    end, taken = time.monotonic() + seconds, []
    while (begin := time.monotonic()) < end:
        for device in devices:
            asked = time.monotonic()
            device.read_attribute("acq_state")
            taken.append(time.monotonic() - asked)
        time.sleep(max(0.0, begin + INTERVAL - time.monotonic()))
    return taken


def main() -> None:
    """Print the times of all clients as JSON; each has a thread and connections of its own."""
    _, tango_host, seconds, clients, *names = sys.argv
    with ThreadPoolExecutor(int(clients)) as threads:
        phases = [client / int(clients) for client in range(int(clients))]
        asked = [threads.submit(poll, tango_host, float(seconds), names, phase) for phase in phases]
    json.dump([taken for one in asked for taken in one.result()], sys.stdout)


if __name__ == "__main__":
    main()
