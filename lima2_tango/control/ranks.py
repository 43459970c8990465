"""A receiver as a control that drives sees it from afar; `devices.remote` speaks Tango for it."""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Protocol

from lima2_tango.core.errors import AgreementError, Lima2Error, StateError
from lima2_tango.core.frame import FrameSpec
from lima2_tango.core.live import Look
from lima2_tango.core.state import State

log = logging.getLogger(__name__)

ANSWER_LIMIT = 3.0
"""Whatever does not make a receiver work is answered within this; reconnecting may take a call of it longer [s]."""


@dataclass(frozen=True, slots=True)
class Acquiring:
    """What a receiver says of its current acquisition."""

    state: State = State.PREPARED
    nb_frames: int = 0
    """Frames received."""
    error: str = ""
    pipelines: tuple[str, ...] = ()
    """uuids, the one prepared last at the end."""


@dataclass(frozen=True, slots=True)
class Processing:
    """What the processing device of one run on one receiver says."""

    finished: bool = False
    """The counts are final."""
    counters: Mapping[str, int] = field(default_factory=dict)
    last_frames: Mapping[str, int] = field(default_factory=dict)
    """`<label>_idx` -> global number of the newest frame, -1 before the first."""
    error: str = ""
    blocks_queued: int = 0
    saving_rate: float = 0.0
    """[byte/s]"""


class Rank(Protocol):
    """One receiver. Every call has a bound and raises Lima2Error: the receiver's own sentence, or that it is gone."""

    @property
    def device(self) -> str:
        """Name of the receiver's device."""

    def prepare(self, uuid: str, acq_params: str, proc_params: str) -> None: ...

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def reset(self) -> None: ...

    def erase(self, uuid: str) -> None: ...

    def acquiring(self) -> Acquiring: ...

    def processing(self, uuid: str) -> Processing: ...

    def spec(self, uuid: str, info: str) -> FrameSpec:
        """Shape and pixel type that an info attribute of the processing device tells."""

    def frame(self, uuid: str, command: str, index: int) -> tuple[str, bytes]:
        """What a getter of the processing device returns: format and payload."""

    def rows(self, uuid: str, command: str) -> bytes:
        """Packed rows that a pop command of the processing device returns."""

    def newest(self, uuid: str) -> int:
        """Global number of the newest frame to look at, -1 before the first."""

    def look(self, uuid: str) -> Look:
        """That frame, as small as the receiver shows it."""

    def recent_rows(self, uuid: str) -> bytes:
        """Packed statistics of the regions of the newest frames, which stay for who pops."""


def together(reasons: Mapping[int, str], devices: Sequence[str]) -> list[str]:
    """A sentence for each reason, with all the ranks that gave it."""
    by_reason: dict[str, list[str]] = {}
    for rank, reason in reasons.items():
        by_reason.setdefault(reason, []).append(f"receiver {rank} ({devices[rank]})")
    return [f"{' and '.join(who)}: {reason}" for reason, who in by_reason.items()]


@dataclass(frozen=True, slots=True)
class Answers:
    """What came of asking all ranks at once."""

    failures: Mapping[int, Lima2Error]
    """By rank."""
    devices: tuple[str, ...]

    def sentence(self, what: str) -> str:
        """Who failed, each with its reason; those with the same reason together."""
        reasons = {rank: error.what for rank, error in self.failures.items()}
        return "; ".join(f"{what} failed on {sentence}" for sentence in together(reasons, self.devices))

    def check(self, what: str) -> None:
        """Raise AgreementError that names all who failed."""
        if self.failures:
            raise AgreementError(self.sentence(what), receivers=[self.devices[rank] for rank in self.failures])


def on_all(ranks: Sequence[Rank], call: Callable[[int, Rank], object], limit: float | None = ANSWER_LIMIT) -> Answers:
    """Call all at the same time and wait for all, `limit` seconds at most; None: as long as their own bounds last."""
    failures: dict[int, Lima2Error] = {}
    pool = ThreadPoolExecutor(max(1, len(ranks)), "lima2-drive")
    futures = [pool.submit(call, number, rank) for number, rank in enumerate(ranks)]
    pool.shutdown(wait=False)
    late = wait(futures, limit).not_done
    for number, future in enumerate(futures):
        try:
            if future in late:
                raise AgreementError(f"no answer within {limit:.0f} s: look at its log, restart the job")
            future.result()
        except Lima2Error as error:
            failures[number] = error
    return Answers(failures, tuple(rank.device for rank in ranks))


def log_failures(what: str, answers: Answers) -> None:
    """For clean-up, which goes on where one rank fails."""
    if answers.failures:
        log.warning("%s", answers.sentence(what))


def check_answering(ranks: Sequence[Rank]) -> None:
    """Raise AgreementError naming the receivers that do not answer."""
    on_all(ranks, lambda _, rank: rank.acquiring()).check("Prepare")


def check_prepared(ranks: Sequence[Rank], uuid: str) -> None:
    """Raise AgreementError where somebody else has prepared or stopped a receiver since this run was prepared."""

    def check(_: int, rank: Rank) -> None:
        said = rank.acquiring()
        if said.state is not State.PREPARED or said.pipelines[-1:] != (uuid,):
            raise StateError(
                f"it is {said.state.label} and not prepared for this run any more: another client has used it; "
                "prepare again"
            )

    on_all(ranks, check).check("Start")


def release(ranks: Sequence[Rank], uuid: str) -> None:
    """Nothing of this run stays on any receiver that was prepared for it."""

    def give_up(_: int, rank: Rank) -> None:
        if uuid in rank.acquiring().pipelines:
            rank.erase(uuid)

    log_failures("release", on_all(ranks, give_up))


def erase_others(ranks: Sequence[Rank], kept: Collection[str]) -> None:
    """Erase the processing of all runs but these."""

    def erase(_: int, rank: Rank) -> None:
        for old in rank.acquiring().pipelines:
            if old not in kept:
                rank.erase(old)

    log_failures("erasePipeline", on_all(ranks, erase))
