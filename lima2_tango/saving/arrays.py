"""Small HDF5 files of arrays: calibration that pipelines read."""

import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from lima2_tango.core.errors import SavingError

from .folder import translated
from .reserve import publish


def write_arrays(path: Path, arrays: Mapping[str, NDArray[np.generic] | str], replace: bool) -> None:
    """A file with these datasets, compressed, which appears when it is complete.

    `replace`: a file of that name gives way. Raises SavingError.
    """
    part = str(path.with_name(f".{path.name}.{secrets.token_hex(4)}.part"))
    try:
        with translated(str(path), "cannot be written"):
            with h5py.File(part, "w-") as file:
                for name, values in arrays.items():
                    large = isinstance(values, np.ndarray) and values.size > 1
                    file.create_dataset(
                        name, data=values, **({"compression": "gzip", "shuffle": True} if large else {})
                    )
            try:
                publish(part, str(path), replace)
            except FileExistsError as error:
                raise SavingError(f"{path} appeared meanwhile and is left alone: name another folder") from error
    finally:
        with suppress(FileNotFoundError):
            os.unlink(part)
