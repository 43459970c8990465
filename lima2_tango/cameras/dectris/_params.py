"""Parameters of Dectris detectors, as BLISS writes them (contract section 6.4), and ours beside them."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from lima2_tango.core.acquisition import AcquisitionParams, Dispatch, Sharing
from lima2_tango.core.params import Int, Params
from lima2_tango.core.storage import SavingParams

PORTS = {"stream2": 31001, "legacy": 9999}
"""TCP ports of the streams."""


class Stream(StrEnum):
    """Format of the detector's stream."""

    STREAM2 = "stream2"
    LEGACY = "legacy"


class Lost(StrEnum):
    """What becomes of frames that never arrive."""

    ABORT = "abort"
    COUNT = "count"


class Gate(StrEnum):
    """What exposes a frame while the trigger input is high."""

    EXTE = "exte"
    EXTG = "extg"


class Threshold(Params):
    energy: Annotated[float, Field(ge=0)] = 4020.5
    """Photons of at least this energy are counted [eV]."""
    enabled: bool = True
    """Deliver the image of this threshold: one channel of the frame."""


class Difference(Params):
    enabled: bool = False
    """Deliver the difference of the thresholds instead of their images."""


class Detector(Params):
    """An EIGER2 or PILATUS4; its address is the device property `detector`."""

    thresholds: Annotated[tuple[Threshold, ...], Field(max_length=8)] = (Threshold(),)
    """In the detector's order; those that are not given are disabled, and those that it lacks must be."""
    difference: Difference = Difference()
    roi: Annotated[str, Field(min_length=1, max_length=32)] = "full"
    """Part that is read out: full, or a roi_mode of the detector (4M-L, ...), which allows higher rates."""
    pixel_mask_applied: bool = True
    """Pixels of the mask have the largest value (or zero: mask_to_zero)."""
    mask_to_zero: bool = False
    """Pixels of the mask are zero; refused where the detector does not have it."""
    flatfield_correction_applied: bool = True
    """Counts are corrected for the different efficiency of pixels."""
    countrate_correction_applied: bool = True
    """Counts are corrected for photons that fall together."""
    nb_pipeline_threads: Annotated[Int, Field(ge=1, le=256)] = 1
    """Threads that decompress for all receivers, where one rank acquires for all; else those of the processing do
    [thread]."""
    trigger_start_delay: Annotated[float, Field(ge=0)] = 0.0
    """From a trigger to the begin of its first exposure [s]."""
    gate_mode: Gate = Gate.EXTE
    """With acq.trigger_mode gate: exte (external enable: one frame for each pulse, as long as that is), or extg (gated:
    one frame from one pulse)."""
    stream: Stream = Stream.STREAM2
    """Format of the stream: stream2, or legacy for detectors of SIMPLON below 1.8, which has one threshold."""
    stream_port: Annotated[Int, Field(ge=0, le=65535)] = 0
    """TCP port of the stream; 0 is that of the format: 31001 (stream2) or 9999 (legacy)."""
    overload: Lost = Lost.COUNT
    """Frames that never arrive: abort (the run fails and names the first), or count (zeros marked invalid stand for
    them; where several receivers pull from the stream, they are left out)."""
    silence_limit: Annotated[float, Field(ge=1, le=86400)] = 30.0
    """A frame that is this much late fails the run, where the detector exposes by its own clock [s]."""
    topology: Sharing = Sharing.FULL_FRAMES
    """How receivers share the detector: full_frames (each pulls from the stream; several are the conductor's topology
    dynamic), or distributed_processing (one rank pulls and scatters the frames)."""
    dispatch_mode: Dispatch = Dispatch.ROUND_ROBIN
    """With distributed_processing: who gets a frame."""
    acquisition_rank: Annotated[Int, Field(ge=-1, le=1023)] = -1
    """With distributed_processing: the receiver whose process acquires for all; -1 for the control's."""

    @property
    def port(self) -> int:
        return self.stream_port or PORTS[self.stream]


class Experiment(Params):
    photon_energy: Annotated[float, Field(gt=0)] = 8041.0
    """Energy of the photons, for the flat field and the count rate correction [eV]."""


class RawSaving(SavingParams):
    """Files with the detector's own chunks, beside those of the processing."""

    enabled: bool = False
    """Write the frames as the detector compressed them."""


class DectrisParams(AcquisitionParams):
    det: Detector = Detector()
    exp: Experiment = Experiment()
    saving: RawSaving = RawSaving()

    @property
    def dispatch(self) -> Dispatch:
        return self.det.dispatch_mode

    @property
    def sharing(self) -> Sharing:
        return self.det.topology

    @property
    def acquisition_rank(self) -> int:
        return self.det.acquisition_rank

    @property
    def pulled(self) -> bool:
        return self.det.topology is Sharing.FULL_FRAMES
