"""Exit code 0 when all the named devices answer, or the conductor on a port: `python healthy.py NAME... | PORT`."""

import http.client
import os
import sys

from lima2_tango.client.database import answers_ping

TIMEOUT = 5.0
"""Longest wait for the conductor [s]."""


def _conductor_answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    try:
        connection.request("GET", "/state")
        return connection.getresponse().status == http.HTTPStatus.OK
    except OSError:
        return False
    finally:
        connection.close()


def main() -> None:
    named = sys.argv[1:]
    if not named:
        sys.exit("name the devices, or the conductor's port")
    if named[0].isdigit():
        sys.exit(not _conductor_answers(int(named[0])))
    sys.exit(not all(answers_ping(os.environ["TANGO_HOST"], name) for name in named))


if __name__ == "__main__":
    main()
