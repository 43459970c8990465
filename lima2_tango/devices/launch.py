"""Entry point of the console script: what speeds up a start must be settled before the first import."""

import gc
import os
import sys

UNUSED = ("coverage", "gevent")
"""PyTango imports them where they are installed; a server that measures nothing and runs threads needs neither."""


def main() -> None:
    """Run the device server: see `lima2_tango --help`."""
    # Our workers own the cores: the threads of numpy's linear algebra would only spin on them.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # Looking for plugins of pydantic reads the metadata of every installed package.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    for name in UNUSED:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]  # what Python takes for "cannot be imported"
    gc.disable()
    from .server import main as serve

    gc.freeze()
    gc.enable()
    serve()
