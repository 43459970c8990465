"""What the page tells of a system: a look at its devices, as JSON for browsers."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from lima2_tango.client.live import Answer, Sight

Json = dict[str, Any]

REMEDIES = frozenset(
    "acquire add ask attenuate call choose clear connect copy correct delete enable end free give install keep "
    "lima2 look make mask move name open pip prepare raise read reconnect register reload remove rename replace reset "
    "restart save see send set shorten slow start stop take try turn use wait write".split()
)
"""How a clause begins that says what to do."""
AFTER_FAULT = "Reset, then start again; the log of the receiver that is named says more"
OTHERWISE = "change what is named and try again"
FEW = 4
"""Blocks that wait in a queue which keeps up."""


def explained(text: str, otherwise: str = OTHERWISE) -> Json:
    """A sentence of ours as what went wrong and what to do about it."""
    for mark in ("; ", ": "):
        head, found, tail = text.rpartition(mark)
        if found and _begins(tail):
            return {"what": head, "remedy": tail}
        if found and tail.startswith("should "):  # as pydantic words what a value has to be
            return {"what": head, "remedy": f"give another value, it {tail}"}
    return {"what": text, "remedy": otherwise}


def _begins(clause: str) -> bool:
    word = clause.split(maxsplit=1)[0].strip(",.").lower() if clause.strip() else ""
    return word in REMEDIES


def status(sight: Sight, before: Sight | None, nb_frames: int) -> Json:
    """One look; `before` is the one before it, `nb_frames` how many were asked for (0: until stopped)."""
    values = sight.control.values
    ours = str(values.get("run_uuid") or "") == sight.uuid
    processing = [_processing(answer) for answer in sight.processing]
    return {
        "kind": "status",
        "state": sight.control.state,
        "silence": sight.control.silence,
        "uuid": sight.uuid,
        "driver": "" if not sight.uuid else "control" if ours else "conductor",
        "error": _error(sight, ours),
        "nb_frames": nb_frames,
        "acquired": int(values.get("nb_frames_acquired") or 0),
        "processed": _total(processing, "processed") if not ours else int(values.get("nb_frames_processed") or 0),
        "saved": _total(processing, "saved") if not ours else int(values.get("nb_frames_saved") or 0),
        "frame_rate": sum(sight.rates),
        "saving_rate": sum(each["saving_rate"] for each in processing),
        "time_left": _finite(values.get("time_left")) if ours else None,
        "receivers": [_receiver(answer, rate) for answer, rate in zip(sight.receivers, sight.rates, strict=True)],
        "processing": processing,
        "pressure": pressure(sight, before),
    }


def pressure(sight: Sight, before: Sight | None) -> Json:
    """Where frames wait for room: a queue that fills, or a camera that is held back."""
    queued, waits = _sum(sight.processing, "blocks_queued"), _sum(sight.processing, "queue_waits")
    waited = waits - _sum(before.processing, "queue_waits") if before and before.uuid == sight.uuid else 0
    if waited > 0:
        told = "The queue is full and the camera is held back: processing and saving are slower than the frames come."
        return {"where": "camera", "told": told}
    if queued > FEW * max(1, len(sight.processing)):
        return {"where": "queue", "told": f"{queued} blocks wait: processing and saving are slower than frames come."}
    return {"where": "", "told": "No pressure: frames are processed and saved as they come."}


def _error(sight: Sight, ours: bool) -> Json | None:
    """What went wrong in the run that is shown, the control's own sentence first."""
    told = [sight.control.error, *(each.error for each in (*sight.receivers, *sight.processing))]
    first = next((text for text in (told if ours or sight.control.error else told[1:]) if text), "")
    return explained(first, AFTER_FAULT if sight.control.state == "fault" else OTHERWISE) if first else None


def _receiver(answer: Answer, rate: float) -> Json:
    values = answer.values
    return {
        "device": answer.device,
        "state": answer.state,
        "error": answer.error,
        "answers": not answer.silence,
        "frames": int(values.get("nb_frames_xferred") or 0),
        "lost": int(values.get("nb_frames_lost") or 0),
        "incomplete": int(values.get("nb_frames_incomplete") or 0),
        "rate": rate,
    }


def _processing(answer: Answer) -> Json:
    values = answer.values
    counters = _json(values.get("progress_counters"))
    saved = sum(count for name, count in counters.items() if name.endswith("_saved"))
    made = [count for name, count in counters.items() if name == "nb_frames_processed"]
    return {
        "device": answer.device,
        "error": answer.error,
        "counters": counters,
        "processed": made[0] if made else max(counters.values(), default=0),
        "saved": saved,
        "finished": bool(values.get("is_finished")),
        "queued": int(values.get("blocks_queued") or 0),
        "most_queued": int(values.get("most_blocks_queued") or 0),
        "waits": int(values.get("queue_waits") or 0),
        "saving_rate": _finite(values.get("saving_rate")) or 0.0,
    }


def _json(text: object) -> Mapping[str, int]:
    try:
        found = json.loads(str(text or "{}"))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _total(processing: Sequence[Json], name: str) -> int:
    return sum(int(each[name]) for each in processing)


def _sum(answers: Sequence[Answer], name: str) -> int:
    return sum(int(answer.values.get(name) or 0) for answer in answers)


def _finite(value: object) -> float | None:
    """JSON has no NaN."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
