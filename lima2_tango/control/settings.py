"""What a site decides for a process, and the checks that follow from it."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel

from lima2_tango.core.errors import ParamError

NOT_OPENED = {"dataset_path", "cl_source_path"}
"""Parameters that end like those of a file and name none that we open."""
BUDGET_SHARE = 0.5
"""Part of the free memory that the receivers of a host use for frames, where no budget is given."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Device properties, typed."""

    memory_budget: int = 0
    """Bytes for frames in this process; 0 is half of the free memory, shared by the receivers of the host."""
    data_roots: tuple[str, ...] = ()
    """Folders that paths in parameters must lie in; none given: anywhere the process may go."""
    allowed_commands: tuple[str, ...] = ()
    """Programs that max_countrate_protection may run."""
    workers: int = 0
    """Threads that run kernels; 0 is the cores of the host shared by its receivers."""
    detector: str = ""
    """Where the detector is, host or host:port, for cameras that are reached by network."""

    def budget(self, receivers_on_host: int) -> int:
        """Bytes of frame memory for one receiver."""
        import psutil  # not before it is needed: a rank's start counts every import

        return self.memory_budget or int(psutil.virtual_memory().available * BUDGET_SHARE / receivers_on_host)

    def worker_count(self, receivers_on_host: int) -> int:
        cores = len(os.sched_getaffinity(0))
        return self.workers or max(1, cores // receivers_on_host)

    def confine(self, params: BaseModel, root: str = "$") -> None:
        """Raise ParamError for a path in the parameters that leaves the data roots, links and `..` resolved."""
        roots = [Path(folder).resolve() for folder in self.data_roots]
        for address, text in _paths(params, root):
            if "\0" in text:
                raise ParamError(address, text, "a path cannot hold a NUL character")
            if not roots or not text:
                continue
            file = Path(text.partition("::")[0]).resolve()  # what follows lies inside the file
            if not any(file.is_relative_to(folder) for folder in roots):
                raise ParamError(address, text, f"choose a path below {' or '.join(self.data_roots)} (data_roots)")


def _paths(params: BaseModel, address: str) -> Iterator[tuple[str, str]]:
    """Address and text of every file path in a parameter set."""
    for name in type(params).model_fields:
        value, here = getattr(params, name), f"{address}.{name}"
        if isinstance(value, BaseModel):
            yield from _paths(value, here)
        elif isinstance(value, str) and (name == "path" or name.endswith("_path")) and name not in NOT_OPENED:
            yield here, value
