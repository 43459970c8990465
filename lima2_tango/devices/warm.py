"""Load and compile in the background what the first Prepare would otherwise wait for."""

import fcntl
import gc
import logging
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from lima2_tango.cameras.base import Plugin
from lima2_tango.core.errors import AgreementError
from lima2_tango.core.storage import Compression
from lima2_tango.transport.roster import Roster

log = logging.getLogger(__name__)

DELAY = 0.5
"""The first clients ask a process that has just started: they come first [s]."""


def warm_up(roster: Roster, plugins: Sequence[Plugin]) -> None:
    """Once all ranks answer, import the heavy libraries and ready the kernels.

    One process of a host at a time compiles, the others load what it made.
    """
    try:
        roster.wait()
    except AgreementError as error:  # who is missing may still come, and Start will ask for it
        log.warning("%s", error)
    time.sleep(DELAY)
    begin = time.monotonic()
    import lima2_tango.saving.writer  # noqa: F401 - for what it loads
    from lima2_tango.processing.kernels.warm import warm
    from lima2_tango.saving.compression import compressor

    with (Path(tempfile.gettempdir()) / f"lima2_tango-{os.getuid()}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        compressor(Compression.BSHUF_LZ4)
        ready = warm()
        for plugin in plugins:
            if plugin.warm is not None:
                plugin.warm()
    gc.collect()
    gc.freeze()  # what is there now stays: later collections need not look at it
    log.info("kernels for %s are ready after %.1f s", ", ".join(ready), time.monotonic() - begin)
