"""Rows are kept whole and in order until somebody takes them."""

import threading

import numpy as np
import pytest

from lima2_tango.core.errors import ProcessingError
from lima2_tango.processing.rows import FRAME_IDX, ROI, RowQueue


def rows(*numbers):
    made = np.zeros(len(numbers), FRAME_IDX)
    made["frame_idx"] = numbers
    return made


def popped(queue):
    return np.frombuffer(queue.pop(), FRAME_IDX)["frame_idx"].tolist()


@pytest.mark.parametrize(("dtype", "size"), [(ROI, 32), (FRAME_IDX, 8)])
def test_rows_are_packed_as_the_clients_unpack_them(dtype, size):
    assert dtype.itemsize == size


def test_pop_returns_each_row_once_and_in_order():
    queue = RowQueue("rows")
    queue.append(rows(1, 2))
    queue.append(rows(3))
    assert popped(queue) == [1, 2, 3]
    assert queue.pop() == b""
    queue.append(rows(4))
    assert popped(queue) == [4]


def test_no_rows_are_no_news():
    queue = RowQueue("rows")
    queue.append(rows())
    assert queue.pop() == b""


def test_rows_that_nobody_reads_stop_the_run_with_the_numbers():
    queue = RowQueue("popFrameIdx", budget=24)
    queue.append(rows(1, 2, 3))
    with pytest.raises(ProcessingError, match="rows of popFrameIdx were not read: 24 B wait, the limit is 24 B"):
        queue.append(rows(4))
    assert popped(queue) == [1, 2, 3]


def test_a_reader_beside_the_writer_loses_nothing():
    queue, taken = RowQueue("rows"), []
    writer = threading.Thread(target=lambda: [queue.append(rows(2 * i, 2 * i + 1)) for i in range(2000)])
    writer.start()
    while writer.is_alive():
        taken += popped(queue)
    taken += popped(queue)
    assert taken == list(range(4000))
