"""Tango's access control as its clients ask for it, with the rule of one file: "read" or "write" for everybody.

Debian's TangoAccessControl reads its rules from the MariaDB of Tango's database server; the databases that the tests
run on have none. The questions and answers are the same: the client's library asks, and obeys.
"""

import sys
from pathlib import Path

from tango.server import Device, command, device_property

READABLE = ("State", "Status", "Run", "getFrame", "getInputFrame", "ListCameras", "ListPipelines")
"""Commands that a reader may use, of every class."""


class AccessControl(Device):
    rule = device_property(dtype=str, doc="file with the word read or write")

    @command(dtype_in=(str,), dtype_out=str)
    def GetAccess(self, asked: list[str]) -> str:  # noqa: N802
        """For user, computer and device."""
        user, _, device = asked
        assert user
        assert device
        return Path(self.rule).read_text().strip()

    @command(dtype_in=str, dtype_out=(str,))
    def GetAllowedCommands(self, class_name: str) -> list[str]:  # noqa: N802
        """For readers, of devices of a class."""
        assert class_name
        return list(READABLE)


if __name__ == "__main__":
    AccessControl.run_server(sys.argv[1:])
