"""Memory of frames is kept between frames: to give 8 MB back and take them anew costs more than to fill them."""

import ctypes
import logging

log = logging.getLogger(__name__)

TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3
"""Of mallopt(3), `malloc.h` of glibc."""
KEPT = 256 << 20
"""Free memory that is kept [byte]."""
LARGEST_MMAP_THRESHOLD = 32 << 20
"""Beyond it mallopt refuses; a frame that is larger is mapped and unmapped [byte]."""


def keep_memory() -> bool:
    """Tell the C library of this process not to give frames back to the kernel; False where it has no such advice."""
    advice = {MMAP_THRESHOLD: LARGEST_MMAP_THRESHOLD, TRIM_THRESHOLD: KEPT, TOP_PAD: LARGEST_MMAP_THRESHOLD}
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        log.debug("this C library has no mallopt")
        return False
    return all(mallopt(ctypes.c_int(name), ctypes.c_int(value)) for name, value in advice.items())
