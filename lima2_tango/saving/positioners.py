"""Where motors were at each frame, and what monitors counted: added to a file that is complete.

::

    <entry>                      NXentry
      <name>                     NXmonitor: data [frame]
      measurement                NXcollection: <name> -> the values
      <instrument>               NXinstrument
        <name>                   NXpositioner: name, value [frame]
        ...                      NXdata that a viewer shows first: <name> -> the values, the axis of the frames

The classes are those of https://manual.nexusformat.org/classes/base_classes.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from lima2_tango.core.errors import ParamError, SavingError

from .folder import translated
from .master import MasterFile

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
"""What NeXus takes as a name."""


@dataclass(frozen=True, slots=True)
class Positioner:
    """A motor, or any other thing that is set."""

    values: NDArray[np.generic]
    """[frame] a number for each."""
    unit: str = ""
    """Such as mm."""


@dataclass(frozen=True, slots=True)
class Monitor:
    """What was counted beside each frame."""

    values: NDArray[np.generic]
    """[frame] a number for each."""
    unit: str = ""


Columns = Mapping[str, Positioner | Monitor]
"""By the name that each has in the file."""


def write_positioners(path: Path, columns: Columns) -> None:
    """Add a value for each frame to a master file, or to a data file; what has the same name and class is replaced.

    The first positioner becomes the axis of the frames in the plot that viewers show. A copy is completed beside the
    file, and takes its name at once: readers see all of it or nothing. Raises ParamError for values that are not one
    for each frame and for names that the file cannot have, SavingError where it cannot be read or written.
    """
    for name, column in columns.items():
        _check(name, column)
    file = _copied(path)
    try:
        with translated(str(path), "the positions cannot be written"), file:
            _add(file.group("/_"), columns)
        file.publish(replace=True)
    finally:
        file.remove()


def read_positioners(detector: Any) -> dict[str, NDArray[np.generic]]:
    """[frame] values of each NXpositioner beside a detector, an h5py group; by name."""
    beside = {name: node for name, node in detector.parent.items() if _class(node) == "NXpositioner"}
    return {name: node["value"][...] for name, node in beside.items() if "value" in node}


def _copied(path: Path) -> MasterFile:
    """A hidden copy; its bytes go from page cache to page cache."""
    try:
        with path.open("rb") as source, mmap(source.fileno(), 0, access=ACCESS_READ) as image:
            return MasterFile(path, image)
    except (OSError, ValueError) as error:  # no such file; an empty one
        raise SavingError(f"{path}: the positions cannot be written: it cannot be read: {error}") from error


def _check(name: str, column: Positioner | Monitor) -> None:
    if not NAME.fullmatch(name):
        raise ParamError("name", name, "NeXus takes letters, digits and _, and no digit first")
    values = np.asarray(column.values)
    if values.ndim != 1 or values.dtype.kind not in "iuf":
        raise ParamError(name, f"{values.dtype} of shape {values.shape}", "give one number for each frame")


def _add(root: Any, columns: Columns) -> None:
    entry, plot = _defaults(root)
    images = _images(entry, plot)
    rows = len(images["frame_ptr"]) - 1 if isinstance(images, h5py.Group) else len(images)
    for name, column in columns.items():
        if len(column.values) != rows:
            reason = f"the file has {rows} frames: give a value for each"
            raise ParamError(name, f"{len(column.values)} values", reason)
    instrument = images.parent.parent
    shown = [group for group in (entry.get("measurement"), plot) if group is not None]
    for name, column in columns.items():
        _check_free(name, _place(entry, instrument, column)[0], shown, _kind(column))
    links = {name: _write(entry, instrument, name, column).name for name, column in columns.items()}
    for group in shown:
        for name, target in links.items():
            group.pop(name, None)
            group[name] = h5py.SoftLink(target)
    axis = next((name for name, column in columns.items() if isinstance(column, Positioner)), None)
    if plot is not None and axis is not None:
        plot.attrs["axes"] = [axis, *["."] * (images.ndim - 1)]
        plot.attrs[f"{axis}_indices"] = 0


def _defaults(root: Any) -> tuple[Any, Any]:
    """The entry, and the NXdata that is shown first; None where there is none."""
    entry = root.get(root.attrs.get("default", ""), None)
    if entry is None or _class(entry) != "NXentry":
        raise SavingError(f"{root.file.filename} has no default entry: this is no file of a run")
    plot = entry.get(entry.attrs.get("default", ""), None)
    return entry, plot if plot is not None and _class(plot) == "NXdata" else None


def _images(entry: Any, plot: Any) -> Any:
    """The frames where they really are: a dataset, or a group of sparse ones; the detector is above."""
    found = plot[plot.attrs["signal"]] if plot is not None else entry.get("measurement/data")
    if found is None:
        raise SavingError("there are no frames in its default entry: this is no file of a run")
    link = (entry["measurement"] if plot is None else plot).get("data", getlink=True)
    return entry.file[link.path] if isinstance(link, h5py.SoftLink) else found


def _kind(column: Positioner | Monitor) -> str:
    return "NXpositioner" if isinstance(column, Positioner) else "NXmonitor"


def _place(entry: Any, instrument: Any, column: Positioner | Monitor) -> tuple[Any, str]:
    """The group that it belongs to, and how NeXus calls its values."""
    return (instrument, "value") if isinstance(column, Positioner) else (entry, "data")


def _check_free(name: str, parent: Any, shown: list[Any], kind: str) -> None:
    """Only what was written here before is replaced."""
    ours = name in parent and _class(parent[name]) == kind
    taken = [group.name for group in (parent, *shown) if name in group]
    if taken and not ours:
        raise ParamError("name", name, f"{taken[0]} has something else of this name: choose another")


def _write(entry: Any, instrument: Any, name: str, column: Positioner | Monitor) -> Any:
    """The dataset with the values."""
    parent, field = _place(entry, instrument, column)
    parent.pop(name, None)
    group = parent.create_group(name)
    group.attrs["NX_class"] = _kind(column)
    if isinstance(column, Positioner):
        group["name"] = name
    values = group.create_dataset(field, data=np.asarray(column.values))
    if column.unit:
        values.attrs["units"] = column.unit
    return values


def _class(node: Any) -> str:
    found = node.attrs.get("NX_class", "") if isinstance(node, h5py.Group) else ""
    return found.decode() if isinstance(found, bytes) else str(found)
