"""Two ranks of an MPI job of their own, which measure something between them."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from lima2_tango.core.errors import Lima2Error

END = 300.0
"""What takes longer hangs [s]."""
Times = Mapping[str, Sequence[float]]
"""Seconds of each repeat, by side."""


def measured(module: str, *arguments: int) -> Mapping[str, Times]:
    """What one of the ranks that run this module says; raises Lima2Error where the job fails or hangs."""
    launcher = Path(sys.prefix) / "bin" / "mpiexec"
    command = [launcher, "-n", 2, sys.executable, "-m", "mpi4py", "-m", module, *arguments]
    try:
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=END, check=False)
    except subprocess.TimeoutExpired as error:
        raise Lima2Error(f"two ranks did not finish {module} within {END:g} s") from error
    except OSError as error:
        raise Lima2Error(f"{launcher} cannot be started: {error}: pip install 'lima2_tango[mpich]'") from error
    if done.returncode:
        raise Lima2Error(f"the two ranks of {module} failed with {done.returncode}: {done.stderr[-2000:].strip()}")
    times: Mapping[str, Times] = json.loads(done.stdout.splitlines()[-1])
    return times
