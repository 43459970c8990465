"""Frames and rows of a whole run, from the receivers that have them."""

from lima2_tango.core.errors import NotAvailableError

from .driven import DrivenRun
from .ranks import Rank, on_all

CAMERA_FRAMES = "getInputFrame"
"""The getter whose frames are numbered as the camera's, whatever is made of them."""


def frame(run: DrivenRun, command: str, index: int) -> tuple[str, bytes]:
    """What the getter `command` of the receiver that has this frame returns; -1 is the newest of all.

    Raises NotAvailableError, or the receiver's refusal.
    """
    plugin = run.plan.choice.plugin
    if command not in plugin.frame_commands:
        raise NotAvailableError(f"the pipeline {plugin.class_name} has no {command}")
    if index < -1:
        raise NotAvailableError(f"there is no frame {index}: numbers begin at 0, and -1 is the newest")
    if index == -1:
        rank = _newest(run, plugin.frame_commands[command])
    else:
        rank = run.plan.owner(index, processed=command != CAMERA_FRAMES)
    return run.ranks[rank].frame(run.uuid, command, index)


def _newest(run: DrivenRun, label: str) -> int:
    """Rank of the receiver with the newest frame of a stream."""
    newest = [said.last_frames.get(f"{label}_idx", -1) for said in run.processing]
    if max(newest) < 0:
        raise NotAvailableError("there is no frame yet: none has been processed in this run")
    return newest.index(max(newest))


def rows(run: DrivenRun, command: str) -> bytes:
    """New rows of all receivers in order of frames, as far as no frame is missing; empty when there are none.

    Raises NotAvailableError, or AgreementError where a receiver does not answer and nothing else is new.
    """
    plugin = run.plan.choice.plugin
    if command not in plugin.row_commands:
        raise NotAvailableError(f"the pipeline {plugin.class_name} has no {command}")
    merge = run.merge(command)
    with merge.lock:
        popped = [b""] * len(run.ranks)

        def pop(number: int, rank: Rank) -> None:
            if merge.wants(number):
                popped[number] = rank.rows(run.uuid, command)

        answers = on_all(run.ranks, pop)
        ready = merge.take(popped)
    if not ready:
        answers.check(command)
    return ready
