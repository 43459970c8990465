"""The wire from the trigger source to a detector: datagrams on the loopback interface, one for each edge."""

import socket

from lima2_tango.core.errors import ParamError

HOST = "127.0.0.1"
PORT = 20801
"""Where nothing else is said."""


class Wire:
    """Sends levels to the UDP port that the detector's trigger input listens on (`$.det.trigger_port` of Simulator)."""

    def __init__(self, port: int = PORT) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.connect(port)

    def connect(self, port: int) -> None:
        """Raises ParamError for what is no port."""
        if not 1 <= port <= 65535:
            raise ParamError("wire_port", port, "give a UDP port, 1 to 65535")
        self.port = port

    def level(self, high: bool) -> None:
        """Whether anybody listens shows at the detector, as with a real wire."""
        self._socket.sendto(b"\x01" if high else b"\x00", (HOST, self.port))

    def close(self) -> None:
        self._socket.close()
