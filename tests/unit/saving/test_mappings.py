"""Which mappings a virtual dataset gets: all rows once, in ascending order, and not too many."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lima2_tango.saving import mappings
from lima2_tango.saving.mappings import stretches_of


def rows_and_frames(stretches):
    """Every row with its frame, as the mapping pairs them."""
    each = zip(stretches.row.tolist(), stretches.frame.tolist(), stretches.length.tolist(), strict=True)
    return [(row + step, frame + step) for row, frame, length in each for step in range(length)]


@given(index=st.lists(st.integers(0, 200), min_size=1, max_size=60, unique=True), budget=st.integers(1, 70))
def test_every_row_is_mapped_once_and_in_order(index, budget):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mappings, "MAPPINGS", budget)
        patch.setattr(mappings, "UNEVEN", 4)
        (parts,) = mappings.mappings([np.array(index)])
    pairs = [rows_and_frames(part) for part in parts]
    assert sorted(sum(pairs, [])) == list(enumerate(index))
    assert all(pair == sorted(pair) and [f for _, f in pair] == sorted(f for _, f in pair) for pair in pairs)


@pytest.mark.parametrize(
    ("index", "count"),
    [(np.arange(100), 1), (np.arange(0, 100, 2), 50), (np.arange(100, 0, -1), 100), (np.arange(100) ^ 1, 100)],
    ids=["all", "every other", "backwards", "in swapped pairs"],
)
def test_stretches(index, count):
    assert len(stretches_of(index)) == count


@pytest.mark.parametrize(
    ("index", "count"),
    [(np.arange(0, 20_000, 2), 10), (np.random.default_rng(1).permutation(10_000), 300), (np.arange(10_000) ^ 1, 160)],
    ids=["every other", "at random", "in swapped pairs"],
)
def test_many_stretches_share_mappings(monkeypatch, index, count):
    monkeypatch.setattr(mappings, "MAPPINGS", 10)
    (parts,) = mappings.mappings([index])
    assert len(parts) <= count


def test_a_block_meets_a_mapping_once(monkeypatch):
    monkeypatch.setattr(mappings, "MAPPINGS", 40)
    files = [np.arange(rank + begin, begin + 200, 2) for begin in range(0, 1000, 200) for rank in range(2)]
    parts = [part for one in mappings.mappings(files) for part in one]
    assert len(parts) == 40
    assert min(np.diff(part.frame).min() for part in parts) == 2 * 40 // len(files)
