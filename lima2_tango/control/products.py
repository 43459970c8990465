"""The files of a run that the control drives: those of its receivers, and the master files over them."""

import os
from collections.abc import Iterator, Mapping, Sequence

from lima2_tango import __version__
from lima2_tango.cameras.base import DetectorInfo, Plugin
from lima2_tango.core.errors import ParamError
from lima2_tango.core.frame import FrameSpec
from lima2_tango.core.storage import SavingParams
from lima2_tango.processing.plugin import Product
from lima2_tango.saving.layout import SeriesMetadata

from .plan import Plan

Counts = Mapping[str, int]
"""Counters of one receiver."""


def saved_products(plan: Plan) -> Iterator[tuple[Product, SavingParams]]:
    """What the run saves, and how; raises ParamError for files that its pipeline says nothing of."""
    known = {product.saving: product for product in plan.products}
    for name, saving in plan.savings():
        if name not in known:
            reason = f"the pipeline {plan.choice.plugin.class_name} delivers nothing that is saved so: leave it false"
            raise ParamError(f"$.{name}.enabled", True, reason)
        yield known[name], saving


def check_masters(plan: Plan) -> None:
    """Raise ParamError where a master file exists that is not to be replaced."""
    from lima2_tango.saving.master import check_master  # HDF5 takes half a second to load: not at start-up

    for product, saving in saved_products(plan):
        if product.in_order:
            check_master(saving, f"$.{product.saving}")


def nb_saved(plan: Plan, counts: Sequence[Counts]) -> list[int]:
    """Frames that each receiver has saved, by what the pipeline counts: of its first stream where it does not say."""
    first = next((product.counter for product, _ in saved_products(plan)), "")
    return [counters.get("nb_frames_saved", counters.get(first, 0)) for counters in counts]


def nb_files(plan: Plan, counts: Sequence[Counts], closed: Sequence[bool]) -> list[list[int]]:
    """By stream and receiver: how many data files are complete; arguments as those of `write_masters`."""
    return [
        [-(-count // saving.nb_frames_per_file) for count in _readable(product, saving, counts, closed)]
        for product, saving in saved_products(plan)
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


def _readable(product: Product, saving: SavingParams, counts: Sequence[Counts], closed: Sequence[bool]) -> list[int]:
    """Frames of each receiver in files that are complete."""
    length, rows = saving.nb_frames_per_file, [counters.get(product.counter, 0) for counters in counts]
    return [count if whole else count // length * length for count, whole in zip(rows, closed, strict=True)]


def write_masters(
    plan: Plan,
    specs: Mapping[str, FrameSpec],
    counts: Sequence[Counts],
    closed: Sequence[bool],
    metadata: SeriesMetadata,
) -> list[str]:
    """Write the master file of each saved stream whose frames have an order; returns their paths. Raises SavingError.

    `counts` are the counters of each receiver, `closed` says of each whether its last file is complete.
    """
    from lima2_tango.saving.master import master_path, write_master, write_master_of_parts

    written: list[str] = []
    for product, saving in saved_products(plan):
        readable = _readable(product, saving, counts, closed)
        if not (product.in_order and any(readable)):
            continue
        sums = plan.are_sums(product)
        rows = [plan.numbers(rank, count, sums=sums) for rank, count in enumerate(readable)]
        path, spec = master_path(saving).absolute(), specs[product.saving]
        if plan.acq.sharing.kept:
            write_master_of_parts(path, saving, spec, plan.acq.layout(plan.receivers), rows, metadata)
        else:
            write_master(path, saving, product.kind, spec, rows, metadata)
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
