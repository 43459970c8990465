"""The files of a run that the control drives: those of its receivers, and the master files over them."""

import os
from collections.abc import Mapping, Sequence
from typing import Literal

from lima2_tango import __version__
from lima2_tango.cameras.base import DetectorInfo, Plugin
from lima2_tango.core.frame import FrameSpec
from lima2_tango.core.storage import SavingParams
from lima2_tango.saving.layout import SeriesMetadata

from .plan import Plan

Kind = Literal["dense", "vector", "sparse"]

KINDS: Mapping[str, Kind] = {"saving_fai": "vector", "saving_sparse": "sparse"}
"""What a stream holds, by the name of its saving parameters; the others hold images."""
SUMS = ("saving_accumulation_corrected", "saving_accumulation_peak")
"""Streams of sums (Smx): each receiver has its own, now and then, so no master file can put them in one order."""
INFOS: Mapping[str, str] = {"saving_fai": "vector_info"}
"""Attribute with the shape of a stream's frames; `processed_frame_info` of the others."""


def spec_source(stream: str) -> str:
    """Attribute of a processing device that tells the shape of a saved stream."""
    return INFOS.get(stream, "processed_frame_info")


def check_masters(plan: Plan) -> None:
    """Raise ParamError where a master file exists that is not to be replaced."""
    from lima2_tango.saving.master import check_master  # HDF5 takes half a second to load: not at start-up

    for name, saving in plan.savings():
        if name not in SUMS:
            check_master(saving, f"$.{name}")


def nb_files(plan: Plan, saved: Sequence[int], closed: Sequence[bool]) -> list[list[int]]:
    """By stream and receiver: how many data files are complete; arguments as those of `write_masters`."""
    return [
        [-(-count // saving.nb_frames_per_file) for count in _readable(saving, _rows(plan, name, saved), closed)]
        for name, saving in plan.savings()
    ]


def data_files(plan: Plan, counts: Sequence[Sequence[int]]) -> list[str]:
    """Absolute paths of so many data files, receiver by receiver; `counts` as of `nb_files`."""
    from lima2_tango.saving.names import FileNames

    found: list[str] = []
    for (name, saving), by_rank in zip(plan.savings(), counts, strict=True):
        folder = os.path.abspath(saving.base_path)
        for rank, count in enumerate(by_rank):
            names = FileNames(saving.model_copy(update={"filename_rank": rank}), f"$.{name}", rank, max(1, count))
            numbers = range(saving.start_number, saving.start_number + count)
            found += [os.path.join(folder, names.name(number)) for number in numbers]
    return found


def _rows(plan: Plan, name: str, saved: Sequence[int]) -> list[int]:
    """Rows of each receiver that so many saved frames have made."""
    if name not in SUMS:
        return list(saved)
    params = plan.choice.params.fai  # type: ignore[attr-defined]  # who saves sums has them
    transfer, reset = params.acc_nb_frames_xfer // plan.receivers, params.acc_nb_frames_reset // plan.receivers
    if not transfer:
        return [0] * len(saved)
    parts = [divmod(count, reset) if reset else (0, count) for count in saved]
    return [-(-reset // transfer) * times + -(-rest // transfer) for times, rest in parts]


def _readable(saving: SavingParams, saved: Sequence[int], closed: Sequence[bool]) -> list[int]:
    """Frames of each receiver in files that are complete."""
    length = saving.nb_frames_per_file
    return [count if whole else count // length * length for count, whole in zip(saved, closed, strict=True)]


def write_masters(
    plan: Plan,
    specs: Mapping[str, FrameSpec],
    saved: Sequence[int],
    closed: Sequence[bool],
    metadata: SeriesMetadata,
) -> list[str]:
    """Write the master file of each saved stream but of sums; returns their paths. Raises SavingError.

    `saved` are the frames that each receiver has saved, `closed` says of each whether its last file is complete.
    """
    from lima2_tango.saving.master import master_path, write_master, write_master_of_parts

    written: list[str] = []
    for name, saving in plan.savings():
        if name in SUMS:
            continue
        rows = [plan.rows(rank, count) for rank, count in enumerate(_readable(saving, saved, closed))]
        path = master_path(saving).absolute()
        if plan.acq.sharing.kept:
            write_master_of_parts(path, saving, specs[name], plan.acq.layout(plan.receivers), rows, metadata)
        else:
            write_master(path, saving, KINDS.get(name, "dense"), specs[name], rows, metadata)
        written.append(str(path))
    return written


def series_metadata(plan: Plan, camera: Plugin, info: DetectorInfo) -> SeriesMetadata:
    """What the master file says of the whole series."""
    return SeriesMetadata(
        plugin=camera.name,
        model=info.model,
        serial=info.serial,
        pixel_size=info.pixel_size,
        expo_time_us=plan.acq.acq.expo_time,
        latency_time_us=plan.acq.acq.latency_time,
        acquisition_json=plan.acq.json_text(),
        processing_json=plan.choice.params.json_text(),
        rank=0,
        version=__version__,
    )
