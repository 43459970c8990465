"""Reduced data: rows per frame, kept until a client pops them."""

from collections import deque
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from lima2_tango.core.errors import ProcessingError
from lima2_tango.core.units import bytes_text

ROI = np.dtype([
    ("frame_idx", "<i4"),
    ("recv_idx", "<i4"),
    ("min", "<f4"),
    ("max", "<f4"),
    ("avg", "<f4"),
    ("std", "<f4"),
    ("sum", "<f8"),
])
"""One region (or one line of a profile) of one frame; layouts of contract section 7.4."""
FRAME_IDX = np.dtype([("recv_idx", "<i4"), ("frame_idx", "<i4")])

ROWS_BUDGET = 256 << 20
"""Most bytes of rows that wait for a client [byte]: about an hour of a thousand ROIs at 2 Hz that nobody reads."""


RECENT = 256 << 10
"""Rows of the newest frames that `recent` shows whether they were popped or not [byte]."""


class RowQueue:
    """Rows of whole frames in local order; `pop` takes all that are new."""

    def __init__(self, name: str, budget: int = ROWS_BUDGET) -> None:
        self.name = name
        self.dtype: np.dtype | None = None
        """Of the rows, once there have been some."""
        self._budget = budget
        self._lock = Lock()
        self._chunks: deque[bytes] = deque()
        self._bytes = 0
        self._recent: deque[bytes] = deque()
        """The last chunks, the same objects as in `_chunks`: looking at them costs only who looks."""
        self._recent_bytes = 0

    def append(self, rows: NDArray[np.void]) -> None:
        """Raises ProcessingError when nobody has popped for so long that the rows outgrow their budget."""
        data = rows.tobytes()
        if not data:
            return
        self.dtype = rows.dtype
        with self._lock:
            if self._bytes + len(data) > self._budget:
                raise ProcessingError(
                    f"rows of {self.name} were not read: {bytes_text(self._bytes)} wait, the limit is "
                    f"{bytes_text(self._budget)}; read them during the run or ask for fewer regions"
                )
            self._chunks.append(data)
            self._bytes += len(data)
            self._recent.append(data)
            self._recent_bytes += len(data)
            while len(self._recent) > 1 and self._recent_bytes > RECENT:
                self._recent_bytes -= len(self._recent.popleft())

    def pop(self) -> bytes:
        """All rows since the last pop, packed; empty when there are none."""
        with self._lock:
            data = b"".join(self._chunks)
            self._chunks.clear()
            self._bytes = 0
        return data

    def recent(self) -> bytes:
        """Packed rows of the newest frames, for people who look on: they stay for who pops; empty before the first."""
        with self._lock:
            return b"".join(self._recent)
