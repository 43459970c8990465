"""Nodes that several graphs begin or end with, as they are declared."""

from lima2_tango.core.acquisition import BinningFactors, Flip, Roi

from . import chain
from .channels import valid_in
from .guard import Guard
from .nodes.accumulation import Accumulator
from .nodes.binning import Binning
from .nodes.correction import Correction
from .nodes.crop import Crop
from .nodes.mirror import Mirror
from .nodes.profiles import RoiProfiles
from .nodes.statistics import RoiStatistics
from .params import Accumulation, CountRateLimit, ImageFile, Profiles, Statistics
from .task import CAMERA, Frames, Place, Rows, Sums, Task, Watch


def binning(_: Place, factors: BinningFactors) -> Binning | None:
    return None if (factors.x, factors.y) == (1, 1) else Binning(factors.x, factors.y)


def mirror(_: Place, flip: Flip) -> Mirror | None:
    return None if flip is Flip.NONE else Mirror(flip)


def region(_: Place, roi: Roi) -> Crop | None:
    size = roi.dimensions
    return None if (size.x, size.y) == (0, 0) else Crop(roi.topleft.x, roi.topleft.y, size.x, size.y)


def correction(place: Place, background: ImageFile, flatfield: ImageFile, mask: ImageFile) -> Correction | None:
    return chain.correction_of(background, flatfield, mask, place.stream.spec)


def mask_alone(place: Place, mask: ImageFile) -> Correction | None:
    return correction(place, ImageFile(), ImageFile(), mask)


def protection(place: Place, limit: CountRateLimit) -> Guard | None:
    return Guard(limit, place.setup, place.stream.spec, place.stream.valid) if limit.enabled else None


def accumulation(place: Place, params: Accumulation) -> Accumulator | None:
    return Accumulator(params.nb_frames, place.stream.spec) if params.enabled else None


def statistics(place: Place, params: Statistics) -> RoiStatistics | None:
    if not params.enabled or not (params.rect_rois or params.arc_rois):
        return None
    valid = valid_in(params.channel, "$.statistics.channel", place.stream.spec, place.stream.valid)
    return RoiStatistics(params.rect_rois, params.arc_rois, place.stream.spec, valid)


def profiles(place: Place, params: Profiles) -> RoiProfiles | None:
    if not params.enabled or not (params.rois or params.directions):
        return None
    valid = valid_in(params.channel, "$.profiles.channel", place.stream.spec, place.stream.valid)
    return RoiProfiles(params.rois, params.directions, place.stream.spec, valid)


IMAGE: tuple[Task, ...] = (
    Frames(
        name="binning",
        does="sum of x columns times y rows",
        reads=CAMERA,
        params=("$.img.binning",),
        make=binning,
    ),
    Frames(name="flip", does="rows, columns or both reversed", reads="binning", params=("$.img.flip",), make=mirror),
    Frames(name="region", does="a rectangle of the image", reads="flip", params=("$.img.roi",), make=region),
)
"""Image operations: every graph begins with them."""

PROTECTION = Watch(
    name="protection",
    does="pixels that count faster than they may",
    reads="region",
    params=("$.max_countrate_protection",),
    make=protection,
    masked_as="correction",
    kernels="protection",
)


def regions_of(stream: str) -> tuple[Task, ...]:
    """Statistics and profiles of regions of interest in frames of this stream."""
    return (
        Rows(
            name="statistics",
            does="minimum, maximum, average, standard deviation and sum of regions",
            reads=stream,
            params=("$.statistics",),
            make=statistics,
            command="popRoiStatistics",
        ),
        Rows(
            name="profiles",
            does="the same of each line of regions",
            reads=stream,
            params=("$.profiles",),
            make=profiles,
            command="popRoiProfiles",
        ),
    )


SUMS = Sums(
    name="accumulation",
    does="sum of consecutive frames",
    reads="correction",
    params=("$.accumulation",),
    make=accumulation,
    kernels="accumulation",
)
