"""Lima2 for scripts: acquire through the control device, look at frames and rows as they come, read the files."""

from lima2_tango.control.runlog import RunState
from lima2_tango.core.sparse import SparseFrame

from .aio import AsyncClient, AsyncRun, aconnect
from .connection import Client, connect
from .database import NotReadyError
from .errors import RefusedError, RunFailedError, UnreachableError
from .link import Frame
from .records import Progress, RunRecord
from .run import Run

__all__ = [
    "AsyncClient",
    "AsyncRun",
    "Client",
    "Frame",
    "NotReadyError",
    "Progress",
    "RefusedError",
    "Run",
    "RunFailedError",
    "RunRecord",
    "RunState",
    "SparseFrame",
    "UnreachableError",
    "aconnect",
    "connect",
]
