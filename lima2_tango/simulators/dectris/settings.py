"""The tables of parameters: what a detector, its stream, its file writer and its monitor can be told."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .models import READOUT_TIME, Model
from .values import Value, unknown

ENERGY = 13500.0
"""Photon energy of a detector just switched on [eV]."""
HC = 12398.4198
"""Planck's constant times the speed of light [eV Angstrom]."""
THRESHOLDS = (0.5, 1.4, 0.7, 0.3)
"""Of the photon energy, where nobody has set a threshold."""
SUMMED_FROM = 0.0329
"""Frame time above which images are sums of readouts and have 32 bits, where `auto_summation` is on [s]."""
LONGEST = 3600.0
"""Count time [s]."""
K_ALPHA = {"Cr": 5414.72, "Fe": 6403.84, "Co": 6930.32, "Cu": 8047.78, "Zn": 8638.86, "Mo": 17479.3, "Ag": 22162.9}
"""Lines that `element` sets the energy to [eV]."""
SINCE_1_7 = ("threshold/", "incident_energy", "incident_particle_type", "nexpi", "extg_mode", "counting_mode")
"""What a detector of version 1.6 does not have."""

Table = dict[str, Value]


def _switch(value: str = "disabled") -> Value:
    return Value(value, "string", allowed=("enabled", "disabled"))


def _float(value: float, unit: str = "", least: float | None = None, most: float | None = None) -> Value:
    return Value(value, "float", "rw", unit, least, most)


def _count(value: int, most: int = 2**31 - 1, least: int = 1) -> Value:
    return Value(value, "uint", "rw", "", least, most)


def _fixed(value: Any, kind: str, unit: str = "") -> Value:
    return Value(value, kind, "r", unit)


def _text(value: str = "") -> Value:
    return Value(value, "string")


def detector_table(model: Model, version: str) -> Table:
    """The parameters of a detector that was switched on; `follow` is due after each change."""
    table = {**_what(model), **_when(model), **_how(model), **_where(model)}
    for number in range(1, model.thresholds + 1):
        energy = ENERGY * THRESHOLDS[number - 1]
        table[f"threshold/{number}/energy"] = _float(energy, "eV", 2000.0, 100e3)
        table[f"threshold/{number}/mode"] = _switch("enabled" if number == 1 else "disabled")
        table[f"threshold/{number}/number_of_excluded_pixels"] = _fixed(0, "uint")
    table["threshold/difference/lower_threshold"] = _fixed(1, "uint")
    table["threshold/difference/upper_threshold"] = _fixed(2, "uint")
    table["threshold/difference/mode"] = _switch()
    if version.startswith("1.6"):
        table = {key: value for key, value in table.items() if not key.startswith(SINCE_1_7)}
        table["trigger_mode"].allowed = tuple(mode for mode in model.trigger_modes if mode != "extg")
    settle(table, model)
    return table


def _what(model: Model) -> Table:
    return {
        "description": _fixed(model.description, "string"),
        "detector_number": _fixed(model.serial, "string"),
        "software_version": _fixed("1.8.0", "string"),
        "eiger_fw_version": _fixed("release-2022.1.2", "string"),
        "sensor_material": _fixed(model.sensor, "string"),
        "sensor_thickness": _fixed(model.sensor_thickness, "float", "m"),
        "x_pixel_size": _fixed(model.pixel_size, "float", "m"),
        "y_pixel_size": _fixed(model.pixel_size, "float", "m"),
        "x_pixels_in_detector": _fixed(model.full.width, "uint"),
        "y_pixels_in_detector": _fixed(model.full.height, "uint"),
        "bit_depth_image": _fixed(32, "uint"),
        "bit_depth_readout": _fixed(16, "uint"),
        "detector_readout_time": _fixed(READOUT_TIME, "float", "s"),
        "data_collection_date": _text(),
        "number_of_excluded_pixels": _fixed(0, "uint"),
        "countrate_correction_count_cutoff": _fixed(0, "uint"),
        "frame_count_time": _fixed(0.0, "float", "s"),
    }


