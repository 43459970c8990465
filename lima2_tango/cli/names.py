"""What devices, instances, systems and device properties may be called."""

import re
from collections.abc import Iterable
from typing import Annotated

from pydantic import AfterValidator

from lima2_tango.core.errors import ParamError

LONGEST_DEVICE = 255
"""Characters that a Tango database stores of a device name."""
LONGEST_NAME = 64
"""Characters of a system's or an instance's name, which are in names of folders, logs and devices."""
PART = "[A-Za-z0-9_.-]+"
DEVICE = re.compile(f"{PART}/{PART}/{PART}")
INSTANCE = re.compile("[A-Za-z0-9][A-Za-z0-9_.-]*")
SYSTEM = re.compile(r"\w[\w.-]*")
OWN_PROPERTIES = ("memory_budget", "data_roots", "allowed_commands", "workers", "detector", "live_image_size")
"""Device properties of every control and receiver."""
CONTROL_PROPERTIES = (*OWN_PROPERTIES, "receiver_topology")
RECEIVER_PROPERTIES = (*OWN_PROPERTIES, "rank")
TANGO_PROPERTIES = frozenset(
    "polled_attr polled_cmd non_auto_polled_attr non_auto_polled_cmd poll_old_factor poll_ring_depth "
    "attr_poll_ring_depth cmd_poll_ring_depth min_poll_period attr_min_poll_period cmd_min_poll_period "
    "logging_level logging_target".split()
)
"""Those that Tango itself reads of any device."""


def _device(name: str) -> str:
    if not DEVICE.fullmatch(name) or len(name) > LONGEST_DEVICE:
        raise ValueError(
            f"give domain/family/member, each of letters, digits, _ . and -, and {LONGEST_DEVICE} characters at most"
        )
    return name


def _instance(name: str) -> str:
    if not INSTANCE.fullmatch(name) or len(name) > LONGEST_NAME:
        raise ValueError(
            f"begin with a letter or a digit, go on with these, _ . and -, and take {LONGEST_NAME} characters at most"
        )
    return name


def _system(name: str) -> str:
    if not SYSTEM.fullmatch(name) or len(name) > LONGEST_NAME:
        raise ValueError(
            f"begin with a letter, a digit or _, go on with these, . and -, and take {LONGEST_NAME} characters at most"
        )
    return name


DeviceName = Annotated[str, AfterValidator(_device)]
InstanceName = Annotated[str, AfterValidator(_instance)]
SystemName = Annotated[str, AfterValidator(_system)]


def check_unlike(path: str, names: Iterable[str]) -> None:
    """Raise ParamError for two different names that Tango, which tells no capitals, takes for one."""
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(name.lower(), name)
        if other != name:
            raise ParamError(path, name, f"Tango takes the instance {other} for the same: spell both alike, or rename")


def check_properties(path: str, names: Iterable[str], *, is_control: bool) -> None:
    """Raise ParamError for a device property that nothing reads, with those that exist."""
    own = CONTROL_PROPERTIES if is_control else RECEIVER_PROPERTIES
    for name in names:
        if name.lower() not in {*own, *TANGO_PROPERTIES}:
            whose = "a control" if is_control else "a receiver"
            reason = (
                f"{whose} has no such device property; it has: {', '.join(own)}, and Tango's own such as polled_attr"
            )
            raise ParamError(f"{path}.{name}", name, reason)
