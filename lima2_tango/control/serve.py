"""Frames and rows of a whole run, from the receivers that have them."""

from lima2_tango.core.errors import DataLossError, NotAvailableError

from .driven import DrivenRun
from .ranks import Rank, on_all


def frame(run: DrivenRun, command: str, index: int) -> tuple[str, bytes]:
    """What the getter `command` of the receiver that has this frame returns; -1 is the newest of all.

    Raises NotAvailableError, or the receiver's refusal.
    """
    plugin = run.plan.choice.plugin
    labels = plugin.getters()
    if command not in labels:
        raise NotAvailableError(f"the pipeline {plugin.class_name} has no {command}")
    if index < -1:
        raise NotAvailableError(f"there is no frame {index}: numbers begin at 0, and -1 is the newest")
    if run.plan.acq.sharing.kept:
        raise NotAvailableError(
            "the frames of this run are kept in parts: ask the processing device of each receiver for its own, or read "
            "the master file"
        )
    if index == -1:
        rank = _newest(run, labels[command])
    else:
        rank = run.plan.holder(index, labels[command])
    return run.ranks[rank].frame(run.uuid, command, index)


def _newest(run: DrivenRun, label: str) -> int:
    """Rank of the receiver with the newest frame of a stream."""
    newest = [said.last_frames.get(f"{label}_idx", -1) for said in run.processing]
    if max(newest) < 0:
        raise NotAvailableError("there is no frame yet: none has been processed in this run")
    return newest.index(max(newest))


def rows(run: DrivenRun, command: str) -> bytes:
    """New rows of all receivers in order of frames, as far as no frame is missing; empty when there are none.

    Raises NotAvailableError, AgreementError where a receiver does not answer and nothing else is new, or, once,
    DataLossError for frames whose rows have not come when the run is over; the next call has those after them.
    """
    plugin = run.plan.choice.plugin
    if command not in plugin.row_commands:
        raise NotAvailableError(f"the pipeline {plugin.class_name} has no {command}")
    merge = run.merge(command)
    over = run.ended.is_set()  # asked before: what comes later is popped below
    with merge.lock:

        def pop(number: int, rank: Rank) -> None:
            if merge.wants(number):
                merge.add(number, rank.rows(run.uuid, command))

        answers = on_all(run.ranks, pop)
        ready = merge.take()
        if not ready:
            answers.check(command)
        if over and not ready and (gap := merge.skip_gap()):
            raise DataLossError(
                f"{command}: the rows of frames {gap[0]} to {gap[1]} never came, their receiver failed or was asked by "
                "others; call again for those after them",
                frame_idx=gap[0],
            )
    return ready
