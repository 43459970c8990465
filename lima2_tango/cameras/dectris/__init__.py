"""Dectris EIGER2 and PILATUS4, over SIMPLON: REST for control, a ZeroMQ stream for images.

`_cbor _stream2 _legacy _chunks _order` are pure: bytes in, images out. `_simplon _detector` speak REST, `_pull` the
stream; `_control` and `_receiver` are the two halves of the camera.
"""

from lima2_tango.cameras.base import ControlHalf, ExtraCommand, Plugin, Reading, ReceiverHalf

from ._params import DectrisParams


def _control() -> ControlHalf[DectrisParams]:
    from ._control import DectrisControl

    return DectrisControl()


def _receiver() -> ReceiverHalf[DectrisParams]:
    from ._receiver import DectrisReceiver

    return DectrisReceiver()


def _initialize(half: ControlHalf[DectrisParams], _: object) -> None:
    from ._control import DectrisControl

    assert isinstance(half, DectrisControl)
    half.initialize()


def _warm() -> None:
    """Load what the first Prepare of a receiver needs, and have the kernel of its decompression ready."""
    import httpx  # noqa: F401

    from lima2_tango.core import bitshuffle

    from . import _pull, _reading  # noqa: F401

    bitshuffle.ready()


READINGS = {
    "detector_state": Reading(
        str,
        "What the detector says it does.",
        good=("na", "idle", "ready", "acquire", "configure", "initialize", "test"),
        key="state",
    ),
    "temperature": Reading(float, "Of the detector; in alarm where it says so itself.", "degC"),
    "humidity": Reading(float, "In the detector; in alarm where it says so itself.", "%"),
    "high_voltage_state": Reading(str, "Of the sensor: READY, or it takes no images.", good=("READY",)),
    "stream_dropped": Reading(
        int, "Images that the detector could not send since its stream was initialised.", "frame", most=1
    ),
}

PLUGIN = Plugin(
    name="Dectris",
    params=DectrisParams,
    control=_control,
    receiver=_receiver,
    version="dectris-1.2.0",
    free_running=True,
    readings=READINGS,
    warm=_warm,
    commands={
        "Initialize": ExtraCommand(
            run=_initialize, argument=None, doc="Switch the detector's readout on anew; takes up to two minutes."
        )
    },
)
