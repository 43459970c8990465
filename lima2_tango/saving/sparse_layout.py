"""What a file of sparse frames contains, as plain data.

::

    <entry>                      NXentry: its attribute pyFAI_sparse_frames names the group `data`
      sparsify                   NXprocess: how the pixels were picked, as fabio looks for it
      <instrument>/<detector>    NXdetector: as in the files of images (see `layout`)
        index                    per row: numbers of the pixels, an array of any length
        intensity                per row: their values
        background_avg           (row, bin)
        background_std           (row, bin)
        data                     NXdata: the same as fabio's densifier and the master files read it
          index, intensity       the pixels of all rows, one behind the other
          frame_ptr              (row + 1) where those of each row begin
          background_avg, ..std  -> those beside `data`
          radius                 (bin) centre of each bin
          mask                   (y, x) radius of each pixel, NaN where masked
          normalization          (y, x) weight of each pixel, where there is one
          dummy                  value of masked pixels

The images `mask` and `normalization` are in the first file of a receiver; its other files have links to them.
"""

import json
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from lima2_tango.core.sparse import SparseSpec
from lima2_tango.core.storage import SavingParams

from .layout import PROGRAM, Field, Flat, Group, Images, Link, Node, Ragged, SeriesMetadata, about_series, data_path

BACKGROUND = ("background_avg", "background_std")
PIXELS = ("index", "intensity")
CREATOR, DATA_FORMAT = f"LIMA2 {PROGRAM}", "Bragg"
"""By the beginning of the one and this word in the other fabio.open tells what these files are."""
TYPES = {"index": np.dtype(np.uint32), "intensity": np.dtype(np.float32)}


def detector_path(params: SavingParams) -> str:
    return data_path(params).rpartition("/")[0]


def sparse_tree(params: SavingParams, layout: SparseSpec, metadata: SeriesMetadata, first: str = "") -> Group:
    """What every file of the series contains; `first` is the name of the file with the images, empty in that one."""
    detector: dict[str, Node] = {
        **about_series(params, metadata),
        **{
            name: Images((layout.nb_bins,), np.dtype(np.float32), {"interpretation": "spectrum"}) for name in BACKGROUND
        },
        "index": Ragged(np.dtype(np.int32)),
        "intensity": Ragged(np.dtype(np.float32)),
        "data": _flat(params, layout, first),
        "layout": Field("area"),
    }
    instrument = Group(
        "NXinstrument", {"name": Field(params.nx_instrument_name), params.nx_detector_name: _of(detector)}
    )
    entry: dict[str, Node] = {
        "program_name": Field(PROGRAM, {"version": metadata.version}),
        params.nx_instrument_name: instrument,
        "measurement": Group("NXcollection", {"data": Link(data_path(params))}),
        "sparsify": _process(layout, metadata),
    }
    shown = f"{params.nx_instrument_name}/{params.nx_detector_name}/data"
    attrs = {"default": shown, "pyFAI_sparse_frames": shown}
    return Group(
        "NXroot",
        {params.nx_entry_name: Group("NXentry", entry, attrs)},
        {"default": params.nx_entry_name, "creator": CREATOR, "creator_version": metadata.version},
    )


def rows_tree(params: SavingParams, pointer: NDArray[np.int64]) -> Group:
    """Where the pixels of each row begin, [row + 1]."""
    data = Group("", {"data": Group("", {"frame_ptr": Field(pointer.astype(np.uint64))})})
    detector = Group("", {params.nx_detector_name: data})
    return Group("", {params.nx_entry_name: Group("", {params.nx_instrument_name: detector})})


def merged(one: Group, other: Group) -> Group:
    """Both trees; groups of one name become one, of anything else the other tree's counts."""
    children: dict[str, Node] = dict(one.children)
    for name, node in other.children.items():
        mine = children.get(name)
        children[name] = merged(mine, node) if isinstance(mine, Group) and isinstance(node, Group) else node
    return Group(one.nx_class or other.nx_class, children, {**one.attrs, **other.attrs})


def _of(children: Mapping[str, Node]) -> Group:
    return Group("NXdetector", children, {"default": "data"})


def _flat(params: SavingParams, layout: SparseSpec, first: str) -> Group:
    detector, data = detector_path(params), data_path(params)
    images = {"mask": layout.radius2d, "normalization": layout.normalization}
    children: dict[str, Node] = {name: Flat(dtype) for name, dtype in TYPES.items()}
    children |= {name: Link(f"{detector}/{name}") for name in BACKGROUND}
    children |= {"errors": Link(f"{detector}/{BACKGROUND[1]}"), "dummy": Field(layout.dummy)}
    children |= {"radius": Field(layout.radius, {"interpretation": "spectrum"})}
    for name, image in images.items():
        if image is not None:
            own = Field(image.astype(np.float32), {"interpretation": "image"})
            children[name] = Link(f"{data}/{name}", first) if first else own
    return Group(
        "NXdata",
        children,
        {"signal": BACKGROUND[0], "axes": np.array([".", "radius"], object), "dataformat": DATA_FORMAT},
    )


def _process(layout: SparseSpec, metadata: SeriesMetadata) -> Group:
    """What fabio's reader looks for: the cutoff bounds the noise that it can add to a background."""
    text = json.dumps({"sparsify": {"cutoff_pick": layout.cutoff}})
    note = Group("NXnote", {"type": Field("text/json"), "data": Field(text)})
    about: dict[str, Node] = {"program": Field(PROGRAM), "version": Field(metadata.version), "sequence_index": Field(1)}
    return Group("NXprocess", {**about, "configuration": note})
