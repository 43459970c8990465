"""Run by an interpreter that has PyPI's `libertem-dectris`: receives series, and says how long their images took.

Arguments: address of the legacy stream, bytes of a compressed image at most, a socket's path, series. Says `ready`
before each series, and after it the images received and the seconds from its start to its last image.
"""

import sys
import time

import libertem_dectris  # type: ignore[import-not-found]  # in that interpreter alone

STACK = 16
SLOTS = 8
TIMEOUT = 60.0


def main(uri: str, bytes_per_frame: str, handle: str, nb_series: str) -> None:
    connection = libertem_dectris.DectrisConnection(
        uri, STACK, handle, num_slots=SLOTS, bytes_per_frame=int(bytes_per_frame), huge=False
    )
    client = libertem_dectris.CamClient(handle)
    connection.start_passive(timeout=TIMEOUT)
    for _ in range(int(nb_series)):
        _say("ready")
        connection.wait_for_arm(timeout=TIMEOUT)
        count, begin = 0, time.perf_counter()
        while (stack := connection.get_next_stack(max_size=STACK)) is not None:
            count += len(stack)
            client.done(stack)
        _say(f"{count} {time.perf_counter() - begin}")
    client.close()
    connection.close()


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
