"""From the rank that acquires frames, or parts of them, to all receivers."""

import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from lima2_tango.core.errors import AgreementError
from lima2_tango.core.frame import Block
from lima2_tango.core.modules import Layout
from lima2_tango.core.series import Series

from .outlet import PAUSE, ROOM_LIMIT, Batch, Outlet

Deal = Callable[[NDArray[np.int64], Sequence[int]], NDArray[np.int64]]
"""Rank of the receiver of each of these frames (global indices), given what each receiver has still to take."""


class Dealer:
    """Hands the blocks of one source to all receivers."""

    def __init__(
        self, outlets: Sequence[Outlet], deal: Deal, layout: Layout, source: int, series: Series | None = None
    ) -> None:
        """`layout` says which modules of a frame this source brings, `series` which receivers are lost."""
        self._outlets, self._deal, self._series = outlets, deal, series
        self._layout = layout
        self._bits = np.array([1 << number for number in layout.numbers(source)], np.uint64)
        self._out: dict[int, str] = {}
        """Receivers that lack something of this source, and why: nothing more goes to them."""
        self.frames = 0
        """Handed over so far."""

    def hand_over(self, block: Block) -> None:
        """Copy all frames of a block to where they belong, then give the block back.

        Waits while a receiver has no room, and serves the others meanwhile: so no two ranks wait for each other.
        A receiver that makes no room, being lost or for `ROOM_LIMIT` seconds, or that cannot be reached, gets nothing
        more, for what followed would stand where the frames that it lacks should be; `end` tells it so. The others
        have the whole block, also where this raises AgreementError: it names those that failed in this block, and the
        next block may follow. Any other error comes before the first frame was copied.
        """
        try:
            batch = self._batch(block)
            owners = self._deal(block.index, [outlet.load for outlet in self._outlets])
            left = {rank: np.flatnonzero(owners == rank) for rank in np.unique(owners).tolist()}
            failed = self._put_all(batch, left)
            self.frames += len(block)
        finally:
            block.lease.release()
        if failed:
            raise failed[0]

    def end(self, error: str = "") -> None:
        """Tell all receivers that no frame follows, and why, where there should be more: their runs fail with it.

        Raises AgreementError where one of them does not listen any more.
        """
        failures: list[AgreementError] = []
        for rank, outlet in sorted(enumerate(self._outlets), key=lambda item: item[0] in self._out):  # those last
            try:
                outlet.end(self._out.get(rank, error))
            except AgreementError as failure:  # the others have to be told all the same
                if rank not in self._out:
                    failures.append(failure)
        if failures:
            raise failures[0]

    def _put_all(self, batch: Batch, left: dict[int, NDArray[np.int64]]) -> list[AgreementError]:
        """Copy what is left for each receiver, but for those that fail; the errors of these."""
        failures: list[AgreementError] = []
        deadline = time.monotonic() + ROOM_LIMIT
        while left := {rank: which for rank, which in left.items() if rank not in self._out}:
            if self._put(batch, left, failures):
                deadline = time.monotonic() + ROOM_LIMIT
            elif time.monotonic() > deadline:
                failures.append(AgreementError(_no_room(left, int(batch.index[0]))))
                self._out |= dict.fromkeys(left, failures[-1].what)
            else:
                self._give_up_lost(left)
                time.sleep(PAUSE)
        return failures

    def _put(self, batch: Batch, left: dict[int, NDArray[np.int64]], failures: list[AgreementError]) -> bool:
        """Copy what there is room for; False where there is none at all."""
        moved = False
        for rank, which in list(left.items()):
            try:
                count = self._outlets[rank].put(batch, which)
            except Exception as error:  # noqa: BLE001 - one receiver's way is broken; the others get their frames
                failures.append(_unreachable(rank, error))
                self._out[rank] = failures[-1].what
                continue
            moved |= count > 0
            if count == len(which):
                del left[rank]
            else:
                left[rank] = which[count:]
        return moved

    def _give_up_lost(self, left: dict[int, NDArray[np.int64]]) -> None:
        """What there is no room for at a receiver that is lost goes nowhere."""
        lost = self._series.lost if self._series else {}
        self._out |= {rank: lost[rank] for rank in left if rank in lost}

    def _batch(self, block: Block) -> Batch:
        count, channels, rows, columns = block.data.shape
        # A copy only where the camera's frames lie apart.
        parts = np.ascontiguousarray(block.data).reshape(count, channels, rows * columns)
        parts.flags.writeable = False
        missing = self._missing(block)
        bits: NDArray[np.uint64] = np.where(missing, self._bits, np.uint64(0)).sum(axis=1, dtype=np.uint64)
        return Batch(parts, block.index, block.time, missing, bits)

    def _missing(self, block: Block) -> NDArray[np.bool_]:
        shape = (len(block), len(self._bits))
        missing = np.zeros(shape, np.bool_)
        if block.missing is not None:
            missing |= (block.missing[:, np.newaxis] & self._bits) != 0
        if block.valid is not None:
            missing |= ~block.valid[:, np.newaxis]
        return missing


def in_turn(receivers: int) -> Deal:
    """Frame i goes to receiver i % N."""
    return lambda index, _loads: index % receivers


def _no_room(left: dict[int, NDArray[np.int64]], index: int) -> str:
    who = " and ".join(f"receiver {rank}" for rank in sorted(left))
    return (
        f"{who} took no frame for {ROOM_LIMIT:.0f} s, at frame {index} or one soon after: its processing or its disk "
        "has stopped moving; look at its log"
    )


def _unreachable(rank: int, error: Exception) -> AgreementError:
    """What to tell of a receiver that cannot be given frames."""
    if isinstance(error, AgreementError):
        return error
    return AgreementError(f"receiver {rank} cannot be given frames ({error!r}): look at its log, then Reset")