def _when(model: Model) -> Table:
    return {
        "count_time": _float(0.5, "s", READOUT_TIME, LONGEST),
        "frame_time": _float(0.5 + READOUT_TIME, "s", model.full.period / 2, LONGEST + 1),
        "nimages": _count(1),
        "ntrigger": _count(1),
        "ntriggers_skipped": _count(0, least=0),
        "nexpi": _count(1),
        "trigger_mode": Value("ints", "string", allowed=model.trigger_modes),
        "trigger_start_delay": _float(0.0, "s", 0.0, LONGEST),
        "extg_mode": Value("double", "string", allowed=("single", "double")),
        "fast_arm": Value(False, "bool"),
    }


def _how(model: Model) -> Table:
    table = {
        "compression": Value("bslz4", "string", allowed=("bslz4", "lz4", "none")),
        "roi_mode": Value("disabled", "string", allowed=("disabled", *model.rois)),
        "counting_mode": Value("normal", "string", allowed=("normal", "retrigger")),
        "photon_energy": _float(ENERGY, "eV", 3500.0, 100e3),
        "incident_energy": _float(ENERGY, "eV", 3500.0, 100e3),
        "threshold_energy": _float(ENERGY / 2, "eV", 2000.0, 100e3),
        "wavelength": _float(HC / ENERGY, "Angstrom", HC / 100e3, HC / 3500.0),
        "element": Value("", "string", allowed=("", *K_ALPHA)),
        "incident_particle_type": _fixed("photons", "string"),
        "mask_to_zero": Value(False, "bool"),
    }
    for key in ("auto_summation", "countrate_correction_applied", "flatfield_correction_applied"):
        table[key] = Value(True, "bool")
    for key in ("pixel_mask_applied", "virtual_pixel_correction_applied"):
        table[key] = Value(True, "bool")
    return table


def _where(model: Model) -> Table:
    table = {
        "beam_center_x": _float(model.full.width / 2, "pixel"),
        "beam_center_y": _float(model.full.height / 2, "pixel"),
        "detector_distance": _float(0.25, "m", 0.0),
        "total_flux": _float(0.0, "1/s", 0.0),
    }
    for axis in ("chi", "kappa", "omega", "phi", "two_theta"):
        table[f"{axis}_start"], table[f"{axis}_increment"] = _float(0.0, "degree"), _float(0.0, "degree")
    return table | {key: _text() for key in ("instrument_name", "sample_name", "source_name")}


def stream_table(version: str) -> Table:
    table = {
        "mode": _switch(),
        "format": Value("legacy", "string", allowed=("legacy", "cbor")),
        "header_detail": Value("basic", "string", allowed=("all", "basic", "none")),
        "header_appendix": _text(),
        "image_appendix": _text(),
    }
    if not version.startswith("1.8"):
        del table["format"]
    return table


def filewriter_table() -> Table:
    return {
        "mode": _switch(),
        "nimages_per_file": _count(1000, least=0),
        "image_nr_start": _count(1, least=0),
        "name_pattern": _text("series_$id"),
        "compression_enabled": Value(True, "bool"),
    }


def monitor_table() -> Table:
    return {"mode": _switch(), "buffer_size": _count(512), "discard_new": Value(False, "bool")}


def put(table: Table, key: str, given: Any, model: Model | None = None) -> list[str]:
    """Set one parameter, and what follows from it in a detector's table; returns the keys of all that changed.

    Raises RefusedError, and then has changed nothing.
    """
    if key not in table:
        raise unknown(f"config/{key}")
    before = {name: entry.value for name, entry in table.items()}
    table[key].value = table[key].checked(key, given)
    if model is not None:
        follow(table, key)
        settle(table, model)
    changed = {name for name, entry in table.items() if _differ(entry.value, before[name])}
    return sorted(changed | {key})


