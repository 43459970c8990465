"""Tell the Tango database the devices of a configuration: `python register.py CONFIG.yaml`."""

import os
import sys
from pathlib import Path

from lima2_tango.cli.config import load_config
from lima2_tango.client.database import register, wait_for_database

DATABASE_TIMEOUT = 60.0
"""How long the database may take to answer [s]."""


def _nothing() -> None:
    """The database runs in a container of its own: there is nothing here to look at while waiting."""


def main() -> None:
    host = os.environ["TANGO_HOST"]
    wait_for_database(host, DATABASE_TIMEOUT, _nothing)
    register(host, load_config(Path(sys.argv[1])).entries())


if __name__ == "__main__":
    main()
