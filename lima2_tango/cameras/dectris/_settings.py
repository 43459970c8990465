"""How a detector is set for a run: what it must be, parameter by parameter, and whether it is."""

from dataclasses import dataclass
from math import ceil

from lima2_tango.core.acquisition import Sharing, TriggerMode
from lima2_tango.core.errors import ParamError

from ._detector import MOST_IMAGES, Identity
from ._params import DectrisParams, Gate, Stream
from ._setter import SMALLEST_CHANGE, Checker, Setter, Settings, Wanted, alike
from ._simplon import Simplon


@dataclass(frozen=True, slots=True)
class Plan:
    """How the detector exposes the frames of a run."""

    mode: str
    """trigger_mode"""
    nb_images: int
    """Of one trigger."""
    nb_triggers: int
    count_time: float
    """[s]"""
    frame_time: float
    """[s]"""


def plan(params: DectrisParams, identity: Identity) -> Plan:
    """Raises ParamError for what the detector cannot expose."""
    acq, det = params.acq, params.det
    expo, period = acq.expo_time * 1e-6, acq.period
    # The detector's own dead time is the least there is; exposures are as long as they were asked for.
    frame_time = max(period, expo + identity.readout_time)
    if frame_time < identity.frame_time * (1 - SMALLEST_CHANGE):
        shortest = ceil(identity.frame_time * 1e6 - 1e-3)
        reason = (
            f"the detector needs {shortest} us from one exposure to the next: give at least {shortest - acq.expo_time}"
        )
        raise ParamError("$.acq.latency_time", acq.latency_time, reason)
    per_trigger = acq.nb_frames_per_trigger
    endless = min(identity.nb_images, MOST_IMAGES)
    match acq.trigger_mode:
        case TriggerMode.INTERNAL:
            counts = ("ints", acq.nb_frames or endless, 1)
        case TriggerMode.GATE if det.gate_mode is Gate.EXTG:
            counts = ("extg", acq.nb_frames or endless, 1)
        case TriggerMode.GATE:
            counts = ("exte", 1, acq.nb_frames or endless)
        case mode:
            triggers = ceil(acq.nb_frames / per_trigger) if acq.nb_frames else max(1, endless // per_trigger)
            counts = ("ints" if mode is TriggerMode.SOFTWARE else "exts", per_trigger, triggers)
    return Plan(*counts, expo, frame_time)


def configure(simplon: Simplon, params: DectrisParams, plan: Plan, identity: Identity) -> None:
    """Set an idle detector for a run; raises ParamError with the path of what it cannot do, or DetectorError."""
    _set(Setter(simplon), params, plan, identity, simplon)
    _check_times(simplon, params, plan)


def check(simplon: Simplon, params: DectrisParams, plan: Plan, identity: Identity) -> None:
    """Raise ParamError for what the detector says beforehand that it cannot; it may refuse more than that."""
    check_sharing(params)
    _set(Checker(simplon), params, plan, identity, simplon)


def check_sharing(params: DectrisParams) -> None:
    """Raise ParamError for a way to share that this detector, or this way of saving, does not have."""
    det = params.det
    if det.topology not in {Sharing.FULL_FRAMES, Sharing.DISTRIBUTED_PROCESSING}:
        reason = "the detector sends whole images: choose full_frames or distributed_processing"
        raise ParamError("$.det.topology", det.topology, reason)
    if params.pulled and det.acquisition_rank >= 0:
        reason = (
            f"with $.det.topology {det.topology} every receiver acquires: give -1, or choose distributed_processing"
        )
        raise ParamError("$.det.acquisition_rank", det.acquisition_rank, reason)
    if params.saving.enabled and not params.pulled:
        reason = (
            f"with $.det.topology {det.topology} receivers get pixels, not the detector's chunks: choose full_frames, "
            "or save the frames of the processing"
        )
        raise ParamError("$.saving.enabled", True, reason)


def differing(simplon: Simplon, params: DectrisParams, plan: Plan, identity: Identity) -> list[str]:
    """Parameters of the detector that are not as a run wants them."""
    wanted = Wanted()
    _set(wanted, params, plan, identity, simplon)
    found = []
    for (module, key), value in wanted.values.items():
        entry = simplon.find(key, module=module)
        if entry is not None and not alike(entry.value, value):
            found.append(key)
    return found


def _set(setter: Settings, params: DectrisParams, plan: Plan, identity: Identity, simplon: Simplon) -> None:
    det = params.det
    _set_energies(setter, params, identity, simplon)
    roi = "disabled" if det.roi == "full" else det.roi
    setter.switch("roi_mode", roi, "$.det.roi", "disabled")
    for key in ("pixel_mask_applied", "flatfield_correction_applied", "countrate_correction_applied"):
        setter.put(key, getattr(det, key), f"$.det.{key}", getattr(det, key))
    setter.switch("mask_to_zero", det.mask_to_zero, "$.det.mask_to_zero", default=False)
    setter.switch("trigger_start_delay", det.trigger_start_delay, "$.det.trigger_start_delay", 0.0)
    setter.put("compression", _compression(params), "$.saving.compression", str(params.saving.compression))
    setter.put("trigger_mode", plan.mode, "$.acq.trigger_mode", str(params.acq.trigger_mode))
    if plan.mode == "extg":
        setter.put("extg_mode", "single", "$.det.gate_mode", "extg")
        setter.switch("nexpi", 1, "$.det.gate_mode", 1)
    setter.put("nimages", plan.nb_images, "$.acq.nb_frames", params.acq.nb_frames)
    setter.put("ntrigger", plan.nb_triggers, "$.acq.nb_frames", params.acq.nb_frames)
    _set_times(setter, params, plan)
    _set_stream(setter, params)


def _set_energies(setter: Settings, params: DectrisParams, identity: Identity, simplon: Simplon) -> None:
    """The photons' energy first: it moves the thresholds."""
    setter.put("photon_energy", float(params.exp.photon_energy), "$.exp.photon_energy", params.exp.photon_energy)
    if simplon.find("threshold/1/mode") is None:
        _set_one_threshold(setter, params)
        return
    det = params.det
    for place, threshold in enumerate(det.thresholds):
        path = f"$.det.thresholds[{place}]"
        if place >= identity.nb_thresholds:
            if threshold.enabled:
                reason = f"this detector has {identity.nb_thresholds} thresholds: disable the others, or leave them out"
                raise ParamError(f"{path}.enabled", True, reason)
            continue
        if threshold.enabled or det.difference.enabled:
            setter.put(f"threshold/{place + 1}/energy", float(threshold.energy), f"{path}.energy", threshold.energy)
    setter.switch("threshold/difference/mode", _mode(False), "$.det.difference.enabled", "disabled")
    if det.difference.enabled:
        setter.put("threshold/difference/mode", "enabled", "$.det.difference.enabled", True)
        return
    _set_modes(setter, params, identity)


def _set_modes(setter: Settings, params: DectrisParams, identity: Identity) -> None:
    wanted = [
        place < len(params.det.thresholds) and params.det.thresholds[place].enabled
        for place in range(identity.nb_thresholds)
    ]
    if not any(wanted):
        raise ParamError("$.det.thresholds", "none enabled", "enable a threshold, or the difference")
    if params.det.stream is Stream.LEGACY and sum(wanted) > 1:
        reason = "the legacy stream carries one threshold: enable one, or choose stream2"
        raise ParamError("$.det.thresholds", f"{sum(wanted)} enabled", reason)
    for enabled in (True, False):  # never without any
        for place, one in enumerate(wanted):
            if one is enabled:
                path = f"$.det.thresholds[{place}].enabled"
                setter.put(f"threshold/{place + 1}/mode", _mode(enabled), path, enabled)


def _set_one_threshold(setter: Settings, params: DectrisParams) -> None:
    """Detectors of SIMPLON 1.6 have one."""
    det = params.det
    enabled = [place for place, threshold in enumerate(det.thresholds) if threshold.enabled]
    if enabled != [0]:
        raise ParamError("$.det.thresholds", f"{enabled} enabled", "this detector has one threshold: enable the first")
    if det.difference.enabled:
        raise ParamError("$.det.difference.enabled", True, "this detector has one threshold, and so no difference")
    energy = det.thresholds[0].energy
    setter.put("threshold_energy", float(energy), "$.det.thresholds[0].energy", energy)


def _mode(enabled: bool) -> str:
    return "enabled" if enabled else "disabled"


def _compression(params: DectrisParams) -> str:
    names = {"none": "none", "bshuf_lz4": "bslz4"}
    chosen = str(params.saving.compression)
    if chosen not in names:
        raise ParamError("$.saving.compression", chosen, f"the detector compresses by {' or '.join(names)}")
    return names[chosen]


def _set_times(setter: Settings, params: DectrisParams, plan: Plan) -> None:
    """The detector lengthens the frame time for the count time and shortens the count time for the frame time."""
    acq = params.acq
    setter.put("count_time", plan.count_time, "$.acq.expo_time", acq.expo_time)
    setter.put("frame_time", plan.frame_time, "$.acq.latency_time", acq.latency_time)


def _check_times(simplon: Simplon, params: DectrisParams, plan: Plan) -> None:
    acq = params.acq
    for key, wanted, path, given in (
        ("count_time", plan.count_time, "$.acq.expo_time", acq.expo_time),
        ("frame_time", plan.frame_time, "$.acq.latency_time", acq.latency_time),
    ):
        is_now = simplon.get(key).value
        if not alike(float(is_now), wanted):
            raise ParamError(
                path, given, f"the detector makes its {key} {is_now} s of the {wanted} s that were asked for"
            )


def _set_stream(setter: Settings, params: DectrisParams) -> None:
    """Only the stream is used: the detector's own files and its monitor would take from its rate."""
    setter.put("mode", "enabled", "$.det.stream", str(params.det.stream), "stream")
    wanted = "cbor" if params.det.stream is Stream.STREAM2 else "legacy"
    setter.switch("format", wanted, "$.det.stream", "legacy", "stream")
    setter.switch("mode", "disabled", "$.det", "disabled", "filewriter")