def _differ(one: Any, other: Any) -> bool:
    return one is not other and (isinstance(one, np.ndarray) or one != other)


def follow(table: Table, key: str) -> None:
    """What a detector changes by itself when `key` was set."""
    values = {name: entry.value for name, entry in table.items()}
    match key:
        case "element" if values[key]:
            _set_energy(table, K_ALPHA[values[key]])
        case "photon_energy" | "incident_energy":
            _set_energy(table, values[key])
        case "wavelength":
            _set_energy(table, HC / values[key])
        case "threshold_energy":
            _set(table, "threshold/1/energy", values[key])
        case "threshold/1/energy":
            _set(table, "threshold_energy", values[key])
        case "frame_time":
            _set(table, "count_time", min(values["count_time"], max(READOUT_TIME, values[key] - READOUT_TIME)))
        case "threshold/difference/mode" if values[key] == "enabled":
            for name in thresholds(table):
                _set(table, name, "disabled")
        case _ if key in thresholds(table) and values[key] == "enabled":
            _set(table, "threshold/difference/mode", "disabled")


def settle(table: Table, model: Model) -> None:
    """Values that others decide: sizes, limits, frame time, bits of a pixel."""
    readout = model.readout(table["roi_mode"].value)
    table["x_pixels_in_detector"].value, table["y_pixels_in_detector"].value = readout.width, readout.height
    shortest = readout.period / 2
    table["frame_time"].least = shortest
    needed = table["count_time"].value + READOUT_TIME
    frame_time = max(table["frame_time"].value, needed, shortest)
    summed = table["auto_summation"].value and frame_time > SUMMED_FROM
    fast = frame_time < readout.period * (1 - 1e-9)
    table["frame_time"].value = frame_time
    table["bit_depth_image"].value = 32 if summed else 8 if fast else 16
    table["bit_depth_readout"].value = 8 if fast else 16
    table["frame_count_time"].value = min(table["count_time"].value, SUMMED_FROM)
    table["countrate_correction_count_cutoff"].value = 2 ** min(24, table["bit_depth_image"].value) - 3


def thresholds(table: Table) -> list[str]:
    """The keys that switch thresholds, in order."""
    return [key for key in table if key.startswith("threshold/") and key.endswith("/mode") and "difference" not in key]


def channels(table: Table) -> list[str]:
    """Names of the images that an exposure gives, in order."""
    if "threshold/1/mode" not in table:
        return ["threshold_1"]
    if table["threshold/difference/mode"].value == "enabled":
        return ["difference"]
    return [f"threshold_{key.split('/')[1]}" for key in thresholds(table) if table[key].value == "enabled"]


def add_arrays(table: Table, mask: NDArray[np.uint32]) -> None:
    """Mask and flat field of each threshold [row, column]; the first's have a short name, too."""
    flat = np.ones(mask.shape, np.float32)
    names = [key.removesuffix("mode") for key in thresholds(table)]
    for name in ["", *names]:
        table[f"{name}pixel_mask"] = Value(mask, "uint[][]")
        table[f"{name}flatfield"] = Value(flat, "float[][]")
    table["number_of_excluded_pixels"].value = int(np.count_nonzero(mask))


def _set(table: Table, key: str, value: Any) -> None:
    if key in table:
        table[key].value = value


def _set_energy(table: Table, energy: float) -> None:
    """Photon energy [eV], with what depends on it."""
    _set(table, "photon_energy", energy)
    _set(table, "incident_energy", energy)
    _set(table, "wavelength", HC / energy)
    if K_ALPHA.get(table["element"].value) != energy:
        _set(table, "element", "")
    for number, factor in enumerate(THRESHOLDS, 1):
        _set(table, f"threshold/{number}/energy", energy * factor)
    _set(table, "threshold_energy", energy * THRESHOLDS[0])
