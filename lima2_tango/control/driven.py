"""One run that the control drives, and the last that is known of it."""

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from threading import Event

from lima2_tango.core.acquisition import TriggerMode
from lima2_tango.core.frame import FrameSpec
from lima2_tango.core.meter import Meter
from lima2_tango.core.state import State

from .merge import RowMerge
from .plan import Plan
from .products import data_files, nb_files, nb_saved
from .ranks import Acquiring, Processing, Rank, together
from .runlog import FILES, Record, RunState


class DrivenRun:
    """Written by the drive's commands and by the follower of the run, read by anybody at any time."""

    def __init__(self, plan: Plan, ranks: Sequence[Rank]) -> None:
        self.plan = plan
        self.ranks = ranks
        self.devices = tuple(rank.device for rank in ranks)
        self.state = RunState.PREPARED
        self.specs: Mapping[str, FrameSpec] = {}
        """Shape of the frames of each saved stream."""
        self.acquiring = [Acquiring()] * len(ranks)
        self.processing = [Processing()] * len(ranks)
        self.faults: dict[int, str] = {}
        """What the control found out about a rank."""
        self.trouble: list[str] = []
        """What went wrong beside the ranks."""
        self.agreed: list[str] = []
        """Errors that the ranks told each other."""
        self.masters: Sequence[str] = ()
        self.over = Event()
        """The ranks have agreed that the acquisition is over, or that it could not begin."""
        self.acquired = Event()
        """The acquisition is over on all receivers: they may be prepared again."""
        self.ended = Event()
        self.received = Meter()
        self._merges: dict[str, RowMerge] = {}
        """By pop command."""
        self._data_files: tuple[list[list[int]], list[str]] = ([], [])
        self._begin = datetime.now(UTC)
        self._end: datetime | None = None

    @property
    def uuid(self) -> str:
        return self.plan.uuid

    @property
    def nb_frames_received(self) -> int:
        return sum(rank.nb_frames for rank in self.acquiring) // self.plan.copies

    @property
    def nb_frames_processed(self) -> int:
        indicator = self.plan.choice.plugin.progress
        return sum(counters.get(indicator, 0) for counters in self.counts) // self.plan.copies

    @property
    def nb_frames_saved(self) -> int:
        return sum(self.saved) // self.plan.copies

    @property
    def saved(self) -> list[int]:
        """Frames that each receiver has saved."""
        return nb_saved(self.plan, self.counts)

    @property
    def counts(self) -> list[Mapping[str, int]]:
        """Counters of the processing of each receiver."""
        return [rank.counters for rank in self.processing]

    @property
    def closed(self) -> list[bool]:
        """Whether each receiver has completed its last file."""
        return [rank.finished for rank in self.processing]

    @property
    def blocks_queued(self) -> int:
        return sum(rank.blocks_queued for rank in self.processing)

    @property
    def frame_rate(self) -> float:
        """Frames received in the last second [frame/s]."""
        return self.received.rate()

    @property
    def saving_rate(self) -> float:
        """[byte/s]"""
        return sum(rank.saving_rate for rank in self.processing)

    @property
    def time_left(self) -> float:
        """Until the last frame is received [s]; NaN where nobody can know."""
        acq = self.plan.acq.acq
        if self.acquired.is_set():
            return 0.0
        if acq.endless:
            return math.nan
        left, rate = max(0, acq.nb_frames - self.nb_frames_received), self.frame_rate
        if rate > 0.0:
            return left / rate
        return left * acq.period if acq.trigger_mode is TriggerMode.INTERNAL else math.nan

    @property
    def files(self) -> list[str]:
        """Master files, then data files; those that are complete."""
        counts = nb_files(self.plan, self.counts, self.closed)
        if self._data_files[0] != counts:  # names take their time, where there are thousands
            self._data_files = counts, data_files(self.plan, counts)
        return [*self.masters, *self._data_files[1]]

    @property
    def nb_files(self) -> int:
        return len(self.masters) + sum(map(sum, nb_files(self.plan, self.counts, self.closed)))

    def _first_files(self) -> list[str]:
        """As many as a record names, of a run that may be on: clients ask often, and names take their time."""
        left = FILES
        counts: list[list[int]] = []
        for by_rank in nb_files(self.plan, self.counts, self.closed):
            counts.append([])
            for count in by_rank:
                counts[-1].append(min(count, left))
                left -= counts[-1][-1]
        return [*self.masters, *data_files(self.plan, counts)][:FILES]

    @property
    def error(self) -> str:
        """One sentence about everything that went wrong, by receiver; empty when nothing did."""
        by_rank: dict[int, str] = {}
        for number, (acquiring, processing) in enumerate(zip(self.acquiring, self.processing, strict=True)):
            if what := self.faults.get(number) or acquiring.error or processing.error:
                by_rank[number] = what
        found = [*together(by_rank, self.devices), *self.trouble]
        return "; ".join(found or dict.fromkeys(self.agreed))

    @property
    def acquisition_failed(self) -> bool:
        """A failure of the processing alone is none of the acquisition."""
        fault = any(rank.state is State.FAULT for rank in self.acquiring)
        explained = any(rank.error for rank in self.processing)
        return fault or bool(self.faults) or bool(self.trouble) or (bool(self.agreed) and not explained)

    def agree(self, errors: list[str]) -> None:
        """The ranks tell how the acquisition ended."""
        self.agreed = errors
        self.over.set()

    def end(self, state: RunState | None = None) -> None:
        """The last word; the state follows from what is known, where it is not given."""
        asked = self.plan.acq.acq.nb_frames
        complete = asked > 0 and self.nb_frames_received >= asked
        self._end = datetime.now(UTC)  # first: who reads a state that is final has its time as well
        self.state = state or (RunState.FAILED if self.error else RunState.DONE if complete else RunState.STOPPED)
        self.acquired.set()
        self.ended.set()

    def merge(self, command: str) -> RowMerge:
        """Where the rows of a pop command come together."""
        return self._merges.setdefault(command, RowMerge(len(self.ranks)))

    def record(self) -> Record:
        return Record(
            uuid=self.uuid,
            state=self.state,
            begin=_text(self._begin),
            end="" if self._end is None else _text(self._end),
            nb_frames=self.plan.acq.acq.nb_frames,
            nb_frames_acquired=self.nb_frames_received,
            nb_frames_processed=self.nb_frames_processed,
            nb_frames_saved=self.nb_frames_saved,
            error=self.error,
            nb_files=self.nb_files,
            files=self._first_files(),
            pipeline=self.plan.choice.plugin.class_name,
        )


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds")
