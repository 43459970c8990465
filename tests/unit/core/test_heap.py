"""Memory of frames stays with the process."""

import subprocess
import sys

import pytest

MAPPED = """
import ctypes
import sys
from lima2_tango.core.heap import keep_memory

class Info(ctypes.Structure):  # mallinfo2(3)
    _fields_ = [(name, ctypes.c_size_t) for name in
                "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()]

mallinfo = ctypes.CDLL(None).mallinfo2
mallinfo.restype = Info
if sys.argv[1] == "kept":
    assert keep_memory()
before = mallinfo().hblkhd
frame = b"x" * (8 << 20)
print(mallinfo().hblkhd - before >= len(frame))
"""


@pytest.mark.parametrize(("how", "mapped"), [("kept", "False"), ("not kept", "True")])
def test_a_frame_is_taken_from_memory_that_stays(how: str, mapped: str) -> None:
    done = subprocess.run([sys.executable, "-c", MAPPED, how], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == mapped
